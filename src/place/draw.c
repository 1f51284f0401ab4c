/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a set is put together.
 *
 * 1. *Deal.* For each partition the zones (without any, the failure domains; without those, the
 *    nodes) are dealt out among the positions of the set, as cards are: each run of `width` zones gets
 *    a permutation of the positions. A zone that comes or goes is dealt to one position and cannot
 *    disturb the others. (Ranking the zones and taking the first six would be simpler; but then one
 *    that leaves shifts those behind it, each to a position whose shard it does not have.)
 * 2. *Choose.* At each position the zones dealt to it compete by weighted rendezvous. The winner's
 *    domains compete likewise, then that one's nodes, then that node's targets.
 * 3. *Fill.* Positions that no zone was dealt to take the best of all nodes: those with fewest shards
 *    of the set first, then those in the domains, and then in the zones, with fewest.
 */
#include "place/draw.h"

#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "shoal/error.h"

/* The set that is being put together. */
struct draft {
    struct place_row *row;
    uint64_t seed;
    unsigned taken;
    uint32_t targets[PLACE_WIDTH_MAX]; /* that it has, in the order in which they were taken */
};

/* The best of a run of siblings: unused before used, then by cost. */
static uint32_t choose_child(const struct drawer *d, const struct tree_level *level,
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
        if (!score_beats(&d->scores, seed, &level->candidates[i], to_beat, &cost))
            continue;
        const unsigned rank = level->items[i].used;
        if (rank < best_rank || (rank == best_rank && cost < best_cost)) {
            best_rank = rank;
            best_cost = cost;
            best = i;
        }
    }
    return best;
}

/* Give a position to a node, on the best of its targets. */
static void take(struct drawer *d, struct draft *draft, unsigned position, uint32_t node_index)
{
    struct tree_item *node = &d->tree.nodes.items[node_index];
    struct tree_item *domain = &d->tree.domains.items[node->parent];
    struct tree_item *zone = &d->tree.zones.items[domain->parent];
    const uint32_t chosen = choose_child(d, &d->tree.targets, node, draft->seed);
    struct tree_item *target = &d->tree.targets.items[chosen];

    CHECK(target->used == 0);
    draft->row->target[position] = target->index;
    draft->targets[draft->taken++] = chosen;
    target->used++;
    node->used++;
    domain->used++;
    zone->used++;
}

/* Step 3: the best of all nodes that have a target left, or -1. */
static int32_t choose_filler(const struct drawer *d, const struct draft *draft, unsigned position)
{
    const uint64_t seed = hash_mix64(draft->seed ^ hash_mix64(position + 1));
    const struct tree_level *nodes = &d->tree.nodes;
    uint64_t best_cost = UINT64_MAX;
    unsigned best_rank = UINT32_MAX;
    int32_t best = -1;

    for (uint32_t i = 0; i < nodes->count; i++) {
        const struct tree_item *node = &nodes->items[i];
        const struct tree_item *domain = &d->tree.domains.items[node->parent];
        const struct tree_item *zone = &d->tree.zones.items[domain->parent];
        if (node->used == node->count)
            continue;
        const unsigned rank = (node->used * 16u + domain->used) * 16u + zone->used;
        if (rank > best_rank)
            continue;
        const uint64_t to_beat = rank < best_rank ? UINT64_MAX : best_cost;
        if (score_beats(&d->scores, seed, &nodes->candidates[i], to_beat, &best_cost)) {
            best_rank = rank;
            best = (int32_t)i;
        }
    }
    return best;
}

static void forget(struct drawer *d, const struct draft *draft)
{
    for (unsigned i = 0; i < draft->taken; i++) {
        struct tree_item *target = &d->tree.targets.items[draft->targets[i]];
        struct tree_item *node = &d->tree.nodes.items[target->parent];
        struct tree_item *domain = &d->tree.domains.items[node->parent];
        target->used = 0;
        node->used = 0;
        domain->used = 0;
        d->tree.zones.items[domain->parent].used = 0;
    }
}

void row_clear(struct place_row *row)
{
    memset(row, 0, sizeof(*row));
    for (unsigned i = 0; i < PLACE_WIDTH_MAX; i++)
        row->target[i] = PLACE_NONE;
}

void draw_row(struct drawer *d, uint32_t partition, struct place_row *row)
{
    const unsigned width = d->tree.width;
    struct draft draft = {.row = row, .seed = deal_seed(partition)};
    int32_t winners[PLACE_WIDTH_MAX];

    row_clear(row);
    deal_zones(d->dealer, &d->scores, draft.seed, winners);
    for (unsigned i = 0; i < width; i++) {
        if (winners[i] < 0)
            continue;
        const struct tree_item *zone = &d->tree.zones.items[winners[i]];
        const struct tree_item *domain =
            &d->tree.domains.items[choose_child(d, &d->tree.domains, zone, draft.seed)];
        take(d, &draft, i, choose_child(d, &d->tree.nodes, domain, draft.seed));
    }
    for (unsigned i = 0; i < width; i++) {
        const int32_t filler = winners[i] < 0 ? choose_filler(d, &draft, i) : -1;
        if (filler >= 0)
            take(d, &draft, i, (uint32_t)filler);
    }
    forget(d, &draft);
}

int drawer_init(struct drawer *d, const struct place_target *targets, size_t count, unsigned width)
{
    const int error = tree_create(&d->tree, targets, count, width);

    d->dealer = NULL;
    if (error != 0)
        return error;
    score_table_init(&d->scores);
    d->dealer = dealer_create(&d->tree);
    if (d->dealer == NULL) {
        tree_destroy(&d->tree);
        return SHOAL_E_NO_MEMORY;
    }
    return 0;
}

void drawer_fini(struct drawer *d)
{
    dealer_destroy(d->dealer);
    tree_destroy(&d->tree);
}
