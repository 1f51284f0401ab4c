/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registry of what a process counts, rendered as Prometheus text.
 *
 * Metrics are registered at start (this takes a lock and memory) and updated on the data path
 * without either. Each has a single writer; several reactors register one each, told apart by a
 * label. Any thread may render meanwhile. Asking again for the same name and labels gives the same
 * metric. Names follow Prometheus: shoal_ROOM_what_unit, base units, counters end in _total.
 *
 *   struct counter *puts = metric_counter(metrics, "shoal_engine_puts_total",
 *                                         "Puts taken by the engine.", "target=\"3\"");
 *   counter_add(puts, 1);
 *
 * A wrong name, or one name with two kinds, is our own mistake and stops the process.
 */
#ifndef BASE_METRICS_H
#define BASE_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "base/histogram.h"
#include "base/macros.h"

struct metrics;

struct counter {
    uint64_t value;
};

struct gauge {
    double value;
};

struct metrics *metrics_create(void); /* NULL: out of memory */
void metrics_destroy(struct metrics *metrics);

/* @labels: `a="1",b="2"`, or NULL; values escaped by metrics_label() where they are not ours. */
struct counter *metric_counter(struct metrics *metrics, const char *name, const char *help,
                               const char *labels);
struct gauge *metric_gauge(struct metrics *metrics, const char *name, const char *help,
                           const char *labels);

/*
 * metric_histogram() - Log-spaced buckets.
 * @name: one that ends in _seconds is recorded in nanoseconds and shown in seconds, from 1.024 us
 *        to 69 s; any other is shown as recorded, from 1 to 2^40.
 */
struct histogram *metric_histogram(struct metrics *metrics, const char *name, const char *help,
                                   const char *labels);

static inline void counter_add(struct counter *counter, uint64_t by)
{
    /* Single writer: a plain add made of two relaxed halves, no bus lock. */
    __atomic_store_n(&counter->value, __atomic_load_n(&counter->value, __ATOMIC_RELAXED) + by,
                     __ATOMIC_RELAXED);
}

static inline uint64_t counter_get(const struct counter *counter)
{
    return __atomic_load_n(&counter->value, __ATOMIC_RELAXED);
}

static inline void gauge_set(struct gauge *gauge, double value)
{
    __atomic_store(&gauge->value, &value, __ATOMIC_RELAXED);
}

static inline double gauge_get(const struct gauge *gauge)
{
    double value;
    __atomic_load(&gauge->value, &value, __ATOMIC_RELAXED);
    return value;
}

/*
 * metrics_label() - Writes `name="value"` with the value escaped.
 * Returns the length, or SHOAL_E_TOO_LARGE when @size is too small.
 */
int metrics_label(char *out, size_t size, const char *name, const char *value);

/*
 * metrics_render() - The exposition text of all metrics, in order of registration.
 * @text: set to memory that the caller frees; zero-terminated.
 * Returns 0 or SHOAL_E_NO_MEMORY.
 */
int metrics_render(struct metrics *metrics, char **text, size_t *length) NODISCARD;

#endif
