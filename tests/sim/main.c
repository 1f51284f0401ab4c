/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim [--seed S] [--seeds N] [--operations N] [--no-faults] [--verbose]
 *
 * Runs N simulations from seed S on; ends with status 1 and the command that repeats the run at the
 * first seed that goes wrong. Each seed of `seeds.txt`, which lists those that once found a bug, runs
 * first when --regressions FILE is given.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "sim.h"

struct totals {
    uint64_t seeds, answered, unanswered, faults, virtual_ns;
};

static bool run_seed(struct sim_options options, uint64_t seed, struct totals *totals,
                     uint64_t *digest)
{
    struct sim *sim = calloc(1, sizeof *sim);

    if (sim == NULL)
        abort();
    options.seed = seed;
    bool right = sim_run(sim, &options);
    *digest = sim->digest;
    totals->seeds++;
    totals->answered += sim->answered;
    totals->unanswered += sim->unanswered;
    totals->faults += sim->faults_injected;
    totals->virtual_ns += sim->now_ns;
    if (!right)
        printf("seed %" PRIu64 ": %s\n  repeat with: sim --seed %" PRIu64
               " --operations %u%s --verbose\n",
               seed, sim->wrong, seed, options.operations, options.faults ? "" : " --no-faults");
    free(sim);
    return right;
}

static bool run_regressions(const char *path, struct sim_options options, struct totals *totals)
{
    char line[128];
    uint64_t digest;
    bool right = true;
    FILE *file = fopen(path, "r");

    if (file == NULL) {
        fprintf(stderr, "sim: cannot open %s\n", path);
        return false;
    }
    while (right && fgets(line, sizeof line, file) != NULL) {
        struct sim_options once = options;
        uint64_t seed;
        if (line[0] == '#' || sscanf(line, "%" SCNu64 " %u", &seed, &once.operations) < 1)
            continue;
        right = run_seed(once, seed, totals, &digest);
    }
    fclose(file);
    return right;
}

static void discard(void *arg, enum log_level level, const char *line)
{
    (void)arg, (void)level, (void)line;
}

int main(int argc, char **argv)
{
    static const struct option words[] = {
        {"seed", required_argument, NULL, 's'},       {"seeds", required_argument, NULL, 'n'},
        {"operations", required_argument, NULL, 'o'}, {"no-faults", no_argument, NULL, 'f'},
        {"verbose", no_argument, NULL, 'v'},          {"regressions", required_argument, NULL, 'r'},
        {NULL, 0, NULL, 0}};
    struct sim_options options = {.operations = 500, .faults = true};
    struct totals totals = {0};
    const char *regressions = NULL;
    uint64_t seed = 1, seeds = 1;
    int word;

    while ((word = getopt_long(argc, argv, "", words, NULL)) != -1) {
        switch (word) {
        case 's': seed = strtoull(optarg, NULL, 0); break;
        case 'n': seeds = strtoull(optarg, NULL, 0); break;
        case 'o': options.operations = (unsigned)strtoul(optarg, NULL, 0); break;
        case 'f': options.faults = false; break;
        case 'v': options.verbose = true; break;
        case 'r': regressions = optarg; break;
        default:
            fprintf(stderr, "usage: sim [--seed S] [--seeds N] [--operations N] [--no-faults] "
                            "[--regressions FILE] [--verbose]\n");
            return 2;
        }
    }
    if (!options.verbose)
        log_set_sink(discard, NULL);
    else
        log_set_level(LOG_LEVEL_DEBUG);
    setvbuf(stdout, NULL, _IOLBF, 0); /* in step with the log, also when a check fails */
    bool right = regressions == NULL || run_regressions(regressions, options, &totals);
    clock_t began = clock();
    for (uint64_t i = 0; right && i < seeds; i++) {
        uint64_t first, second;
        right = run_seed(options, seed + i, &totals, &first);
        /* One seed is one run: the first of a series is run twice. */
        if (right && i == 0 && !options.verbose) {
            right = run_seed(options, seed, &totals, &second);
            if (first != second) {
                printf("seed %" PRIu64 " gave two different runs\n", seed);
                right = false;
            }
        }
    }
    printf("%" PRIu64 " seeds, %" PRIu64 " operations answered, %" PRIu64 " without answer, %" PRIu64
           " faults, %.1f simulated hours in %.0f s\n",
           totals.seeds, totals.answered, totals.unanswered, totals.faults,
           (double)totals.virtual_ns / 3.6e12, (double)(clock() - began) / CLOCKS_PER_SEC);
    return right ? 0 : 1;
}
