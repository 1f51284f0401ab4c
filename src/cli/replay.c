/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shoal replay: what an inference engine would do with the pool. For each request of the trace, in
 * order: look up how long a prefix of its blocks is stored, get those, put the others.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/format.h"
#include "base/hash.h"
#include "base/progress.h"
#include "base/random.h"
#include "cli/cli.h"
#include "cli/trace.h"

#define DEPTH 16u

struct arguments {
    struct cli_common common;
    char *pool;
    uint64_t block_bytes, capacity_blocks, limit;
    bool verify;
};

static const struct option_spec options[] = {
    CLI_COMMON_OPTIONS(struct arguments, common),
    {{"pool", VALUE_STRING, offsetof(struct arguments, pool), "kv", 1, 63, NULL,
      "The cache to play against."}, 'p', "POOL"},
    {{"block_bytes", VALUE_SIZE, offsetof(struct arguments, block_bytes), "64K", 1, 4u << 20, NULL,
      "Bytes of each block; a partial last block counts as one."}, 'b', "B"},
    {{"capacity_blocks", VALUE_U64, offsetof(struct arguments, capacity_blocks), "0", 0, 0, NULL,
      "Set the pool's quota to so many blocks; what was used least recently is evicted then."}, 0,
     "C"},
    {{"limit", VALUE_U64, offsetof(struct arguments, limit), "0", 0, 0, NULL,
      "Stop after so many requests; 0: the whole trace."}, 0, "N"},
    {{"verify", VALUE_BOOL, offsetof(struct arguments, verify), NULL, 0, 0, NULL,
      "Check every byte that comes back."}, 0, NULL},
};
static const struct options_command command = {
    .name = "shoal replay", .arguments = "TRACE.jsonl",
    .summary = "Play a KV-cache trace (Mooncake format) against a pool.",
    .example = "shoal replay tests/data/conversation_trace_300.jsonl --pool kv --block-bytes 16K "
               "--verify",
    .min_arguments = 1, .max_arguments = 1,
    .options = options, .option_count = ARRAY_LEN(options),
};

struct slot {
    struct shoal_request request;
    struct iovec iov;
    uint8_t *memory;
    uint64_t block;
    bool busy;
};

struct replay {
    const struct arguments *arguments;
    struct shoal *shoal;
    struct slot slots[DEPTH];
    uint8_t *expected;
    struct shoal_key *keys;
    uint8_t *present;
    size_t keys_room;

    uint64_t requests, block_refs, prefix_hits;
    uint64_t bytes_written, bytes_read, bytes_saved;
    uint64_t verify_errors, misses; /* misses: said to be there and gone when fetched */
    uint64_t failures;
    char first_failure[300];
};

/* ---- blocks ---- */

static void block_key(const struct replay *replay, uint64_t block, struct shoal_key *key)
{
    char text[96];
    int len = snprintf(text, sizeof text, "shoal-replay %llu %llu",
                       (unsigned long long)replay->arguments->block_bytes,
                       (unsigned long long)block);
    sha256(text, (size_t)len, key->bytes);
}

/* The value follows from the key, so what comes back can be checked without being remembered. */
static void block_value(const struct replay *replay, uint64_t block, uint8_t *out)
{
    struct prng prng;
    prng_seed(&prng, hash_mix64(block ^ UINT64_C(0x5f0a1b2c3d4e5f60)));
    prng_bytes(&prng, out, replay->arguments->block_bytes);
}

static void fail(struct replay *replay, const char *what, int rc)
{
    if (replay->failures++ == 0)
        snprintf(replay->first_failure, sizeof replay->first_failure, "%s: %s", what,
                 shoal_error_text(rc));
}

static void slot_end(struct replay *replay, struct slot *slot)
{
    const struct shoal_request *request = &slot->request;
    uint64_t size = replay->arguments->block_bytes;
    slot->busy = false;
    if (request->op == SHOAL_OP_PUT) {
        if (request->status == 0 && !request->existed)
            replay->bytes_written += size;
        else if (request->status != 0 && request->status != SHOAL_E_EXISTS)
            fail(replay, "put a block", request->status);
        return;
    }
    if (request->status == SHOAL_E_NOT_FOUND) {
        replay->misses++; /* evicted since it was looked up: a cache may do that */
        return;
    }
    if (request->status != 0) {
        fail(replay, "get a block", request->status);
        return;
    }
    replay->bytes_read += request->bytes;
    if (!replay->arguments->verify)
        return;
    block_value(replay, slot->block, replay->expected);
    if (request->bytes != size || memcmp(slot->memory, replay->expected, size) != 0)
        replay->verify_errors++;
}

static void reap(struct replay *replay)
{
    struct shoal_request *done[DEPTH];
    unsigned count = shoal_wait(replay->shoal, done, DEPTH, -1);
    for (unsigned i = 0; i < count; i++)
        slot_end(replay, done[i]->user);
}

static struct slot *slot_take(struct replay *replay)
{
    for (;;) {
        for (unsigned i = 0; i < DEPTH; i++)
            if (!replay->slots[i].busy)
                return &replay->slots[i];
        reap(replay);
    }
}

static void drain(struct replay *replay)
{
    for (unsigned i = 0; i < DEPTH; i++)
        while (replay->slots[i].busy)
            reap(replay);
}

static void block_start(struct replay *replay, enum shoal_op op, uint64_t block,
                        const struct shoal_key *key)
{
    struct slot *slot = slot_take(replay);
    slot->busy = true;
    slot->block = block;
    slot->iov = (struct iovec){slot->memory, replay->arguments->block_bytes};
    slot->request = (struct shoal_request){.op = op, .pool = replay->arguments->pool, .key = *key,
                                           .iov = &slot->iov, .iov_count = 1, .user = slot};
    if (op == SHOAL_OP_PUT) {
        slot->request.flags = SHOAL_IF_ABSENT;
        block_value(replay, block, slot->memory);
    }
    int rc = shoal_submit(replay->shoal, &slot->request);
    if (rc != 0) {
        slot->busy = false;
        fail(replay, "submit", rc);
    }
}

/* ---- requests ---- */

static bool make_room(struct replay *replay, size_t count)
{
    if (count <= replay->keys_room)
        return true;
    free(replay->keys);
    free(replay->present);
    replay->keys = malloc(count * sizeof *replay->keys);
    replay->present = malloc(count);
    replay->keys_room = replay->keys != NULL && replay->present != NULL ? count : 0;
    return replay->keys_room > 0;
}

static bool play(struct replay *replay, const struct trace_request *trace)
{
    uint32_t prefix = 0;
    if (!make_room(replay, trace->count))
        return trace->count == 0;
    for (uint32_t i = 0; i < trace->count; i++)
        block_key(replay, trace->blocks[i], &replay->keys[i]);
    struct shoal_request look = {.op = SHOAL_OP_EXISTS, .flags = SHOAL_TOUCH,
                                 .pool = replay->arguments->pool, .keys = replay->keys,
                                 .keys_count = trace->count, .present = replay->present};
    if (trace->count > 0 && shoal_run(replay->shoal, &look) != 0) {
        cli_fail_shoal();
        return false;
    }
    while (prefix < trace->count && replay->present[prefix] != 0)
        prefix++;
    for (uint32_t i = 0; i < prefix; i++)
        block_start(replay, SHOAL_OP_GET, trace->blocks[i], &replay->keys[i]);
    drain(replay);
    for (uint32_t i = prefix; i < trace->count; i++)
        block_start(replay, SHOAL_OP_PUT, trace->blocks[i], &replay->keys[i]);
    drain(replay);
    replay->requests++;
    replay->block_refs += trace->count;
    replay->prefix_hits += prefix;
    replay->bytes_saved += prefix * replay->arguments->block_bytes;
    return true;
}

static bool play_file(struct replay *replay, const char *path)
{
    FILE *file = fopen(path, "r");
    char *line = NULL, why[128];
    size_t room = 0;
    struct trace_request trace = {0};
    struct progress progress;
    bool ok = true;
    if (file == NULL) {
        cli_fail("cannot read the trace %s: %s", path, strerror(errno));
        return false;
    }
    fseek(file, 0, SEEK_END);
    progress_begin(&progress, "replay", (uint64_t)ftell(file), !replay->arguments->common.json);
    rewind(file);
    for (uint64_t number = 1; ok; number++) {
        ssize_t len = getline(&line, &room, file);
        bool limit = replay->arguments->limit > 0 && replay->requests == replay->arguments->limit;
        if (len < 0 || limit)
            break;
        progress_add(&progress, (uint64_t)len);
        while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r'))
            len--;
        if (len == 0)
            continue;
        if (trace_parse(line, (size_t)len, &trace, why) != 0) {
            cli_fail("%s:%llu is no line of a trace: %s", path, (unsigned long long)number, why);
            ok = false;
        } else {
            ok = play(replay, &trace);
        }
    }
    progress_end(&progress);
    trace_request_free(&trace);
    free(line);
    fclose(file);
    return ok;
}

/* ---- the whole ---- */

static int report(const struct replay *replay, uint64_t elapsed)
{
    double ratio = replay->block_refs > 0
                       ? (double)replay->prefix_hits / (double)replay->block_refs : 0;
    if (replay->arguments->common.json) {
        cli_print_json(json_pack(
            "{s:I, s:I, s:I, s:f, s:I, s:I, s:I, s:I, s:I, s:f}", "requests",
            (json_int_t)replay->requests, "block_refs", (json_int_t)replay->block_refs,
            "prefix_hits", (json_int_t)replay->prefix_hits, "prefix_hit_ratio", ratio,
            "bytes_written", (json_int_t)replay->bytes_written, "bytes_read",
            (json_int_t)replay->bytes_read, "bytes_saved", (json_int_t)replay->bytes_saved,
            "verify_errors", (json_int_t)replay->verify_errors, "evicted_under_way",
            (json_int_t)replay->misses, "seconds", (double)elapsed / 1e9));
    } else {
        printf("%s requests, %s blocks: %s hits (%.2f %%) in %s\n",
               format_count(replay->requests).text, format_count(replay->block_refs).text,
               format_count(replay->prefix_hits).text, ratio * 100,
               format_duration(elapsed).text);
        printf("written %s, read %s (%s), saved %s of writing\n",
               format_bytes(replay->bytes_written).text, format_bytes(replay->bytes_read).text,
               format_rate(replay->bytes_read + replay->bytes_written, elapsed).text,
               format_bytes(replay->bytes_saved).text);
        if (replay->arguments->verify)
            printf("verified: %llu errors\n", (unsigned long long)replay->verify_errors);
    }
    if (replay->failures > 0)
        return cli_fail("%llu operations failed, the first: %s",
                        (unsigned long long)replay->failures, replay->first_failure);
    return replay->verify_errors == 0 ? EXIT_DONE
                                      : cli_fail("%llu blocks came back wrong",
                                                 (unsigned long long)replay->verify_errors);
}

/* ---- capacity ---- */

/*
 * A quota counts what blobs take on devices, so a number of blocks becomes one by the measure of a
 * block that is stored for a moment.
 */
struct usage_step {
    struct shoal *shoal;
    const char *pool;
    uint64_t raw_bytes;
    unsigned k, width;
};

static void usage_fiber(void *arg)
{
    struct usage_step *step = arg;
    struct client *client = shoal_client(step->shoal);
    const struct map_pool *pool = cluster_map_pool_named(client_map(client), step->pool);
    uint32_t nodes = client_map(client)->nodes_count;
    step->raw_bytes = 0;
    if (pool == NULL)
        return;
    uint32_t id = pool->id;
    step->k = pool->k;
    step->width = map_pool_width(pool);
    for (uint32_t n = 0; n < nodes; n++) {
        struct wire_report_reply reply;
        if (client_report(client, n, shoal_deadline_ns(step->shoal, 2000), &reply) != 0)
            continue;
        for (unsigned i = 0; i < reply.pools_count; i++)
            if (reply.pools[i].pool == id)
                step->raw_bytes += reply.pools[i].bytes_used;
    }
}

/* Return: bytes of quota that a block takes, or 0. */
static uint64_t measure_block(struct replay *replay)
{
    struct usage_step before = {.shoal = replay->shoal, .pool = replay->arguments->pool};
    struct usage_step after = before;
    struct iovec iov = {replay->slots[0].memory, replay->arguments->block_bytes};
    struct shoal_request probe = {.op = SHOAL_OP_PUT, .pool = replay->arguments->pool, .iov = &iov,
                                  .iov_count = 1};
    memset(probe.key.bytes, 0xee, sizeof probe.key.bytes);
    memset(iov.iov_base, 0, iov.iov_len);
    if (shoal_run_fiber(replay->shoal, usage_fiber, &before) != 0 ||
        shoal_run(replay->shoal, &probe) != 0 ||
        shoal_run_fiber(replay->shoal, usage_fiber, &after) != 0)
        return 0;
    probe.op = SHOAL_OP_REMOVE;
    (void)shoal_run(replay->shoal, &probe);
    uint64_t raw = after.raw_bytes > before.raw_bytes ? after.raw_bytes - before.raw_bytes : 0;
    return after.width > 0 ? raw * after.k / after.width : 0;
}

static bool set_quota(const struct arguments *arguments, uint64_t bytes)
{
    json_t *answer;
    json_t *wish = json_pack("{s:s, s:s, s:I}", "wish", "pool_set", "name", arguments->pool,
                             "quota_bytes", (json_int_t)bytes);
    bool ok = cli_wish(arguments->common.config, wish, &answer);
    json_decref(answer);
    return ok;
}

static bool set_capacity(struct replay *replay)
{
    const struct arguments *arguments = replay->arguments;
    /* Not at an old quota, where the block to be measured would push another one out. */
    if (!set_quota(arguments, 0))
        return false;
    uint64_t block = measure_block(replay);
    if (block == 0) {
        cli_fail("cannot tell what a block of %llu bytes takes in pool %s: %s",
                 (unsigned long long)arguments->block_bytes, arguments->pool, shoal_message());
        return false;
    }
    return set_quota(arguments, arguments->capacity_blocks * block);
}

int cli_replay(int argc, char **argv)
{
    struct arguments arguments;
    struct options_arguments positional;
    struct replay replay = {.arguments = &arguments};
    int status = cli_parse(&command, argc, argv, &arguments, &positional);
    if (status >= 0)
        return status;
    status = EXIT_FAILED;
    replay.expected = malloc(arguments.block_bytes);
    bool ok = replay.expected != NULL;
    for (unsigned i = 0; i < DEPTH && ok; i++)
        ok = (replay.slots[i].memory = malloc(arguments.block_bytes)) != NULL;
    if (ok && shoal_open(arguments.common.config, NULL, &replay.shoal) != 0) {
        cli_fail_shoal();
        ok = false;
    }
    ok = ok && (arguments.capacity_blocks == 0 || set_capacity(&replay));
    uint64_t started = cli_now_ns();
    if (ok && play_file(&replay, positional.values[0]))
        status = report(&replay, cli_now_ns() - started);
    shoal_close(replay.shoal);
    for (unsigned i = 0; i < DEPTH; i++)
        free(replay.slots[i].memory);
    free(replay.expected);
    free(replay.keys);
    free(replay.present);
    options_free(&command, &arguments);
    return status;
}
