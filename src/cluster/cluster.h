/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cluster map and who may change it.
 *
 * The map says which nodes, targets and pools there are and in what state; each change gives it the
 * next epoch. From the map alone everybody computes where an object lives (place/place.h). Nodes
 * and clients keep the newest one they have seen and pass it on. The *authority* is the door
 * through which changes are agreed: the supervisor of `shoal up` here, etcd later.
 */
#ifndef SHOAL_CLUSTER_CLUSTER_H
#define SHOAL_CLUSTER_CLUSTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/blob.h"
#include "place/place.h"
#include "wire/wire.h"

#define CLUSTER_NODES_MAX 1024u
#define CLUSTER_TARGETS_MAX 32768u
#define CLUSTER_POOLS_MAX 64u
#define CLUSTER_NAME_MAX 64u
#define CLUSTER_POOL_USERS_MAX 16u

/* Ordered: a higher state may do everything that a lower one may. */
enum target_state {
    TARGET_OUT = 0,     /* given up; placement ignores it */
    TARGET_DOWN = 1,    /* does not answer; its place is kept */
    TARGET_LEARNER = 2, /* takes every write, is never read from, testifies to nothing */
    TARGET_CLEAN = 3,
};

struct map_node {
    char name[CLUSTER_NAME_MAX];
    char data[64];        /* address on the data plane, "host:port" */
    char replication[64]; /* between nodes */
    char management[64];  /* metrics, administration */
    uint32_t domain;      /* failure domain */
    uint32_t incarnation; /* of the process that serves; 0: none yet */
    bool up;
};

struct map_target {
    uint32_t id;
    uint32_t node; /* index into nodes */
    uint32_t weight;
    enum target_state state;
};

struct map_pool {
    uint32_t id; /* never reused */
    char name[CLUSTER_NAME_MAX];
    bool erasure;  /* ec k+m, else 1+m copies */
    uint8_t k, m;  /* copies n: k = 1, m = n-1 */
    bool cache;    /* may evict, acknowledges as `durable` does unless ack_memory */
    bool ack_memory;
    uint32_t ttl_s;       /* of a cache; 0: none */
    uint64_t quota_bytes; /* 0: none */
    uint32_t stripe_size;
    uint32_t copies_below; /* stripes up to this length are kept as m+1 copies */
    uint8_t users_count;   /* 0: every client certificate of the cluster */
    char users[CLUSTER_POOL_USERS_MAX][CLUSTER_NAME_MAX];
};

/*
 * struct cluster_map - One epoch. Immutable once it is in use; freed by its owner.
 * @table: made by cluster_map_place() when the map is adopted; same map, same table everywhere
 */
struct cluster_map {
    uint8_t cluster[16];
    uint64_t epoch;
    unsigned partition_bits;
    uint32_t nodes_count, targets_count, pools_count;
    uint32_t next_incarnation, next_pool;
    struct map_node *nodes;
    struct map_target *targets;
    struct map_pool *pools;
    struct place_table *table;
};

struct cluster_map *cluster_map_create(void);
struct cluster_map *cluster_map_copy(const struct cluster_map *map); /* without the table */
void cluster_map_free(struct cluster_map *map);

/* Room that cluster_map_encode() needs. */
size_t cluster_map_encoded_size(const struct cluster_map *map);
/* Self-checking: magic, format, CRC32C. Return: length, or 0 when @size is too small. */
size_t cluster_map_encode(const struct cluster_map *map, void *buffer, size_t size);
/* Return: 0, SHOAL_E_INVALID, CORRUPT, FORMAT (newer) or NO_MEMORY. Bounds and references checked. */
int cluster_map_decode(const void *buffer, size_t size, struct cluster_map **out);

/* Compute the table. Return: 0 or SHOAL_E_NO_MEMORY. */
int cluster_map_place(struct cluster_map *map);

const struct map_pool *cluster_map_pool(const struct cluster_map *map, uint32_t id);
const struct map_pool *cluster_map_pool_named(const struct cluster_map *map, const char *name);
const struct map_target *cluster_map_target(const struct cluster_map *map, uint32_t id);

/* k + m: how many positions the pool's target sets have. */
unsigned map_pool_width(const struct map_pool *pool);

/*
 * struct target_set - Where an object lives, in order of position.
 * @primary: position of the first clean target, or -1
 */
struct target_set {
    unsigned width;
    int primary;
    unsigned clean_count;
    const struct map_target *targets[BLOB_SET_MAX];
};

void cluster_map_set(const struct cluster_map *map, const struct map_pool *pool,
                     const struct blob_id *id, struct target_set *set);
void cluster_map_partition_set(const struct cluster_map *map, const struct map_pool *pool,
                               uint32_t partition, struct target_set *set);

/*
 * Changes, pure: each takes a map that is not in use yet (a copy) and makes it the next epoch.
 * What the authority may do is exactly these.
 */
int map_change_node_up(struct cluster_map *map, const char *node, uint32_t *incarnation,
                       const struct wire_item_enroll_target *targets, unsigned count);
int map_change_node_down(struct cluster_map *map, const char *node);
int map_change_target_clean(struct cluster_map *map, uint32_t target, uint32_t incarnation,
                            uint64_t caught_up_epoch);
int map_change_target_replaced(struct cluster_map *map, uint32_t target);
int map_change_pool_create(struct cluster_map *map, const struct map_pool *pool);
int map_change_pool_remove(struct cluster_map *map, const char *name);
int map_change_pool_set(struct cluster_map *map, const struct map_pool *pool);

#endif
