/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node of six is killed while clients write and read; ec 4+2, every blob on all six.
 *
 *   failover-writes  from SIGKILL until all writes succeed again: the end of the last put of 4 KiB that
 *                    failed or took more than 250 ms. The worst of five kills, each of another node;
 *                    to be met: the time of a lease, 3 s, and half a second
 *   failover-reads   gets of 256 KiB in the five seconds after SIGKILL, p99.9 over all five kills; of
 *                    blobs that were committed on all members before. One that fails counts as if
 *                    none had come back in 30 s
 *
 * Four threads put, or two get, each one after the other and with a handle of its own.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/macros.h"
#include "base/random.h"
#include "bench.h"
#include "blobs.h"
#include "local_cluster.h"
#include "shoal/shoal.h"

#define KILLS 5u
#define WRITERS 4u
#define READERS 2u
#define WRITE_BYTES 4096u
#define SLOW_NS UINT64_C(250000000)
#define FAILED_NS 30e9
#define LEASE_S 3.0

static const struct blobs blobs = {.pool = "durable", .size = 256u << 10, .count = 256};

/* ---- threads that do one thing over and over ---- */

struct worker {
    pthread_t thread;
    void (*once)(struct worker *worker);
    struct shoal *shoal;
    uint8_t *memory;
    struct prng prng;
    unsigned index, number;
    atomic_bool *stop;
    const atomic_uint_least64_t *killed_ns; /* 0: not yet */
    uint64_t disturbed_ns; /* when the last that was slow, or failed, had ended */
    unsigned failed;
    struct samples before, after;
};

static void *work(void *arg)
{
    struct worker *worker = arg;

    while (!atomic_load(worker->stop))
        worker->once(worker);
    return NULL;
}

static void note(struct worker *worker, uint64_t start, int status)
{
    const uint64_t end = bench_now_ns();

    if (status != 0) {
        worker->failed++;
        fprintf(stderr, "failover_bench: %s\n", shoal_message());
    }
    if (status != 0 || end - start > SLOW_NS)
        worker->disturbed_ns = end;
    samples_add(atomic_load(worker->killed_ns) != 0 ? &worker->after : &worker->before,
                status == 0 ? (double)(end - start) : FAILED_NS);
}

static void put_once(struct worker *worker)
{
    char name[32];

    snprintf(name, sizeof name, "put-%u-%u", worker->index, worker->number % 1024);
    memcpy(worker->memory, &worker->number, sizeof worker->number);
    worker->number++;
    const uint64_t start = bench_now_ns();
    note(worker, start, shoal_put(worker->shoal, blobs.pool, name, worker->memory, WRITE_BYTES));
}

static void get_once(struct worker *worker)
{
    char name[32];
    size_t got = 0;

    blob_name((uint32_t)prng_below(&worker->prng, blobs.count), name);
    const uint64_t start = bench_now_ns();
    int status = shoal_get(worker->shoal, blobs.pool, name, worker->memory, blobs.size, &got);
    CHECK(status != 0 || got == blobs.size);
    note(worker, start, status);
}

/* ---- one kill ---- */

struct kill {
    double disturbed_s;
    unsigned failed;
    struct samples before, after;
};

static void move_samples(struct samples *to, struct samples *from)
{
    for (uint32_t i = 0; i < from->count; i++)
        samples_add(to, from->values[i]);
    samples_free(from);
}

static void kill_one(const struct local_cluster *cluster, struct shoal *watcher, unsigned node,
                     void (*once)(struct worker *worker), unsigned count, struct kill *kill)
{
    struct worker workers[WRITERS] = {0};
    atomic_bool stop = false;
    atomic_uint_least64_t killed_ns = 0;
    uint64_t disturbed_ns = 0;
    char command[32];

    for (unsigned i = 0; i < count; i++) {
        struct worker *worker = &workers[i];
        *worker = (struct worker){.once = once, .index = i, .stop = &stop,
                                  .killed_ns = &killed_ns,
                                  .shoal = local_cluster_open(cluster),
                                  .memory = malloc(blobs.size)};
        CHECK(worker->memory != NULL);
        memset(worker->memory, (int)node, blobs.size);
        prng_seed(&worker->prng, i);
        CHECK(pthread_create(&worker->thread, NULL, work, worker) == 0);
    }
    sleep(2);
    const uint64_t start = bench_now_ns();
    local_cluster_kill(cluster, node);
    atomic_store(&killed_ns, start);
    sleep(5);
    atomic_store(&stop, true);
    for (unsigned i = 0; i < count; i++) {
        pthread_join(workers[i].thread, NULL);
        disturbed_ns = MAX(disturbed_ns, workers[i].disturbed_ns);
        kill->failed += workers[i].failed;
        move_samples(&kill->before, &workers[i].before);
        move_samples(&kill->after, &workers[i].after);
        shoal_close(workers[i].shoal);
        free(workers[i].memory);
    }
    kill->disturbed_s = disturbed_ns > start ? (double)(disturbed_ns - start) / 1e9 : 0;
    (void)local_cluster_await(watcher, node, NODE_GONE);
    snprintf(command, sizeof command, "node start node-%u", node);
    local_cluster_finish(local_cluster_begin(cluster, command));
    (void)local_cluster_await(watcher, node, NODE_SERVES);
}

static int compare(const void *left, const void *right)
{
    const double a = *(const double *)left;
    const double b = *(const double *)right;

    return (a > b) - (a < b);
}

/* How far the kills are apart, against the one in the middle. */
static double spread(double *values)
{
    qsort(values, KILLS, sizeof *values, compare);
    return (values[KILLS - 1] - values[0]) / MAX(values[KILLS / 2], 1e-9);
}

static void measure_writes(const struct local_cluster *cluster, struct shoal *watcher)
{
    double disturbed_s[KILLS];

    for (unsigned i = 0; i < KILLS; i++) {
        struct kill kill = {0};
        kill_one(cluster, watcher, 2 + i, put_once, WRITERS, &kill);
        /* If none was slow, it was the slowest. */
        disturbed_s[i] = MAX(kill.disturbed_s, samples_percentile(&kill.after, 100) / 1e9);
        samples_free(&kill.before);
        samples_free(&kill.after);
    }
    const double noise = spread(disturbed_s);
    bench_print(&(struct bench_figure){.name = "failover-writes",
                                       .unit = "s",
                                       .value = disturbed_s[KILLS - 1],
                                       .noise = noise,
                                       .goal = LEASE_S + 0.5});
}

static void measure_reads(const struct local_cluster *cluster, struct shoal *watcher)
{
    struct kill all = {0};
    double p999[KILLS];

    blobs_put(watcher, &blobs, 1);
    sleep(1); /* commits are lazy */
    for (unsigned i = 0; i < KILLS; i++) {
        struct kill kill = {0};
        kill_one(cluster, watcher, 2 + i, get_once, READERS, &kill);
        p999[i] = samples_percentile(&kill.after, 99.9);
        all.failed += kill.failed;
        move_samples(&all.before, &kill.before);
        move_samples(&all.after, &kill.after);
    }
    bench_print(&(struct bench_figure){
        .name = "failover-reads",
        .unit = "ms",
        .value = (all.failed > 0 ? FAILED_NS : samples_percentile(&all.after, 99.9)) / 1e6,
        .noise = spread(p999),
        .goal = 100});
    bench_print(&(struct bench_figure){.name = "failover-reads-quiet",
                                       .unit = "ms",
                                       .value = samples_percentile(&all.before, 99.9) / 1e6});
    samples_free(&all.before);
    samples_free(&all.after);
}

int main(int argc, char **argv)
{
    struct local_cluster cluster;

    bench_start(argc, argv, "A node is killed: how long writes wait, and how late reads are.");
    setvbuf(stdout, NULL, _IOLBF, 0);
    local_cluster_start(&cluster, "--nodes 6 --size 256M");
    struct shoal *watcher = local_cluster_open(&cluster);
    measure_writes(&cluster, watcher);
    measure_reads(&cluster, watcher);
    shoal_close(watcher);
    local_cluster_end(&cluster);
    return 0;
}
