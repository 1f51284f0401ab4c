/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each step makes one thing smaller and looks whether the run, or that of a seed beside it, still
 * fails in the same way; if so it goes on from there. The streams of random numbers are apart (see
 * sim.h), so a run with fewer operations begins as the longer one did.
 */
#include "shrink.h"

#include <stdio.h>
#include <string.h>

#include "base/macros.h"
#include "sim.h"

#define SEEDS_TRIED 12u

struct search {
    struct sim_options candidate;
    char kind[512];
    uint64_t tried;
    bool hit;
    struct outcome found;
};

static bool next_seed(void *ctx, struct sim_options *options)
{
    struct search *search = ctx;

    if (search->hit || search->tried == SEEDS_TRIED)
        return false;
    *options = search->candidate;
    options->seed += search->tried++;
    return true;
}

static bool seed_ended(void *ctx, const struct outcome *outcome)
{
    struct search *search = ctx;
    char kind[512];

    if (outcome->right)
        return true;
    outcome_kind(outcome, kind, sizeof kind);
    if (strcmp(kind, search->kind) != 0)
        return true;
    search->hit = true;
    search->found = *outcome;
    return false;
}

/* The smaller run; false when it is no smaller. */
static bool smaller(unsigned step, const struct sim_options *from, struct sim_options *to)
{
    *to = *from;
    switch (step) {
    case 0: to->operations /= 2; break;
    case 1: to->operations -= to->operations / 4; break;
    case 2: to->faults = from->faults == SIM_FAULTS_ALL ? 32 : from->faults / 2; break;
    case 3: to->faults -= from->faults == SIM_FAULTS_ALL ? 0 : from->faults / 4; break;
    case 4: to->keys = (from->keys + 1) / 2; break;
    case 5: to->workers = (from->workers + 1) / 2; break;
    default: to->without |= 1u << (step - 6); break;
    }
    return memcmp(from, to, sizeof *from) != 0;
}

void shrink(struct outcome *found, unsigned jobs, bool talk)
{
    struct search search = {0};
    const struct runner_work work = {next_seed, seed_ended, &search};
    char command[512];
    bool progress = true;

    outcome_kind(found, search.kind, sizeof search.kind);
    while (progress) {
        progress = false;
        for (unsigned step = 0; step < 6 + SIM_FAULT_COUNT;) {
            search.tried = 0;
            search.hit = false;
            if (smaller(step, &found->options, &search.candidate))
                runner_run(&work, jobs);
            if (!search.hit) {
                step++;
                continue;
            }
            *found = search.found;
            progress = true;
            sim_options_print(&found->options, command, sizeof command);
            if (talk)
                printf("fails too: %s\n", command);
        }
    }
}
