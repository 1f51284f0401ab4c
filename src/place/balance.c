/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What hashing leaves uneven, evened out from where the shards lie now.
 *
 * A function of the targets alone cannot be even and move little: a share of twelve shards, drawn
 * by hash, is uneven by a third, and whatever evens it out by the targets alone does so
 * differently after each change. So this begins with the former table and keeps it but where it
 * may not be kept:
 *
 * 1. *Start*: the former set, without targets that are no more, and without what breaks the spread
 *    rules that hold now.
 * 2. *Fill* positions that this left empty: with what hashing says, if that is not full, else with
 *    one that has less than its share.
 * 3. *Feed* targets that are hungry, new ones above all, up to their share, from those that have
 *    more than theirs; first where hashing says so, that the table stays close to what hashing
 *    gives.
 * 4. *Shed*: what is fuller than the bound passes shards on to what has less than its share.
 *
 * Everything is in integers and in a fixed order: who repeats it comes to the same.
 */
#include "base/check.h"
#include "base/macros.h"
#include "place/balancer.h"
#include "place/deal.h"

/*
 * HUNGRY_BELOW: in percent of the share.
 * VOLUNTARY: so much, in percent of what must move, may move beside it for what is merely full.
 */
enum { HUNGRY_BELOW = 92, VOLUNTARY = 4, ROUNDS = 4 };

/* ---- start ---- */

/* Vacate what is loaded most of a node, a domain or a zone that has more of the set than it may. */
static void vacate_crowded(struct balancer *b, struct place_row *row, struct members *m,
                           const uint32_t *of, const struct tree_level *level)
{
    const unsigned width = b->tree.width;

    for (unsigned i = 0; i < width; i++) {
        const uint32_t which = of[i];
        while (which != UINT32_MAX && count_of(of, width, which) > level->items[which].most) {
            unsigned fullest = PLACE_WIDTH_MAX;
            for (unsigned j = 0; j < width; j++) {
                if (of[j] == which &&
                    (fullest == PLACE_WIDTH_MAX ||
                     is_fuller(&b->loads[m->target[j]], &b->loads[m->target[fullest]])))
                    fullest = j;
            }
            put(b, row, m, fullest, UINT32_MAX);
        }
    }
}

/* What a level lacks of what the rules give each at least. */
static unsigned count_lacking(const struct tree_level *level, const uint32_t *of, unsigned width)
{
    unsigned lacking = 0;

    for (uint32_t i = 0; level->some_least && i < level->count; i++) {
        const unsigned has = count_of(of, width, i);
        lacking += has < level->items[i].least ? level->items[i].least - has : 0;
    }
    return lacking;
}

/* Without position @i its node, domain or zone would have less than the rules give it. */
static bool is_needed(const struct balancer *b, const struct members *m, unsigned i)
{
    return has_only_least(&b->tree.nodes, m->node, b->tree.width, m->node[i]) ||
           has_only_least(&b->tree.domains, m->domain, b->tree.width, m->domain[i]) ||
           has_only_least(&b->tree.zones, m->zone, b->tree.width, m->zone[i]);
}

/* Room for those to whom the rules give more than they have: what is loaded most gives way. */
static void vacate_for_least(struct balancer *b, struct place_row *row, struct members *m)
{
    const unsigned width = b->tree.width;

    for (;;) {
        const unsigned lacking = MAX(MAX(count_lacking(&b->tree.nodes, m->node, width),
                                         count_lacking(&b->tree.domains, m->domain, width)),
                                     count_lacking(&b->tree.zones, m->zone, width));
        unsigned fullest = PLACE_WIDTH_MAX;
        if (count_of(m->target, width, UINT32_MAX) >= lacking)
            return;
        for (unsigned i = 0; i < width; i++) {
            if (m->node[i] == UINT32_MAX || is_needed(b, m, i))
                continue;
            if (fullest == PLACE_WIDTH_MAX ||
                is_fuller(&b->loads[m->target[i]], &b->loads[m->target[fullest]]))
                fullest = i;
        }
        if (fullest == PLACE_WIDTH_MAX)
            return;
        put(b, row, m, fullest, UINT32_MAX);
    }
}

static void start_row(struct balancer *b, uint32_t partition)
{
    struct place_row *row = &b->rows[partition];
    struct members m;

    members_of(b, row, &m);
    vacate_crowded(b, row, &m, m.node, &b->tree.nodes);
    vacate_crowded(b, row, &m, m.domain, &b->tree.domains);
    vacate_crowded(b, row, &m, m.zone, &b->tree.zones);
    if (b->some_least)
        vacate_for_least(b, row, &m);
}

/* ---- fill ---- */

/* Has the set less of it than the spread rules give it at least? */
static bool is_lacking(const struct tree_level *level, const uint32_t *of, unsigned width,
                       uint32_t which)
{
    return count_of(of, width, which) < level->items[which].least;
}

static bool gives_what_is_lacking(const struct balancer *b, const struct members *m, uint32_t node)
{
    const unsigned width = b->tree.width;
    const uint32_t domain = b->tree.nodes.items[node].parent;

    return is_lacking(&b->tree.nodes, m->node, width, node) ||
           is_lacking(&b->tree.domains, m->domain, width, domain) ||
           is_lacking(&b->tree.zones, m->zone, width, b->tree.domains.items[domain].parent);
}

/* The least loaded for its share of all that may take the position; the last resort. */
static uint32_t find_any(const struct balancer *b, const struct members *m, unsigned i,
                         bool lacking_only)
{
    uint32_t best = UINT32_MAX;

    for (uint32_t n = 0; n < b->tree.nodes.count; n++) {
        const struct tree_item *node = &b->tree.nodes.items[n];
        if (lacking_only && !gives_what_is_lacking(b, m, n))
            continue;
        /* To compare loads takes less than to look whether it may. */
        for (uint32_t item = node->first; item < node->first + node->count; item++) {
            if (best != UINT32_MAX && !is_fuller(&b->loads[best], &b->loads[item]))
                continue;
            if (may_take(b, m, i, item))
                best = item;
        }
    }
    return best;
}

static uint32_t find_filler(struct balancer *b, uint32_t partition, const struct members *m,
                            unsigned position)
{
    const struct place_row *hashed = &b->hashed[partition];
    const unsigned width = b->tree.width;

    if (b->some_least) {
        const uint32_t item = find_any(b, m, position, true);
        if (item != UINT32_MAX)
            return item;
    }
    /* With few nodes for the width there is no choice to waste on following hashing. */
    for (unsigned i = 0; i < width && b->tree.nodes.count >= 2 * width; i++) {
        const uint32_t item = item_at(b, hashed, (position + i) % width);
        if (item != UINT32_MAX && wants(&b->loads[item], b->receivers.appetite) &&
            may_take(b, m, position, item))
            return item;
    }
    if (b->receivers.count == 0)
        list_receivers(b, BELOW_FULL);
    const uint32_t item = find_receiver(b, m, position, deal_seed(partition) + position);
    return item != UINT32_MAX ? item : find_any(b, m, position, false);
}

static unsigned count_members(const struct balancer *b, const struct place_row *row)
{
    unsigned count = 0;

    for (unsigned i = 0; i < b->tree.width; i++)
        count += row->target[i] != PLACE_NONE;
    return count;
}

static void fill_row(struct balancer *b, uint32_t partition)
{
    const struct place_row *hashed = &b->hashed[partition];
    struct place_row *row = &b->rows[partition];
    struct members m;

    if (count_members(b, row) == b->tree.width)
        return;
    members_of(b, row, &m);
    for (unsigned i = 0; i < b->tree.width; i++) {
        const uint32_t item =
            m.target[i] != UINT32_MAX ? UINT32_MAX : find_filler(b, partition, &m, i);
        if (item != UINT32_MAX)
            put(b, row, &m, i, item);
    }
    /* What the rules leave no way to mend is drawn anew. */
    if (count_members(b, row) >= count_members(b, hashed))
        return;
    for (unsigned i = 0; i < b->tree.width; i++)
        put(b, row, &m, i, item_at(b, hashed, i));
}

/* ---- feed and shed ---- */

/* Where hashing gives a position to one that is hungry, and who has it has more than its share. */
static void feed_as_hashed(struct balancer *b)
{
    for (uint32_t n = 0; n < 1u << b->bits; n++) {
        const uint32_t p = scatter(b, n);
        struct members m;
        bool known = false;
        for (unsigned i = 0; i < b->tree.width; i++) {
            if (b->rows[p].target[i] == b->hashed[p].target[i] ||
                b->hashed[p].target[i] == PLACE_NONE)
                continue;
            const uint32_t item = item_at(b, &b->hashed[p], i);
            if (!wants(&b->loads[item], HUNGRY))
                continue;
            if (!known)
                members_of(b, &b->rows[p], &m);
            known = true;
            if (m.target[i] == UINT32_MAX ||
                b->loads[m.target[i]].now > b->loads[m.target[i]].share) {
                if (may_take(b, &m, i, item))
                    put(b, &b->rows[p], &m, i, item);
            }
        }
    }
}

enum donors { FULL, ABOVE_SHARE, BEYOND };

static bool gives(const struct load *load, enum donors donors)
{
    const uint32_t keeps = donors == BEYOND ? load->beyond
                           : donors == FULL ? load->full
                                            : load->share;

    return load->now > keeps;
}

/*
 * Pass on from such donors to the list of receivers, until so much was moved in all.
 * @strays: only positions that do not follow hashing anyhow
 */
static void pass_on_some(struct balancer *b, enum donors donors, uint64_t until, bool strays)
{
    for (uint32_t n = 0; n < 1u << b->bits && b->receivers.count > 0; n++) {
        const uint32_t p = scatter(b, n);
        struct place_row *row = &b->rows[p];
        for (unsigned i = 0; i < b->tree.width && b->moved < until; i++) {
            const uint32_t donor = item_at(b, row, i);
            const uint32_t hashed = item_at(b, &b->hashed[p], i);
            struct members m;
            if (donor == UINT32_MAX || !gives(&b->loads[donor], donors) ||
                (strays && donor == hashed))
                continue;
            members_of(b, row, &m);
            uint32_t item = UINT32_MAX;
            if (hashed != UINT32_MAX && hashed != donor &&
                wants(&b->loads[hashed], b->receivers.appetite) && may_take(b, &m, i, hashed))
                item = hashed;
            if (item == UINT32_MAX)
                item = find_receiver(b, &m, i, deal_seed(p) + i);
            if (item != UINT32_MAX)
                put(b, row, &m, i, item);
        }
    }
}

static bool some_give(const struct balancer *b, enum donors donors)
{
    for (uint32_t i = 0; i < b->tree.targets.count; i++)
        if (gives(&b->loads[i], donors))
            return true;
    return false;
}

/* Strays first, so that the table does not stray further from hashing than it must. */
static void pass_on(struct balancer *b, enum donors donors, uint64_t until)
{
    if (b->receivers.count == 0 || !some_give(b, donors))
        return;
    pass_on_some(b, donors, until, true);
    pass_on_some(b, donors, until, false);
}

static void note_hungry(struct balancer *b)
{
    for (uint32_t i = 0; i < b->tree.targets.count; i++) {
        struct load *l = &b->loads[i];
        l->hungry = (uint64_t)l->now * 100 + 100 < (uint64_t)l->share * HUNGRY_BELOW;
    }
}

/* Until no donor is left: to those below their share, and then, if all have theirs, to any. */
static void shed(struct balancer *b, enum donors donors, uint64_t until)
{
    list_receivers(b, BELOW_SHARE);
    pass_on(b, donors, until);
    list_receivers(b, BELOW_FULL);
    pass_on(b, donors, until);
}

static void even_out(struct balancer *b, bool from_nothing)
{
    note_hungry(b);
    feed_as_hashed(b);
    for (unsigned round = 0; round < ROUNDS; round++) {
        list_receivers(b, HUNGRY);
        pass_on(b, FULL, UINT64_MAX);
        pass_on(b, ABOVE_SHARE, UINT64_MAX);
        shed(b, BEYOND, UINT64_MAX);
    }
    shed(b, FULL, from_nothing ? UINT64_MAX : b->moved + b->moved * VOLUNTARY / 100);
}

static void balance(struct balancer *b, const struct place_row *before)
{
    for (uint32_t p = 0; p < 1u << b->bits; p++)
        b->rows[p] = before == NULL ? b->hashed[p] : before[p];
    for (uint32_t p = 0; p < 1u << b->bits; p++)
        balancer_enter(b, &b->rows[p]);
    for (uint32_t n = 0; n < 1u << b->bits; n++)
        start_row(b, scatter(b, n));
    list_receivers(b, BELOW_SHARE);
    for (uint32_t n = 0; n < 1u << b->bits; n++)
        fill_row(b, scatter(b, n));
    even_out(b, before == NULL);
}

int place_table_balance(struct place_table *table, const struct place_table *hashed,
                        const struct place_table *before, const struct place_target *targets,
                        size_t count)
{
    for (unsigned width = 1; width <= PLACE_WIDTH_MAX; width++) {
        struct balancer b = {.rows = table->rows[width], .hashed = hashed->rows[width]};
        if (b.rows == NULL)
            continue;
        CHECK(b.hashed != NULL && table->bits == hashed->bits);
        const int error = balancer_init(&b, targets, count, width, table->bits);
        if (error == 0)
            balance(&b, before == NULL ? NULL : before->rows[width]);
        balancer_fini(&b);
        if (error != 0)
            return error;
    }
    return 0;
}
