/* SPDX-License-Identifier: Apache-2.0 */
/* Clusters to place on, and measures of what came out; shared by the quick and the slow tests. */
#ifndef SHOAL_PLACE_TABLE_TEST_H
#define SHOAL_PLACE_TABLE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/macros.h"
#include "base/random.h"
#include "place/place.h"
#include "shoal/error.h"

struct cluster {
    size_t count;
    unsigned targets_per_node;
    struct place_target *targets;
};

/*
 * Targets differ in weight by up to 1 : 2 within a node, and nodes by up to 1 : 1 + unequal / 4.
 * Nodes that differ much have less choice of where they put a set, so more moves, and the tests
 * know by how much.
 */
static inline struct cluster cluster_new(unsigned nodes, unsigned targets_per_node,
                                         unsigned unequal)
{
    struct cluster c = {.count = (size_t)nodes * targets_per_node,
                        .targets_per_node = targets_per_node};

    c.targets = calloc(c.count, sizeof(*c.targets));
    assert_non_null(c.targets);
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

static inline struct place_table table_new(const struct cluster *c, unsigned bits, unsigned width)
{
    const size_t bytes = place_table_bytes(bits, 1u << width);
    struct place_table table;
    void *memory = aligned_alloc(64, bytes < 64 ? 64 : bytes);

    assert_non_null(memory);
    assert_int_equal(
        place_table_build(&table, memory, bytes, c->targets, c->count, bits, 1u << width), 0);
    return table;
}

static inline void table_free(struct place_table *table)
{
    free(table->rows[__builtin_ctz(table->widths)]);
}

struct movement {
    uint64_t moved; /* positions that changed their target */
    uint64_t least; /* what the node that is in one table only holds there */
};

static inline struct movement table_movement(const struct cluster *c, const struct place_table *a,
                                             const struct place_table *b, unsigned node)
{
    const unsigned width = (unsigned)__builtin_ctz(a->widths);
    struct movement m = {0};

    for (uint32_t p = 0; p < 1u << a->bits; p++) {
        const uint16_t *x = place_targets(a, width, p);
        const uint16_t *y = place_targets(b, width, p);
        for (unsigned i = 0; i < width; i++) {
            m.moved += x[i] != y[i];
            m.least += x[i] != PLACE_NONE && c->targets[x[i]].node == node;
            m.least += y[i] != PLACE_NONE && c->targets[y[i]].node == node;
        }
    }
    return m;
}

/*
 * The load for each unit of weight of the fullest target, against the best that one shard a node
 * allows: nodes in proportion to weight, but none more than one shard of each set. For as many
 * nodes as the width or more.
 */
static inline double table_fullest(const struct cluster *c, const struct place_table *t)
{
    const unsigned width = (unsigned)__builtin_ctz(t->widths);
    const size_t nodes = c->count / c->targets_per_node;
    double *weight = calloc(nodes, sizeof(*weight));
    uint64_t *load = calloc(c->count, sizeof(*load));
    double low = 0;
    double high = 1e3;
    double fullest = 0;

    assert_non_null(weight);
    assert_non_null(load);
    for (size_t i = 0; i < c->count; i++)
        weight[c->targets[i].node] += c->targets[i].placeable ? c->targets[i].weight : 0;
    for (int step = 0; step < 200; step++) {
        const double level = (low + high) / 2;
        double sum = 0;
        for (size_t n = 0; n < nodes; n++)
            sum += MIN(weight[n] * level, 1.0);
        *(sum < width ? &low : &high) = level;
    }
    for (uint32_t p = 0; p < 1u << t->bits; p++) {
        for (unsigned i = 0; i < width; i++)
            load[place_targets(t, width, p)[i]]++;
    }
    /* Fullest of all, and no target may hold more for its weight than in the best placement. */
    double best = 0;
    for (size_t i = 0; i < c->count; i++) {
        const double of_node = weight[c->targets[i].node];
        if (!c->targets[i].placeable)
            continue;
        best = MAX(best, MIN(of_node * high, 1.0) / of_node);
        fullest = MAX(fullest, (double)load[i] / (1u << t->bits) / c->targets[i].weight);
    }
    free(weight);
    free(load);
    return fullest / best;
}

#endif
