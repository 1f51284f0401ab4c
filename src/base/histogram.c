/* SPDX-License-Identifier: Apache-2.0 */
#include "base/histogram.h"

#include <string.h>

#include "base/check.h"

#define SUB_COUNT (UINT64_C(1) << HISTOGRAM_SUB_BITS)

static inline uint64_t load(const uint64_t *at)
{
    return __atomic_load_n(at, __ATOMIC_RELAXED);
}

static inline void store(uint64_t *at, uint64_t value)
{
    __atomic_store_n(at, value, __ATOMIC_RELAXED);
}

/*
 * Buckets are (low, high]: the index is that of value - 1. Below 2^SUB_BITS each number has its
 * own bucket; above, the top SUB_BITS bits after the leading one choose it.
 */
static size_t bucket_of(uint64_t value)
{
    uint64_t below = value > 0 ? value - 1 : 0;
    if (below < SUB_COUNT)
        return (size_t)below;
    unsigned top = 63 - (unsigned)__builtin_clzll(below);
    if (top >= HISTOGRAM_MAX_BITS)
        return HISTOGRAM_BUCKETS - 1;
    unsigned shift = top - HISTOGRAM_SUB_BITS;
    return ((size_t)(shift + 1) << HISTOGRAM_SUB_BITS) + (size_t)((below >> shift) - SUB_COUNT);
}

/* The largest value of a bucket. */
static uint64_t bucket_high(size_t bucket)
{
    if (bucket < SUB_COUNT)
        return bucket + 1;
    unsigned shift = (unsigned)(bucket >> HISTOGRAM_SUB_BITS) - 1;
    uint64_t sub = (bucket & (SUB_COUNT - 1)) + SUB_COUNT;
    return (sub + 1) << shift;
}

static uint64_t bucket_middle(size_t bucket)
{
    uint64_t high = bucket_high(bucket);
    uint64_t low = bucket == 0 ? 0 : bucket_high(bucket - 1);
    return low + (high - low + 1) / 2;
}

void histogram_init(struct histogram *histogram)
{
    memset(histogram, 0, sizeof *histogram);
}

void histogram_record(struct histogram *histogram, uint64_t value)
{
    uint64_t *bucket = &histogram->counts[bucket_of(value)];
    store(bucket, load(bucket) + 1);
    store(&histogram->count, load(&histogram->count) + 1);
    store(&histogram->sum, load(&histogram->sum) + value);
    if (value > load(&histogram->max))
        store(&histogram->max, value);
    if (~value > load(&histogram->min_inverted))
        store(&histogram->min_inverted, ~value);
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        store(&into->counts[i], load(&into->counts[i]) + load(&from->counts[i]));
    store(&into->count, load(&into->count) + load(&from->count));
    store(&into->sum, load(&into->sum) + load(&from->sum));
    store(&into->max, MAX(load(&into->max), load(&from->max)));
    store(&into->min_inverted, MAX(load(&into->min_inverted), load(&from->min_inverted)));
}

uint64_t histogram_percentile(const struct histogram *histogram, double percent)
{
    uint64_t total = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        total += load(&histogram->counts[i]);
    if (total == 0)
        return 0;
    percent = percent < 0 ? 0 : percent > 100 ? 100 : percent;
    /* The rank is the smallest count that covers percent of all, at least one record. */
    double exact = percent / 100.0 * (double)total;
    uint64_t rank = (uint64_t)exact;
    if ((double)rank < exact || rank == 0)
        rank++;
    uint64_t seen = 0;
    size_t bucket = 0;
    for (; bucket < HISTOGRAM_BUCKETS - 1; bucket++) {
        seen += load(&histogram->counts[bucket]);
        if (seen >= rank)
            break;
    }
    if (rank >= total)
        return histogram_max(histogram);
    uint64_t value = bucket_middle(bucket);
    return MIN(MAX(value, histogram_min(histogram)), histogram_max(histogram));
}

uint64_t histogram_count_to_power(const struct histogram *histogram, unsigned power)
{
    CHECK(power < HISTOGRAM_MAX_BITS);
    size_t last = bucket_of(UINT64_C(1) << power);
    uint64_t count = 0;
    for (size_t i = 0; i <= last; i++)
        count += load(&histogram->counts[i]);
    return count;
}

uint64_t histogram_count(const struct histogram *histogram)
{
    return load(&histogram->count);
}

uint64_t histogram_sum(const struct histogram *histogram)
{
    return load(&histogram->sum);
}

uint64_t histogram_min(const struct histogram *histogram)
{
    return histogram_count(histogram) == 0 ? 0 : ~load(&histogram->min_inverted);
}

uint64_t histogram_max(const struct histogram *histogram)
{
    return load(&histogram->max);
}

double histogram_mean(const struct histogram *histogram)
{
    uint64_t count = histogram_count(histogram);
    return count == 0 ? 0 : (double)histogram_sum(histogram) / (double)count;
}
