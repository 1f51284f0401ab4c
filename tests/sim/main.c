/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulator's command: runs of many seeds, side by side, and what becomes of the first that goes
 * wrong. scripts/sim builds and calls it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/macros.h"
#include "base/options.h"
#include "runner.h"
#include "shrink.h"
#include "sim.h"

struct arguments {
    uint64_t seed, seeds, duration_ns, operations, faults, keys, workers, jobs, faults_least;
    char *without, *planted, *regressions;
    bool shrink, verbose, list;
};

#define ARGUMENT(name, type, by_default, least, most, letter, value, help)                         \
    {{#name, type, offsetof(struct arguments, name), by_default, least, most, NULL, help}, letter, \
     value}

static const struct option_spec option_table[] = {
    ARGUMENT(seed, VALUE_U64, "1", 0, 0, 's', "S", "The first seed."),
    ARGUMENT(seeds, VALUE_U64, "1", 0, 0, 'n', "N", "How many; one after the other from S on."),
    {{"minutes", VALUE_U64, offsetof(struct arguments, duration_ns), "0", 0, 100000, NULL,
      "As many seeds as so many minutes allow."}, 'm', "M"},
    ARGUMENT(operations, VALUE_U64, "615", 1, 2000, 'o', "N", "Of the clients, in each run."),
    ARGUMENT(faults, VALUE_U64, "4294967295", 0, SIM_FAULTS_ALL, 0, "N", "No more than so many."),
    ARGUMENT(keys, VALUE_U64, "24", 1, SIM_KEYS, 0, "N", "Of each pool."),
    ARGUMENT(workers, VALUE_U64, "3", 1, SIM_CLIENT_FIBERS, 0, "N",
             "Operations of one client at once."),
    ARGUMENT(without, VALUE_STRING, "", 0, 0, 0, "KIND,...",
             "Faults that are not to happen; --list names them."),
    ARGUMENT(planted, VALUE_STRING, "none", 0, 0, 0, "BUG",
             "With a bug on purpose, in a build with -Dplanted=true; --list names them. all: each in "
             "turn, until a seed catches it."),
    ARGUMENT(regressions, VALUE_STRING, NULL, 0, 0, 0, "FILE",
             "First the seeds of this file, which once found something."),
    ARGUMENT(jobs, VALUE_U64, "0", 0, 64, 'j', "N", "Runs at once; 0: one for each core."),
    ARGUMENT(shrink, VALUE_BOOL, NULL, 0, 0, 0, NULL, "Look for a shorter run that fails too."),
    ARGUMENT(verbose, VALUE_BOOL, NULL, 0, 0, 'v', NULL,
             "Print everything that happens; one run after the other."),
    ARGUMENT(list, VALUE_BOOL, NULL, 0, 0, 0, NULL, "Name the faults and the bugs, and end."),
};

static const struct options_command command = {
    .name = "sim", .arguments = "",
    .summary = "Run whole clusters on virtual time, each from one seed, and try to break them.",
    .example = "scripts/sim --seed 1 --seeds 1000\n"
               "scripts/sim --seed 12345 --verbose\n"
               "scripts/sim --seed 12345 --shrink\n"
               "scripts/sim --seed 1000000 --minutes 60",
    .options = option_table, .option_count = ARRAY_LEN(option_table),
};

#define REGRESSIONS_MAX 256u

struct series {
    const struct arguments *arguments;
    struct sim_options options;
    uint64_t regressions[REGRESSIONS_MAX];
    unsigned regressions_count, regressions_begun;
    uint64_t begun, until_s;
    uint64_t runs, answered, unanswered, faults, least_operations, least_faults, virtual_ns;
    struct outcome failure;
    bool failed;
    uint64_t first_digest; /* the first seed is run twice */
    bool first_known;
    time_t shown;
};

static uint64_t real_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec;
}

/* All at once: a stream that is open while a process forks is moved about by the children's ends. */
static bool read_regressions(struct series *series, const char *path)
{
    char line[256];
    FILE *file = fopen(path, "r");

    if (file == NULL)
        return false;
    while (series->regressions_count < REGRESSIONS_MAX && fgets(line, sizeof line, file) != NULL)
        if (line[0] != '#' &&
            sscanf(line, "%" SCNu64, &series->regressions[series->regressions_count]) == 1)
            series->regressions_count++;
    fclose(file);
    return true;
}

static bool next_run(void *ctx, struct sim_options *options)
{
    struct series *series = ctx;
    const struct arguments *arguments = series->arguments;

    *options = series->options;
    if (series->regressions_begun < series->regressions_count) {
        options->seed = series->regressions[series->regressions_begun++];
        return true;
    }
    uint64_t at = series->begun;
    /* One seed is one run: the first of a series is run twice. */
    if (arguments->seeds > 1 && at > 0)
        at--;
    if (arguments->duration_ns > 0 ? real_s() >= series->until_s : at >= arguments->seeds)
        return false;
    series->begun++;
    options->seed = arguments->seed + at;
    return true;
}

static void show_progress(struct series *series)
{
    time_t now = time(NULL);

    if (!isatty(STDERR_FILENO) || now == series->shown)
        return;
    series->shown = now;
    fprintf(stderr, "\r%" PRIu64 " runs, %" PRIu64 " faults, %.1f simulated hours ", series->runs,
            series->faults, (double)series->virtual_ns / 3.6e12);
}

static bool run_ended(void *ctx, const struct outcome *outcome)
{
    struct series *series = ctx;

    series->runs++;
    series->answered += outcome->answered;
    series->unanswered += outcome->unanswered;
    series->faults += outcome->faults;
    series->virtual_ns += outcome->virtual_ns;
    series->least_operations =
        MIN(series->least_operations, outcome->answered + outcome->unanswered);
    series->least_faults = MIN(series->least_faults, outcome->faults);
    show_progress(series);
    series->failure = *outcome;
    series->failed = !outcome->right;
    if (outcome->right && outcome->options.seed == series->arguments->seed) {
        series->failed = series->first_known && outcome->digest != series->first_digest;
        if (series->failed)
            snprintf(series->failure.wrong, sizeof series->failure.wrong,
                     "one seed gave two different runs");
        series->first_known = true;
        series->first_digest = outcome->digest;
    }
    return !series->failed;
}

static void print_failure(const struct outcome *failure)
{
    char options[512];

    sim_options_print(&failure->options, options, sizeof options);
    printf("seed %" PRIu64 ": %s\n", failure->options.seed, failure->wrong);
    if (failure->said[0] != '\0')
        printf("%s", failure->said);
    printf("  repeat with: scripts/sim %s --verbose\n", options);
}

static void discard(void *arg, enum log_level level, const char *line)
{
    (void)arg, (void)level, (void)line;
}

static void list_names(void)
{
    printf("faults:");
    for (unsigned i = 0; i < SIM_FAULT_COUNT; i++)
        printf(" %s", sim_fault_name((enum sim_fault)i));
    printf("\nbugs on purpose:\n");
    for (unsigned i = 1; i < PLANTED_COUNT; i++)
        printf("  %-22s %s\n", planted_name((enum planted)i), planted_what((enum planted)i));
}

static void run_all(struct series *series, unsigned jobs)
{
    const struct runner_work work = {next_run, run_ended, series};
    struct sim_options options;

    if (!series->options.verbose) {
        runner_run(&work, jobs);
        return;
    }
    while (!series->failed && next_run(series, &options)) {
        runner_run_here(&options, &series->failure);
        run_ended(series, &series->failure);
    }
}

static unsigned jobs_of(const struct arguments *arguments)
{
    return arguments->jobs != 0 ? (unsigned)arguments->jobs
                                : (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
}

static int run(const struct arguments *arguments, struct series *series)
{
    unsigned jobs = jobs_of(arguments);
    uint64_t began_s = real_s();

    series->until_s = began_s + arguments->duration_ns * 60;
    run_all(series, jobs);
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r%70s\r", "");
    if (series->failed)
        print_failure(&series->failure);
    if (series->failed && arguments->shrink) {
        shrink(&series->failure, jobs, true);
        print_failure(&series->failure);
    }
    printf("%" PRIu64 " runs, %" PRIu64 " operations answered, %" PRIu64
           " without answer, %" PRIu64 " faults, %.1f simulated hours in %" PRIu64 " s; "
           "each run had at least %" PRIu64 " operations and %" PRIu64 " faults\n",
           series->runs, series->answered, series->unanswered, series->faults,
           (double)series->virtual_ns / 3.6e12, real_s() - began_s, series->least_operations,
           series->least_faults);
    return series->failed ? 1 : 0;
}

/* Each bug has to be caught by some seed, and none by those that caught one without it. */
static int run_planted(const struct arguments *arguments, const struct sim_options *options)
{
    unsigned missed = 0;

    for (unsigned bug = PLANTED_none + 1; bug < PLANTED_SOUGHT_COUNT; bug++) {
        struct series series = {.arguments = arguments, .options = *options,
                                .least_operations = UINT64_MAX, .least_faults = UINT64_MAX};
        const struct runner_work work = {next_run, run_ended, &series};
        struct outcome innocent;
        series.options.planted = (enum planted)bug;
        runner_run(&work, jobs_of(arguments));
        printf("%-22s %s after %" PRIu64 " runs: %s\n", planted_name((enum planted)bug),
               series.failed ? "caught" : "NOT CAUGHT", series.runs,
               series.failed ? series.failure.wrong : planted_what((enum planted)bug));
        missed += !series.failed;
        if (!series.failed)
            continue;
        series.failure.options.planted = PLANTED_none;
        runner_run_here(&series.failure.options, &innocent);
        if (innocent.right)
            continue;
        print_failure(&innocent);
        missed++;
    }
    return missed == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    struct arguments arguments;
    struct options_arguments positional;
    struct series series = {.arguments = &arguments, .least_operations = UINT64_MAX,
                            .least_faults = UINT64_MAX};
    enum options_result parsed =
        options_parse(&command, argc, argv, &arguments, &positional);

    if (parsed != OPTIONS_RUN)
        return parsed == OPTIONS_DONE ? 0 : 2;
    if (arguments.list) {
        list_names();
        return 0;
    }
    series.options = (struct sim_options){
        .operations = arguments.operations, .faults = arguments.faults, .keys = arguments.keys,
        .workers = arguments.workers, .verbose = arguments.verbose};
    bool each = strcmp(arguments.planted, "all") == 0;
    series.options.planted = each ? PLANTED_none : planted_find(arguments.planted);
    if (!sim_faults_parse(arguments.without, &series.options.without) ||
        series.options.planted == PLANTED_COUNT) {
        (void)options_usage_error(&command, "--list names the faults and the bugs that there are");
        return 2;
    }
    if (!planted_plant(each ? PLANTED_early_ack : series.options.planted)) {
        fprintf(stderr, "sim: this build has no bugs on purpose; configure one with "
                        "-Dplanted=true\n");
        return 2;
    }
    if (arguments.regressions != NULL && !read_regressions(&series, arguments.regressions)) {
        fprintf(stderr, "sim: cannot open %s\n", arguments.regressions);
        return 1;
    }
    if (!arguments.verbose)
        log_set_sink(discard, NULL);
    else
        log_set_level(LOG_LEVEL_DEBUG);
    setvbuf(stdout, NULL, _IOLBF, 0); /* in step with the log, also when a check fails */
    int status = each ? run_planted(&arguments, &series.options) : run(&arguments, &series);
    options_free(&command, &arguments);
    return status;
}
