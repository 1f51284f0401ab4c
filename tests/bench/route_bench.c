/* SPDX-License-Identifier: Apache-2.0 */
/*
 * route-lookup: from a key to its target set in a table of 65,536 partitions by 12.
 *
 * Each lookup depends on the result of the one before, so this is the time a request waits, not
 * how many lookups a core can overlap.
 *
 * table-1000: the table of 1,000 nodes with 32 targets each, worked out from nothing.
 */
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "place/place.h"

enum {
    LOOKUPS = 200000,
    KEYS = 4096, /* 128 KiB of keys: cached, as the key of a request in hand is */
};

struct cluster {
    struct place_target *targets;
    size_t count;
};

struct route {
    struct place_table table;
    uint8_t keys[KEYS][PLACE_KEY_BYTES];
};

static struct cluster cluster_new(uint32_t nodes, uint32_t targets_per_node)
{
    struct cluster c = {.count = (size_t)nodes * targets_per_node};

    c.targets = calloc(c.count, sizeof(*c.targets));
    for (uint32_t i = 0; c.targets != NULL && i < c.count; i++) {
        c.targets[i] = (struct place_target){
            .id = i,
            .weight = 30720,
            .node = i / targets_per_node,
            .placeable = true,
        };
    }
    return c;
}

static double run_lookups(void *context)
{
    struct route *r = context;
    uint32_t next = 0;
    const uint64_t start = bench_now_ns();

    for (uint32_t i = 0; i < LOOKUPS; i++) {
        const uint32_t partition = place_partition(1, r->keys[next % KEYS], r->table.bits);
        next = i + place_targets(&r->table, PLACE_WIDTH_MAX, partition)[0];
    }
    bench_keep(next);
    return (double)(bench_now_ns() - start) / LOOKUPS;
}

static int bench_lookup(void *memory, size_t bytes)
{
    static struct route r;
    struct cluster c = cluster_new(96, 4);

    if (c.targets == NULL || place_table_build(&r.table, memory, bytes, c.targets, c.count,
                                               PLACE_BITS_DEFAULT, 1u << PLACE_WIDTH_MAX) != 0)
        return 1;
    for (uint32_t i = 0; i < KEYS * PLACE_KEY_BYTES; i++)
        r.keys[i / PLACE_KEY_BYTES][i % PLACE_KEY_BYTES] = (uint8_t)(i * 2654435761u >> 11);

    const struct bench_pairs p =
        bench_pairs(&(struct bench_side){run_lookups, &r}, NULL, BENCH_PAIRS);
    bench_print(&(struct bench_figure){
        .name = "route-lookup",
        .unit = "ns",
        .value = p.ours,
        .noise = p.noise,
        .goal = 15,
    });
    free(c.targets);
    return 0;
}

struct building {
    struct cluster cluster;
    void *memory;
    size_t bytes;
};

static double run_build(void *context)
{
    const struct building *b = context;
    struct place_table table;
    const uint64_t start = bench_now_ns();

    if (place_table_build(&table, b->memory, b->bytes, b->cluster.targets, b->cluster.count,
                          PLACE_BITS_DEFAULT, 1u << 6) != 0)
        exit(1);
    return (double)(bench_now_ns() - start) / 1e9;
}

static int bench_table(void *memory, size_t bytes)
{
    struct building b = {cluster_new(1000, 32), memory, bytes};

    if (b.cluster.targets == NULL)
        return 1;
    const struct bench_pairs p = bench_pairs(&(struct bench_side){run_build, &b}, NULL, 3);
    bench_print(&(struct bench_figure){
        .name = "table-1000",
        .unit = "s",
        .value = p.ours,
        .noise = p.noise,
        .goal = 1,
    });
    free(b.cluster.targets);
    return 0;
}

int main(int argc, char **argv)
{
    const size_t bytes = place_table_bytes(PLACE_BITS_DEFAULT, 1u << PLACE_WIDTH_MAX);
    void *memory = aligned_alloc(1 << 21, bytes);

    bench_start(argc, argv, "Look up routes, and work out the table of a large cluster.");
    if (memory == NULL || bench_lookup(memory, bytes) != 0 || bench_table(memory, bytes) != 0) {
        fprintf(stderr, "route_bench: out of memory\n");
        return 1;
    }
    free(memory);
    return 0;
}
