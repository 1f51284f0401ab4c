/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static bool json;

static uint64_t read_clock(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

uint64_t bench_now_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t bench_cpu_ns(void)
{
    return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

static int compare_doubles(const void *left, const void *right)
{
    const double a = *(const double *)left;
    const double b = *(const double *)right;

    return a < b ? -1 : a > b;
}

static double median(double *samples, unsigned count)
{
    qsort(samples, count, sizeof(*samples), compare_doubles);
    return samples[count / 2];
}

struct bench_pairs bench_pairs(const struct bench_side *ours, const struct bench_side *raw,
                               unsigned pairs)
{
    const struct bench_side *yardstick = raw != NULL ? raw : ours;
    double raw_samples[BENCH_PAIRS_MAX];
    double our_samples[BENCH_PAIRS_MAX];
    double differences[BENCH_PAIRS_MAX];

    if (pairs > BENCH_PAIRS_MAX)
        pairs = BENCH_PAIRS_MAX;
    yardstick->run(yardstick->context);
    ours->run(ours->context);
    for (unsigned i = 0; i < pairs; i++) {
        const double first = yardstick->run(yardstick->context);
        our_samples[i] = ours->run(ours->context);
        raw_samples[i] = yardstick->run(yardstick->context);
        differences[i] = fabs(first / raw_samples[i] - 1);
    }
    return (struct bench_pairs){
        .ours = median(our_samples, pairs),
        .raw = raw != NULL ? median(raw_samples, pairs) : 0,
        .noise = median(differences, pairs),
    };
}

void bench_start(int argc, char **argv, const char *what)
{
    if (argc == 1)
        return;
    json = argc == 2 && strcmp(argv[1], "--json") == 0;
    if (json)
        return;
    const bool help = argc == 2 && strcmp(argv[1], "--help") == 0;
    fprintf(help ? stdout : stderr, "%s\nusage: %s [--json]\n", what, argv[0]);
    exit(help ? 0 : 2);
}

static void print_json(const struct bench_figure *figure, double ratio, bool met)
{
    printf("{\"name\": \"%s\", \"value\": %.6g, ", figure->name, figure->value);
    if (figure->baseline > 0)
        printf("\"baseline\": %.6g, \"ratio\": %.4f, ", figure->baseline, ratio);
    else
        printf("\"baseline\": null, \"ratio\": null, ");
    printf("\"noise\": %.4f, ", figure->noise);
    if (figure->goal > 0)
        printf("\"goal\": %.6g, \"met\": %s, ", figure->goal, met ? "true" : "false");
    else
        printf("\"goal\": null, \"met\": null, ");
    printf("\"unit\": \"%s\"}\n", figure->unit);
}

void bench_print(const struct bench_figure *figure)
{
    const bool compared = figure->baseline > 0;
    const double ratio = compared ? figure->value / figure->baseline : 0;
    const double judged = compared ? ratio : figure->value;
    const bool met = figure->more_is_better ? judged >= figure->goal : judged <= figure->goal;

    if (json) {
        print_json(figure, ratio, met);
        return;
    }
    printf("%-16s %10.4g %s", figure->name, figure->value, figure->unit);
    if (compared)
        printf(" against %.4g raw: ratio %.3f", figure->baseline, ratio);
    printf(" (noise %.1f %%)", figure->noise * 100);
    if (figure->goal > 0)
        printf(": goal %s %.4g %s", figure->more_is_better ? ">=" : "<=", figure->goal,
               met ? "met" : "missed");
    printf("\n");
}
