/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A histogram of fixed size for latencies and sizes, from 1 to 2^45 (nanoseconds: nine hours).
 *
 * Buckets are log-linear: 32 in each power of two, so a percentile is off by at most 1.6 %. A
 * bucket holds (low, high], which makes every power of two an exact upper bound: "at most 1024" is
 * a count and no estimate. Larger values go into the last bucket; max stays exact.
 *
 * One thread writes; others may read meanwhile and see each number whole, though not all of one
 * instant. All zero is a valid empty histogram.
 */
#ifndef BASE_HISTOGRAM_H
#define BASE_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_SUB_BITS 5
#define HISTOGRAM_MAX_BITS 45
#define HISTOGRAM_BUCKETS                                                                          \
    ((size_t)(HISTOGRAM_MAX_BITS - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS)

struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t count;
    uint64_t sum;
    uint64_t max;
    uint64_t min_inverted; /* ~min, so that all zero means empty */
};

void histogram_init(struct histogram *histogram);
void histogram_record(struct histogram *histogram, uint64_t value);

/* Adds @from to @into, of which the caller is the writer. */
void histogram_merge(struct histogram *into, const struct histogram *from);

/* The value below which @percent (0 to 100) of the records lie; 0 when empty. */
uint64_t histogram_percentile(const struct histogram *histogram, double percent);

/* How many records are <= 2^power; exact. */
uint64_t histogram_count_to_power(const struct histogram *histogram, unsigned power);

uint64_t histogram_count(const struct histogram *histogram);
uint64_t histogram_sum(const struct histogram *histogram);
uint64_t histogram_min(const struct histogram *histogram); /* 0 when empty */
uint64_t histogram_max(const struct histogram *histogram);
double histogram_mean(const struct histogram *histogram);

#endif
