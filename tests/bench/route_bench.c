/* SPDX-License-Identifier: Apache-2.0 */
/*
 * route-lookup: from a key to its target set in a table of 65,536 partitions by 12, whose
 * rows are visited at random. The time is that of one of many lookups after one another, as a
 * client makes them that has many requests in hand; the processor overlaps what it can.
 *
 * route-latency: each lookup waits for the result of the one before, among few objects, so that
 * what is measured is the hash and not how far away the table is.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/blob.h"
#include "bench.h"
#include "place/measure.h"

enum {
    LOOKUPS = 1 << 17,
    IDS = 1 << 16, /* as many objects as partitions: most rows of the table are visited */
    HOT = 1 << 8,  /* objects, and so rows, that stay in the nearest cache */
};

struct route {
    struct place_table table;
    struct blob_id ids[IDS];
};

static double run_lookups(void *context)
{
    const struct route *r = context;
    uint64_t sum = 0;
    const uint64_t start = bench_cpu_ns();

    for (uint32_t i = 0; i < LOOKUPS; i++) {
        const uint32_t partition = blob_partition(&r->ids[i % IDS], r->table.bits);
        sum += place_targets(&r->table, PLACE_WIDTH_MAX, partition)[0];
    }
    bench_keep(sum);
    return (double)(bench_cpu_ns() - start) / LOOKUPS;
}

static double run_chain(void *context)
{
    const struct route *r = context;
    uint32_t next = 0;
    const uint64_t start = bench_cpu_ns();

    for (uint32_t i = 0; i < LOOKUPS; i++) {
        const uint32_t partition = blob_partition(&r->ids[next % HOT], r->table.bits);
        next = i + place_targets(&r->table, PLACE_WIDTH_MAX, partition)[0];
    }
    bench_keep(next);
    return (double)(bench_cpu_ns() - start) / LOOKUPS;
}

static int bench_lookup(void *memory, size_t bytes)
{
    static const struct {
        const char *name;
        double (*run)(void *context);
        double goal;
    } figures[] = {{"route-lookup", run_lookups, 15}, {"route-latency", run_chain, 0}};
    static struct route r;
    struct cluster c = cluster_new(96, 4, 0);

    if (place_table_build(&r.table, memory, bytes, c.targets, c.count,
                                               PLACE_BITS_DEFAULT, 1u << PLACE_WIDTH_MAX) != 0)
        return 1;
    for (uint32_t i = 0; i < IDS * BLOB_KEY_BYTES; i++)
        r.ids[i / BLOB_KEY_BYTES].key.bytes[i % BLOB_KEY_BYTES] = (uint8_t)(i * 2654435761u >> 11);

    for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++) {
        const struct bench_pairs p =
            bench_pairs(&(struct bench_side){figures[i].run, &r}, NULL, BENCH_PAIRS);
        bench_print(&(struct bench_figure){
            .name = figures[i].name,
            .unit = "ns",
            .value = p.ours,
            .noise = p.noise,
            .goal = figures[i].goal,
        });
    }
    cluster_free(&c);
    return 0;
}

int main(int argc, char **argv)
{
    const size_t bytes = place_table_bytes(PLACE_BITS_DEFAULT, 1u << PLACE_WIDTH_MAX);
    void *memory = aligned_alloc(1 << 21, bytes);

    if (memory != NULL)
        madvise(memory, bytes, MADV_HUGEPAGE); /* as a node would; it does without, too */
    bench_start(argc, argv, "Look up routes.");
    if (memory == NULL || bench_lookup(memory, bytes) != 0) {
        fprintf(stderr, "route_bench: out of memory\n");
        return 1;
    }
    free(memory);
    return 0;
}
