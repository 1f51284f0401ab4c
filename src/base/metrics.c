/* SPDX-License-Identifier: Apache-2.0 */
#include "base/metrics.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/list.h"
#include "shoal/error.h"

/* Upper bounds of the rendered buckets: 2^10 ns = 1.024 us ... 2^36 ns = 69 s. */
#define SECONDS_POWER_FIRST 10
#define SECONDS_POWER_LAST 36
/* Sizes and counts: every second power, 1 ... 2^40. */
#define PLAIN_POWER_FIRST 0
#define PLAIN_POWER_LAST 40

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

static const char *const kind_names[] = {"counter", "gauge", "histogram"};

struct metric {
    struct list_node node;
    char *labels; /* never NULL */
    union {
        struct counter counter;
        struct gauge gauge;
        struct histogram histogram;
    };
};

struct family {
    struct list_node node;
    enum metric_kind kind;
    char *name;
    char *help;
    struct list metrics;
};

struct metrics {
    pthread_mutex_t lock; /* over the lists; values are atomics */
    struct list families;
};

struct metrics *metrics_create(void)
{
    struct metrics *metrics = malloc(sizeof *metrics);
    if (metrics == NULL)
        return NULL;
    pthread_mutex_init(&metrics->lock, NULL);
    list_init(&metrics->families);
    return metrics;
}

static void family_free(struct family *family)
{
    list_for_each(&family->metrics, struct metric, node, metric) {
        free(metric->labels);
        free(metric);
    }
    free(family->name);
    free(family->help);
    free(family);
}

void metrics_destroy(struct metrics *metrics)
{
    if (metrics == NULL)
        return;
    list_for_each(&metrics->families, struct family, node, family)
        family_free(family);
    pthread_mutex_destroy(&metrics->lock);
    free(metrics);
}

static bool ends_in(const char *text, const char *end)
{
    size_t length = strlen(text);
    size_t end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

static void check_name(const char *name, enum metric_kind kind)
{
    for (const char *at = name; *at != '\0'; at++)
        CHECK_MSG((*at >= 'a' && *at <= 'z') || *at == '_' ||
                      (at > name && *at >= '0' && *at <= '9'),
                  "metric '%s'", name);
    CHECK_MSG((kind == METRIC_COUNTER) == ends_in(name, "_total"),
              "'%s': counters and nothing else end in _total", name);
}

static void *must(void *memory)
{
    CHECK_MSG(memory != NULL, "out of memory while metrics are registered at start");
    return memory;
}

static struct family *family_get(struct metrics *metrics, const char *name, const char *help,
                                 enum metric_kind kind)
{
    list_for_each(&metrics->families, struct family, node, family) {
        if (strcmp(family->name, name) == 0) {
            CHECK_MSG(family->kind == kind, "'%s' is a %s already", name, kind_names[family->kind]);
            return family;
        }
    }
    check_name(name, kind);
    struct family *family = must(malloc(sizeof *family));
    family->kind = kind;
    family->name = must(strdup(name));
    family->help = must(strdup(help));
    list_init(&family->metrics);
    list_push_back(&metrics->families, &family->node);
    return family;
}

static size_t metric_size(enum metric_kind kind)
{
    size_t start = offsetof(struct metric, counter);
    switch (kind) {
    case METRIC_COUNTER:
        return start + sizeof(struct counter);
    case METRIC_GAUGE:
        return start + sizeof(struct gauge);
    default:
        return start + sizeof(struct histogram);
    }
}

static struct metric *metric_get(struct metrics *metrics, const char *name, const char *help,
                                 const char *labels, enum metric_kind kind)
{
    if (labels == NULL)
        labels = "";
    struct metric *found = NULL;
    pthread_mutex_lock(&metrics->lock);
    struct family *family = family_get(metrics, name, help, kind);
    list_for_each(&family->metrics, struct metric, node, metric) {
        if (strcmp(metric->labels, labels) == 0)
            found = metric;
    }
    if (found == NULL) {
        found = must(calloc(1, metric_size(kind)));
        found->labels = must(strdup(labels));
        list_push_back(&family->metrics, &found->node);
    }
    pthread_mutex_unlock(&metrics->lock);
    return found;
}

struct counter *metric_counter(struct metrics *metrics, const char *name, const char *help,
                               const char *labels)
{
    return &metric_get(metrics, name, help, labels, METRIC_COUNTER)->counter;
}

struct gauge *metric_gauge(struct metrics *metrics, const char *name, const char *help,
                           const char *labels)
{
    return &metric_get(metrics, name, help, labels, METRIC_GAUGE)->gauge;
}

struct histogram *metric_histogram(struct metrics *metrics, const char *name, const char *help,
                                   const char *labels)
{
    return &metric_get(metrics, name, help, labels, METRIC_HISTOGRAM)->histogram;
}

int metrics_label(char *out, size_t size, const char *name, const char *value)
{
    size_t at = 0;
    int length = snprintf(out, size, "%s=\"", name);
    if (length < 0 || (size_t)length >= size)
        return SHOAL_E_TOO_LARGE;
    at = (size_t)length;
    for (; *value != '\0'; value++) {
        char plain[2] = {*value, '\0'};
        const char *text = *value == '\\'   ? "\\\\"
                           : *value == '"'  ? "\\\""
                           : *value == '\n' ? "\\n"
                                            : plain;
        size_t more = strlen(text);
        if (at + more >= size)
            return SHOAL_E_TOO_LARGE;
        memcpy(out + at, text, more);
        at += more;
    }
    if (at + 2 > size)
        return SHOAL_E_TOO_LARGE;
    out[at++] = '"';
    out[at] = '\0';
    return (int)at;
}

static void render_value(FILE *out, const struct family *family, const struct metric *metric,
                         double value)
{
    if (metric->labels[0] != '\0')
        fprintf(out, "%s{%s} %.17g\n", family->name, metric->labels, value);
    else
        fprintf(out, "%s %.17g\n", family->name, value);
}

static void render_histogram(FILE *out, const struct family *family, const struct metric *metric)
{
    const struct histogram *histogram = &metric->histogram;
    bool seconds = ends_in(family->name, "_seconds");
    unsigned first = seconds ? SECONDS_POWER_FIRST : PLAIN_POWER_FIRST;
    unsigned last = seconds ? SECONDS_POWER_LAST : PLAIN_POWER_LAST;
    unsigned step = seconds ? 1 : 2;
    double scale = seconds ? 1e-9 : 1;
    const char *labels = metric->labels;
    const char *comma = labels[0] != '\0' ? "," : "";
    uint64_t floor = 0;
    for (unsigned power = first; power <= last; power += step) {
        /* A writer may be at work between two sums; cumulative counts must not step back. */
        floor = MAX(floor, histogram_count_to_power(histogram, power));
        fprintf(out, "%s_bucket{%s%sle=\"%.9g\"} %llu\n", family->name, labels, comma,
                (double)(UINT64_C(1) << power) * scale, (unsigned long long)floor);
    }
    unsigned long long total = (unsigned long long)MAX(floor, histogram_count(histogram));
    const char *open = labels[0] != '\0' ? "{" : "";
    const char *close = labels[0] != '\0' ? "}" : "";
    fprintf(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", family->name, labels, comma, total);
    fprintf(out, "%s_sum%s%s%s %.17g\n", family->name, open, labels, close,
            (double)histogram_sum(histogram) * scale);
    fprintf(out, "%s_count%s%s%s %llu\n", family->name, open, labels, close, total);
}

static void render_family(FILE *out, struct family *family)
{
    fprintf(out, "# HELP %s ", family->name);
    for (const char *at = family->help; *at != '\0'; at++)
        fputs(*at == '\\' ? "\\\\" : *at == '\n' ? "\\n" : (char[2]){*at, '\0'}, out);
    fprintf(out, "\n# TYPE %s %s\n", family->name, kind_names[family->kind]);
    list_for_each(&family->metrics, struct metric, node, metric) {
        switch (family->kind) {
        case METRIC_COUNTER:
            render_value(out, family, metric, (double)counter_get(&metric->counter));
            break;
        case METRIC_GAUGE:
            render_value(out, family, metric, gauge_get(&metric->gauge));
            break;
        case METRIC_HISTOGRAM:
            render_histogram(out, family, metric);
            break;
        }
    }
}

int metrics_render(struct metrics *metrics, char **text, size_t *length)
{
    FILE *out = open_memstream(text, length);
    if (out == NULL)
        return SHOAL_E_NO_MEMORY;
    pthread_mutex_lock(&metrics->lock);
    list_for_each(&metrics->families, struct family, node, family)
        render_family(out, family);
    pthread_mutex_unlock(&metrics->lock);
    bool failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) {
        free(*text);
        *text = NULL;
        return SHOAL_E_NO_MEMORY;
    }
    return 0;
}
