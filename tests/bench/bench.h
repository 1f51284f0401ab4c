/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the benchmark programs share: measuring two things in turn, and one line of output.
 *
 * Each program measures one or a few figures of the table in docs and prints a line for each, for
 * people or with --json for scripts/bench. What is measured stands against the raw thing in the
 * same run, interleaved, because a machine's speed drifts over seconds; and the raw thing stands
 * against itself, so that the line says how much of a difference is noise.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <stdbool.h>
#include <stdint.h>

enum {
    BENCH_PAIRS = 31, /* odd, so that a median is a sample */
    BENCH_PAIRS_MAX = 101,
};

/* Does the thing once and returns what it took, in ns or whatever the program compares. */
struct bench_side {
    double (*run)(void *context);
    void *context;
};

struct bench_pairs {
    double ours;  /* medians */
    double raw;   /* 0 if there is nothing to stand against */
    double noise; /* median of |a/b - 1| of the raw thing (ours without one) run twice in a row */
};

/*
 * bench_pairs() - Run raw, ours, raw ... in turn, @pairs times after a round that is not counted.
 * @raw: NULL where there is nothing to compare with.
 */
struct bench_pairs bench_pairs(const struct bench_side *ours, const struct bench_side *raw,
                               unsigned pairs);

uint64_t bench_now_ns(void);

/* CPU time of this thread: for loops that only compute, whatever else the machine is busy with. */
uint64_t bench_cpu_ns(void);

/* Keeps the compiler from proving that a result is not needed. */
static inline void bench_keep(uint64_t value)
{
    __asm__ volatile("" : : "r"(value) : "memory");
}

/*
 * One figure.
 * @ratio: value / baseline; what the goal is about if there is a baseline, else the value is.
 * @goal: 0 for a figure that is only reported.
 * @more_is_better: the goal is a least, else a most.
 */
struct bench_figure {
    const char *name;
    const char *unit;
    double value;
    double baseline; /* 0: none */
    double noise;
    double goal;
    bool more_is_better;
};

/* Options every program has: --json. Exits on --help and on what it does not know. */
void bench_start(int argc, char **argv, const char *what);
void bench_print(const struct bench_figure *figure);

#endif
