/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many simulations, each in a process of its own, some at a time: one that crashes, hangs or leaks
 * harms no other, and nothing of one run can leak into the next. Who wants them says which is next
 * and is told how each ended; the order of the ends depends on the machine, what a run gives does not.
 */
#ifndef SHOAL_TESTS_SIM_RUNNER_H
#define SHOAL_TESTS_SIM_RUNNER_H

#include "options.h"

#define OUTCOME_SAID_MAX 3000u

struct outcome {
    struct sim_options options;
    bool right;
    uint64_t digest, answered, unanswered, faults, virtual_ns;
    char wrong[512];
    char said[OUTCOME_SAID_MAX]; /* what it wrote to stderr: of a failed check, of a sanitizer */
};

/*
 * struct runner_work - Which runs.
 * @next: false: there are no more
 * @ended: false: begin no more, and end those that run
 */
struct runner_work {
    bool (*next)(void *ctx, struct sim_options *options);
    bool (*ended)(void *ctx, const struct outcome *outcome);
    void *ctx;
};

/* @jobs: how many at once. */
void runner_run(const struct runner_work *work, unsigned jobs);

/* In this process, where a debugger and the leak checker see it. */
void runner_run_here(const struct sim_options *options, struct outcome *outcome);

/* The same failure of another seed or at another time: @text without its numbers. */
void outcome_kind(const struct outcome *outcome, char *text, size_t size);

#endif
