/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small formatted device in memory, for the fuzz targets of what an engine reads from its disk:
 * put bytes on it under valid checksums, open it, look around, close it, and put all back.
 */
#ifndef FUZZ_ENGINE_HOST_H
#define FUZZ_ENGINE_HOST_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "core/dma.h"
#include "core/test_reactor.h"
#include "engine/internal.h"
#include "shoal/error.h"

#define HOST_BYTES (UINT64_C(4) << 20)
#define HOST_BITS 3u

static struct {
    struct test_clock clock;
    struct reactor *reactor;
    struct fiber_pool *fibers;
    struct dma_arena *arena;
    struct dev_sim_store *store;
    struct dev *dev;
    struct layout layout;
    struct superblock sb;
} host;

static inline void host_ignore_line(void *arg, enum log_level level, const char *line)
{
    (void)arg;
    (void)level;
    (void)line;
}

static inline void host_format(void *arg)
{
    (void)arg;
    const struct engine_format_config config = {.target = 1, .partition_bits = HOST_BITS};
    struct superblock_found found;
    CHECK(engine_format(host.dev, host.arena, &config) == 0);
    void *block = dma_get(host.arena, LAYOUT_BLOCK);
    CHECK(superblock_load(host.dev, block, &host.sb, &found) == 0);
    dma_put(host.arena, block);
}

static inline void host_run(void (*body)(void *arg), void *arg)
{
    const struct dev_sim_config sim = {.name = "fuzz", .seed = 1};
    CHECK(dev_sim_open(host.reactor, host.store, &sim, &host.dev) == 0);
    CHECK(fiber_spawn(host.fibers, body, arg) == 0);
    test_run_idle(host.reactor, &host.clock);
    CHECK(fiber_pool_in_use(host.fibers) == 0);
    dev_close(host.dev);
}

static inline void host_start(void)
{
    if (host.reactor != NULL)
        return;
    log_set_sink(host_ignore_line, NULL);
    host.reactor = test_reactor_virtual(&host.clock, 1);
    const struct dma_class classes[] = {{4096, 8}, {65536, 2}, {262144, 5}};
    CHECK(fiber_pool_create(host.reactor, "fuzz", 2, 256 << 10, &host.fibers) == 0);
    CHECK(dma_arena_create(host.reactor, classes, ARRAY_LEN(classes), &host.arena) == 0);
    CHECK(dev_sim_store_create(HOST_BYTES, &host.store) == 0);
    CHECK(layout_compute(HOST_BYTES, &host.layout) == 0);
    host_run(host_format, NULL);
    CHECK(dev_sim_store_snapshot(host.store) == 0);
}

/* Everything that may be asked of an engine that opened. */
static inline void host_look_around(struct engine *engine)
{
    void *buffer = dma_get(host.arena, engine_read_room(65536));
    for (uint32_t p = 0; p < 1u << HOST_BITS; p++) {
        uint64_t cursor = 0;
        struct engine_digest digest;
        engine_partition_digest(engine, p, &digest);
        do {
            struct engine_entry entries[8], found;
            unsigned count = engine_list(engine, p, &cursor, entries, 8);
            for (unsigned i = 0; i < count; i++) {
                const uint8_t *data;
                struct blob_desc desc;
                uint32_t len = MIN(entries[i].shard_len, 65536u);
                int rc = engine_read(engine, &entries[i].id, &entries[i].version, 0, len, buffer,
                                     &data, &desc, NULL);
                CHECK(rc != 0 || len == 0); /* no extent was ever written */
                (void)engine_evict_pick(engine, entries[i].id.pool, &found);
                if (entries[i].prepared)
                    (void)engine_commit(engine, &entries[i].id, &entries[i].version);
                else
                    (void)engine_drop(engine, &entries[i].id, &entries[i].version);
            }
        } while (cursor != 0);
    }
    dma_put(host.arena, buffer);
}

static inline void host_open(void *arg)
{
    (void)arg;
    const struct engine_config config = {0};
    struct engine *engine;
    struct engine_report report;
    if (engine_open(host.dev, host.arena, &config, &engine, &report) == 0) {
        host_look_around(engine);
        engine_close(engine, true);
    }
}

static inline void host_check(void *arg)
{
    struct engine_fsck_result result;
    FILE *out = arg;
    (void)engine_fsck(host.dev, host.arena, true, out, &result);
    (void)engine_inspect(host.dev, host.arena, out);
}

/* Opens, and checks, what the target has put on the device; then all is as it was. */
static inline void host_try(void)
{
    static FILE *nowhere;
    if (nowhere == NULL)
        nowhere = fopen("/dev/null", "w");
    host_run(host_open, NULL);
    host_run(host_check, nowhere);
    host_run(host_open, NULL);
    dev_sim_store_restore(host.store);
}

#endif
