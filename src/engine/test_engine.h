/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of an engine share: a simulated drive, a reactor on virtual time, an arena, and
 * ways to run a test's body as a fiber and to store, check and reopen in one line.
 */
#ifndef ENGINE_TEST_ENGINE_H
#define ENGINE_TEST_ENGINE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "base/random.h"
#include "core/dma.h"
#include "core/test_reactor.h"
#include "engine/internal.h"
#include "shoal/error.h"

struct test_device {
    struct test_clock clock;
    struct reactor *reactor;
    struct fiber_pool *fibers;
    struct dma_arena *arena;
    struct dev_sim_store *store;
    struct dev_sim_config sim;
    struct dev *dev;
    struct engine *engine;
    struct engine_config config;
    struct engine_report report;
    uint8_t *payload; /* 16 MiB of DMA memory */
    uint8_t *buffer;  /* to read into */
    void (*body)(struct test_device *t);
};

#define TEST_POOL 7u

static inline void test_open_dev(struct test_device *t)
{
    assert_int_equal(dev_sim_open(t->reactor, t->store, &t->sim, &t->dev), 0);
}

/* A device of @bytes, not formatted. */
static inline struct test_device *test_create(uint64_t bytes)
{
    struct test_device *t = calloc(1, sizeof *t);
    t->reactor = test_reactor_virtual(&t->clock, 1);
    assert_int_equal(fiber_pool_create(t->reactor, "test", 64, 256 << 10, &t->fibers), 0);
    const struct dma_class classes[] = {
        {4096, 64}, {8192, 8}, {65536, 2}, {262144, 4}, {(16 << 20) + 65536, 2}};
    assert_int_equal(dma_arena_create(t->reactor, classes, ARRAY_LEN(classes), &t->arena), 0);
    t->payload = dma_get(t->arena, 16 << 20);
    t->buffer = dma_get(t->arena, 16 << 20);
    assert_int_equal(dev_sim_store_create(bytes, &t->store), 0);
    t->sim = (struct dev_sim_config){.name = "test", .seed = 1, .volatile_cache = true};
    test_open_dev(t);
    return t;
}

static inline void test_fiber(void *arg)
{
    struct test_device *t = arg;
    t->body(t);
}

static inline void test_run(struct test_device *t, void (*body)(struct test_device *t))
{
    t->body = body;
    assert_int_equal(fiber_spawn(t->fibers, test_fiber, t), 0);
    for (uint64_t turns = 0; fiber_pool_in_use(t->fibers) > 0; turns++) {
        while (reactor_poll_once(t->reactor) > 0)
            ;
        uint64_t next_ns = reactor_next_timer_ns(t->reactor);
        if (fiber_pool_in_use(t->fibers) == 0)
            break;
        CHECK_MSG(next_ns != UINT64_MAX, "the test hangs: fibers wait, and nothing will happen");
        t->clock.now_ns = MAX(t->clock.now_ns, next_ns);
    }
}

static inline void test_destroy(struct test_device *t)
{
    dev_close(t->dev);
    dev_sim_store_destroy(t->store);
    dma_put(t->arena, t->payload);
    dma_put(t->arena, t->buffer);
    dma_arena_destroy(t->arena);
    fiber_pool_destroy(t->fibers);
    reactor_destroy(t->reactor);
    free(t);
}

static inline void test_on(uint64_t bytes, void (*body)(struct test_device *t))
{
    struct test_device *t = test_create(bytes);
    test_run(t, body);
    test_destroy(t);
}

/* ---- inside a test's fiber ---- */

static inline void test_format(struct test_device *t, unsigned partition_bits)
{
    struct engine_format_config config = {
        .cluster = {1, 2, 3}, .target = 42, .partition_bits = partition_bits};
    assert_int_equal(engine_format(t->dev, t->arena, &config), 0);
}

static inline int test_try_open(struct test_device *t)
{
    return engine_open(t->dev, t->arena, &t->config, &t->engine, &t->report);
}

static inline void test_open(struct test_device *t)
{
    int rc = test_try_open(t);
    if (rc != 0)
        print_message("open: %s: %s\n", shoal_error_name(rc), t->report.problem);
    assert_int_equal(rc, 0);
}

static inline void test_start(struct test_device *t, unsigned partition_bits)
{
    test_format(t, partition_bits);
    test_open(t);
}

static inline void test_reopen(struct test_device *t, bool fast)
{
    engine_close(t->engine, fast);
    t->engine = NULL;
    test_open(t);
}

/*
 * The machine loses power (or, with @power false, only the process dies); what is left of the
 * engine is thrown away, and the device opened again.
 */
static inline void test_crash(struct test_device *t, bool power)
{
    if (power)
        dev_sim_crash(t->dev, reactor_prng(t->reactor));
    else
        dev_sim_kill(t->dev, reactor_prng(t->reactor));
    engine_close(t->engine, true);
    t->engine = NULL;
    dev_close(t->dev);
    test_open_dev(t);
}

static inline struct blob_id test_id(uint64_t n)
{
    struct blob_id id = {.pool = TEST_POOL};
    struct prng prng;
    prng_seed(&prng, n + 1);
    prng_bytes(&prng, id.key.bytes, sizeof id.key.bytes);
    return id;
}

static inline struct blob_version test_version(uint64_t n)
{
    return (struct blob_version){.epoch = 1 + n / 1000, .incarnation = 5, .counter = n};
}

static inline struct blob_desc test_desc(uint64_t n, uint64_t version, uint32_t len)
{
    return (struct blob_desc){
        .id = test_id(n),
        .version = test_version(version),
        .kind = BLOB_HEAD,
        .form = BLOB_BYTES,
        .k = 1,
        .m = 2,
        .depends = 7,
        .stripe_len = len,
        .shard_len = len,
        .blob_len = len,
        .stripe_size = 4 << 20,
        .stripe_count = 1,
        .request = {n, version},
        .created_s = 1000,
    };
}

/* The bytes of version @version of object @n. */
static inline void test_fill(uint8_t *at, uint64_t n, uint64_t version, uint32_t len)
{
    struct prng prng;
    prng_seed(&prng, n * 1000003 + version);
    prng_bytes(&prng, at, len);
}

static inline int test_prepare_desc(struct test_device *t, const struct blob_desc *desc, uint64_t n,
                                    uint64_t version)
{
    test_fill(t->payload, n, version, desc->shard_len);
    struct iovec payload = {t->payload, desc->shard_len};
    return engine_prepare(t->engine, desc, &payload, desc->form == BLOB_BYTES ? 1 : 0, NULL);
}

static inline int test_prepare(struct test_device *t, uint64_t n, uint64_t version, uint32_t len)
{
    struct blob_desc desc = test_desc(n, version, len);
    return test_prepare_desc(t, &desc, n, version);
}

static inline int test_commit(struct test_device *t, uint64_t n, uint64_t version)
{
    struct blob_id id = test_id(n);
    struct blob_version v = test_version(version);
    return engine_commit(t->engine, &id, &v);
}

static inline void test_put(struct test_device *t, uint64_t n, uint64_t version, uint32_t len)
{
    assert_int_equal(test_prepare(t, n, version, len), 0);
    assert_int_equal(test_commit(t, n, version), 0);
}

static inline int test_read(struct test_device *t, uint64_t n, uint64_t version, uint32_t offset,
                            uint32_t len, const uint8_t **data)
{
    struct blob_id id = test_id(n);
    struct blob_version v = test_version(version);
    return engine_read(t->engine, &id, &v, offset, len, t->buffer, data, NULL, NULL);
}

/* The whole piece reads back as it was written. */
static inline void test_verify(struct test_device *t, uint64_t n, uint64_t version, uint32_t len)
{
    const uint8_t *data;
    assert_int_equal(test_read(t, n, version, 0, len, &data), 0);
    test_fill(t->payload, n, version, len);
    assert_memory_equal(data, t->payload, len);
}

static inline bool test_committed(struct test_device *t, uint64_t n, uint64_t version)
{
    struct blob_id id = test_id(n);
    struct blob_version v = test_version(version);
    struct engine_entry entry;
    return engine_find(t->engine, &id, &entry, NULL) == 0 &&
           blob_version_compare(&entry.version, &v) == 0;
}

static inline bool test_prepared(struct test_device *t, uint64_t n, uint64_t version)
{
    struct blob_id id = test_id(n);
    struct blob_version v = test_version(version);
    struct engine_entry entry;
    return engine_find(t->engine, &id, NULL, &entry) == 0 &&
           blob_version_compare(&entry.version, &v) == 0;
}

#endif
