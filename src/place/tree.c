/* SPDX-License-Identifier: Apache-2.0 */
#include "place/tree.h"

#include <stdlib.h>

#include "base/hash.h"
#include "base/macros.h"
#include "place/score.h"
#include "shoal/error.h"

enum { SHARE_BITS = 32 };

/* Slack of the caps, as a fraction of the share: the lower level the wider, so that a node which is
 * within its cap always has a target that is within its own. */
enum { DOMAIN_SLACK = 14, NODE_SLACK = 13, TARGET_SLACK = 12 };

static const uint64_t level_salt[] = {
    UINT64_C(0x5851f42d4c957f2d), /* domains */
    UINT64_C(0x14057b7ef767814f), /* nodes */
    UINT64_C(0x2545f4914f6cdd1d), /* targets */
};

struct sorted {
    uint64_t domain; /* key */
    uint32_t label;
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

static int sort_targets(struct sorted *sorted, size_t count)
{
    qsort(sorted, count, sizeof(*sorted), compare_by_id);
    for (size_t i = 1; i < count; i++) {
        if (sorted[i].id == sorted[i - 1].id)
            return SHOAL_E_INVALID;
    }
    qsort(sorted, count, sizeof(*sorted), compare_by_node);
    for (size_t i = 1; i < count; i++) {
        if (sorted[i].node == sorted[i - 1].node && sorted[i].label != sorted[i - 1].label)
            return SHOAL_E_INVALID;
    }
    name_domains(sorted, count);
    qsort(sorted, count, sizeof(*sorted), compare_by_domain);
    return 0;
}

/* The item of a level for this key: the last one, or a new one after it. */
static struct tree_item *item_at(struct tree_item *items, uint32_t *count, int level, uint64_t key,
                                 uint32_t parent, uint32_t first)
{
    if (*count == 0 || items[*count - 1].key != key) {
        items[*count] = (struct tree_item){
            .key = key,
            .seed = hash_mix64(key * UINT64_C(0x9e3779b97f4a7c15) + level_salt[level]),
            .parent = parent,
            .first = first,
        };
        ++*count;
    }
    return &items[*count - 1];
}

static void grow_tree(struct tree *tree, const struct sorted *sorted, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct sorted *s = &sorted[i];
        struct tree_item *domain = item_at(tree->domains, &tree->domain_count, 0, s->domain, 0,
                                           tree->node_count);
        struct tree_item *node = item_at(tree->nodes, &tree->node_count, 1, s->node,
                                         tree->domain_count - 1, tree->target_count);
        struct tree_item *target = item_at(tree->targets, &tree->target_count, 2, s->id,
                                           tree->node_count - 1, 0);
        target->index = s->index;
        target->weight = s->weight;
        node->weight += s->weight;
        node->count = tree->target_count - node->first;
        domain->weight += s->weight;
        domain->count = tree->node_count - domain->first;
    }
}

/* What an item may hold if `level` is the bound on all: more, where its nodes alone hold more. */
static unsigned most_at(const struct tree_item *item, unsigned level)
{
    const unsigned bounded = MIN((unsigned)item->room, level);

    return MAX(bounded, (unsigned)item->least);
}

/* The lowest bound on all items with which they have room for a set of `width`. */
static unsigned even_level(const struct tree_item *items, uint32_t count, unsigned width)
{
    for (unsigned level = 1; level < width; level++) {
        unsigned room = 0;
        for (uint32_t i = 0; i < count && room < width; i++)
            room += most_at(&items[i], level);
        if (room >= width)
            return level;
    }
    return width;
}

/* Nodes first, for that rule comes first; a domain then has room for what its nodes may hold. */
static void set_bounds(struct tree *tree)
{
    const unsigned width = tree->width;

    for (uint32_t i = 0; i < tree->target_count; i++)
        tree->targets[i].most = 1;
    for (uint32_t i = 0; i < tree->node_count; i++)
        tree->nodes[i].room = (uint8_t)MIN(tree->nodes[i].count, width);

    const unsigned node_level = even_level(tree->nodes, tree->node_count, width);
    for (uint32_t i = 0; i < tree->node_count; i++) {
        struct tree_item *node = &tree->nodes[i];
        struct tree_item *domain = &tree->domains[node->parent];
        node->most = (uint8_t)MIN((unsigned)node->room, node_level);
        node->least = (uint8_t)MIN((unsigned)node->room, node_level - 1);
        domain->room = (uint8_t)MIN((unsigned)domain->room + node->most, width);
        domain->least = (uint8_t)MIN((unsigned)domain->least + node->least, width);
    }

    const unsigned domain_level = even_level(tree->domains, tree->domain_count, width);
    for (uint32_t i = 0; i < tree->domain_count; i++) {
        struct tree_item *domain = &tree->domains[i];
        domain->most = (uint8_t)most_at(domain, domain_level);
        domain->least = (uint8_t)most_at(domain, domain_level - 1);
    }
}

/* weight * level, within what the spread rules allow. */
static uint64_t share_at(const struct tree_item *item, unsigned __int128 level)
{
    const unsigned __int128 share = item->weight * level >> SHARE_BITS;
    const uint64_t least = (uint64_t)item->least << SHARE_BITS;
    const uint64_t most = (uint64_t)item->most << SHARE_BITS;

    if (share <= least)
        return least;
    return share >= most ? most : (uint64_t)share;
}

/* Deal `total` out among items like water into vessels: one level for all, bounded for each. */
static void deal_shares(struct tree_item *items, uint32_t count, uint64_t total)
{
    unsigned __int128 low = 0;
    unsigned __int128 high = (unsigned __int128)PLACE_WIDTH_MAX << (2 * SHARE_BITS);

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

static void set_cap(struct tree_item *item, unsigned bits, unsigned slack)
{
    const uint64_t load = (item->share << 8 >> (SHARE_BITS - bits)) + 255;

    item->cap = (uint32_t)((load + load / slack) >> 8) + 1;
}

static void set_shares(struct tree *tree, unsigned bits)
{
    deal_shares(tree->domains, tree->domain_count, (uint64_t)tree->width << SHARE_BITS);
    for (uint32_t i = 0; i < tree->domain_count; i++) {
        struct tree_item *domain = &tree->domains[i];
        domain->inverse = score_inverse_weight(domain->weight);
        set_cap(domain, bits, DOMAIN_SLACK);
        deal_shares(&tree->nodes[domain->first], domain->count, domain->share);
    }
    for (uint32_t i = 0; i < tree->node_count; i++) {
        struct tree_item *node = &tree->nodes[i];
        node->inverse = score_inverse_weight(node->weight);
        set_cap(node, bits, NODE_SLACK);
        deal_shares(&tree->targets[node->first], node->count, node->share);
    }
    for (uint32_t i = 0; i < tree->target_count; i++) {
        tree->targets[i].inverse = score_inverse_weight(tree->targets[i].weight);
        set_cap(&tree->targets[i], bits, TARGET_SLACK);
    }
}

int tree_create(struct tree *tree, const struct place_target *targets, size_t count, unsigned width,
                unsigned bits)
{
    struct sorted *sorted;
    size_t placeable = 0;
    int error;

    *tree = (struct tree){.width = width};
    if (count > PLACE_TARGETS_MAX)
        return SHOAL_E_TOO_LARGE;

    sorted = calloc(count + 1, sizeof(*sorted));
    tree->domains = calloc(count + 1, sizeof(*tree->domains));
    tree->nodes = calloc(count + 1, sizeof(*tree->nodes));
    tree->targets = calloc(count + 1, sizeof(*tree->targets));
    error = SHOAL_E_NO_MEMORY;
    if (sorted != NULL && tree->domains != NULL && tree->nodes != NULL && tree->targets != NULL) {
        for (size_t i = 0; i < count; i++) {
            if (!targets[i].placeable || targets[i].weight == 0)
                continue;
            sorted[placeable++] = (struct sorted){
                .label = targets[i].domain,
                .node = targets[i].node,
                .id = targets[i].id,
                .weight = targets[i].weight,
                .index = (uint16_t)i,
            };
        }
        error = sort_targets(sorted, placeable);
    }
    if (error == 0) {
        grow_tree(tree, sorted, placeable);
        set_bounds(tree);
        set_shares(tree, bits);
    } else {
        tree_destroy(tree);
    }
    free(sorted);
    return error;
}

void tree_destroy(struct tree *tree)
{
    free(tree->domains);
    free(tree->nodes);
    free(tree->targets);
    *tree = (struct tree){0};
}
