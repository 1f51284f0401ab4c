/* SPDX-License-Identifier: Apache-2.0 */
#include "place/balancer.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/macros.h"
#include "shoal/error.h"

enum {
    FULL_ABOVE = 104,   /* percent of the share */
    BEYOND_ABOVE = 109, /* likewise */
    FRACTION_BITS = 16, /* of a load */
    PROBES = 32,        /* receivers of a long list that are tried */
    LOOK_AT_ALL = 256,  /* what is no long list */
};

/* Bounds that whole shards cannot keep are the next whole number. */
static uint32_t bound_load(uint64_t share, unsigned percent)
{
    const uint64_t whole_up = (share + (1u << FRACTION_BITS) - 1) >> FRACTION_BITS;

    return (uint32_t)MAX(whole_up, share * percent / 100 >> FRACTION_BITS);
}

static void set_loads(struct balancer *b)
{
    for (uint32_t i = 0; i < b->tree.targets.count; i++) {
        const uint64_t share =
            b->tree.targets.items[i].share << b->bits >> (TREE_SHARE_BITS - FRACTION_BITS);
        b->loads[i] = (struct load){
            .share = (uint32_t)(share >> FRACTION_BITS),
            .full = bound_load(share, FULL_ABOVE),
            .beyond = bound_load(share, BEYOND_ABOVE),
        };
    }
}

int balancer_init(struct balancer *b, const struct place_target *targets, size_t count,
                  unsigned width, unsigned bits)
{
    const int error = tree_create(&b->tree, targets, count, width);

    if (error != 0)
        return error;
    b->bits = bits;
    b->item_of = malloc((count + 1) * sizeof(*b->item_of));
    b->loads = calloc(count + 1, sizeof(*b->loads));
    b->node_loads = calloc(b->tree.nodes.count + 1, sizeof(*b->node_loads));
    b->receivers.items = calloc(count + 1, sizeof(*b->receivers.items));
    if (b->item_of == NULL || b->loads == NULL || b->node_loads == NULL ||
        b->receivers.items == NULL)
        return SHOAL_E_NO_MEMORY;
    memset(b->item_of, 0xff, (count + 1) * sizeof(*b->item_of));
    for (uint32_t i = 0; i < b->tree.targets.count; i++)
        b->item_of[b->tree.targets.items[i].index] = i;
    b->some_least =
        b->tree.nodes.some_least || b->tree.domains.some_least || b->tree.zones.some_least;
    tree_share(&b->tree);
    set_loads(b);
    return 0;
}

void balancer_fini(struct balancer *b)
{
    free(b->item_of);
    free(b->loads);
    free(b->node_loads);
    free(b->receivers.items);
    tree_destroy(&b->tree);
}

static void member_at(const struct balancer *b, struct members *m, unsigned i, uint32_t item)
{
    m->target[i] = item;
    m->node[i] = item == UINT32_MAX ? UINT32_MAX : b->tree.targets.items[item].parent;
    m->domain[i] = item == UINT32_MAX ? UINT32_MAX : b->tree.nodes.items[m->node[i]].parent;
    m->zone[i] = item == UINT32_MAX ? UINT32_MAX : b->tree.domains.items[m->domain[i]].parent;
}

void members_of(const struct balancer *b, const struct place_row *row, struct members *m)
{
    memset(m, 0xff, sizeof(*m));
    for (unsigned i = 0; i < b->tree.width; i++)
        member_at(b, m, i, item_at(b, row, i));
}

static bool is_full(const struct tree_level *level, const uint32_t *of, unsigned width,
                    uint32_t which)
{
    return count_of(of, width, which) >= level->items[which].most;
}

bool may_take(const struct balancer *b, const struct members *m, unsigned i, uint32_t item)
{
    const struct tree *tree = &b->tree;
    const unsigned width = tree->width;
    const uint32_t node = tree->targets.items[item].parent;
    const uint32_t domain = tree->nodes.items[node].parent;
    const uint32_t zone = tree->domains.items[domain].parent;

    if (count_of(m->target, width, item) > 0)
        return false;
    if (node == m->node[i])
        return true;
    if (is_full(&tree->nodes, m->node, width, node) ||
        (domain != m->domain[i] && is_full(&tree->domains, m->domain, width, domain)) ||
        (zone != m->zone[i] && is_full(&tree->zones, m->zone, width, zone)))
        return false;
    if (!b->some_least || m->node[i] == UINT32_MAX)
        return true;
    return !has_only_least(&tree->nodes, m->node, width, m->node[i]) &&
           (domain == m->domain[i] || !has_only_least(&tree->domains, m->domain, width, m->domain[i])) &&
           (zone == m->zone[i] || !has_only_least(&tree->zones, m->zone, width, m->zone[i]));
}

void put(struct balancer *b, struct place_row *row, struct members *m, unsigned i, uint32_t item)
{
    if (m->target[i] != UINT32_MAX) {
        b->loads[m->target[i]].now--;
        b->node_loads[m->node[i]]--;
    }
    if (item != UINT32_MAX) {
        b->loads[item].now++;
        b->node_loads[b->tree.targets.items[item].parent]++;
        b->moved++;
    }
    row->target[i] = item == UINT32_MAX ? PLACE_NONE : b->tree.targets.items[item].index;
    member_at(b, m, i, item);
}

void balancer_enter(struct balancer *b, struct place_row *row)
{
    for (unsigned i = 0; i < b->tree.width; i++) {
        const uint32_t item = item_at(b, row, i);
        if (item == UINT32_MAX) {
            row->target[i] = PLACE_NONE;
            continue;
        }
        b->loads[item].now++;
        b->node_loads[b->tree.targets.items[item].parent]++;
    }
}

void list_receivers(struct balancer *b, enum appetite appetite)
{
    b->receivers.count = 0;
    b->receivers.appetite = appetite;
    for (uint32_t i = 0; i < b->tree.targets.count; i++)
        if (wants(&b->loads[i], appetite))
            b->receivers.items[b->receivers.count++] = i;
}

/* The receiver at @at, or UINT32_MAX after it was taken off the list because it wants no more. */
static uint32_t receiver_at(struct balancer *b, uint32_t at)
{
    struct receivers *r = &b->receivers;
    const uint32_t item = r->items[at];

    if (wants(&b->loads[item], r->appetite))
        return item;
    r->items[at] = r->items[--r->count];
    return UINT32_MAX;
}

/*
 * Does @a need a position that both may take more than @b does? What it still wants, against the
 * sets that its node is not in yet: who is in nearly all sets cannot be choosy.
 */
static bool is_more_urgent(const struct balancer *b, uint32_t a, uint32_t other)
{
    const uint32_t x = b->tree.targets.items[a].parent;
    const uint32_t y = b->tree.targets.items[other].parent;
    const uint64_t free_x = ((uint64_t)b->tree.nodes.items[x].most << b->bits) - b->node_loads[x];
    const uint64_t free_y = ((uint64_t)b->tree.nodes.items[y].most << b->bits) - b->node_loads[y];
    const uint64_t wants_x = b->loads[a].full - b->loads[a].now;
    const uint64_t wants_y = b->loads[other].full - b->loads[other].now;

    return wants_x * (free_y + 1) > wants_y * (free_x + 1);
}

uint32_t find_receiver(struct balancer *b, const struct members *m, unsigned i, uint64_t seed)
{
    uint32_t best = UINT32_MAX;

    for (unsigned probe = 0; probe < PROBES && b->receivers.count > LOOK_AT_ALL; probe++) {
        seed = hash_mix64(seed + probe);
        const uint32_t at = (uint32_t)((unsigned __int128)seed * b->receivers.count >> 64);
        const uint32_t item = receiver_at(b, at);
        if (item != UINT32_MAX && may_take(b, m, i, item))
            return item;
    }
    if (b->receivers.count > LOOK_AT_ALL)
        return UINT32_MAX;
    for (uint32_t at = 0; at < b->receivers.count;) {
        const uint32_t item = receiver_at(b, at);
        if (item == UINT32_MAX)
            continue;
        if ((best == UINT32_MAX || is_more_urgent(b, item, best)) && may_take(b, m, i, item))
            best = item;
        at++;
    }
    return best;
}
