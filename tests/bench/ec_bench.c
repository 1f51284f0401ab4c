/* SPDX-License-Identifier: Apache-2.0 */
/*
 * encode-crc-1m: parity and checksums of 1 MiB in ec 4+2, against ISA-L's encoder followed by
 * ISA-L's CRC over all six shards. Bytes counted are those of the payload.
 */
#include <isa-l/crc.h>
#include <isa-l/erasure_code.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "ec/ec.h"

enum {
    K = 4,
    M = 2,
    PAYLOAD = 1 << 20,
    SHARD = PAYLOAD / K,
    UNIT = 16384,
    REPEATS = 20, /* a sample is long enough for the clock, and the data stays in the cache */
};

struct stripe {
    struct ec_code code;
    struct ec_layout layout;
    uint8_t *shards[K + M];
    uint32_t crcs[K + M][SHARD / UNIT];
    uint32_t *crc_at[K + M];
};

static double gib_per_second(uint64_t ns)
{
    return (double)PAYLOAD * REPEATS / (double)(1 << 30) / ((double)ns / 1e9);
}

static double run_fused(void *context)
{
    struct stripe *s = context;
    const uint64_t start = bench_cpu_ns();

    for (int i = 0; i < REPEATS; i++)
        ec_encode_stripe(&s->code, &s->layout, s->shards[0], &s->shards[K], UNIT, s->crc_at);
    return gib_per_second(bench_cpu_ns() - start);
}

static double run_raw(void *context)
{
    struct stripe *s = context;
    const uint64_t start = bench_cpu_ns();

    for (int i = 0; i < REPEATS; i++) {
        ec_encode_data(SHARD, K, M, s->code.tables, s->shards, &s->shards[K]);
        for (int shard = 0; shard < K + M; shard++)
            bench_keep(crc32_iscsi(s->shards[shard], SHARD, ~0u));
    }
    return gib_per_second(bench_cpu_ns() - start);
}

int main(int argc, char **argv)
{
    static struct stripe s;
    uint8_t *memory = aligned_alloc(4096, (size_t)SHARD * (K + M));

    bench_start(argc, argv, "Encode and checksum a stripe of 1 MiB in 4+2.");
    if (memory == NULL || ec_code_init(&s.code, K, M) != 0 ||
        ec_layout_plan(&s.layout, K, M, PAYLOAD, EC_COPIES_BELOW) != 0) {
        fprintf(stderr, "ec_bench: cannot prepare a stripe of 1 MiB\n");
        return 1;
    }
    for (size_t i = 0; i < (size_t)SHARD * (K + M); i++)
        memory[i] = (uint8_t)(i * 2654435761u >> 13);
    for (int i = 0; i < K + M; i++) {
        s.shards[i] = memory + (size_t)i * SHARD;
        s.crc_at[i] = s.crcs[i];
    }
    const struct bench_pairs p = bench_pairs(&(struct bench_side){run_fused, &s},
                                             &(struct bench_side){run_raw, &s}, BENCH_PAIRS);
    bench_print(&(struct bench_figure){
        .name = "encode-crc-1m",
        .unit = "GiB/s",
        .value = p.ours,
        .baseline = p.raw,
        .noise = p.noise,
        .goal = 0.9,
        .more_is_better = true,
    });
    free(memory);
    return 0;
}
