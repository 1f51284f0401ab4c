/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a set is put together.
 *
 * 1. *Deal.* For each partition the failure domains are dealt out among the positions of the set,
 *    as cards are: each run of `width` domains gets a permutation of the positions. A domain that
 *    comes or goes is dealt to one position and cannot disturb the others. (Ranking the domains and
 *    taking the first six would be simpler; but then one that leaves shifts those behind it, each
 *    to a position whose shard it does not have.)
 * 2. *Choose.* At each position the domains dealt to it compete by weighted rendezvous. The winner's
 *    nodes compete likewise, then that node's targets.
 * 3. *Fill.* Positions that no domain was dealt to, or for which all were full, take the best of all
 *    nodes: those with fewest shards of the set first, then those in the domains with fewest.
 *
 * *Bounded load*: partitions are done in order, and what has reached its cap no longer competes
 * where anything else is left. Caps are a few percent above the fair share, so in a cluster with
 * many partitions a target they are rarely met, and little moves because of them.
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "place/deal.h"
#include "place/place.h"
#include "place/score.h"
#include "place/tree.h"
#include "shoal/error.h"

_Static_assert(sizeof(struct place_row) == 32, "a row shares no cache line with half of another");

struct builder {
    struct tree tree;
    struct score_table scores;
    uint64_t seed; /* of the partition in hand */
    struct place_row *row;
};

/* The best of a run of siblings: unused before used, not full before full, then by cost. */
static uint32_t choose_child(const struct builder *b, const struct tree_item *level,
                             const struct tree_item *parent)
{
    uint64_t best_cost = UINT64_MAX;
    unsigned best_rank = UINT32_MAX;
    uint32_t best = parent->first;

    if (parent->count == 1)
        return best;
    for (uint32_t i = parent->first; i < parent->first + parent->count; i++) {
        const unsigned rank = level[i].used * 2u + tree_is_full(&level[i]);
        if (rank > best_rank)
            continue;
        const uint64_t cost =
            score_cost(&b->scores, score_draw(b->seed, level[i].seed), level[i].inverse);
        if (rank < best_rank || cost < best_cost) {
            best_rank = rank;
            best_cost = cost;
            best = i;
        }
    }
    return best;
}

/* Give a position to a node, on the best of its targets. */
static void take(struct builder *b, unsigned position, uint32_t node_index)
{
    struct tree_item *node = &b->tree.nodes[node_index];
    struct tree_item *domain = &b->tree.domains[node->parent];
    struct tree_item *target = &b->tree.targets[choose_child(b, b->tree.targets, node)];
    struct place_row *row = b->row;

    CHECK(target->used == 0);
    row->target[position] = target->index;
    target->used++;
    node->used++;
    domain->used++;
    target->load++;
    node->load++;
    domain->load++;
    if (node->used > row->most_on_a_node)
        row->most_on_a_node = node->used;
    if (domain->used > row->most_in_a_domain)
        row->most_in_a_domain = domain->used;
}

/* Step 3: the best of all nodes that have a target left, or -1. */
static int32_t choose_filler(const struct builder *b, unsigned position)
{
    const uint64_t seed = score_draw(b->seed, hash_mix64(position + 1));
    uint64_t best_cost = UINT64_MAX;
    unsigned best_rank = UINT32_MAX;
    int32_t best = -1;

    for (uint32_t i = 0; i < b->tree.node_count; i++) {
        const struct tree_item *node = &b->tree.nodes[i];
        const struct tree_item *domain = &b->tree.domains[node->parent];
        if (node->used == node->count)
            continue;
        const unsigned full = tree_is_full(node) || tree_is_full(domain);
        const unsigned rank = (node->used * 16u + domain->used) * 2 + full;
        if (rank > best_rank)
            continue;
        const uint64_t cost =
            score_cost(&b->scores, score_draw(seed, node->seed), node->inverse);
        if (rank < best_rank || cost < best_cost) {
            best_rank = rank;
            best_cost = cost;
            best = (int32_t)i;
        }
    }
    return best;
}

static void forget_set(struct builder *b, const uint32_t nodes[], unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct tree_item *node = &b->tree.nodes[nodes[i]];
        node->used = 0;
        b->tree.domains[node->parent].used = 0;
        for (uint32_t t = node->first; t < node->first + node->count; t++)
            b->tree.targets[t].used = 0;
    }
}

static void build_row(struct builder *b, uint32_t partition, struct place_row *row)
{
    const unsigned width = b->tree.width;
    int32_t winners[PLACE_WIDTH_MAX];
    uint32_t nodes[PLACE_WIDTH_MAX];
    unsigned taken = 0;

    b->row = row;
    b->seed = deal_seed(partition);
    memset(row, 0, sizeof(*row));
    for (unsigned i = 0; i < PLACE_WIDTH_MAX; i++)
        row->target[i] = PLACE_NONE;

    deal_domains(&b->tree, &b->scores, b->seed, winners);
    for (unsigned i = 0; i < width; i++) {
        if (winners[i] < 0)
            continue;
        nodes[taken] = choose_child(b, b->tree.nodes, &b->tree.domains[winners[i]]);
        take(b, i, nodes[taken++]);
    }
    for (unsigned i = 0; i < width; i++) {
        const int32_t filler = winners[i] < 0 ? choose_filler(b, i) : -1;
        if (filler < 0)
            continue;
        nodes[taken] = (uint32_t)filler;
        take(b, i, nodes[taken++]);
    }
    forget_set(b, nodes, taken);
}

static bool shape_is_valid(unsigned bits, uint32_t widths)
{
    return bits <= PLACE_BITS_MAX && widths != 0 && (widths & 1) == 0 &&
           widths >> (PLACE_WIDTH_MAX + 1) == 0;
}

size_t place_table_bytes(unsigned bits, uint32_t widths)
{
    return (size_t)__builtin_popcount(widths) * sizeof(struct place_row) << bits;
}

int place_table_build(struct place_table *table, void *memory, size_t memory_bytes,
                      const struct place_target *targets, size_t count, unsigned bits,
                      uint32_t widths)
{
    struct place_row *rows = memory;
    struct builder *b;
    int error = 0;

    if (!shape_is_valid(bits, widths))
        return SHOAL_E_INVALID;
    CHECK(memory_bytes >= place_table_bytes(bits, widths));
    b = malloc(sizeof(*b));
    if (b == NULL)
        return SHOAL_E_NO_MEMORY;

    score_table_init(&b->scores);
    *table = (struct place_table){.bits = bits, .widths = widths};
    for (unsigned width = 1; width <= PLACE_WIDTH_MAX && error == 0; width++) {
        if ((widths >> width & 1) == 0)
            continue;
        error = tree_create(&b->tree, targets, count, width, bits);
        if (error != 0)
            break;
        table->rows[width] = rows;
        for (uint32_t partition = 0; partition < 1u << bits; partition++)
            build_row(b, partition, rows++);
        tree_destroy(&b->tree);
    }
    free(b);
    return error;
}

uint32_t place_partition(uint32_t pool, const uint8_t key[PLACE_KEY_BYTES], unsigned bits)
{
    const uint64_t hash = hash64(key, PLACE_KEY_BYTES, hash_mix64(pool));

    return (uint32_t)(hash >> 32 >> (32 - bits));
}
