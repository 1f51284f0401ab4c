/* SPDX-License-Identifier: Apache-2.0 */
/* Many blobs of one size, and how long each get of one takes. */
#ifndef BENCH_BLOBS_H
#define BENCH_BLOBS_H

#include <stdbool.h>
#include <stdint.h>

struct shoal;

struct blobs {
    const char *pool;
    uint32_t size, count;
};

/* blob_name() - The name of one of them. Returns @name. */
const char *blob_name(uint32_t index, char name[32]);

/* Puts them all, several at once. Other bytes with each @seed. */
void blobs_put(struct shoal *shoal, const struct blobs *blobs, uint64_t seed);

/* Latencies, in ns; grows. */
struct samples {
    double *values;
    uint32_t count, room;
};
void samples_add(struct samples *samples, double value);
/* @percent: 50, 99, 99.9 ... 0 when there are none. */
double samples_percentile(struct samples *samples, double percent);
void samples_free(struct samples *samples);

#endif
