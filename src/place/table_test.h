/* SPDX-License-Identifier: Apache-2.0 */
/* What tests of hashing and of balancing share: random clusters, and what every set promises. */
#ifndef SHOAL_PLACE_TABLE_TEST_H
#define SHOAL_PLACE_TABLE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/random.h"
#include "place/measure.h"

/* Small clusters of every shape: few nodes, domains, zones, lopsided ones, drives that are out. */
static inline struct cluster random_cluster(struct prng *prng)
{
    const unsigned nodes = 1 + (unsigned)prng_below(prng, 20);
    const unsigned per_node = 1 + (unsigned)prng_below(prng, 5);
    const unsigned domains = (unsigned)prng_below(prng, MIN(nodes, 8u));
    struct cluster c = cluster_new(nodes, per_node, 1);

    c.zones = prng_chance(prng, 1, 2) ? 0 : (unsigned)prng_below(prng, 5);
    for (unsigned node = 0; node < nodes; node++)
        cluster_set_domain(&c, node, (uint32_t)prng_below(prng, domains + 1));
    for (size_t i = 0; i < c.count; i++) {
        c.targets[i].placeable = !prng_chance(prng, 1, 5);
        if (prng_chance(prng, 1, 20))
            c.targets[i].weight = 0;
    }
    return c;
}

/* A node or a target comes or goes, gets another weight or, rarely, another domain. */
static inline void random_change(struct prng *prng, struct cluster *c)
{
    const size_t at = prng_below(prng, c->count);
    const uint32_t node = c->targets[at].node;
    const uint32_t domain = (uint32_t)prng_below(prng, c->nodes);

    switch (prng_below(prng, 7)) {
    case 0:
    case 1:
        cluster_set_node(c, node, !c->targets[at].placeable);
        break;
    case 2:
    case 3:
        c->targets[at].placeable = !c->targets[at].placeable;
        break;
    case 4:
    case 5:
        c->targets[at].weight = (uint32_t)prng_below(prng, 9000);
        break;
    default:
        cluster_set_domain(c, node, domain);
    }
}

/* Nobody twice, nobody who is out, and no more on a node, in a domain or a zone than the verdict says. */
static inline void check_set(const struct cluster *c, const struct place_table *table,
                             uint32_t partition, const struct place_verdict *verdict)
{
    const struct place_row *row = &table_rows(table)[partition];
    const unsigned width = table_width(table);
    unsigned filled = 0;

    for (unsigned i = 0; i < PLACE_WIDTH_MAX; i++) {
        unsigned on_node = 0;
        unsigned in_domain = 0;
        unsigned in_zone = 0;
        if (i >= width)
            assert_int_equal(row->target[i], PLACE_NONE);
        if (row->target[i] == PLACE_NONE)
            continue;
        filled++;
        for (unsigned j = 0; j < width; j++) {
            if (row->target[j] == PLACE_NONE)
                continue;
            const struct place_target *a = &c->targets[row->target[i]];
            const struct place_target *b = &c->targets[row->target[j]];
            assert_true(a->placeable && a->weight > 0);
            assert_true(i == j || a->id != b->id);
            on_node += a->node == b->node;
            const bool alike = a->node == b->node || (a->domain == b->domain && a->domain != 0);
            in_domain += alike;
            in_zone += alike || (a->zone == b->zone && a->zone != 0);
        }
        assert_true(on_node <= verdict->most_on_a_node);
        if (verdict->domains > 1 && verdict->domains != verdict->nodes)
            assert_true(in_domain <= verdict->most_in_a_domain);
        if (verdict->zones > 1 && verdict->zones != verdict->domains)
            assert_true(in_zone <= verdict->most_in_a_zone);
    }
    assert_int_equal(filled, MIN(verdict->targets, width));
}

/* So many clusters, each changed several times over. */
static inline void check_updates(struct prng *prng, int clusters)
{
    for (int round = 0; round < clusters; round++) {
        const unsigned width = 1 + (unsigned)prng_below(prng, PLACE_WIDTH_MAX);
        struct cluster c = random_cluster(prng);
        struct place_table updated = table_new(&c, 4, width);
        for (int step = 0; step < 6; step++) {
            struct cluster next = cluster_copy(&c);
            for (uint64_t changes = prng_below(prng, 3); changes > 0; changes--)
                random_change(prng, &next);
            if (prng_chance(prng, 1, 8))
                next.count -= prng_below(prng, next.count);
            assert_int_equal(
                place_table_update(&updated, c.targets, c.count, next.targets, next.count), 0);
            struct place_table built = table_new(&next, 4, width);
            assert_memory_equal(table_rows(&updated), table_rows(&built), 32 << 4);
            table_free(&built);
            cluster_free(&c);
            c = next;
        }
        table_free(&updated);
        cluster_free(&c);
    }
}

#endif
