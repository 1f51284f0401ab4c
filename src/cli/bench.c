/* SPDX-License-Identifier: Apache-2.0 */
/* shoal bench put|get|mixed: a number of operations always under way, and how long each took. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/format.h"
#include "base/histogram.h"
#include "base/progress.h"
#include "base/random.h"
#include "cli/cli.h"

#define DEPTH_MAX 512u
#define BLOBS_MAX 512u
#define WORKING_SET (UINT64_C(64) << 20)

struct arguments {
    struct cli_common common;
    char *pool;
    uint64_t size, depth, duration_ns, seed;
    bool keep;
};

static const struct option_spec options[] = {
    CLI_COMMON_OPTIONS(struct arguments, common),
    {{"pool", VALUE_STRING, offsetof(struct arguments, pool), "durable", 1, 63, NULL,
      "Where the blobs go."}, 'p', "POOL"},
    {{"size", VALUE_SIZE, offsetof(struct arguments, size), "1M", 0, UINT64_C(1) << 30, NULL,
      "Bytes of each blob."}, 's', "BYTES"},
    {{"depth", VALUE_U64, offsetof(struct arguments, depth), "1", 1, DEPTH_MAX, NULL,
      "Operations under way at once."}, 'd', "D"},
    {{"seconds", VALUE_DURATION, offsetof(struct arguments, duration_ns), "5s",
      UINT64_C(10000000), 0, NULL, "How long."}, 0, "S"},
    {{"seed", VALUE_U64, offsetof(struct arguments, seed), "1", 0, 0, NULL,
      "Of the choice of blobs."}, 0, "N"},
    {{"keep", VALUE_BOOL, offsetof(struct arguments, keep), NULL, 0, 0, NULL,
      "Leave the blobs there."}, 0, NULL},
};
static const struct options_command command = {
    .name = "shoal bench", .arguments = "put|get|mixed",
    .summary = "Measure puts, gets, or both in turn. The blobs are removed at the end.",
    .example = "shoal bench put --pool durable --size 1M --depth 8 --seconds 10\n"
               "shoal bench get --pool kv --size 64K --depth 32 --seconds 5 --json",
    .min_arguments = 1, .max_arguments = 1,
    .options = options, .option_count = ARRAY_LEN(options),
};

struct slot {
    struct shoal_request request;
    struct iovec iov;
    uint8_t *memory;
    char name[64];
    uint64_t started_ns;
};

struct bench {
    const struct arguments *arguments;
    const char *op;
    struct shoal *shoal;
    struct slot *slots;
    struct prng prng;
    uint64_t run; /* tells the blobs of this run from others */
    uint64_t blobs;
    uint64_t puts_started;
    uint64_t ops, bytes, errors;
    uint64_t now_ns;
    char first_error[300];
    struct histogram latency;
};

static bool is_put(struct bench *bench)
{
    if (strcmp(bench->op, "mixed") == 0)
        return prng_chance(&bench->prng, 1, 2);
    return strcmp(bench->op, "put") == 0;
}

static void start(struct bench *bench, struct slot *slot, enum shoal_op op, uint64_t blob)
{
    snprintf(slot->name, sizeof slot->name, "bench/%016llx/%llu", (unsigned long long)bench->run,
             (unsigned long long)blob);
    slot->iov = (struct iovec){slot->memory, bench->arguments->size};
    slot->request = (struct shoal_request){
        .op = op, .pool = bench->arguments->pool, .name = slot->name, .iov = &slot->iov,
        .iov_count = 1, .user = slot};
    if (op == SHOAL_OP_PUT && bench->arguments->size >= 8)
        memcpy(slot->memory, &bench->puts_started, sizeof bench->puts_started);
    bench->puts_started += op == SHOAL_OP_PUT;
    slot->started_ns = cli_now_ns();
    if (shoal_submit(bench->shoal, &slot->request) != 0) {
        bench->errors++;
        snprintf(bench->first_error, sizeof bench->first_error, "%s", shoal_message());
        slot->request.user = NULL;
    }
}

static void note_error(struct bench *bench, const struct shoal_request *request)
{
    if (bench->errors++ == 0)
        snprintf(bench->first_error, sizeof bench->first_error, "%s %s/%s: %s",
                 request->op == SHOAL_OP_PUT ? "put" : request->op == SHOAL_OP_GET ? "get"
                                                                                  : "remove",
                 request->pool, request->name, shoal_error_text(request->status));
}

/* Keep @depth operations under way; @next gives the next one or false. Return: when all ended. */
static void pump(struct bench *bench, unsigned depth,
                 bool (*next)(struct bench *bench, struct slot *slot), bool measure)
{
    struct shoal_request *done[64];
    unsigned under_way = 0;
    for (unsigned i = 0; i < depth; i++)
        under_way += next(bench, &bench->slots[i]) && bench->slots[i].request.user != NULL;
    while (under_way > 0) {
        unsigned count = shoal_wait(bench->shoal, done, ARRAY_LEN(done), -1);
        uint64_t now = cli_now_ns();
        bench->now_ns = now;
        for (unsigned i = 0; i < count; i++) {
            struct slot *slot = done[i]->user;
            under_way--;
            if (done[i]->status != 0 && !(done[i]->op == SHOAL_OP_REMOVE)) {
                note_error(bench, done[i]);
            } else if (measure) {
                bench->ops++;
                bench->bytes += done[i]->bytes;
                histogram_record(&bench->latency, now - slot->started_ns);
            }
            under_way += next(bench, slot) && slot->request.user != NULL;
        }
    }
}

static uint64_t filled, removed, deadline;

static bool next_fill(struct bench *bench, struct slot *slot)
{
    if (filled == bench->blobs || bench->errors > 0)
        return false;
    start(bench, slot, SHOAL_OP_PUT, filled++);
    return true;
}

static bool next_remove(struct bench *bench, struct slot *slot)
{
    if (removed == bench->blobs)
        return false;
    start(bench, slot, SHOAL_OP_REMOVE, removed++);
    return true;
}

static bool next_measured(struct bench *bench, struct slot *slot)
{
    if (bench->now_ns >= deadline || bench->errors > 1000)
        return false;
    start(bench, slot, is_put(bench) ? SHOAL_OP_PUT : SHOAL_OP_GET,
          prng_below(&bench->prng, bench->blobs));
    return true;
}

static bool prepare(struct bench *bench)
{
    const struct arguments *arguments = bench->arguments;
    uint64_t fit = WORKING_SET / MAX(arguments->size, UINT64_C(4096));
    bench->blobs = MIN(MAX(fit, arguments->depth), (uint64_t)BLOBS_MAX);
    bench->run = random_os_u64();
    prng_seed(&bench->prng, arguments->seed);
    histogram_init(&bench->latency);
    bench->slots = calloc(arguments->depth, sizeof *bench->slots);
    for (unsigned i = 0; bench->slots != NULL && i < arguments->depth; i++) {
        bench->slots[i].memory = aligned_alloc(4096, round_up_u64(arguments->size + 1, 4096));
        if (bench->slots[i].memory == NULL)
            return false;
        prng_bytes(&bench->prng, bench->slots[i].memory, arguments->size);
        (void)shoal_register(bench->shoal, bench->slots[i].memory, arguments->size);
    }
    return bench->slots != NULL;
}

static int report(struct bench *bench, uint64_t elapsed)
{
    const struct arguments *arguments = bench->arguments;
    const struct histogram *latency = &bench->latency;
    double seconds = (double)elapsed / 1e9;
    double p50 = (double)histogram_percentile(latency, 50) / 1e3;
    double p99 = (double)histogram_percentile(latency, 99) / 1e3;
    double p999 = (double)histogram_percentile(latency, 99.9) / 1e3;
    double most = (double)histogram_max(latency) / 1e3;
    if (arguments->common.json) {
        cli_print_json(json_pack(
            "{s:s, s:I, s:I, s:I, s:f, s:f, s:{s:f, s:f, s:f, s:f}, s:I}", "op", bench->op,
            "size_bytes", (json_int_t)arguments->size, "depth", (json_int_t)arguments->depth, "ops",
            (json_int_t)bench->ops, "seconds", seconds, "bytes_per_second",
            (double)bench->bytes / seconds, "latency_us", "p50", p50, "p99", p99, "p999", p999,
            "max", most, "errors", (json_int_t)bench->errors));
    } else {
        printf("%s %s, depth %llu: %s operations in %s, %s\n", bench->op,
               format_bytes(arguments->size).text, (unsigned long long)arguments->depth,
               format_count(bench->ops).text, format_duration(elapsed).text,
               format_rate(bench->bytes, elapsed).text);
        printf("latency p50 %.0f us, p99 %.0f us, p99.9 %.0f us, max %.0f us; %llu errors\n", p50,
               p99, p999, most, (unsigned long long)bench->errors);
    }
    if (bench->errors > 0)
        return cli_fail("%llu operations failed, the first: %s", (unsigned long long)bench->errors,
                        bench->first_error);
    return EXIT_DONE;
}

static int run(const struct arguments *arguments, const char *op)
{
    struct bench bench = {.arguments = arguments, .op = op};
    struct shoal_options handle = {.requests_max = (uint32_t)arguments->depth};
    int status = EXIT_FAILED;
    if (shoal_open(arguments->common.config, &handle, &bench.shoal) != 0)
        return cli_fail_shoal();
    unsigned depth = (unsigned)arguments->depth;
    if (!prepare(&bench)) {
        cli_fail("out of memory for %u buffers of %s", depth, format_bytes(arguments->size).text);
    } else {
        if (strcmp(op, "put") != 0)
            pump(&bench, MIN(depth, 8u), next_fill, false);
        if (bench.errors > 0) {
            cli_fail("cannot prepare: %s", bench.first_error);
        } else {
            uint64_t started = bench.now_ns = cli_now_ns();
            deadline = started + arguments->duration_ns;
            pump(&bench, depth, next_measured, true);
            status = report(&bench, cli_now_ns() - started);
        }
        if (!arguments->keep)
            pump(&bench, MIN(depth, 16u), next_remove, false);
    }
    shoal_close(bench.shoal);
    for (unsigned i = 0; bench.slots != NULL && i < depth; i++)
        free(bench.slots[i].memory);
    free(bench.slots);
    return status;
}

int cli_bench(int argc, char **argv)
{
    struct arguments arguments;
    struct options_arguments positional;
    int status = cli_parse(&command, argc, argv, &arguments, &positional);
    if (status >= 0)
        return status;
    const char *op = positional.values[0];
    if (strcmp(op, "put") != 0 && strcmp(op, "get") != 0 && strcmp(op, "mixed") != 0) {
        (void)options_usage_error(&command, "'%s' is none of put, get, mixed", op);
        status = EXIT_USAGE;
    } else {
        status = run(&arguments, op);
    }
    options_free(&command, &arguments);
    return status;
}
