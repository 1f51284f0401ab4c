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
 * 3. *Fill.* Positions that no zone was dealt to are competed for likewise, from the zones down, by
 *    those of the lowest *rank*: nodes with fewest shards of the set come first, then those in the
 *    domains, and then in the zones, with fewest.
 *
 * After a change of the targets, who won a step wins it again unless it lost something, or is beaten
 * by one that gained. So a set that was drawn before is drawn again by the same steps, but with few
 * draws; until one comes out otherwise, or a shard was on a node that changed: what follows then is
 * drawn as if for the first time.
 */
#include "place/draw.h"

#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/macros.h"
#include "shoal/error.h"

enum { RANK_DIGIT = 16 };

_Static_assert((int)PLACE_WIDTH_MAX < (int)RANK_DIGIT, "a digit counts the shards of a set");

#define NOBODY UINT32_MAX

/*
 * The set that is being put together.
 * @targets: that it has, in the order in which they were taken
 * @former: the set as it was drawn before, and @kept of draw_row() as long as they agree
 */
struct draft {
    struct place_row *row;
    uint64_t seed;
    unsigned taken;
    uint32_t targets[PLACE_WIDTH_MAX];
    struct place_row former;
    const uint32_t *kept;
};

/*
 * The best of a run of siblings, of whom one at least is not full: by rank, then by cost.
 * @was: who won before the change that is marked; NOBODY if that is not known.
 */
static uint32_t choose_child(const struct drawer *d, const struct tree_level *level,
                             const struct tree_item *parent, uint64_t seed, uint32_t was)
{
    const bool known = was - parent->first < parent->count && !level->items[was].lost;
    uint64_t best_cost = UINT64_MAX;
    unsigned best_rank = TREE_FULL;
    uint32_t best = parent->first;

    if (parent->count == 1)
        return best;
    if (known && !parent->gained)
        return was;
    for (uint32_t i = parent->first; i < parent->first + parent->count; i++) {
        const struct tree_item *item = &level->items[i];
        if (item->rank > best_rank || (known && i != was && !item->gained))
            continue;
        const uint64_t to_beat = item->rank < best_rank ? UINT64_MAX : best_cost;
        if (score_beats(&d->scores, seed, &level->candidates[i], to_beat, &best_cost)) {
            best_rank = item->rank;
            best = i;
        }
    }
    return best;
}

/* One more shard of the set below @item; @least: the lowest rank that is to be had below it now. */
static void use(struct tree_item *item, unsigned least)
{
    item->used++;
    item->rank = (uint16_t)(least == TREE_FULL ? least : least * RANK_DIGIT + item->used);
}

static unsigned least_rank(const struct tree_level *level, const struct tree_item *parent)
{
    unsigned least = TREE_FULL;

    for (uint32_t i = 0; i < parent->count && least > 0; i++)
        least = MIN(least, (unsigned)level->items[parent->first + i].rank);
    return least;
}

static void take(struct drawer *d, struct draft *draft, unsigned position, uint32_t chosen)
{
    struct tree_item *target = &d->tree.targets.items[chosen];
    struct tree_item *node = &d->tree.nodes.items[target->parent];
    struct tree_item *domain = &d->tree.domains.items[node->parent];
    struct tree_item *zone = &d->tree.zones.items[domain->parent];

    CHECK(target->rank == 0);
    target->rank = TREE_FULL;
    use(node, node->used + 1u < node->count ? 0 : TREE_FULL);
    use(domain, least_rank(&d->tree.nodes, domain));
    use(zone, least_rank(&d->tree.domains, zone));
    draft->row->target[position] = target->index;
    draft->targets[draft->taken++] = chosen;
}

static void forget(struct drawer *d, const struct draft *draft)
{
    for (unsigned i = 0; i < draft->taken; i++) {
        struct tree_item *target = &d->tree.targets.items[draft->targets[i]];
        struct tree_item *node = &d->tree.nodes.items[target->parent];
        struct tree_item *domain = &d->tree.domains.items[node->parent];
        struct tree_item *zone = &d->tree.zones.items[domain->parent];
        target->rank = node->rank = domain->rank = zone->rank = 0;
        node->used = domain->used = zone->used = 0;
    }
}

/* The way down to a target. */
struct path {
    uint32_t zone, domain, node, target;
};

/* Who had the position before, if that is known. */
static struct path recall(const struct drawer *d, const struct draft *draft, unsigned position)
{
    const uint16_t index = draft->former.target[position];
    struct path was = {NOBODY, NOBODY, NOBODY, NOBODY};

    if (draft->kept == NULL || index == PLACE_NONE || draft->kept[index] == NOBODY)
        return was;
    was.target = draft->kept[index];
    was.node = d->tree.targets.items[was.target].parent;
    was.domain = d->tree.nodes.items[was.node].parent;
    was.zone = d->tree.domains.items[was.domain].parent;
    return was;
}

/* Give a position to the best of a zone. */
static void take_from(struct drawer *d, struct draft *draft, unsigned position, uint32_t zone,
                      uint64_t seed, const struct path *was)
{
    const struct tree *t = &d->tree;
    const uint32_t domain =
        choose_child(d, &t->domains, &t->zones.items[zone], seed, was->domain);
    const uint32_t node = choose_child(d, &t->nodes, &t->domains.items[domain], seed, was->node);
    const uint32_t target =
        choose_child(d, &t->targets, &t->nodes.items[node], draft->seed, was->target);

    take(d, draft, position, target);
    if (target != was->target)
        draft->kept = NULL;
}

/* Step 3, for one position. */
static void fill(struct drawer *d, struct draft *draft, unsigned position)
{
    const uint64_t seed = hash_mix64(draft->seed ^ hash_mix64(position + 1));
    const struct path was = recall(d, draft, position);
    const uint32_t zone = choose_child(d, &d->tree.zones, &d->tree.all, seed, was.zone);

    take_from(d, draft, position, zone, seed, &was);
}

void row_clear(struct place_row *row)
{
    memset(row, 0, sizeof(*row));
    for (unsigned i = 0; i < PLACE_WIDTH_MAX; i++)
        row->target[i] = PLACE_NONE;
}

void draw_row(struct drawer *d, uint32_t partition, struct place_row *row, const uint32_t *kept)
{
    const unsigned width = d->tree.width;
    struct draft draft = {.row = row, .seed = deal_seed(partition), .kept = kept};
    int32_t winners[PLACE_WIDTH_MAX];

    if (kept != NULL)
        draft.former = *row;
    row_clear(row);
    deal_zones(d->dealer, &d->scores, draft.seed, winners);
    for (unsigned i = 0; i < width; i++) {
        const struct path was = recall(d, &draft, i);
        if (winners[i] >= 0)
            take_from(d, &draft, i, (uint32_t)winners[i], draft.seed, &was);
    }
    for (unsigned i = 0; i < width && draft.taken < d->tree.targets.count; i++) {
        if (winners[i] < 0)
            fill(d, &draft, i);
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
