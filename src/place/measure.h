/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests and benchmarks: clusters to place on, and measures of what came out.
 *
 * What stands on the other side of a ratio is worked out here, in floating point and apart from the
 * code that is measured: the share of each target in the best placement that the spread rules
 * allow. Shares are in proportion to weight; but no node (domain, zone) holds more shards of a set than
 * another that could hold as many, plus one. Like water in vessels: a level for all, between what
 * the rules give each at least and at most.
 */
#ifndef SHOAL_PLACE_MEASURE_H
#define SHOAL_PLACE_MEASURE_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/macros.h"
#include "place/place.h"

struct cluster {
    size_t count;
    unsigned nodes, targets_per_node;
    unsigned zones; /* as cluster_set_domain() deals domains to them; 0: none */
    struct place_target *targets;
};

/*
 * Targets differ in weight by up to 1 : 2 within a node, and nodes by up to 1 : 1 + unequal / 4.
 * Nodes that differ much have less choice of where they put a set.
 */
static inline struct cluster cluster_new(unsigned nodes, unsigned targets_per_node,
                                         unsigned unequal)
{
    struct cluster c = {.count = (size_t)nodes * targets_per_node,
                        .nodes = nodes,
                        .targets_per_node = targets_per_node};

    c.targets = calloc(c.count, sizeof(*c.targets));
    CHECK(c.targets != NULL);
    for (uint32_t i = 0; i < c.count; i++) {
        const uint32_t node = i / targets_per_node;
        c.targets[i] = (struct place_target){
            .id = i,
            .weight = (1200 + node * 7919 % 4 * 100 * unequal) * (2 + i % 3),
            .node = node,
            .placeable = true,
        };
    }
    return c;
}

static inline struct cluster cluster_copy(const struct cluster *from)
{
    struct cluster c = *from;

    c.targets = malloc(c.count * sizeof(*c.targets));
    CHECK(c.targets != NULL);
    memcpy(c.targets, from->targets, c.count * sizeof(*c.targets));
    return c;
}

static inline void cluster_free(struct cluster *c)
{
    free(c->targets);
}

static inline void cluster_set_node(struct cluster *c, unsigned node, bool placeable)
{
    for (size_t i = 0; i < c->count; i++) {
        if (c->targets[i].node == node)
            c->targets[i].placeable = placeable;
    }
}

/* Nodes without a domain are dealt to zones by themselves; some of either to none. */
static inline void cluster_set_domain(struct cluster *c, unsigned node, uint32_t domain)
{
    for (size_t i = 0; i < c->count; i++) {
        if (c->targets[i].node != node)
            continue;
        c->targets[i].domain = domain;
        c->targets[i].zone = c->zones == 0 ? 0 : (domain != 0 ? domain : node) % (c->zones + 1);
    }
}

/* One width, in memory of its own. */
static inline struct place_table table_empty(unsigned bits, unsigned width)
{
    const size_t bytes = place_table_bytes(bits, 1u << width);
    struct place_table table;
    void *memory = aligned_alloc(64, bytes < 64 ? 64 : bytes);

    CHECK(memory != NULL);
    CHECK(place_table_init(&table, memory, bytes, bits, 1u << width) == 0);
    return table;
}

static inline unsigned table_width(const struct place_table *table)
{
    return (unsigned)__builtin_ctz(table->widths);
}

static inline struct place_row *table_rows(const struct place_table *table)
{
    return table->rows[table_width(table)];
}

static inline struct place_table table_new(const struct cluster *c, unsigned bits, unsigned width)
{
    struct place_table table = table_empty(bits, width);

    CHECK(place_table_build(&table, table_rows(&table), place_table_bytes(bits, 1u << width),
                            c->targets, c->count, bits, 1u << width) == 0);
    return table;
}

static inline void table_free(struct place_table *table)
{
    free(table_rows(table));
}

/* @before: NULL for the first table. */
static inline struct place_table table_balanced(const struct cluster *c,
                                                const struct place_table *before, unsigned bits,
                                                unsigned width)
{
    struct place_table hashed = table_new(c, bits, width);
    struct place_table table = table_empty(bits, width);

    CHECK(place_table_balance(&table, &hashed, before, c->targets, c->count) == 0);
    table_free(&hashed);
    return table;
}

/* ---- shares ---- */

struct vessel {
    double weight, least, most, share;
};

static inline double vessel_at(const struct vessel *v, double level)
{
    return MIN(MAX(v->weight * level, v->least), v->most);
}

/* Share @total out among those of which @of says that they are in @which. */
static inline void share_out(struct vessel *vessels, const unsigned *of, unsigned which,
                             size_t count, double total)
{
    double low = 0;
    double high = 1e6;

    for (int step = 0; step < 120; step++) {
        const double level = (low + high) / 2;
        double sum = 0;
        for (size_t i = 0; i < count; i++)
            sum += of[i] == which ? vessel_at(&vessels[i], level) : 0;
        *(sum < total ? &low : &high) = level;
    }
    for (size_t i = 0; i < count; i++) {
        if (of[i] == which)
            vessels[i].share = vessel_at(&vessels[i], high);
    }
}

/* What the rule "as evenly as can be" leaves each of its room: the bound on all, and one less. */
static inline void bound_vessels(struct vessel *vessels, size_t count, unsigned width)
{
    double level = 1;

    for (; level < width; level++) {
        double room = 0;
        for (size_t i = 0; i < count; i++)
            room += MAX(MIN(vessels[i].most, level), vessels[i].least);
        if (room >= width)
            break;
    }
    for (size_t i = 0; i < count; i++) {
        const double room = vessels[i].most;
        const double least = vessels[i].least;
        vessels[i].most = MAX(MIN(room, level), least);
        vessels[i].least = MAX(MIN(room, level - 1), least);
    }
}

/* The share of each target, in shards of one set. Nodes, domains and zones have numbers below @nodes. */
static inline double *cluster_shares(const struct cluster *c, unsigned width)
{
    const size_t domains_count = (size_t)c->nodes * 2;
    const size_t zones_count = (size_t)c->nodes + domains_count;
    struct vessel *zones = calloc(zones_count, sizeof(*zones));
    struct vessel *domains = calloc(domains_count, sizeof(*domains));
    struct vessel *nodes = calloc(c->nodes, sizeof(*nodes));
    struct vessel *targets = calloc(c->count, sizeof(*targets));
    unsigned *zone_of = calloc(domains_count, sizeof(*zone_of));
    unsigned *domain_of = calloc(c->nodes, sizeof(*domain_of));
    unsigned *node_of = calloc(c->count, sizeof(*node_of));
    unsigned *of_all = calloc(zones_count, sizeof(*of_all));
    double *shares = calloc(c->count, sizeof(*shares));

    CHECK(zones != NULL && domains != NULL && nodes != NULL && targets != NULL && zone_of != NULL &&
          domain_of != NULL && node_of != NULL && of_all != NULL && shares != NULL);
    for (size_t i = 0; i < c->count; i++) {
        const struct place_target *t = &c->targets[i];
        node_of[i] = t->node;
        domain_of[t->node] = t->domain != 0 ? t->domain : c->nodes + t->node;
        zone_of[domain_of[t->node]] = t->zone != 0 ? t->zone : c->nodes + domain_of[t->node];
        if (!t->placeable || t->weight == 0)
            continue;
        targets[i] = (struct vessel){.weight = t->weight, .most = 1};
        nodes[t->node].weight += t->weight;
        nodes[t->node].most += 1;
    }
    bound_vessels(nodes, c->nodes, width);
    for (size_t i = 0; i < c->nodes; i++) {
        domains[domain_of[i]].weight += nodes[i].weight;
        domains[domain_of[i]].most += nodes[i].most;
        domains[domain_of[i]].least += nodes[i].least;
    }
    bound_vessels(domains, domains_count, width);
    for (size_t i = 0; i < domains_count; i++) {
        zones[zone_of[i]].weight += domains[i].weight;
        zones[zone_of[i]].most += domains[i].most;
        zones[zone_of[i]].least += domains[i].least;
    }
    bound_vessels(zones, zones_count, width);
    share_out(zones, of_all, 0, zones_count, width);
    for (unsigned i = 0; i < zones_count; i++) {
        if (zones[i].weight > 0)
            share_out(domains, zone_of, i, domains_count, zones[i].share);
    }
    for (unsigned i = 0; i < domains_count; i++) {
        if (domains[i].weight > 0)
            share_out(nodes, domain_of, i, c->nodes, domains[i].share);
    }
    /* Targets of a node lie together: look at these only. */
    for (unsigned i = 0; i < c->nodes; i++) {
        const size_t first = (size_t)i * c->targets_per_node;
        if (nodes[i].weight > 0)
            share_out(&targets[first], &node_of[first], i, c->targets_per_node, nodes[i].share);
    }
    for (size_t i = 0; i < c->count; i++)
        shares[i] = targets[i].share;
    free(zones);
    free(zone_of);
    free(domains);
    free(nodes);
    free(targets);
    free(domain_of);
    free(node_of);
    free(of_all);
    return shares;
}

static inline uint64_t *table_loads(const struct cluster *c, const struct place_table *t)
{
    uint64_t *loads = calloc(c->count, sizeof(*loads));

    CHECK(loads != NULL);
    for (uint32_t p = 0; p < 1u << t->bits; p++) {
        for (unsigned i = 0; i < table_width(t); i++) {
            const uint16_t target = table_rows(t)[p].target[i];
            if (target != PLACE_NONE)
                loads[target]++;
        }
    }
    return loads;
}

/* The load for its weight of the fullest target, against that in the best placement. */
static inline double table_fullest(const struct cluster *c, const struct place_table *t)
{
    double *shares = cluster_shares(c, table_width(t));
    uint64_t *loads = table_loads(c, t);
    double best = 0;
    double fullest = 0;

    for (size_t i = 0; i < c->count; i++) {
        if (shares[i] <= 0)
            continue;
        best = MAX(best, shares[i] / c->targets[i].weight);
        fullest = MAX(fullest, (double)loads[i] / (1u << t->bits) / c->targets[i].weight);
    }
    free(shares);
    free(loads);
    return fullest / best;
}

/*
 * @moved: positions that changed their target and have one now: shards to be written
 * @least: what targets gain between the best placement before and the best after; who goes from one
 *         to the other by any path writes that much
 */
struct movement {
    double moved, least;
};

static inline struct movement table_movement(const struct cluster *was,
                                             const struct place_table *before,
                                             const struct cluster *is,
                                             const struct place_table *after)
{
    const unsigned width = table_width(before);
    double *from = cluster_shares(was, width);
    double *to = cluster_shares(is, width);
    struct movement m = {0};

    for (uint32_t p = 0; p < 1u << before->bits; p++) {
        for (unsigned i = 0; i < width; i++) {
            const uint16_t now = table_rows(after)[p].target[i];
            m.moved += now != PLACE_NONE && now != table_rows(before)[p].target[i];
        }
    }
    for (size_t i = 0; i < was->count; i++)
        m.least += MAX(to[i] - from[i], 0.0) * (1u << before->bits);
    free(from);
    free(to);
    return m;
}

#endif
