/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine on a real file, beside fio and raw system calls on files of the same size, prepared
 * alike, in the same directory: $SHOAL_BENCH_DIR, or /var/tmp.
 */
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "base/random.h"
#include "bench.h"
#include "core/dma.h"
#include "core/fiber.h"
#include "core/reactor.h"
#include "engine/engine.h"
#include "shoal/error.h"

#define DEPTH 32u
#define PAIRS 15u
#define LARGE_BYTES (1u << 20)
#define LARGE_BLOBS 512u
#define SMALL_BYTES 3800u /* with its description it fills one block of 4 KiB */
#define SMALL_BLOBS 65536u
#define RAW_BYTES (UINT64_C(640) << 20)
#define DEVICE_BYTES (UINT64_C(1536) << 20)
#define RESTART_BLOBS 1000000u
#define RESTART_DEVICE_BYTES (UINT64_C(5) << 30)
#define RESTART_DEPTH 256u

/* ---- the machine under the engine ---- */

struct host {
    char device_path[300], raw_path[300];
    struct reactor *reactor;
    struct fiber_pool *fibers;
    struct dma_arena *arena;
    struct dev *dev;
    struct engine *engine;
    struct prng prng;
};

static struct host host;

static void say_and_exit(const char *what, int rc)
{
    fprintf(stderr, "engine_bench: %s: %s\n", what, shoal_error_text(rc));
    exit(1);
}

static void host_start(void)
{
    int rc = reactor_create(
        &(struct reactor_config){
            .name = "bench", .spin_ns = 1000000000, .cpu = -1, .uring_entries = 512},
        &host.reactor);
    if (rc == 0)
        rc = fiber_pool_create(host.reactor, "bench", RESTART_DEPTH + 2, 0, &host.fibers);
    const struct dma_class classes[] = {{4096, 2 * RESTART_DEPTH + 16},
                                        {65536, DEPTH + 4},
                                        {262144, 4},
                                        {LARGE_BYTES + 65536, DEPTH + 2}};
    if (rc == 0)
        rc = dma_arena_create(host.reactor, classes, 4, &host.arena);
    if (rc != 0)
        say_and_exit("starting", rc);
    prng_seed(&host.prng, 1);
}

/* As reactor_run(): it sleeps when there is nothing to do, and costs no more CPU than it must. */
static void poll_until_done(void)
{
    while (fiber_pool_in_use(host.fibers) > 0)
        if (reactor_poll_once(host.reactor) == 0)
            reactor_wait(host.reactor, UINT64_MAX);
}

static void run(void (*body)(void *arg), void *arg)
{
    CHECK(fiber_spawn(host.fibers, body, arg) == 0);
    poll_until_done();
}

static void open_device(uint64_t bytes)
{
    int rc = dev_uring_open(host.reactor, host.device_path, bytes, false, &host.dev);
    if (rc != 0)
        say_and_exit(host.device_path, rc);
}

static void start_engine(void *arg)
{
    const struct engine_format_config format = {.partition_bits = 16, .force = true};
    const struct engine_config config = {0};
    struct engine_report report;
    bool fresh = arg != NULL;
    int rc = fresh ? engine_format(host.dev, host.arena, &format) : 0;
    if (rc == 0)
        rc = engine_open(host.dev, host.arena, &config, &host.engine, &report);
    if (rc != 0)
        say_and_exit("opening the engine", rc);
}

static void stop_engine(void *arg)
{
    (void)arg;
    engine_close(host.engine, true);
    dev_close(host.dev);
}

static struct blob_desc desc_of(uint64_t n, uint32_t len)
{
    struct blob_desc desc = {.id = {.pool = 1},
                             .version = {1, 1, n + 1},
                             .kind = BLOB_HEAD,
                             .form = BLOB_BYTES,
                             .k = 1,
                             .stripe_len = len,
                             .shard_len = len,
                             .blob_len = len,
                             .stripe_count = 1};
    struct prng prng;
    prng_seed(&prng, n);
    prng_bytes(&prng, desc.id.key.bytes, sizeof desc.id.key.bytes);
    return desc;
}

static void put(uint64_t n, uint32_t len, void *payload)
{
    struct blob_desc desc = desc_of(n, len);
    struct iovec part = {payload, len};
    int rc = engine_prepare(host.engine, &desc, &part, 1, NULL);
    while (rc == 0 && (rc = engine_commit(host.engine, &desc.id, &desc.version)) == SHOAL_E_BUSY) {
        fiber_yield();
        rc = 0;
    }
    if (rc != 0)
        say_and_exit("put", rc);
}

/* ---- many fibers, each doing the next of the work ---- */

struct crowd {
    void (*one)(struct crowd *crowd, void *buffer);
    size_t buffer_bytes;
    uint64_t next, end;
    uint32_t len;
    uint64_t blobs;
};

static void crowd_member(void *arg)
{
    struct crowd *crowd = arg;
    void *buffer = dma_get(host.arena, crowd->buffer_bytes);
    CHECK(buffer != NULL);
    memset(buffer, 0x5a, crowd->buffer_bytes);
    while (crowd->next < crowd->end)
        crowd->one(crowd, buffer);
    dma_put(host.arena, buffer);
}

static void crowd_run(struct crowd *crowd, unsigned members)
{
    for (unsigned i = 0; i < members; i++)
        CHECK(fiber_spawn(host.fibers, crowd_member, crowd) == 0);
    poll_until_done();
}

static void one_put(struct crowd *crowd, void *buffer)
{
    put(crowd->next++, crowd->len, buffer);
}

static void one_read(struct crowd *crowd, void *buffer)
{
    crowd->next++;
    struct blob_desc desc = desc_of(prng_below(&host.prng, crowd->blobs), crowd->len);
    const uint8_t *data;
    int rc = engine_read(host.engine, &desc.id, &desc.version, 0, crowd->len, buffer, &data, NULL, NULL);
    if (rc != 0)
        say_and_exit("read", rc);
}

static void fill(uint32_t len, uint64_t blobs)
{
    struct crowd crowd = {.one = one_put, .buffer_bytes = len, .end = blobs, .len = len};
    crowd_run(&crowd, DEPTH);
}

/* ---- against fio, with registered buffers and files as the engine's device has them ---- */

struct reading {
    uint32_t len;
    uint64_t blobs, count;
    const char *fio_block;
    double ours_cpu_ns, fio_cpu_ns; /* of the last run */
};

static double cpu_ns(void)
{
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e9 +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e3;
}

static double run_engine_read(void *context)
{
    struct reading *reading = context;
    struct crowd crowd = {.one = one_read,
                          .buffer_bytes = engine_read_room(reading->len),
                          .end = reading->count,
                          .len = reading->len,
                          .blobs = reading->blobs};
    double cpu = cpu_ns();
    uint64_t start = bench_now_ns();
    crowd_run(&crowd, DEPTH);
    double ns = (double)(bench_now_ns() - start);
    reading->ours_cpu_ns = (cpu_ns() - cpu) / (double)reading->count;
    return ns / (double)reading->count;
}

static json_t *fio_result(const struct reading *reading)
{
    char command[700];
    (void)snprintf(command, sizeof command,
                   "fio --name=r --filename=%s --size=%llu --rw=randread --bs=%s --iodepth=%u "
                   "--ioengine=io_uring --direct=1 --fixedbufs=1 --registerfiles=1 "
                   "--number_ios=%llu --norandommap --output-format=json 2>/dev/null",
                   host.raw_path, (unsigned long long)(UINT64_C(512) << 20), reading->fio_block,
                   DEPTH, (unsigned long long)reading->count);
    FILE *pipe = popen(command, "r");
    if (pipe == NULL)
        return NULL;
    json_t *root = json_loadf(pipe, JSON_DISABLE_EOF_CHECK, NULL);
    return pclose(pipe) == 0 ? root : NULL;
}

static double run_fio(void *context)
{
    struct reading *reading = context;
    json_t *root = fio_result(reading);
    json_t *job = json_array_get(json_object_get(root, "jobs"), 0);
    json_t *read = json_object_get(job, "read");
    double iops = json_number_value(json_object_get(read, "iops"));
    double runtime_ns = json_number_value(json_object_get(job, "job_runtime")) * 1e6;
    double percent = json_number_value(json_object_get(job, "usr_cpu")) +
                     json_number_value(json_object_get(job, "sys_cpu"));
    json_decref(root);
    if (iops <= 0) {
        fprintf(stderr, "engine_bench: fio did not run; apt install fio\n");
        exit(1);
    }
    reading->fio_cpu_ns = runtime_ns * percent / 100 / (double)reading->count;
    return 1e9 / iops;
}

static double crc_ns(size_t bytes)
{
    uint8_t *data = malloc(bytes);
    CHECK(data != NULL);
    memset(data, 7, bytes);
    uint64_t best = UINT64_MAX;
    for (unsigned i = 0; i < 20; i++) {
        uint64_t start = bench_now_ns();
        bench_keep(crc32c(0, data, bytes));
        uint64_t ns = bench_now_ns() - start;
        best = ns < best ? ns : best;
    }
    free(data);
    return (double)best;
}

static void bench_reading(const char *name, struct reading *reading, double goal, double scale,
                          const char *unit)
{
    struct bench_pairs p = bench_pairs(&(struct bench_side){run_engine_read, reading},
                                       &(struct bench_side){run_fio, reading}, PAIRS);
    bench_print(&(struct bench_figure){.name = name,
                                       .unit = unit,
                                       .value = scale / p.ours,
                                       .baseline = scale / p.raw,
                                       .noise = p.noise,
                                       .goal = goal,
                                       .more_is_better = true});
}

/* ---- a durable put ---- */

#define PUTS 40u

static uint64_t put_number = 1u << 30, raw_number;
static int raw_fd = -1;

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static double median_ns(uint64_t *samples)
{
    qsort(samples, PUTS, sizeof *samples, compare_u64);
    return (double)samples[PUTS / 2];
}

struct putting {
    void *payload;
    uint64_t samples[PUTS];
};

static void puts_in_fiber(void *arg)
{
    struct putting *putting = arg;
    for (unsigned i = 0; i < PUTS; i++) {
        struct blob_desc desc = desc_of(put_number++, LARGE_BYTES);
        struct iovec part = {putting->payload, LARGE_BYTES};
        uint64_t start = bench_now_ns();
        int rc = engine_prepare(host.engine, &desc, &part, 1, NULL);
        putting->samples[i] = bench_now_ns() - start;
        if (rc == 0)
            rc = engine_commit(host.engine, &desc.id, &desc.version);
        if (rc != 0)
            say_and_exit("put", rc);
    }
}

static double run_put(void *context)
{
    struct putting *putting = context;
    run(puts_in_fiber, putting);
    return median_ns(putting->samples);
}

static double run_raw_put(void *context)
{
    struct putting *putting = context;
    for (unsigned i = 0; i < PUTS; i++) {
        /* One behind the other, as the engine does it on an empty device. */
        off_t at = (off_t)(raw_number++ % (RAW_BYTES / LARGE_BYTES) * LARGE_BYTES);
        uint64_t start = bench_now_ns();
        if (pwrite(raw_fd, putting->payload, LARGE_BYTES, at) != LARGE_BYTES ||
            fdatasync(raw_fd) != 0)
            say_and_exit(host.raw_path, SHOAL_E_IO);
        putting->samples[i] = bench_now_ns() - start;
    }
    return median_ns(putting->samples);
}

static void bench_put(void)
{
    struct putting putting = {.payload = dma_get(host.arena, LARGE_BYTES)};
    CHECK(putting.payload != NULL);
    memset(putting.payload, 0x77, LARGE_BYTES);
    raw_fd = open(host.raw_path, O_RDWR | O_DIRECT);
    if (raw_fd < 0)
        say_and_exit(host.raw_path, SHOAL_E_IO);
    struct bench_pairs p = bench_pairs(&(struct bench_side){run_put, &putting},
                                       &(struct bench_side){run_raw_put, &putting}, PAIRS);
    bench_print(&(struct bench_figure){.name = "durable-put-1m",
                                       .unit = "us",
                                       .value = p.ours / 1000,
                                       .baseline = p.raw / 1000,
                                       .noise = p.noise,
                                       .goal = 1.25});
    (void)close(raw_fd);
    dma_put(host.arena, putting.payload);
}

/* ---- a restart ---- */

static void restart_child(void)
{
    host_start();
    open_device(RESTART_DEVICE_BYTES);
    run(start_engine, &host);
    struct crowd crowd = {.one = one_put, .buffer_bytes = 4096, .end = RESTART_BLOBS, .len = 1000};
    crowd_run(&crowd, RESTART_DEPTH - 40);
    (void)kill(getpid(), SIGKILL);
}

#define OPENINGS 5u

static uint64_t open_samples[PUTS];

/* Closing fast writes no checkpoint: each opening finds what the first one found. */
static void timed_opens(void *arg)
{
    (void)arg;
    const struct engine_config config = {0};
    for (unsigned i = 0; i < OPENINGS; i++) {
        struct engine_report report;
        uint64_t start = bench_now_ns();
        int rc = engine_open(host.dev, host.arena, &config, &host.engine, &report);
        open_samples[i] = bench_now_ns() - start;
        if (rc != 0 || report.objects < RESTART_BLOBS)
            say_and_exit("opening after SIGKILL", rc);
        engine_close(host.engine, true);
    }
    dev_close(host.dev);
}

static void bench_restart(void)
{
    pid_t child = fork();
    if (child == 0) {
        restart_child();
        _exit(1);
    }
    int status;
    if (waitpid(child, &status, 0) != child || !WIFSIGNALED(status))
        say_and_exit("writing a million blobs", SHOAL_E_IO);
    host_start();
    open_device(RESTART_DEVICE_BYTES);
    run(timed_opens, NULL);
    qsort(open_samples, OPENINGS, sizeof *open_samples, compare_u64);
    uint64_t middle = open_samples[OPENINGS / 2];
    bench_print(&(struct bench_figure){
        .name = "restart-1m-blobs",
        .unit = "s",
        .value = (double)middle / 1e9,
        .noise = (double)(open_samples[OPENINGS - 1] - open_samples[0]) / (double)middle,
        .goal = 1});
    (void)unlink(host.device_path);
}

static void bench_device(void)
{
    struct dev *raw;
    int rc = dev_uring_open(host.reactor, host.raw_path, RAW_BYTES, false, &raw);
    if (rc != 0)
        say_and_exit(host.raw_path, rc);
    dev_close(raw);
    open_device(DEVICE_BYTES);
    run(start_engine, &host);
    bench_put();
    run(stop_engine, NULL);
    open_device(DEVICE_BYTES);
    run(start_engine, &host);
    struct reading large = {LARGE_BYTES, LARGE_BLOBS, 1000, "1M", 0, 0};
    fill(LARGE_BYTES, LARGE_BLOBS);
    bench_reading("engine-read-1m", &large, 0.90, 1e9, "MiB/s");
    bench_print(&(struct bench_figure){.name = "engine-read-1m-cpu",
                                       .unit = "us a MiB",
                                       .value = large.ours_cpu_ns / 1000,
                                       .baseline = (large.fio_cpu_ns + crc_ns(LARGE_BYTES)) / 1000,
                                       .goal = 1.3});
    run(stop_engine, NULL);
    open_device(DEVICE_BYTES);
    run(start_engine, &host);
    struct reading small = {SMALL_BYTES, SMALL_BLOBS, 30000, "4k", 0, 0};
    fill(SMALL_BYTES, SMALL_BLOBS);
    bench_reading("engine-read-4k", &small, 0.85, 1e9, "IOPS");
    bench_print(&(struct bench_figure){.name = "engine-read-4k-cpu",
                                       .unit = "us",
                                       .value = small.ours_cpu_ns / 1000,
                                       .baseline = small.fio_cpu_ns / 1000});
    run(stop_engine, NULL);
    (void)unlink(host.device_path);
    (void)unlink(host.raw_path);
}

int main(int argc, char **argv)
{
    const char *directory = getenv("SHOAL_BENCH_DIR");
    directory = directory != NULL ? directory : "/var/tmp";
    bench_start(argc, argv, "Read, put and restart on a file in $SHOAL_BENCH_DIR or /var/tmp.");
    log_set_level(LOG_LEVEL_WARN);
    (void)snprintf(host.device_path, sizeof host.device_path, "%s/shoal-bench-device", directory);
    (void)snprintf(host.raw_path, sizeof host.raw_path, "%s/shoal-bench-raw", directory);
    (void)unlink(host.device_path);
    (void)unlink(host.raw_path);
    bench_restart(); /* first: it forks */
    bench_device();
    return 0;
}
