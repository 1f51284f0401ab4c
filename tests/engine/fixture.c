/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include <string.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/macros.h"
#include "shoal/error.h"

void fixture_create(struct fixture *fixture, uint64_t device_bytes, uint64_t seed)
{
    static const struct dma_class classes[] = {
        {4096, 32}, {FIXTURE_BUFFER_BYTES, 2 * FIXTURE_FIBERS + 2}, {256u << 10, ENGINE_DMA_LARGE}};

    memset(fixture, 0, sizeof *fixture);
    prng_seed(&fixture->prng, seed);
    fixture->volatile_cache = true;
    fixture->reactor = test_reactor_virtual(&fixture->clock, seed + 1);
    CHECK(fiber_pool_create(fixture->reactor, "fixture", FIXTURE_FIBERS, 256u << 10,
                            &fixture->fibers) == 0);
    CHECK(dma_arena_create(fixture->reactor, classes, ARRAY_LEN(classes), &fixture->arena) == 0);
    CHECK(dev_sim_store_create(device_bytes, &fixture->store) == 0);
}

void fixture_destroy(struct fixture *fixture)
{
    dev_sim_store_destroy(fixture->store);
    dma_arena_destroy(fixture->arena);
    fiber_pool_destroy(fixture->fibers);
    reactor_destroy(fixture->reactor);
}

void fixture_run(struct fixture *fixture, void (*function)(void *arg), void *arg)
{
    CHECK(fiber_spawn(fixture->fibers, function, arg) == 0);
    while (fiber_pool_in_use(fixture->fibers) > 0) {
        if (reactor_poll_once(fixture->reactor) > 0)
            continue;
        uint64_t next_ns = reactor_next_timer_ns(fixture->reactor);
        CHECK_MSG(next_ns != UINT64_MAX, "a fiber waits for nothing");
        fixture->clock.now_ns = MAX(next_ns, fixture->clock.now_ns + 1);
    }
}

struct dev *fixture_open_drive(struct fixture *fixture, bool noisy)
{
    struct dev *dev;
    const struct dev_sim_config config = {
        .name = "drive",
        .seed = prng_next(&fixture->prng) | 1,
        .volatile_cache = fixture->volatile_cache,
        .latency_min_ns = noisy ? 1000 : 0,
        .latency_max_ns = noisy ? 200000 : 0,
    };
    CHECK(dev_sim_open(fixture->reactor, fixture->store, &config, &dev) == 0);
    return dev;
}

void fixture_format(struct fixture *fixture, unsigned partition_bits)
{
    struct dev *dev = fixture_open_drive(fixture, false);
    const struct engine_format_config config = {
        .target = 1, .partition_bits = partition_bits, .force = true};

    int error = engine_format(dev, fixture->arena, &config);
    CHECK_MSG(error == 0, "format: %s", shoal_error_name(error));
    dev_close(dev);
}

struct blob_id fixture_id(unsigned object)
{
    struct blob_id id = {.pool = FIXTURE_POOL};

    for (unsigned i = 0; i < sizeof id.key.bytes; i++)
        id.key.bytes[i] = (uint8_t)((object + 1) >> 8 * (i % 4));
    return id;
}

struct blob_version fixture_version(uint64_t number)
{
    return (struct blob_version){.epoch = 1 + number / 8, .incarnation = 1, .counter = number};
}

void fixture_fill(uint8_t *bytes, uint32_t len, unsigned object, uint64_t version)
{
    struct prng prng;

    prng_seed(&prng, (version << 20) + object);
    prng_bytes(&prng, bytes, len);
}

static struct blob_desc describe(unsigned object, const struct piece *piece, const uint8_t *bytes)
{
    return (struct blob_desc){
        .id = fixture_id(object),
        .version = fixture_version(piece->version),
        .kind = BLOB_HEAD,
        .form = piece->form,
        .k = 1,
        .m = 2,
        .depends = 7,
        .stripe_len = piece->len,
        .stripe_crc = crc32c(0, bytes, piece->len),
        .shard_len = piece->len,
        .blob_len = piece->len,
        .stripe_size = 4u << 20,
        .stripe_count = 1,
        .request = {.hi = 1, .lo = piece->version},
        .created_s = 1700000000u,
    };
}

static int store(struct fixture *fixture, struct engine *engine, unsigned object,
                 const struct piece *piece, bool repair)
{
    uint8_t *bytes = dma_get(fixture->arena, FIXTURE_BUFFER_BYTES);

    if (bytes == NULL)
        return SHOAL_E_BUSY;
    CHECK(piece->len <= FIXTURE_BUFFER_BYTES);
    fixture_fill(bytes, piece->len, object, piece->version);
    memset(bytes + piece->len, 0, round_up_u64(piece->len, DEV_BLOCK_BYTES) - piece->len);
    struct blob_desc desc = describe(object, piece, bytes);
    struct iovec iov = {bytes, piece->len};
    int error =
        (repair ? engine_repair : engine_prepare)(engine, &desc, &iov, piece->len > 0, NULL);
    dma_put(fixture->arena, bytes);
    return error;
}

int fixture_prepare(struct fixture *fixture, struct engine *engine, unsigned object,
                    const struct piece *piece)
{
    return store(fixture, engine, object, piece, false);
}

int fixture_repair(struct fixture *fixture, struct engine *engine, unsigned object,
                   const struct piece *piece)
{
    return store(fixture, engine, object, piece, true);
}

bool fixture_same(const struct piece *piece, const struct engine_entry *entry)
{
    const struct blob_version version = fixture_version(piece->version);

    if (piece->version == 0)
        return blob_version_is_none(&entry->version);
    return blob_version_compare(&version, &entry->version) == 0 && entry->form == piece->form &&
           entry->shard_len == piece->len;
}

int fixture_read(struct fixture *fixture, struct engine *engine, unsigned object,
                 const struct piece *piece, uint32_t offset, uint32_t len, bool *invented)
{
    const struct blob_id id = fixture_id(object);
    const struct blob_version version = fixture_version(piece->version);
    const uint8_t *data = NULL;

    *invented = false;
    uint8_t *buffer = dma_get(fixture->arena, engine_read_room(len));
    uint8_t *expected = dma_get(fixture->arena, FIXTURE_BUFFER_BYTES);
    int error = SHOAL_E_BUSY;
    if (buffer != NULL && expected != NULL)
        error = engine_read(engine, &id, &version, offset, len, buffer, &data, NULL, NULL);
    if (error == 0) {
        fixture_fill(expected, piece->len, object, piece->version);
        *invented = memcmp(data, expected + offset, len) != 0;
    }
    if (expected != NULL)
        dma_put(fixture->arena, expected);
    if (buffer != NULL)
        dma_put(fixture->arena, buffer);
    return error;
}
