/* SPDX-License-Identifier: Apache-2.0 */
#include "failover.h"

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

#define WRITERS 4u
#define READERS 2u
#define WRITE_BYTES 4096u
#define SLOW_NS UINT64_C(250000000)
#define FAILED_NS 30e9
#define READ_BYTES (256u << 10)
#define BLOBS 256u

/* ---- threads that do one thing over and over ---- */

struct worker {
    pthread_t thread;
    void (*once)(struct worker *worker);
    struct shoal *shoal;
    const char *pool;
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
        fprintf(stderr, "failover: %s\n", shoal_message());
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
    note(worker, start, shoal_put(worker->shoal, worker->pool, name, worker->memory, WRITE_BYTES));
}

static void get_once(struct worker *worker)
{
    char name[32];
    size_t got = 0;

    blob_name((uint32_t)prng_below(&worker->prng, BLOBS), name);
    const uint64_t start = bench_now_ns();
    int status = shoal_get(worker->shoal, worker->pool, name, worker->memory, READ_BYTES, &got);
    CHECK(status != 0 || got == READ_BYTES);
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

static void await(const struct failover_cluster *cluster, unsigned node, enum node_phase phase)
{
    struct shoal *watcher = cluster->open(cluster->context);

    (void)local_cluster_await(watcher, node, phase);
    shoal_close(watcher);
}

static void kill_one(const struct failover_cluster *cluster, unsigned node,
                     void (*once)(struct worker *worker), unsigned count, struct kill *kill)
{
    struct worker workers[WRITERS] = {0};
    atomic_bool stop = false;
    atomic_uint_least64_t killed_ns = 0;
    uint64_t disturbed_ns = 0;

    for (unsigned i = 0; i < count; i++) {
        struct worker *worker = &workers[i];
        *worker = (struct worker){.once = once, .index = i, .stop = &stop,
                                  .killed_ns = &killed_ns,
                                  .shoal = cluster->open(cluster->context),
                                  .pool = cluster->pools[i % cluster->pools_count],
                                  .memory = malloc(READ_BYTES)};
        CHECK(worker->memory != NULL);
        memset(worker->memory, (int)node, READ_BYTES);
        prng_seed(&worker->prng, i);
        CHECK(pthread_create(&worker->thread, NULL, work, worker) == 0);
    }
    sleep(2);
    const uint64_t start = bench_now_ns();
    atomic_store(&killed_ns, start);
    cluster->kill(cluster->context, node);
    sleep(cluster->watch_s);
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
    await(cluster, node, NODE_GONE);
    cluster->start(cluster->context, node);
    await(cluster, node, NODE_SERVES);
    sleep(cluster->rest_s);
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
    qsort(values, FAILOVER_KILLS, sizeof *values, compare);
    return (values[FAILOVER_KILLS - 1] - values[0]) / MAX(values[FAILOVER_KILLS / 2], 1e-9);
}

void failover_writes(const struct failover_cluster *cluster, const char *name,
                     failover_victim *victim, double goal_s)
{
    double disturbed_s[FAILOVER_KILLS];

    for (unsigned i = 0; i < FAILOVER_KILLS; i++) {
        struct kill kill = {0};
        kill_one(cluster, victim(cluster->context, i), put_once, WRITERS, &kill);
        /* If none was slow, it was the slowest. */
        disturbed_s[i] = MAX(kill.disturbed_s, samples_percentile(&kill.after, 100) / 1e9);
        samples_free(&kill.before);
        samples_free(&kill.after);
    }
    const double noise = spread(disturbed_s);
    bench_print(&(struct bench_figure){.name = name,
                                       .unit = "s",
                                       .value = disturbed_s[FAILOVER_KILLS - 1],
                                       .noise = noise,
                                       .goal = goal_s});
}

void failover_fill(const struct failover_cluster *cluster)
{
    struct shoal *shoal = cluster->open(cluster->context);

    for (unsigned i = 0; i < cluster->pools_count; i++)
        blobs_put(shoal, &(struct blobs){cluster->pools[i], READ_BYTES, BLOBS}, 1);
    shoal_close(shoal);
    sleep(1); /* commits are lazy */
}

static void print_ms(const char *name, const char *more, double value_ns)
{
    char full[64];

    snprintf(full, sizeof full, "%s-%s", name, more);
    bench_print(&(struct bench_figure){.name = full, .unit = "ms", .value = value_ns / 1e6});
}

void failover_reads(const struct failover_cluster *cluster, const char *name,
                    failover_victim *victim)
{
    struct kill all = {0};
    double p999[FAILOVER_KILLS];

    for (unsigned i = 0; i < FAILOVER_KILLS; i++) {
        struct kill kill = {0};
        kill_one(cluster, victim(cluster->context, i), get_once, READERS, &kill);
        p999[i] = samples_percentile(&kill.after, 99.9);
        all.failed += kill.failed;
        move_samples(&all.before, &kill.before);
        move_samples(&all.after, &kill.after);
    }
    bench_print(&(struct bench_figure){
        .name = name,
        .unit = "ms",
        .value = (all.failed > 0 ? FAILED_NS : samples_percentile(&all.after, 99.9)) / 1e6,
        .noise = spread(p999),
        .goal = 100});
    print_ms(name, "quiet", samples_percentile(&all.before, 99.9));
    print_ms(name, "longest", samples_percentile(&all.after, 100));
    samples_free(&all.before);
    samples_free(&all.after);
}
