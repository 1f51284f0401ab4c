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
#include "base/hash.h"
#include "place/deal.h"
#include "place/place.h"
#include "place/score.h"
#include "place/tree.h"
#include "shoal/error.h"

_Static_assert(sizeof(struct place_row) == 32, "a row shares no cache line with half of another");

struct builder {
    struct tree tree;
    struct dealer *dealer;
    struct score_table scores;
};

/* The set that is being put together. */
struct draft {
    struct place_row *row;
    uint64_t seed;
    unsigned taken;
    uint32_t targets[PLACE_WIDTH_MAX]; /* that it has, in the order in which they were taken */
};

/* The best of a run of siblings: unused before used, not full before full, then by cost. */
static uint32_t choose_child(const struct builder *b, const struct tree_level *level,
                             const struct tree_item *parent, uint64_t seed)
{
    uint64_t best_cost = UINT64_MAX;
    unsigned best_rank = UINT32_MAX;
    uint32_t best = parent->first;

    if (parent->count == 1)
        return best;
    for (uint32_t i = parent->first; i < parent->first + parent->count; i++) {
        /* A cost that loses cannot win by a lower rank than the lowest. */
        const uint64_t to_beat = best_rank == 0 ? best_cost : UINT64_MAX;
        uint64_t cost;
        if (!score_beats(&b->scores, seed, &level->candidates[i], to_beat, &cost))
            continue;
        const unsigned rank = level->items[i].used * 2u + tree_is_full(&level->items[i]);
        if (rank < best_rank || (rank == best_rank && cost < best_cost)) {
            best_rank = rank;
            best_cost = cost;
            best = i;
        }
    }
    return best;
}

/* Give a position to a node, on the best of its targets. */
static void take(struct builder *b, struct draft *draft, unsigned position, uint32_t node_index)
{
    struct tree_item *node = &b->tree.nodes.items[node_index];
    struct tree_item *domain = &b->tree.domains.items[node->parent];
    const uint32_t chosen = choose_child(b, &b->tree.targets, node, draft->seed);
    struct tree_item *target = &b->tree.targets.items[chosen];
    struct place_row *row = draft->row;

    CHECK(target->used == 0);
    row->target[position] = target->index;
    draft->targets[draft->taken++] = chosen;
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
static int32_t choose_filler(const struct builder *b, const struct draft *draft, unsigned position)
{
    const uint64_t seed = hash_mix64(draft->seed ^ hash_mix64(position + 1));
    const struct tree_level *nodes = &b->tree.nodes;
    uint64_t best_cost = UINT64_MAX;
    unsigned best_rank = UINT32_MAX;
    int32_t best = -1;

    for (uint32_t i = 0; i < nodes->count; i++) {
        const struct tree_item *node = &nodes->items[i];
        const struct tree_item *domain = &b->tree.domains.items[node->parent];
        if (node->used == node->count)
            continue;
        const unsigned full = tree_is_full(node) || tree_is_full(domain);
        const unsigned rank = (node->used * 16u + domain->used) * 2 + full;
        if (rank > best_rank)
            continue;
        const uint64_t to_beat = rank < best_rank ? UINT64_MAX : best_cost;
        if (score_beats(&b->scores, seed, &nodes->candidates[i], to_beat, &best_cost)) {
            best_rank = rank;
            best = (int32_t)i;
        }
    }
    return best;
}

static void forget(struct builder *b, const struct draft *draft)
{
    for (unsigned i = 0; i < draft->taken; i++) {
        struct tree_item *target = &b->tree.targets.items[draft->targets[i]];
        struct tree_item *node = &b->tree.nodes.items[target->parent];
        target->used = 0;
        node->used = 0;
        b->tree.domains.items[node->parent].used = 0;
    }
}

static void build_row(struct builder *b, uint32_t partition, struct place_row *row)
{
    const unsigned width = b->tree.width;
    struct draft draft = {.row = row, .seed = deal_seed(partition)};
    int32_t winners[PLACE_WIDTH_MAX];

    memset(row, 0, sizeof(*row));
    for (unsigned i = 0; i < PLACE_WIDTH_MAX; i++)
        row->target[i] = PLACE_NONE;

    deal_domains(b->dealer, &b->scores, draft.seed, winners);
    for (unsigned i = 0; i < width; i++) {
        if (winners[i] < 0)
            continue;
        const struct tree_item *domain = &b->tree.domains.items[winners[i]];
        take(b, &draft, i, choose_child(b, &b->tree.nodes, domain, draft.seed));
    }
    for (unsigned i = 0; i < width; i++) {
        const int32_t filler = winners[i] < 0 ? choose_filler(b, &draft, i) : -1;
        if (filler >= 0)
            take(b, &draft, i, (uint32_t)filler);
    }
    forget(b, &draft);
}

static int build_rows(struct builder *b, struct place_row *rows, unsigned bits)
{
    b->dealer = dealer_create(&b->tree);
    if (b->dealer == NULL)
        return SHOAL_E_NO_MEMORY;
    for (uint32_t partition = 0; partition < 1u << bits; partition++)
        build_row(b, partition, &rows[partition]);
    dealer_destroy(b->dealer);
    return 0;
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
        error = build_rows(b, rows, bits);
        tree_destroy(&b->tree);
        table->rows[width] = rows;
        rows += (size_t)1 << bits;
    }
    free(b);
    return error;
}
