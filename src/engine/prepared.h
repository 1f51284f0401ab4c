/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prepared pieces: durable, or on their way, and not committed yet. There are few of them at any
 * time, so they are kept whole, in a pool of bounded size, found by id and by partition.
 */
#ifndef ENGINE_PREPARED_H
#define ENGINE_PREPARED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/blob.h"
#include "base/list.h"
#include "base/macros.h"
#include "base/pool.h"
#include "base/table.h"
#include "engine/extent.h"

struct prepared {
    struct blob_id id; /* first: the table's key */
    struct blob_version version;
    enum blob_kind kind;
    enum blob_form form;
    uint8_t position;
    uint16_t depends;
    bool hollow, shared;
    bool torn; /* hollow since a crash: see struct engine_entry */
    bool writing; /* not durable yet: nobody may see it */
    uint32_t shard_len;
    struct extent_place place;
    uint32_t expires_s;
    struct blob_request_id request;
    uint64_t write_id; /* which write brought it, while writing */
    struct list_node in_partition;
    struct list_node in_all;
};

struct prepared_set {
    struct pool *pool;
    struct table *table;
    struct list all;
    struct list *partitions; /* hashed by partition into a fixed number of lists */
    uint32_t list_mask;
    uint32_t max;
};

int prepared_init(struct prepared_set *set, uint32_t max, uint64_t seed) NODISCARD;
void prepared_free(struct prepared_set *set);

struct prepared *prepared_find(const struct prepared_set *set, const struct blob_id *id);

/* prepared_add() - A zeroed one under @id, which has none. NULL: there is no room. */
struct prepared *prepared_add(struct prepared_set *set, const struct blob_id *id,
                              uint32_t partition) NODISCARD;
void prepared_remove(struct prepared_set *set, struct prepared *prepared);
uint32_t prepared_count(const struct prepared_set *set);

/* The list in which all prepared pieces of this partition are, among others. */
struct list *prepared_list(const struct prepared_set *set, uint32_t partition);

#endif
