/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What catching up costs in memory where a target holds a million blobs.
 *
 *   recovery-memory  two nodes, copies 2, a million blobs on each. One is killed, 4,096 puts go on without
 *                    it, so that it has missed some in every slot, and it returns: it and its primary
 *                    compare and list all that they hold. Anonymous memory (RssAnon) of both is looked
 *                    at every 2 ms, from the kill until it serves again. The figure is the most by which
 *                    one of them exceeds what a node with the same blobs has that was started and left
 *                    alone, the worst of three such returns
 *
 * What counts: settling, digests, lists, pieces under way, and stacks and heap pages first touched by them. What
 * does not: the index, which holds the same million before and after, and buffers taken at start.
 *
 * The blobs come onto the drives by way of the engine, before the nodes are started with them: by puts it would
 * take an hour.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/macros.h"
#include "base/random.h"
#include "bench.h"
#include "blobs.h"
#include "client/client.h"
#include "cluster/cluster.h"
#include "core/dma.h"
#include "core/fiber.h"
#include "core/reactor.h"
#include "dev/dev.h"
#include "engine/engine.h"
#include "local_cluster.h"
#include "shoal/error.h"
#include "shoal/shoal.h"

#define NODES 2u
#define BLOBS 1000000u
#define BLOB_BYTES_EACH 100u
#define FILL_DEPTH 200u
#define PARTITIONS_MAX 65536u
#define RETURNS 3u
#define LOOK_US 2000u

/* ---- a million blobs on a drive ---- */

/* What the map says of the pool: which position a target has in each partition. */
struct where {
    uint32_t pool;
    unsigned partition_bits;
    uint32_t targets[NODES];
    uint8_t position[NODES][PARTITIONS_MAX];
};

struct fill {
    const struct where *where;
    unsigned node;
    struct reactor *reactor;
    struct fiber_pool *fibers;
    struct dma_arena *arena;
    struct dev *dev;
    struct engine *engine;
    uint32_t next;
};

static struct blob_desc desc_of(const struct fill *fill, uint32_t n)
{
    struct blob_desc desc = {.id = {.pool = fill->where->pool},
                             .version = {1, 1, n + 1},
                             .kind = BLOB_HEAD,
                             .form = BLOB_BYTES,
                             .k = 1,
                             .m = NODES - 1,
                             .stripe_len = BLOB_BYTES_EACH,
                             .shard_len = BLOB_BYTES_EACH,
                             .blob_len = BLOB_BYTES_EACH,
                             .stripe_count = 1};
    struct prng prng;

    prng_seed(&prng, n);
    prng_bytes(&prng, desc.id.key.bytes, sizeof desc.id.key.bytes);
    const uint32_t partition = blob_partition(&desc.id, fill->where->partition_bits);
    desc.position = fill->where->position[fill->node][partition];
    return desc;
}

static void fill_fiber(void *arg)
{
    struct fill *fill = arg;
    void *buffer = dma_get(fill->arena, 4096);

    CHECK(buffer != NULL);
    memset(buffer, 7, 4096);
    while (fill->next < BLOBS) {
        const struct blob_desc desc = desc_of(fill, fill->next++);
        const struct iovec bytes = {buffer, BLOB_BYTES_EACH};
        CHECK(engine_prepare(fill->engine, &desc, &bytes, 1, NULL) == 0);
        int error = SHOAL_E_TIMEOUT;
        while ((error = engine_commit(fill->engine, &desc.id, &desc.version)) == SHOAL_E_BUSY)
            fiber_yield();
        CHECK(error == 0);
    }
    dma_put(fill->arena, buffer);
}

static void open_fiber(void *arg)
{
    struct fill *fill = arg;
    const struct engine_config config = {0};
    struct engine_report report;

    CHECK(engine_open(fill->dev, fill->arena, &config, &fill->engine, &report) == 0);
    CHECK(report.target == fill->where->targets[fill->node]);
}

static void close_fiber(void *arg)
{
    struct fill *fill = arg;

    engine_close(fill->engine, false);
    dev_close(fill->dev);
}

static void run_fibers(struct fill *fill, void (*run)(void *arg), unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        CHECK(fiber_spawn(fill->fibers, run, fill) == 0);
    while (fiber_pool_in_use(fill->fibers) > 0)
        if (reactor_poll_once(fill->reactor) == 0)
            reactor_wait(fill->reactor, UINT64_MAX);
}

static _Noreturn void fill_process(const struct where *where, unsigned node, const char *path)
{
    static const struct dma_class classes[] = {{4096, 2 * FILL_DEPTH + 16}, {65536, 32},
                                               {262144, 4}, {1u << 20, 4}};
    const struct reactor_config config = {.name = "fill", .cpu = -1, .uring_entries = 512};
    struct fill fill = {.where = where, .node = node};

    CHECK(reactor_create(&config, &fill.reactor) == 0);
    CHECK(fiber_pool_create(fill.reactor, "fill", FILL_DEPTH, 0, &fill.fibers) == 0);
    CHECK(dma_arena_create(fill.reactor, classes, ARRAY_LEN(classes), &fill.arena) == 0);
    CHECK(dev_uring_open(fill.reactor, path, 0, false, &fill.dev) == 0);
    run_fibers(&fill, open_fiber, 1);
    run_fibers(&fill, fill_fiber, FILL_DEPTH);
    run_fibers(&fill, close_fiber, 1);
    _exit(0);
}

/* A process for each, whose memory goes with it. */
static void fill_drives(const struct local_cluster *cluster, const struct where *where)
{
    pid_t children[NODES];

    for (unsigned i = 0; i < NODES; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/node-%u/disk-1", cluster->directory, i + 1);
        children[i] = fork();
        CHECK(children[i] >= 0);
        if (children[i] == 0)
            fill_process(where, i, path);
    }
    for (unsigned i = 0; i < NODES; i++) {
        int status;
        CHECK(waitpid(children[i], &status, 0) == children[i]);
        CHECK_MSG(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the drives were not filled");
    }
}

/* ---- where they belong ---- */

struct ask {
    struct shoal *shoal;
    const char *pool;
    struct where *where;
};

static void ask_fiber(void *arg)
{
    struct ask *ask = arg;
    struct where *where = ask->where;
    const struct cluster_map *map = client_map(shoal_client(ask->shoal));
    const struct map_pool *pool = cluster_map_pool_named(map, ask->pool);

    CHECK(pool != NULL && map->targets_count == NODES);
    where->pool = pool->id;
    where->partition_bits = map->partition_bits;
    for (unsigned i = 0; i < NODES; i++)
        where->targets[map->targets[i].node] = map->targets[i].id;
    for (uint32_t p = 0; p >> map->partition_bits == 0; p++) {
        struct target_set set;
        cluster_map_partition_set(map, pool, p, &set);
        for (unsigned i = 0; i < set.width; i++)
            where->position[set.targets[i]->node][p] = (uint8_t)i;
    }
}

static void count_fiber(void *arg)
{
    struct client *client = shoal_client(arg);

    for (uint32_t i = 0; i < NODES; i++) {
        struct wire_report_reply report;
        int error = SHOAL_E_TIMEOUT;
        for (unsigned tries = 0; tries < 30; tries++) {
            error = client_report(client, i, bench_now_ns() + 5000000000, &report);
            if (error == 0)
                break;
            fiber_sleep(200000000);
        }
        CHECK_MSG(error == 0 && report.targets_count == 1, "node-%u does not report: %s", i + 1,
                  shoal_error_text(error));
        CHECK_MSG(report.targets[0].objects >= BLOBS, "node-%u has %llu blobs only", i + 1,
                  (unsigned long long)report.targets[0].objects);
    }
}

/* ---- memory ---- */

static double anonymous_bytes(pid_t pid)
{
    char path[64], line[256];
    unsigned long kib = 0;

    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return 0; /* it is dead, or not born */
    while (fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "RssAnon: %lu kB", &kib) == 1)
            break;
    fclose(file);
    return (double)kib * 1024;
}

/* One return of node 2. The most of each node until it serves. */
static void watch_return(const struct local_cluster *cluster, struct shoal *shoal,
                         const struct blobs *missed, uint64_t seed, double peak[NODES])
{
    local_cluster_kill(cluster, 2);
    (void)local_cluster_await(shoal, 2, NODE_GONE);
    const pid_t stays = local_cluster_pid(cluster, 1);
    peak[0] = anonymous_bytes(stays);
    peak[1] = 0;
    blobs_put(shoal, missed, seed);
    peak[0] = MAX(peak[0], anonymous_bytes(stays));
    pid_t starting = local_cluster_begin(cluster, "node start node-2");
    (void)local_cluster_await(shoal, 2, NODE_LEARNS);
    const pid_t returns = local_cluster_pid(cluster, 2);
    while (local_cluster_phase(shoal, 2) != NODE_SERVES) {
        peak[0] = MAX(peak[0], anonymous_bytes(stays));
        peak[1] = MAX(peak[1], anonymous_bytes(returns));
        usleep(LOOK_US);
    }
    local_cluster_finish(starting);
}

static void measure(const struct local_cluster *cluster, struct shoal *shoal)
{
    const struct blobs missed = {.pool = "two", .size = BLOB_BYTES_EACH, .count = 4096};
    double idle[NODES], most = 0, least = 1e18;

    sleep(3); /* what starting leaves to be done */
    for (unsigned i = 0; i < NODES; i++)
        idle[i] = anonymous_bytes(local_cluster_pid(cluster, i + 1));
    for (unsigned i = 0; i < RETURNS; i++) {
        double peak[NODES];
        watch_return(cluster, shoal, &missed, i, peak);
        double above = MAX(peak[0] - idle[0], peak[1] - idle[1]);
        most = MAX(most, above);
        least = MIN(least, above);
    }
    bench_print(&(struct bench_figure){.name = "recovery-memory",
                                       .unit = "MiB",
                                       .value = most / (1 << 20),
                                       .noise = (most - least) / most,
                                       .goal = 64});
}

int main(int argc, char **argv)
{
    struct local_cluster cluster;
    struct where *where = calloc(1, sizeof *where);

    bench_start(argc, argv, "Memory for catching up where a target holds a million blobs.");
    CHECK(where != NULL);
    local_cluster_start(&cluster, "--nodes 2 --size 5G --data-plane plain 2>/dev/null");
    struct shoal *shoal = local_cluster_open(&cluster);
    shoal_command("SHOAL_CONFIG=%s/client.yaml shoal pool create two --copies 2",
                  cluster.directory);
    CHECK(shoal_put(shoal, "two", "first", "", 0) == 0); /* and so it has the map that knows the pool */
    CHECK(shoal_run_fiber(shoal, ask_fiber,
                          &(struct ask){.shoal = shoal, .pool = "two", .where = where}) == 0);
    shoal_close(shoal);
    shoal_command("shoal down --dir %s", cluster.directory);
    fill_drives(&cluster, where);
    shoal_command("shoal up --dir %s 2>/dev/null", cluster.directory);
    shoal = local_cluster_open(&cluster);
    for (unsigned i = 1; i <= NODES; i++)
        (void)local_cluster_await(shoal, i, NODE_SERVES);
    CHECK(shoal_run_fiber(shoal, count_fiber, shoal) == 0);
    measure(&cluster, shoal);
    shoal_close(shoal);
    local_cluster_end(&cluster);
    free(where);
    return 0;
}
