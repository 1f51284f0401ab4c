/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated drive's medium and cache: what sim.c needs of a store beyond dev.h. Private to
 * dev/.
 */
#ifndef SHOAL_DEV_SIM_STORE_H
#define SHOAL_DEV_SIM_STORE_H

#include "base/bitmap.h"
#include "base/list.h"
#include "dev/dev.h"

/* A write that reads see and a loss of power may undo. */
struct dev_sim_unsynced {
    struct list_node node;
    uint64_t sequence; /* of completion */
    uint64_t offset_bytes;
    size_t len;
    uint8_t bytes[];
};

struct dev_sim_store {
    uint64_t size_bytes;
    uint8_t *current; /* what reads see */
    uint8_t *durable; /* what a loss of power leaves; the same memory until a cache is used */
    struct list unsynced;
    uint64_t next_sequence;
    uint32_t sector_bytes;
    bool open;

    uint8_t *snapshot;
    struct bitmap dirty; /* blocks that differ from the snapshot */
};

/* With a cache, completed writes are unsynced from now on. 0 or SHOAL_E_NO_MEMORY. */
int sim_store_use_cache(struct dev_sim_store *store);
void sim_store_drop_cache(struct dev_sim_store *store); /* what is unsynced becomes durable */

/* Into the medium, past the cache. */
void sim_store_put(struct dev_sim_store *store, uint64_t offset_bytes, const void *from,
                   size_t len);

/* A completed write: seen by reads; durable at once only where there is no cache. */
void sim_store_write_cached(struct dev_sim_store *store, uint64_t offset_bytes, const void *from,
                            size_t len);

/* A completed flush that was submitted when next_sequence was @before. */
void sim_store_sync(struct dev_sim_store *store, uint64_t before);

/* Which sectors of an interrupted write arrived: calls @keep for each run of them. */
void sim_store_tear(struct dev_sim_store *store, struct prng *prng, size_t len,
                    void (*keep)(void *arg, size_t from, size_t to), void *arg);

#endif
