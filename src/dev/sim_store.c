/* SPDX-License-Identifier: Apache-2.0 */
#include "dev/sim_store.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/check.h"
#include "base/macros.h"
#include "base/random.h"
#include "shoal/error.h"

/* Zero pages that the kernel supplies as they are touched: a large empty drive costs nothing. */
static uint8_t *map_image(uint64_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

int dev_sim_store_create(uint64_t size_bytes, struct dev_sim_store **out)
{
    if (size_bytes == 0 || size_bytes % DEV_BLOCK_BYTES != 0)
        return SHOAL_E_INVALID;
    struct dev_sim_store *store = calloc(1, sizeof(*store));
    if (store == NULL)
        return SHOAL_E_NO_MEMORY;
    store->size_bytes = size_bytes;
    store->sector_bytes = 512;
    list_init(&store->unsynced);
    store->current = map_image(size_bytes);
    if (store->current == NULL) {
        free(store);
        return SHOAL_E_NO_MEMORY;
    }
    store->durable = store->current;
    *out = store;
    return 0;
}

static void forget_unsynced(struct dev_sim_store *store)
{
    struct list_node *node;
    while ((node = list_pop_front(&store->unsynced)) != NULL)
        free(list_entry(node, struct dev_sim_unsynced, node));
}

void dev_sim_store_destroy(struct dev_sim_store *store)
{
    if (store == NULL)
        return;
    CHECK(!store->open);
    forget_unsynced(store);
    if (store->durable != store->current)
        munmap(store->durable, store->size_bytes);
    munmap(store->current, store->size_bytes);
    if (store->snapshot != NULL) {
        munmap(store->snapshot, store->size_bytes);
        bitmap_free(&store->dirty);
    }
    free(store);
}

uint64_t dev_sim_store_size(const struct dev_sim_store *store)
{
    return store->size_bytes;
}

unsigned dev_sim_store_unsynced(const struct dev_sim_store *store)
{
    return (unsigned)list_count(&store->unsynced);
}

/* Copying only what is not zero leaves the pages of an empty image untouched. */
static void copy_image(uint8_t *to, const uint8_t *from, uint64_t bytes)
{
    static const uint8_t zeros[DEV_BLOCK_BYTES];

    for (uint64_t at = 0; at < bytes; at += DEV_BLOCK_BYTES)
        if (memcmp(from + at, zeros, DEV_BLOCK_BYTES) != 0)
            memcpy(to + at, from + at, DEV_BLOCK_BYTES);
}

int sim_store_use_cache(struct dev_sim_store *store)
{
    if (store->durable != store->current)
        return 0;
    uint8_t *image = map_image(store->size_bytes);
    if (image == NULL)
        return SHOAL_E_NO_MEMORY;
    copy_image(image, store->current, store->size_bytes);
    store->durable = image;
    return 0;
}

void sim_store_drop_cache(struct dev_sim_store *store)
{
    if (store->durable == store->current)
        return;
    forget_unsynced(store);
    munmap(store->durable, store->size_bytes);
    store->durable = store->current;
}

/* ---- writing ---- */

static void check_range(const struct dev_sim_store *store, uint64_t offset_bytes, size_t len)
{
    CHECK(offset_bytes <= store->size_bytes && len <= store->size_bytes - offset_bytes);
}

static void mark_dirty(struct dev_sim_store *store, uint64_t offset_bytes, size_t len)
{
    if (store->snapshot == NULL || len == 0)
        return;
    uint64_t first = offset_bytes / DEV_BLOCK_BYTES;
    uint64_t last = (offset_bytes + len - 1) / DEV_BLOCK_BYTES;
    bitmap_set_range(&store->dirty, first, last - first + 1);
}

void sim_store_put(struct dev_sim_store *store, uint64_t offset_bytes, const void *from,
                   size_t len)
{
    check_range(store, offset_bytes, len);
    mark_dirty(store, offset_bytes, len);
    memcpy(store->current + offset_bytes, from, len);
    if (store->durable != store->current)
        memcpy(store->durable + offset_bytes, from, len);
}

void sim_store_write_cached(struct dev_sim_store *store, uint64_t offset_bytes, const void *from,
                            size_t len)
{
    check_range(store, offset_bytes, len);
    mark_dirty(store, offset_bytes, len);
    memcpy(store->current + offset_bytes, from, len);
    if (store->durable == store->current)
        return;
    struct dev_sim_unsynced *write = malloc(sizeof(*write) + len);
    CHECK_MSG(write != NULL, "the simulated cache is out of memory");
    write->sequence = store->next_sequence++;
    write->offset_bytes = offset_bytes;
    write->len = len;
    memcpy(write->bytes, from, len);
    list_push_back(&store->unsynced, &write->node);
}

void sim_store_sync(struct dev_sim_store *store, uint64_t before)
{
    struct list_node *node;

    while ((node = list_first(&store->unsynced)) != NULL) {
        struct dev_sim_unsynced *write = list_entry(node, struct dev_sim_unsynced, node);
        if (write->sequence >= before)
            break;
        memcpy(store->durable + write->offset_bytes, write->bytes, write->len);
        list_remove(node);
        free(write);
    }
}

/* ---- losing power ---- */

void sim_store_tear(struct dev_sim_store *store, struct prng *prng, size_t len,
                    void (*keep)(void *arg, size_t from, size_t to), void *arg)
{
    size_t sector = store->sector_bytes;
    size_t sectors = len / sector;

    switch (prng_below(prng, 3)) {
    case 0: /* a head */
        keep(arg, 0, prng_below(prng, sectors + 1) * sector);
        break;
    case 1: /* a tail */
        keep(arg, prng_below(prng, sectors + 1) * sector, len);
        break;
    default:
        for (size_t i = 0; i < sectors; i++)
            if (prng_chance(prng, 1, 2))
                keep(arg, i * sector, (i + 1) * sector);
        break;
    }
}

struct kept_write {
    struct dev_sim_store *store;
    const struct dev_sim_unsynced *write;
};

static void keep_part(void *arg, size_t from, size_t to)
{
    const struct kept_write *kept = arg;
    memcpy(kept->store->durable + kept->write->offset_bytes + from, kept->write->bytes + from,
           to - from);
}

/*
 * The odds are drawn once for a crash and not for each write, so that the extremes (all kept, all
 * lost, all torn), which many independent draws would never reach, come up often.
 */
void dev_sim_store_lose_power(struct dev_sim_store *store, struct prng *prng)
{
    static const unsigned keep_percents[] = {0, 10, 50, 90, 100};
    static const unsigned tear_percents[] = {0, 0, 20, 100};
    unsigned keep_percent = keep_percents[prng_below(prng, ARRAY_LEN(keep_percents))];
    unsigned tear_percent = tear_percents[prng_below(prng, ARRAY_LEN(tear_percents))];

    /* In order of completion: two writes to one block reach the medium in the order they ended. */
    list_for_each(&store->unsynced, struct dev_sim_unsynced, node, write) {
        struct kept_write kept = {.store = store, .write = write};
        if (prng_chance(prng, keep_percent, 100))
            keep_part(&kept, 0, write->len);
        else if (prng_chance(prng, tear_percent, 100))
            sim_store_tear(store, prng, write->len, keep_part, &kept);
    }
    /* Reads now see what is left. */
    list_for_each(&store->unsynced, struct dev_sim_unsynced, node, lost) {
        memcpy(store->current + lost->offset_bytes, store->durable + lost->offset_bytes,
               lost->len);
    }
    forget_unsynced(store);
}

/* ---- for tests ---- */

void dev_sim_store_read(const struct dev_sim_store *store, uint64_t offset_bytes, void *to,
                        size_t len)
{
    check_range(store, offset_bytes, len);
    memcpy(to, store->current + offset_bytes, len);
}

void dev_sim_store_write(struct dev_sim_store *store, uint64_t offset_bytes, const void *from,
                         size_t len)
{
    sim_store_put(store, offset_bytes, from, len);
}

void dev_sim_store_flip_bit(struct dev_sim_store *store, uint64_t offset_bytes, unsigned bit)
{
    check_range(store, offset_bytes, 1);
    CHECK(bit < 8);
    uint8_t byte = store->current[offset_bytes] ^ (uint8_t)(1u << bit);
    sim_store_put(store, offset_bytes, &byte, 1);
}

int dev_sim_store_snapshot(struct dev_sim_store *store)
{
    CHECK(!store->open);
    sim_store_sync(store, UINT64_MAX);
    if (store->snapshot == NULL) {
        uint8_t *snapshot = map_image(store->size_bytes);
        if (snapshot == NULL)
            return SHOAL_E_NO_MEMORY;
        if (bitmap_alloc(&store->dirty, store->size_bytes / DEV_BLOCK_BYTES) != 0) {
            munmap(snapshot, store->size_bytes);
            return SHOAL_E_NO_MEMORY;
        }
        copy_image(snapshot, store->current, store->size_bytes);
        store->snapshot = snapshot;
        return 0;
    }
    for (uint64_t block = bitmap_find_set(&store->dirty, 0); block != BITMAP_NONE;
         block = bitmap_find_set(&store->dirty, block + 1)) {
        uint64_t at = block * DEV_BLOCK_BYTES;
        memcpy(store->snapshot + at, store->current + at, DEV_BLOCK_BYTES);
        bitmap_clear(&store->dirty, block);
    }
    return 0;
}

void dev_sim_store_restore(struct dev_sim_store *store)
{
    CHECK(!store->open && store->snapshot != NULL);
    forget_unsynced(store);
    for (uint64_t block = bitmap_find_set(&store->dirty, 0); block != BITMAP_NONE;
         block = bitmap_find_set(&store->dirty, block + 1)) {
        uint64_t at = block * DEV_BLOCK_BYTES;
        memcpy(store->current + at, store->snapshot + at, DEV_BLOCK_BYTES);
        if (store->durable != store->current)
            memcpy(store->durable + at, store->snapshot + at, DEV_BLOCK_BYTES);
        bitmap_clear(&store->dirty, block);
    }
}
