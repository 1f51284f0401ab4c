/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the crash tests and the model tests of the engine share: a reactor on virtual time, a
 * simulated drive, and objects whose bytes are made from their number and version, so that any byte
 * that comes back can be judged.
 */
#ifndef SHOAL_TESTS_ENGINE_FIXTURE_H
#define SHOAL_TESTS_ENGINE_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/blob.h"
#include "base/random.h"
#include "core/dma.h"
#include "core/fiber.h"
#include "core/reactor.h"
#include "core/test_reactor.h"
#include "dev/dev.h"
#include "engine/engine.h"

#define FIXTURE_BUFFER_BYTES (128u << 10) /* the largest piece that the fixture writes or reads */
#define FIXTURE_POOL 1u

struct fixture {
    struct reactor *reactor;
    struct test_clock clock;
    struct fiber_pool *fibers;
    struct dma_arena *arena;
    struct dev_sim_store *store;
    struct prng prng;
    bool volatile_cache;
};

/* One piece of an object, as a model keeps it; version 0: there is none. */
struct piece {
    uint64_t version;
    enum blob_form form;
    uint32_t len;
    bool hollow; /* known to be damaged on the drive */
};

#define FIXTURE_FIBERS 24u

void fixture_create(struct fixture *fixture, uint64_t device_bytes, uint64_t seed);
void fixture_destroy(struct fixture *fixture);

/* Run @function as a fiber, moving virtual time, until no fiber is left. */
void fixture_run(struct fixture *fixture, void (*function)(void *arg), void *arg);

/* The drive; @noisy: operations take random times and complete out of order. */
struct dev *fixture_open_drive(struct fixture *fixture, bool noisy);

/* [fiber] */
void fixture_format(struct fixture *fixture, unsigned partition_bits);

struct blob_id fixture_id(unsigned object);
struct blob_version fixture_version(uint64_t number);

/* The bytes of an object at a version. */
void fixture_fill(uint8_t *bytes, uint32_t len, unsigned object, uint64_t version);

/* [fiber] Fill a buffer, describe the piece, and store it. Return: as engine_prepare(), or BUSY. */
int fixture_prepare(struct fixture *fixture, struct engine *engine, unsigned object,
                    const struct piece *piece);
int fixture_repair(struct fixture *fixture, struct engine *engine, unsigned object,
                   const struct piece *piece);

/* Is this what the engine says? Hollow or not does not matter. */
bool fixture_same(const struct piece *piece, const struct engine_entry *entry);

/*
 * fixture_read() - [fiber] Read bytes [@offset, @offset+@len) of a piece and compare.
 * Return: what engine_read() returned; *@invented is true when it returned bytes that are not
 * those.
 */
int fixture_read(struct fixture *fixture, struct engine *engine, unsigned object,
                 const struct piece *piece, uint32_t offset, uint32_t len, bool *invented);

#endif
