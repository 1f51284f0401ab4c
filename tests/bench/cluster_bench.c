/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an application sees of a running cluster, at the median:
 *
 *   get-1m, get-64k    a get through libshoal, plain data plane, one node, copies 1, its device in
 *                      memory; against a raw socket, 64 bytes there, the same back. Both servers are
 *                      kept on one core and the client on another. -one-core: all on one, reported
 *   commit-4-2-1m      a durable put of 1 MiB into ec 4+2, six nodes on one disk, plain; against six
 *                      parallel durable writes of 256 KiB to six files there, plus one exchange on a
 *                      raw socket: 1 MiB there, 64 bytes back. -tls: the same with mTLS, reported
 *   idle-cpu           six nodes and their supervisor left alone for 60 s: share of one core
 *
 * Clusters are real processes, started with the `shoal` that is found in PATH; the node of the gets is
 * a process of this program. The two sides of a comparison take turns in small batches.
 */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "local_cluster.h"
#include "memory_node.h"
#include "raw_socket.h"

#include "base/check.h"
#include "base/file.h"
#include "shoal/shoal.h"

#define MEMBERS 6u
#define STRIPE_BYTES (1u << 20)
#define SHARD_BYTES (STRIPE_BYTES / 4)
#define FILE_BYTES (64u << 20)
#define IDLE_SECONDS 60u

static uint8_t *memory;
static uint16_t raw_port;

/* ---- a batch of one operation, its median ---- */

struct side {
    void (*once)(struct side *side);
    unsigned batch;
    uint32_t size;
    int socket;
    struct shoal *shoal;
    const char *pool;
    unsigned number;
    int files[MEMBERS];
};

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;

    return (x > y) - (x < y);
}

static double run_batch(void *context)
{
    struct side *side = context;
    double us[64];

    CHECK(side->batch <= 64);
    for (unsigned i = 0; i < side->batch; i++) {
        const uint64_t start = bench_now_ns();
        side->once(side);
        us[i] = (double)(bench_now_ns() - start) / 1000;
    }
    qsort(us, side->batch, sizeof us[0], compare);
    return us[side->batch / 2];
}

static void print(const char *name, struct side *ours, struct side *raw, double goal)
{
    const struct bench_pairs pairs = bench_pairs(
        &(struct bench_side){run_batch, ours}, &(struct bench_side){run_batch, raw}, 31);

    bench_print(&(struct bench_figure){.name = name,
                                       .unit = "us",
                                       .value = pairs.ours,
                                       .baseline = pairs.raw,
                                       .noise = pairs.noise,
                                       .goal = goal});
}

/* ---- get ---- */

static void get_once(struct side *side)
{
    char name[16];
    size_t got = 0;

    snprintf(name, sizeof name, "blob-%u", side->size);
    CHECK_MSG(shoal_get(side->shoal, side->pool, name, memory, side->size, &got) == 0, "%s",
              shoal_message());
    CHECK(got == side->size);
}

static void raw_get_once(struct side *side)
{
    raw_socket_get(side->socket, memory, side->size);
}

/*
 * Client and servers stand for different machines, so they have a core each. Left alone, the
 * scheduler puts either server now on the client's core and now on the other, and a raw exchange of
 * 64 KiB takes 9 us there and 55 us here, most of it waking an idle core: the ratio would be one of
 * two placements.
 */
struct cores {
    cpu_set_t all, first, second;
};

static struct cores find_cores(void)
{
    struct cores cores;
    int found = 0;

    CHECK(sched_getaffinity(0, sizeof cores.all, &cores.all) == 0);
    CPU_ZERO(&cores.first);
    CPU_ZERO(&cores.second);
    for (int cpu = 0; cpu < CPU_SETSIZE && found < 2; cpu++)
        if (CPU_ISSET(cpu, &cores.all))
            CPU_SET(cpu, found++ == 0 ? &cores.first : &cores.second);
    if (found < 2)
        cores.second = cores.first;
    return cores;
}

static void place(pid_t process, const cpu_set_t *cores)
{
    CHECK(sched_setaffinity(process, sizeof *cores, cores) == 0);
}

static void measure_get(struct shoal *shoal, uint32_t size, const char *name, double goal)
{
    struct side ours = {.once = get_once, .batch = 25, .size = size, .shoal = shoal, .pool = "one"};
    struct side raw = {.once = raw_get_once, .batch = 25, .size = size,
                       .socket = raw_socket_connect(raw_port)};
    char blob[16];

    snprintf(blob, sizeof blob, "blob-%u", size);
    CHECK_MSG(shoal_put(shoal, "one", blob, memory, size) == 0, "%s", shoal_message());
    print(name, &ours, &raw, goal);
    close(raw.socket);
}

static void measure_gets(pid_t raw)
{
    char directory[] = "/tmp/shoal-bench-XXXXXX";
    const struct cores cores = find_cores();

    CHECK(mkdtemp(directory) != NULL);
    pid_t node = memory_node_start(directory, true);
    struct shoal *shoal = open_client(directory);
    place(0, &cores.first);
    place(raw, &cores.second);
    place(node, &cores.second);
    measure_get(shoal, 1u << 20, "get-1m", 1.35);
    measure_get(shoal, 64u << 10, "get-64k", 1.35);
    place(raw, &cores.first);
    place(node, &cores.first);
    measure_get(shoal, 1u << 20, "get-1m-one-core", 0);
    measure_get(shoal, 64u << 10, "get-64k-one-core", 0);
    place(0, &cores.all);
    place(raw, &cores.all);
    shoal_close(shoal);
    kill(node, SIGKILL);
    waitpid(node, NULL, 0);
    CHECK(file_remove_tree(directory) == 0);
}

/* ---- commit ---- */

static void put_once(struct side *side)
{
    char name[32];

    snprintf(name, sizeof name, "put-%u", side->number++ % 64);
    memcpy(memory, &side->number, sizeof side->number);
    CHECK_MSG(shoal_put(side->shoal, side->pool, name, memory, STRIPE_BYTES) == 0, "%s",
              shoal_message());
}

struct raw_write {
    int file;
    off_t offset;
};

static void *raw_write_thread(void *arg)
{
    const struct raw_write *write = arg;

    CHECK(pwrite(write->file, memory, SHARD_BYTES, write->offset) == (ssize_t)SHARD_BYTES);
    CHECK(fdatasync(write->file) == 0);
    return NULL;
}

static void raw_commit_once(struct side *side)
{
    pthread_t threads[MEMBERS];
    struct raw_write writes[MEMBERS];
    const off_t offset = (off_t)(side->number++ % (FILE_BYTES / SHARD_BYTES)) * SHARD_BYTES;

    raw_socket_put(side->socket, memory, STRIPE_BYTES);
    for (unsigned i = 0; i < MEMBERS; i++) {
        writes[i] = (struct raw_write){side->files[i], offset};
        CHECK(pthread_create(&threads[i], NULL, raw_write_thread, &writes[i]) == 0);
    }
    for (unsigned i = 0; i < MEMBERS; i++)
        pthread_join(threads[i], NULL);
}

/* Allocated and written once, as the nodes' devices are. */
static int open_raw_file(const char *directory, unsigned number)
{
    char path[128];

    snprintf(path, sizeof path, "%s/raw-%u", directory, number);
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT, 0600);
    CHECK_MSG(file >= 0, "cannot open %s with O_DIRECT", path);
    CHECK(posix_fallocate(file, 0, FILE_BYTES) == 0);
    for (off_t at = 0; at < (off_t)FILE_BYTES; at += STRIPE_BYTES)
        CHECK(pwrite(file, memory, STRIPE_BYTES, at) == (ssize_t)STRIPE_BYTES);
    CHECK(fsync(file) == 0);
    return file;
}

static void measure_commit(const char *plane, const char *name, double goal)
{
    char directory[] = "/var/tmp/shoal-bench-XXXXXX";
    char path[64], options[64];
    struct local_cluster cluster;
    struct side raw = {.once = raw_commit_once, .batch = 7};

    CHECK(mkdtemp(directory) != NULL);
    snprintf(options, sizeof options, "--nodes 6 --size 256M --data-plane %s", plane);
    local_cluster_start(&cluster, options);
    for (unsigned i = 0; i < MEMBERS; i++)
        raw.files[i] = open_raw_file(directory, i);
    raw.socket = raw_socket_connect(raw_port);
    struct side ours = {.once = put_once, .batch = 7, .shoal = local_cluster_open(&cluster),
                        .pool = "durable"};
    print(name, &ours, &raw, goal);
    shoal_close(ours.shoal);
    close(raw.socket);
    for (unsigned i = 0; i < MEMBERS; i++) {
        close(raw.files[i]);
        snprintf(path, sizeof path, "%s/raw-%u", directory, i);
        unlink(path);
    }
    local_cluster_end(&cluster);
    rmdir(directory);
}

/* ---- idle ---- */

/* Clock ticks that the processes whose command line names @directory have used. */
static uint64_t ticks_of(const char *directory)
{
    uint64_t ticks = 0;
    DIR *processes = opendir("/proc");
    struct dirent *entry;

    CHECK(processes != NULL);
    while ((entry = readdir(processes)) != NULL) {
        char path[300], line[4096] = "";
        unsigned long user = 0, system_ticks = 0;
        snprintf(path, sizeof path, "/proc/%s/cmdline", entry->d_name);
        int file = open(path, O_RDONLY);
        ssize_t len = file >= 0 ? read(file, line, sizeof line - 1) : 0;
        if (file >= 0)
            close(file);
        if (len <= 0 || memmem(line, (size_t)len, directory, strlen(directory)) == NULL)
            continue;
        snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
        FILE *stat = fopen(path, "r");
        if (stat == NULL)
            continue;
        if (fscanf(stat, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
                   &system_ticks) == 2)
            ticks += user + system_ticks;
        fclose(stat);
    }
    closedir(processes);
    return ticks;
}

static void measure_idle(void)
{
    struct local_cluster cluster;

    local_cluster_start(&cluster, "--nodes 6 --size 64M");
    sleep(5); /* what starting leaves to be done */
    const uint64_t before = ticks_of(cluster.directory);
    CHECK_MSG(before > 0, "no process of the cluster in %s was found", cluster.directory);
    sleep(IDLE_SECONDS);
    const uint64_t used = ticks_of(cluster.directory) - before;
    bench_print(&(struct bench_figure){
        .name = "idle-cpu",
        .unit = "% of a core",
        .value = (double)used * 100 / (double)sysconf(_SC_CLK_TCK) / IDLE_SECONDS,
        .goal = 2});
    local_cluster_end(&cluster);
}

int main(int argc, char **argv)
{
    pid_t raw;

    bench_start(argc, argv, "Gets, commits and idleness of a cluster of processes.");
    setvbuf(stdout, NULL, _IOLBF, 0);
    memory = aligned_alloc(4096, RAW_PAYLOAD_MAX);
    CHECK(memory != NULL);
    memset(memory, 1, RAW_PAYLOAD_MAX);
    raw_port = raw_socket_start(&raw);
    measure_gets(raw);
    measure_commit("plain", "commit-4-2-1m", 1.4);
    measure_commit("tls", "commit-4-2-1m-tls", 0);
    measure_idle();
    kill(raw, SIGKILL);
    waitpid(raw, NULL, 0);
    free(memory);
    return 0;
}
