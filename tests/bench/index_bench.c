/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine's index with ten million objects: what a lookup costs beside one load from memory that
 * depends on the one before, and what an object costs in memory, all included.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/random.h"
#include "bench.h"
#include "engine/index.h"

#define OBJECTS 10000000u
#define LOOKUPS 200000u

static struct index index_;
static struct blob_id *ids; /* LOOKUPS of those inside, in random order */
static uint64_t *chain;     /* a cycle through memory as large as the index */
static uint64_t chain_length;

static struct blob_id id_of(uint64_t n)
{
    struct blob_id id = {.pool = 1};
    struct prng prng;
    prng_seed(&prng, n);
    prng_bytes(&prng, id.key.bytes, sizeof id.key.bytes);
    return id;
}

static uint64_t resident_bytes(void)
{
    unsigned long size = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%lu %lu", &size, &resident) != 2)
        exit(1);
    (void)fclose(file);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static double run_lookup(void *context)
{
    (void)context;
    uint64_t sum = 0, start = bench_now_ns();
    for (unsigned i = 0; i < LOOKUPS; i++) {
        /* The next lookup cannot begin before this one has ended. */
        const struct blob_id *id = &ids[i + (sum & 1)];
        const struct index_slot *slot = index_find_id(&index_, id);
        if (slot == NULL)
            exit(1);
        sum += slot->block & 1 & (uint64_t)(slot->form == BLOB_TOMBSTONE);
    }
    bench_keep(sum);
    return (double)(bench_now_ns() - start) / LOOKUPS;
}

static double run_load(void *context)
{
    uint64_t *at = context, start = bench_now_ns();
    for (unsigned i = 0; i < LOOKUPS; i++)
        *at = chain[*at];
    bench_keep(*at);
    return (double)(bench_now_ns() - start) / LOOKUPS;
}

/* One cycle through all cache lines, in random order. */
static void make_chain(uint64_t bytes)
{
    const uint64_t step = 8; /* of 8 bytes: a cache line */
    uint64_t lines = bytes / 64;
    struct prng prng;
    prng_seed(&prng, 9);
    chain_length = lines * step;
    chain =
        mmap(NULL, chain_length * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint32_t *order = malloc(lines * sizeof *order);
    if (chain == MAP_FAILED || order == NULL)
        exit(1);
    (void)madvise(chain, chain_length * 8, MADV_HUGEPAGE); /* as the index asks for */
    for (uint64_t i = 0; i < lines; i++)
        order[i] = (uint32_t)i;
    for (uint64_t i = lines - 1; i > 0; i--) {
        uint64_t j = prng_below(&prng, i + 1);
        uint32_t swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
    for (uint64_t i = 0; i < lines; i++)
        chain[order[i] * step] = order[(i + 1) % lines] * step;
    free(order);
}

int main(int argc, char **argv)
{
    bench_start(argc, argv, "Look up among ten million objects, and weigh the index.");
    uint64_t before = resident_bytes();
    if (index_init(&index_, 16, 77, OBJECTS + 1000) != 0)
        return 1;
    for (uint64_t n = 0; n < OBJECTS; n++) {
        struct index_item item = {.id = id_of(n),
                                  .version = {1 + n % 5, 7, n + 1},
                                  .kind = BLOB_HEAD,
                                  .form = BLOB_BYTES,
                                  .shard_len = 4096,
                                  .block = n + 1};
        if (index_insert(&index_, &item) != 0)
            return 1;
    }
    uint64_t after = resident_bytes();
    double counted = (double)index_bytes(&index_) / OBJECTS;
    double resident = (double)(after - before) / OBJECTS;
    ids = malloc((LOOKUPS + 1) * sizeof *ids);
    if (ids == NULL)
        return 1;
    struct prng prng;
    prng_seed(&prng, 4);
    for (unsigned i = 0; i <= LOOKUPS; i++)
        ids[i] = id_of(prng_below(&prng, OBJECTS));
    make_chain(after - before);
    uint64_t at = 0;
    struct bench_pairs p = bench_pairs(&(struct bench_side){run_lookup, NULL},
                                       &(struct bench_side){run_load, &at}, BENCH_PAIRS);
    bench_print(&(struct bench_figure){.name = "index-lookup",
                                       .unit = "ns",
                                       .value = p.ours,
                                       .baseline = p.raw,
                                       .noise = p.noise,
                                       .goal = 3});
    bench_print(&(struct bench_figure){.name = "index-memory",
                                       .unit = "bytes a blob",
                                       .value = resident > counted ? resident : counted,
                                       .goal = 64});
    return 0;
}
