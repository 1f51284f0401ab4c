/* SPDX-License-Identifier: Apache-2.0 */
#include "place/tree.h"

#include <stdlib.h>

#include "base/hash.h"
#include "base/macros.h"
#include "shoal/error.h"

/* The same number as a domain, a node and a target is three candidates; zones are dealt as domains. */
#define DOMAIN_SALT UINT64_C(0x5851f42d4c957f2d)
#define NODE_SALT UINT64_C(0x14057b7ef767814f)
#define TARGET_SALT UINT64_C(0x2545f4914f6cdd1d)

struct sorted {
    uint64_t zone, domain; /* keys */
    uint32_t zone_label, label;
    uint32_t node;
    uint32_t id;
    uint32_t weight;
    uint16_t index;
};

static int compare_u64(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

static int compare_by_id(const void *left, const void *right)
{
    const struct sorted *a = left;
    const struct sorted *b = right;

    return compare_u64(a->id, b->id);
}

static int compare_by_node(const void *left, const void *right)
{
    const struct sorted *a = left;
    const struct sorted *b = right;
    const int by_node = compare_u64(a->node, b->node);

    return by_node != 0 ? by_node : compare_u64(a->id, b->id);
}

static int compare_by_domain(const void *left, const void *right)
{
    const struct sorted *a = left;
    const struct sorted *b = right;
    const int by_domain = compare_u64(a->domain, b->domain);

    return by_domain != 0 ? by_domain : compare_by_node(left, right);
}

static int compare_by_zone(const void *left, const void *right)
{
    const struct sorted *a = left;
    const struct sorted *b = right;
    const int by_zone = compare_u64(a->zone, b->zone);

    return by_zone != 0 ? by_zone : compare_by_domain(left, right);
}

/* A node without a label, or with the label that all have, is a domain of its own. */
static void name_domains(struct sorted *sorted, size_t count)
{
    bool one_for_all = true;

    for (size_t i = 1; i < count; i++)
        one_for_all &= sorted[i].label == sorted[0].label;
    for (size_t i = 0; i < count; i++) {
        const bool own = one_for_all || sorted[i].label == 0;
        sorted[i].domain = own ? UINT64_C(1) << 32 | sorted[i].node : sorted[i].label;
    }
}

/* Likewise a domain is a zone of its own. */
static void name_zones(struct sorted *sorted, size_t count)
{
    bool one_for_all = true;

    for (size_t i = 1; i < count; i++)
        one_for_all &= sorted[i].zone_label == sorted[0].zone_label;
    for (size_t i = 0; i < count; i++) {
        const bool own = one_for_all || sorted[i].zone_label == 0;
        sorted[i].zone = own ? sorted[i].domain : UINT64_C(2) << 32 | sorted[i].zone_label;
    }
}

/* Lists mostly come in order. */
static void sort_by(struct sorted *sorted, size_t count,
                    int (*compare)(const void *left, const void *right))
{
    for (size_t i = 1; i < count; i++) {
        if (compare(&sorted[i - 1], &sorted[i]) > 0) {
            qsort(sorted, count, sizeof(*sorted), compare);
            return;
        }
    }
}

static int sort_targets(struct sorted *sorted, size_t count)
{
    sort_by(sorted, count, compare_by_id);
    for (size_t i = 1; i < count; i++) {
        if (sorted[i].id == sorted[i - 1].id)
            return SHOAL_E_INVALID;
    }
    sort_by(sorted, count, compare_by_node);
    for (size_t i = 1; i < count; i++) {
        if (sorted[i].node == sorted[i - 1].node &&
            (sorted[i].label != sorted[i - 1].label ||
             sorted[i].zone_label != sorted[i - 1].zone_label))
            return SHOAL_E_INVALID;
    }
    name_domains(sorted, count);
    sort_by(sorted, count, compare_by_domain);
    for (size_t i = 1; i < count; i++) {
        if (sorted[i].label != 0 && sorted[i].label == sorted[i - 1].label &&
            sorted[i].zone_label != sorted[i - 1].zone_label)
            return SHOAL_E_INVALID;
    }
    name_zones(sorted, count);
    sort_by(sorted, count, compare_by_zone);
    return 0;
}

/* The item of a level for this key: the last one, or a new one after it. */
static struct tree_item *item_at(struct tree_level *level, uint64_t key, uint32_t parent,
                                 uint32_t first)
{
    if (level->count == 0 || level->items[level->count - 1].key != key) {
        level->items[level->count++] = (struct tree_item){
            .key = key,
            .parent = parent,
            .first = first,
        };
    }
    return &level->items[level->count - 1];
}

static void grow_tree(struct tree *tree, const struct sorted *sorted, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct sorted *s = &sorted[i];
        struct tree_item *zone = item_at(&tree->zones, s->zone, 0, tree->domains.count);
        struct tree_item *domain =
            item_at(&tree->domains, s->domain, tree->zones.count - 1, tree->nodes.count);
        struct tree_item *node =
            item_at(&tree->nodes, s->node, tree->domains.count - 1, tree->targets.count);
        struct tree_item *target = item_at(&tree->targets, s->id, tree->nodes.count - 1, 0);
        target->index = s->index;
        target->weight = s->weight;
        node->weight += s->weight;
        node->count = tree->targets.count - node->first;
        domain->weight += s->weight;
        domain->count = tree->nodes.count - domain->first;
        zone->weight += s->weight;
        zone->count = tree->domains.count - zone->first;
    }
    tree->all.count = tree->zones.count;
}

static void enter_candidates(struct tree_level *level, uint64_t salt)
{
    for (uint32_t i = 0; i < level->count; i++) {
        level->candidates[i] = (struct score_candidate){
            .seed = hash_mix64(level->items[i].key * UINT64_C(0x9e3779b97f4a7c15) + salt),
            .inverse = score_inverse_weight(level->items[i].weight),
        };
    }
}

/* What an item may hold if `level` is the bound on all: more, where its nodes alone hold more. */
static unsigned most_at(const struct tree_item *item, unsigned level)
{
    const unsigned bounded = MIN((unsigned)item->room, level);

    return MAX(bounded, (unsigned)item->least);
}

/* The lowest bound on all items with which they have room for a set of `width`. */
static unsigned even_level(const struct tree_level *items, unsigned width)
{
    for (unsigned level = 1; level < width; level++) {
        unsigned room = 0;
        for (uint32_t i = 0; i < items->count && room < width; i++)
            room += most_at(&items->items[i], level);
        if (room >= width)
            return level;
    }
    return width;
}

/* The bounds of a level, whose room is known, and from them the room of the level above. */
static void bound_level(struct tree_level *level, struct tree_level *above, unsigned width)
{
    const unsigned even = even_level(level, width);

    for (uint32_t i = 0; i < level->count; i++) {
        struct tree_item *item = &level->items[i];
        item->most = (uint8_t)most_at(item, even);
        item->least = (uint8_t)most_at(item, even - 1);
        level->some_least |= item->least > 0;
        if (above == NULL)
            continue;
        struct tree_item *parent = &above->items[item->parent];
        parent->room = (uint8_t)MIN((unsigned)parent->room + item->most, width);
        parent->least = (uint8_t)MIN((unsigned)parent->least + item->least, width);
    }
}

/*
 * Nodes first, for that rule comes first; a domain then has room for what its nodes may hold, a zone for
 * what its domains may.
 */
static void set_bounds(struct tree *tree)
{
    const unsigned width = tree->width;

    for (uint32_t i = 0; i < tree->targets.count; i++)
        tree->targets.items[i].most = 1;
    for (uint32_t i = 0; i < tree->nodes.count; i++)
        tree->nodes.items[i].room = (uint8_t)MIN(tree->nodes.items[i].count, width);
    bound_level(&tree->nodes, &tree->domains, width);
    bound_level(&tree->domains, &tree->zones, width);
    bound_level(&tree->zones, NULL, width);
}

/* weight * level, within what the spread rules allow. */
static uint64_t share_at(const struct tree_item *item, unsigned __int128 level)
{
    const unsigned __int128 share = item->weight * level >> TREE_SHARE_BITS;
    const uint64_t least = (uint64_t)item->least << TREE_SHARE_BITS;
    const uint64_t most = (uint64_t)item->most << TREE_SHARE_BITS;

    if (share <= least)
        return least;
    return share >= most ? most : (uint64_t)share;
}

/* Deal `total` out among items like water into vessels: one level for all, bounded for each. */
static void deal_shares(struct tree_item *items, uint32_t count, uint64_t total)
{
    unsigned __int128 low = 0;
    unsigned __int128 high = (unsigned __int128)PLACE_WIDTH_MAX << (2 * TREE_SHARE_BITS);

    while (low < high) {
        const unsigned __int128 level = low + (high - low) / 2;
        uint64_t sum = 0;
        for (uint32_t i = 0; i < count && sum < total; i++)
            sum += share_at(&items[i], level);
        if (sum >= total)
            high = level;
        else
            low = level + 1;
    }
    for (uint32_t i = 0; i < count; i++)
        items[i].share = share_at(&items[i], high);
}

void tree_share(struct tree *tree)
{
    deal_shares(tree->zones.items, tree->zones.count, (uint64_t)tree->width << TREE_SHARE_BITS);
    for (uint32_t i = 0; i < tree->zones.count; i++) {
        const struct tree_item *zone = &tree->zones.items[i];
        deal_shares(&tree->domains.items[zone->first], zone->count, zone->share);
    }
    for (uint32_t i = 0; i < tree->domains.count; i++) {
        const struct tree_item *domain = &tree->domains.items[i];
        deal_shares(&tree->nodes.items[domain->first], domain->count, domain->share);
    }
    for (uint32_t i = 0; i < tree->nodes.count; i++) {
        const struct tree_item *node = &tree->nodes.items[i];
        deal_shares(&tree->targets.items[node->first], node->count, node->share);
    }
}

static size_t list_placeable(struct sorted *sorted, const struct place_target *targets,
                             size_t count)
{
    size_t placeable = 0;

    for (size_t i = 0; i < count; i++) {
        if (!targets[i].placeable || targets[i].weight == 0)
            continue;
        sorted[placeable++] = (struct sorted){
            .label = targets[i].domain,
            .zone_label = targets[i].zone,
            .node = targets[i].node,
            .id = targets[i].id,
            .weight = targets[i].weight,
            .index = (uint16_t)i,
        };
    }
    return placeable;
}

static bool level_create(struct tree_level *level, size_t count)
{
    level->items = calloc(count + 1, sizeof(*level->items));
    level->candidates = calloc(count + 1, sizeof(*level->candidates));
    return level->items != NULL && level->candidates != NULL;
}

int tree_create(struct tree *tree, const struct place_target *targets, size_t count, unsigned width)
{
    *tree = (struct tree){.width = width};
    if (count > PLACE_TARGETS_MAX)
        return SHOAL_E_TOO_LARGE;

    int error = SHOAL_E_NO_MEMORY;
    struct sorted *sorted = calloc(count + 1, sizeof(*sorted));
    if (sorted == NULL || !level_create(&tree->zones, count) ||
        !level_create(&tree->domains, count) || !level_create(&tree->nodes, count) ||
        !level_create(&tree->targets, count))
        goto out;

    const size_t placeable = list_placeable(sorted, targets, count);
    error = sort_targets(sorted, placeable);
    if (error != 0)
        goto out;
    grow_tree(tree, sorted, placeable);
    enter_candidates(&tree->zones, DOMAIN_SALT);
    enter_candidates(&tree->domains, DOMAIN_SALT);
    enter_candidates(&tree->nodes, NODE_SALT);
    enter_candidates(&tree->targets, TARGET_SALT);
    set_bounds(tree);
out:
    free(sorted);
    if (error != 0)
        tree_destroy(tree);
    return error;
}

static void level_destroy(struct tree_level *level)
{
    free(level->items);
    free(level->candidates);
}

void tree_destroy(struct tree *tree)
{
    level_destroy(&tree->zones);
    level_destroy(&tree->domains);
    level_destroy(&tree->nodes);
    level_destroy(&tree->targets);
    *tree = (struct tree){0};
}
