/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node whose drive was replaced is rebuilt from the five others: six nodes on one disk, plain, and
 * 1,024 blobs of 1 MiB in ec 4+2, of which it holds a shard of 256 KiB each.
 *
 *   rebuild-rate        bytes of its shards a second, from the map that names it a learner to the one
 *                       that says it serves, with nothing else to do; against a process that reads
 *                       four shards and sends them over one loopback connection to another, which
 *                       computes the fifth and writes it, O_DIRECT, flushed every 4 MiB
 *   get-during-rebuild  p99 of gets of 1 MiB, one after the other, while that goes on; against the
 *                       same before and after. -rate: how fast it went meanwhile, against the raw
 *                       rate of above
 *
 * The two sides take turns.
 */
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/random.h"
#include "bench.h"
#include "blobs.h"
#include "ec/ec.h"
#include "local_cluster.h"
#include "raw_socket.h"
#include "shoal/shoal.h"

#define K 4u
#define M 2u
#define STRIPE_BYTES (1u << 20)
#define SHARD_BYTES (STRIPE_BYTES / K)
#define BLOBS 1024u
#define REBUILT 2u /* the node */
#define ROUNDS 3u
#define FLUSH_EVERY 16u /* shards */
#define QUIET_NS UINT64_C(4000000000)

static const struct blobs blobs = {.pool = "durable", .size = STRIPE_BYTES, .count = BLOBS};
static uint8_t *memory; /* a stripe and its parity */

/* ---- the raw thing ---- */

struct raw {
    char from_path[128], to_path[128];
    int to;
    int socket;
    pid_t sender;
    struct ec_code code;
};

static int open_file(const char *path, size_t stripes, size_t bytes)
{
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT, 0600);
    CHECK_MSG(file >= 0, "cannot open %s with O_DIRECT", path);
    for (size_t i = 0; i < stripes; i++)
        CHECK(pwrite(file, memory, bytes, (off_t)(i * bytes)) == (ssize_t)bytes);
    CHECK(fsync(file) == 0);
    return file;
}

/* Asked for a stripe it goes on to the next by itself, so that both cores have something to do. */
static _Noreturn void raw_send(int socket, int from)
{
    uint8_t go;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (read(socket, &go, 1) == 1)
        for (unsigned i = 0; i < BLOBS; i++) {
            CHECK(pread(from, memory, STRIPE_BYTES, (off_t)i * STRIPE_BYTES) ==
                  (ssize_t)STRIPE_BYTES);
            for (size_t sent = 0; sent < STRIPE_BYTES;) {
                ssize_t part = send(socket, memory + sent, STRIPE_BYTES - sent, MSG_NOSIGNAL);
                if (part <= 0)
                    _exit(0);
                sent += (size_t)part;
            }
        }
    _exit(0);
}

static void raw_start(struct raw *raw)
{
    char directory[] = "/var/tmp/shoal-bench-XXXXXX";
    int pair[2];

    CHECK(mkdtemp(directory) != NULL);
    snprintf(raw->from_path, sizeof raw->from_path, "%s/from", directory);
    snprintf(raw->to_path, sizeof raw->to_path, "%s/to", directory);
    int from = open_file(raw->from_path, BLOBS, STRIPE_BYTES);
    raw->to = open_file(raw->to_path, BLOBS, SHARD_BYTES);
    raw_socket_pair(pair);
    raw->socket = pair[0];
    raw->sender = fork();
    CHECK(raw->sender >= 0);
    if (raw->sender == 0)
        raw_send(pair[1], from);
    close(pair[1]);
    close(from);
    CHECK(ec_code_init(&raw->code, K, M) == 0);
}

static void raw_end(struct raw *raw)
{
    kill(raw->sender, SIGKILL);
    waitpid(raw->sender, NULL, 0);
    close(raw->socket);
    close(raw->to);
    unlink(raw->from_path);
    unlink(raw->to_path);
    *strrchr(raw->to_path, '/') = 0;
    rmdir(raw->to_path);
}

/* Returns bytes a second. */
static double raw_rebuild(void *context)
{
    struct raw *raw = context;
    uint8_t *shards[K + M];
    const uint64_t start = bench_now_ns();

    for (unsigned i = 0; i < K + M; i++)
        shards[i] = memory + (size_t)i * SHARD_BYTES;
    CHECK(write(raw->socket, "!", 1) == 1);
    for (unsigned i = 0; i < BLOBS; i++) {
        CHECK(recv(raw->socket, memory, STRIPE_BYTES, MSG_WAITALL) == (ssize_t)STRIPE_BYTES);
        CHECK(ec_reconstruct(&raw->code, SHARD_BYTES, shards, (1u << K) - 1, 1u << K) == 0);
        CHECK(pwrite(raw->to, shards[K], SHARD_BYTES, (off_t)i * SHARD_BYTES) ==
              (ssize_t)SHARD_BYTES);
        if (i % FLUSH_EVERY == FLUSH_EVERY - 1)
            CHECK(fdatasync(raw->to) == 0);
    }
    return (double)BLOBS * SHARD_BYTES * 1e9 / (double)(bench_now_ns() - start);
}

/* ---- ours ---- */

struct ours {
    struct local_cluster cluster;
    struct shoal *shoal, *watcher;
};

/* Replaces the drive; @during: what to do from when it learns until it serves. */
static double rebuild(struct ours *ours, void (*during)(struct ours *ours, void *arg), void *arg)
{
    char command[64];

    snprintf(command, sizeof command, "node replace-device node-%u", REBUILT);
    pid_t replacing = local_cluster_begin(&ours->cluster, command);
    (void)local_cluster_await(ours->watcher, REBUILT, NODE_GONE);
    const uint64_t start = local_cluster_await(ours->watcher, REBUILT, NODE_LEARNS);
    if (during != NULL)
        during(ours, arg);
    const uint64_t end = local_cluster_await(ours->watcher, REBUILT, NODE_SERVES);
    local_cluster_finish(replacing);
    return (double)BLOBS * SHARD_BYTES * 1e9 / (double)(end - start);
}

static double our_rebuild(void *context)
{
    return rebuild(context, NULL, NULL);
}

static void measure_rate(struct ours *ours, struct raw *raw, struct bench_pairs *pairs)
{
    *pairs = bench_pairs(&(struct bench_side){our_rebuild, ours},
                         &(struct bench_side){raw_rebuild, raw}, ROUNDS);
    bench_print(&(struct bench_figure){.name = "rebuild-rate",
                                       .unit = "MiB/s",
                                       .value = pairs->ours / (1 << 20),
                                       .baseline = pairs->raw / (1 << 20),
                                       .noise = pairs->noise,
                                       .goal = 0.7,
                                       .more_is_better = true});
}

/* ---- gets meanwhile ---- */

static void get_one(struct ours *ours, struct prng *prng, struct samples *samples)
{
    char name[32];
    size_t got = 0;

    blob_name((uint32_t)prng_below(prng, BLOBS), name);
    const uint64_t start = bench_now_ns();
    CHECK_MSG(shoal_get(ours->shoal, blobs.pool, name, memory, STRIPE_BYTES, &got) == 0, "%s",
              shoal_message());
    samples_add(samples, (double)(bench_now_ns() - start));
    CHECK(got == STRIPE_BYTES);
}

struct gets {
    struct prng prng;
    struct samples quiet, busy;
    double noise[ROUNDS];
    double rates[ROUNDS];
};

static double gets_while_quiet(struct ours *ours, struct gets *gets)
{
    const uint64_t until = bench_now_ns() + QUIET_NS;
    struct samples now = {0};

    while (bench_now_ns() < until)
        get_one(ours, &gets->prng, &now);
    for (uint32_t i = 0; i < now.count; i++)
        samples_add(&gets->quiet, now.values[i]);
    const double p99 = samples_percentile(&now, 99);
    samples_free(&now);
    return p99;
}

/* The map is looked at by another process: this one would wait for its own gets. */
static pid_t watch_end(struct ours *ours)
{
    pid_t pid = fork();

    CHECK(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        struct shoal *shoal = local_cluster_open(&ours->cluster);
        (void)local_cluster_await(shoal, REBUILT, NODE_SERVES);
        _exit(0);
    }
    return pid;
}

static void gets_during(struct ours *ours, void *arg)
{
    struct gets *gets = arg;
    pid_t watcher = watch_end(ours);

    while (waitpid(watcher, NULL, WNOHANG) == 0)
        get_one(ours, &gets->prng, &gets->busy);
}

static int compare(const void *left, const void *right)
{
    const double a = *(const double *)left;
    const double b = *(const double *)right;

    return (a > b) - (a < b);
}

static double median(double *values)
{
    qsort(values, ROUNDS, sizeof *values, compare);
    return values[ROUNDS / 2];
}

static void measure_gets(struct ours *ours, double raw_rate, double raw_noise)
{
    struct gets gets = {0};

    prng_seed(&gets.prng, 1);
    (void)gets_while_quiet(ours, &gets);
    samples_free(&gets.quiet);
    for (unsigned i = 0; i < ROUNDS; i++) {
        const double before = gets_while_quiet(ours, &gets);
        gets.rates[i] = rebuild(ours, gets_during, &gets);
        gets.noise[i] = fabs(before / gets_while_quiet(ours, &gets) - 1);
    }
    bench_print(&(struct bench_figure){.name = "get-during-rebuild",
                                       .unit = "us",
                                       .value = samples_percentile(&gets.busy, 99) / 1000,
                                       .baseline = samples_percentile(&gets.quiet, 99) / 1000,
                                       .noise = median(gets.noise),
                                       .goal = 2});
    bench_print(&(struct bench_figure){.name = "get-during-rebuild-rate",
                                       .unit = "MiB/s",
                                       .value = median(gets.rates) / (1 << 20),
                                       .baseline = raw_rate / (1 << 20),
                                       .noise = raw_noise,
                                       .goal = 0.1,
                                       .more_is_better = true});
    samples_free(&gets.quiet);
    samples_free(&gets.busy);
}

int main(int argc, char **argv)
{
    struct ours ours;
    struct raw raw;
    struct bench_pairs pairs;

    bench_start(argc, argv, "A node is rebuilt: how fast, and what readers feel of it.");
    setvbuf(stdout, NULL, _IOLBF, 0);
    memory = aligned_alloc(4096, (size_t)SHARD_BYTES * (K + M));
    CHECK(memory != NULL);
    memset(memory, 1, (size_t)SHARD_BYTES * (K + M));
    raw_start(&raw); /* first: it forks */
    local_cluster_start(&ours.cluster, "--nodes 6 --size 512M --data-plane plain");
    ours.shoal = local_cluster_open(&ours.cluster);
    ours.watcher = local_cluster_open(&ours.cluster);
    blobs_put(ours.shoal, &blobs, 1);
    measure_rate(&ours, &raw, &pairs);
    measure_gets(&ours, pairs.raw, pairs.noise);
    shoal_close(ours.watcher);
    shoal_close(ours.shoal);
    local_cluster_end(&ours.cluster);
    raw_end(&raw);
    free(memory);
    return 0;
}
