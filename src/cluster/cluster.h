/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cluster map and who may change it.
 *
 * The map says which nodes, targets and pools there are and in what state; each change gives it the
 * next epoch. From the map alone everybody computes where an object lives (place/place.h). Nodes
 * and clients keep the newest one they have seen and pass it on. The *authority* is who agrees to
 * changes: the supervisor of `shoal up`, or the node that etcd's members have elected. Nodes reach it
 * through struct authority_door. docs/protocol.md, section 2, has the rules (R1 to R6).
 */
#ifndef SHOAL_CLUSTER_CLUSTER_H
#define SHOAL_CLUSTER_CLUSTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/blob.h"
#include "place/place.h"
#include "wire/wire.h"

struct map_hashed;
struct metrics;
struct net;
struct net_service;
struct reactor;

#define CLUSTER_NODES_MAX 1024u
#define CLUSTER_TARGETS_MAX 32768u
#define CLUSTER_POOLS_MAX 64u
#define CLUSTER_NAME_MAX 64u
#define CLUSTER_ADDRESS_MAX 64u
#define CLUSTER_POOL_USERS_MAX 16u
#define CLUSTER_OUT_MS 600000u  /* unless said otherwise */
#define CLUSTER_LEASE_MS 3000u  /* where deaths are not seen */
#define CLUSTER_LEASE_MS_MAX 60000u

/* The states of a target; its number is on the wire and on disk. */
enum target_state {
    TARGET_OUT = 0,     /* down for too long: what it held is rebuilt elsewhere (R42) */
    TARGET_DOWN = 1,    /* writes go on without it; it returns as learner */
    TARGET_LEARNER = 2, /* takes every write, is never read from, testifies to nothing */
    TARGET_CLEAN = 3,   /* also while it is absent (R4): then its slots wait for it */
};

/*
 * struct map_node
 * @draining: nothing is placed on it, so what it has moves off (R41)
 * @removed: it is no more; its place in the list stays, for indexes into it are kept everywhere
 */
struct map_node {
    char name[CLUSTER_NAME_MAX];
    char data[CLUSTER_ADDRESS_MAX];        /* address on the data plane, "host:port" */
    char replication[CLUSTER_ADDRESS_MAX]; /* between nodes */
    char management[CLUSTER_ADDRESS_MAX];  /* metrics, administration */
    uint32_t rack, row;                    /* of struct cluster_map's names; 0: none */
    uint32_t incarnation;                  /* of the process that serves; 0: none yet */
    uint64_t process;                      /* by which that process enrolled */
    bool up;
    bool draining, removed;
};

/* Names by number, from 1 on; "" where a number has none. */
struct map_names {
    uint32_t count;
    char (*list)[CLUSTER_NAME_MAX];
};

/*
 * struct map_target
 * @up: its node runs and serves it
 * @device: of its device's format, as it enrolled last; 0: not known yet, whatever comes is welcome
 * @lost: it came back without all it had; in a set of one what it lacks is unavailable, not absent
 * @fresh: it is clean, and not everybody who may still answer reads knows (R46)
 */
struct map_target {
    uint32_t id;
    uint32_t node; /* index into nodes */
    uint32_t weight;
    enum target_state state;
    uint64_t device;
    bool up;
    bool lost;
    bool fresh;
};

struct map_pool {
    uint32_t id; /* never reused; below BLOB_POOL_UPLOADS */
    char name[CLUSTER_NAME_MAX];
    bool erasure; /* ec k+m, else 1+m copies */
    uint8_t k, m; /* copies n: k = 1, m = n-1 */
    bool cache;   /* may evict */
    bool ack_memory;
    uint32_t ttl_s;       /* of a cache; 0: none */
    uint64_t quota_bytes; /* 0: none */
    uint32_t stripe_size;
    uint32_t copies_below; /* stripes shorter than this are kept as m+1 copies */
    uint8_t users_count;   /* 0: every client certificate of the cluster */
    char users[CLUSTER_POOL_USERS_MAX][CLUSTER_NAME_MAX];
};

/*
 * struct map_hold - A position that is not (yet) served by the target that is to have it (R36).
 * @key: width, partition, position, and whether @target serves it or is about to leave it
 * @target: index into targets; PLACE_NONE: nobody serves it, what it had is to be rebuilt; or, of one
 *          that leaves, nobody leaves it, but not everybody knows who serves it (R46)
 * @placed: who is to have it; not on the wire, known once the map has its table
 */
struct map_hold {
    uint32_t key;
    uint16_t target;
    uint16_t placed;
};

/* 6 MiB of the encoded map each. */
#define CLUSTER_HOLDS_MAX (1u << 20)
#define CLUSTER_FIXES_MAX (1u << 20)

/*
 * struct move_row - Who takes every write of a position beside the target that serves it: the learner
 * that is to take the position over, or, if its bit of @leaving is set, the target that just gave it
 * up. PLACE_NONE: nobody. While the bit is set, not everybody may know who serves it now (R46).
 */
struct move_row {
    uint16_t target[PLACE_WIDTH_MAX];
    uint16_t leaving;
};

struct map_moves {
    struct move_row *rows[PLACE_WIDTH_MAX + 1]; /* a row a partition, for widths with moves */
    uint64_t arriving, leaving;                 /* positions, all widths */
};

/*
 * struct cluster_map - One epoch. Immutable once it is in use; freed by its owner, or the last of
 * several threads that share it.
 * @lease_ms: members answer readers only while others have promised not to go on without them for so
 *            long (R43). 0: whoever declares a node dead has killed it (R3), and nobody needs leases
 * @out_ms: a target that is down for so long is out (R42); 0: never
 * @racks, @rows: what nodes stand in; a rack stands in one row
 * @hashed: what hashing gives, with the table
 * @fixes: where placement is another than hashing gives (place/place.h)
 * @holds: by key; where targets are not as placement would have it
 * @table: who serves: hashing, corrected by the fixes and the holds. Made by cluster_map_place() when
 *         the map is adopted; same map, same table everywhere
 * @moves: likewise; NULL: nothing moves
 */
struct cluster_map {
    uint8_t cluster[16];
    uint64_t epoch;
    unsigned partition_bits;
    uint32_t lease_ms, out_ms;
    uint32_t nodes_count, targets_count, pools_count;
    uint32_t next_incarnation, next_pool;
    struct map_node *nodes;
    struct map_target *targets;
    struct map_pool *pools;
    struct map_names racks, rows;
    uint32_t fixes_count, holds_count;
    struct place_fix *fixes;
    struct map_hold *holds;
    struct place_table *table;
    struct map_moves *moves;
    struct map_hashed *hashed;
    _Atomic uint32_t sharers; /* beyond the first owner */
};

#define CLUSTER_MAP_ENCODED_MAX (16u << 20)

struct cluster_map *cluster_map_create(void);                          /* NULL: no memory */
struct cluster_map *cluster_map_copy(const struct cluster_map *map);
/* One more owner of a map in use, who frees it as the first does; any thread. Returns @map. */
struct cluster_map *cluster_map_share(struct cluster_map *map);
void cluster_map_free(struct cluster_map *map);

/* Room that cluster_map_encode() needs. */
size_t cluster_map_encoded_size(const struct cluster_map *map);
/* Self-checking: magic, format, CRC32C. Return: length, or 0 when @size is too small. */
size_t cluster_map_encode(const struct cluster_map *map, void *buffer, size_t size);
/* Return: 0, SHOAL_E_INVALID, CORRUPT, FORMAT (newer) or NO_MEMORY. Bounds and references checked. */
int cluster_map_decode(const void *buffer, size_t size, struct cluster_map **out);

/*
 * cluster_map_place() - Compute the table.
 * @before: a map with its table, of which is taken over what stays the same; or NULL
 * Return: 0, SHOAL_E_NO_MEMORY, or SHOAL_E_INVALID when fixes or holds are of no table.
 */
int cluster_map_place(struct cluster_map *map, const struct cluster_map *before);

/* NULL: none. The pool of upload records is that of their heads. */
const struct map_pool *cluster_map_pool(const struct cluster_map *map, uint32_t id);
const struct map_pool *cluster_map_pool_named(const struct cluster_map *map, const char *name);
const struct map_target *cluster_map_target(const struct cluster_map *map, uint32_t id);
const struct map_node *cluster_map_node_named(const struct cluster_map *map, const char *name);

/* "": the node has none, or one without a name. */
const char *cluster_map_rack(const struct cluster_map *map, const struct map_node *node);
const char *cluster_map_row(const struct cluster_map *map, const struct map_node *node);
/* Of a rack or a row: 1 to 63 bytes without blanks, \" and \\. */
bool map_name_is_valid(const char *name);

/* k + m: how many positions the pool's target sets have. */
unsigned map_pool_width(const struct map_pool *pool);

/* How many clean members a slot of the pool needs to take writes: k, 1 for copies. */
unsigned map_pool_quorum(const struct map_pool *pool);

/* May the client of this name use the pool? */
bool map_pool_admits(const struct map_pool *pool, const char *user);

/*
 * map_pool_check() - Is this a pool that can be? With @map: one that it could place.
 * @why: a sentence for a person when not; at least 256 bytes
 * Return: 0, SHOAL_E_INVALID, or SHOAL_E_NO_MEMORY, which says nothing of the pool.
 */
int map_pool_check(const struct cluster_map *map, const struct map_pool *pool, char *why);

/* What the pool may lose, any one of it, and keep k shards of all its objects. */
enum map_survives { SURVIVES_NOTHING, SURVIVES_NODE, SURVIVES_RACK, SURVIVES_ROW };
enum map_survives cluster_map_pool_survives(const struct cluster_map *map,
                                            const struct map_pool *pool);

/* Would the loss of one node take more than m shards of some object? */
bool cluster_map_pool_unsafe(const struct cluster_map *map, const struct map_pool *pool);

/*
 * struct target_set - Where an object lives, in order of position.
 * @primary: position of the first clean target, present or not; or -1
 * @clean: positions of clean members; in a set of one a learner counts as clean (R4)
 * @present: positions of clean members that are up
 * @learners: positions of learners that are up
 * @moving: positions at which somebody that is up takes every write beside the serving target
 * @leaving: those of @moving at which that one gave up the position (R38), the others learn it
 * @fresh: those of @present whose target not everybody may know to be clean there (R46)
 * @targets: NULL where nobody serves
 * @beside: NULL where nothing moves
 */
struct target_set {
    unsigned width;
    int primary;
    uint16_t clean, present, learners, moving, leaving, fresh;
    const struct map_target *targets[BLOB_SET_MAX];
    const struct map_target *beside[BLOB_SET_MAX];
};

void cluster_map_set(const struct cluster_map *map, const struct map_pool *pool,
                     const struct blob_id *id, struct target_set *set);
void cluster_map_partition_set(const struct cluster_map *map, const struct map_pool *pool,
                               uint32_t partition, struct target_set *set);
uint32_t cluster_map_partition(const struct cluster_map *map, const struct blob_id *id);

static inline unsigned target_set_count(uint16_t positions)
{
    return (unsigned)__builtin_popcount(positions);
}

/* R5, R46: every clean member is there, and everybody knows of enough of them. */
bool target_set_writable(const struct target_set *set, const struct map_pool *pool);

/* Degraded: a position that is not clean and present. For status. */
uint64_t cluster_map_degraded_partitions(const struct cluster_map *map);
/* Partitions of some pool that cannot take writes now. */
uint64_t cluster_map_unwritable_partitions(const struct cluster_map *map);

/*
 * Changes, pure: each takes a map that is not in use (a copy) and alters it. map_change_publish()
 * ends a series of them: it judges absent targets (R4) and makes it the next epoch, with its table.
 */
int map_change_node_add(struct cluster_map *map, const struct map_node *node);
int map_change_node_addresses(struct cluster_map *map, const struct map_node *node);
int map_change_target_add(struct cluster_map *map, uint32_t id, const char *node, uint32_t weight);
int map_change_node_up(struct cluster_map *map, const char *node, uint64_t process,
                       uint32_t *incarnation, const struct wire_item_enroll_target *targets,
                       unsigned count);
int map_change_node_down(struct cluster_map *map, const char *node);
int map_change_target_failed(struct cluster_map *map, uint32_t target, uint32_t incarnation);
int map_change_target_clean(struct cluster_map *map, uint32_t target, uint32_t incarnation,
                            uint64_t caught_up_epoch);
int map_change_target_replaced(struct cluster_map *map, uint32_t target);
/* An administrator accepts that what a returned target lacks is gone. */
int map_change_target_accept(struct cluster_map *map, uint32_t target);
int map_change_pool_create(struct cluster_map *map, const struct map_pool *pool);
int map_change_pool_remove(struct cluster_map *map, const char *name);
int map_change_pool_set(struct cluster_map *map, const struct map_pool *pool);
int map_change_publish(struct cluster_map *map);

/* The same of nodes that come and go; the moves follow from them when the map is published (R36). */
int map_change_node_drain(struct cluster_map *map, const char *node, bool drain);
int map_change_node_remove(struct cluster_map *map, const char *node);
/* Of each of its targets; not 0, for that is to drain. */
int map_change_node_weight(struct cluster_map *map, const char *node, uint32_t weight);
int map_change_target_weight(struct cluster_map *map, uint32_t target, uint32_t weight);
/*
 * struct map_move - Nodes that stand in another rack or row from now on.
 * @rack, @row: NULL: as it is; "": in none. Without @row, that of the others in @rack, if there are any
 */
#define MAP_MOVE_MAX 64u
struct map_move {
    const char *const *nodes;
    unsigned count;
    const char *rack, *row;
};
/* SHOAL_E_CONDITION: other nodes of a rack would be left behind in another row. */
int map_change_nodes_move(struct cluster_map *map, const struct map_move *move);
/*
 * Down for too long (R42). @alone: nobody is in its company any more, so that it does not answer as a set of
 * one either (R47); this may come later, for one that is out and cluster_map_keeps_ones().
 * SHOAL_E_CONDITION: too much would be out, or nobody could take over.
 */
int map_change_target_out(struct cluster_map *map, uint32_t target, bool alone);
/* It has sets of one that could be given up. */
bool cluster_map_keeps_ones(const struct cluster_map *map, const struct map_target *target);
/* A learner has all of some rows, each map_row_key(), as of @epoch: it serves them now (R38). */
int map_change_rows_moved(struct cluster_map *map, uint32_t target, uint32_t incarnation,
                          uint64_t epoch, const uint32_t *rows, unsigned count);
/* Everybody knows the map of @epoch: who left positions is done with, and nobody is fresh (R39, R46). */
int map_change_confirm(struct cluster_map *map, uint64_t epoch);
/* Does anything wait for that? */
bool cluster_map_unconfirmed(const struct cluster_map *map);

/* A row of the table, in messages: (width, partition). */
static inline uint32_t map_row_key(unsigned width, uint32_t partition)
{
    return (uint32_t)width << 27 | partition;
}

/* How many positions the target serves, learns and leaves. */
struct target_places {
    uint32_t serves, learns, leaves;
};
/* @places: targets_count of them. */
void cluster_map_places(const struct cluster_map *map, struct target_places *places);

/*
 * The door of nodes to the authority. All [fiber]; errors as of net_call() or of what was asked.
 * @fetch: the newest map if it is newer than @have_epoch, into @buffer; *len 0 when there is none
 */
struct authority_ops {
    int (*enroll)(void *ctx, const struct wire_enroll *ask, struct wire_enroll_reply *reply);
    int (*caught_up)(void *ctx, const struct wire_caught_up *ask,
                     struct wire_caught_up_reply *reply);
    int (*heartbeat)(void *ctx, const struct wire_heartbeat *ask,
                     struct wire_heartbeat_reply *reply);
    int (*moved)(void *ctx, const struct wire_moved *ask, struct wire_moved_reply *reply);
    int (*fetch)(void *ctx, uint64_t have_epoch, void *buffer, size_t size, size_t *len);
};

struct authority_door {
    const struct authority_ops *ops;
    void *ctx;
};

/* The authority behind a network address. */
struct authority_remote;
int authority_remote_create(struct reactor *reactor, struct net *net, const char *address,
                            struct authority_remote **out);
void authority_remote_destroy(struct authority_remote *remote); /* [fiber] */
struct authority_door authority_remote_door(struct authority_remote *remote);

/*
 * The authority itself. It lives on one reactor, listens on one address, keeps the map, and has it
 * saved before anybody hears of it.
 *
 * @map: the first map, or the one saved last; the authority's from then on
 * @save: make the map durable; blocking is fine. Return 0 or a SHOAL_E_*: then nothing is changed
 * @wish: what the authority does not know itself ("node_stop"); NULL: none. [fiber] *answer is a
 *        line of JSON that the authority frees. Return SHOAL_E_UNSUPPORTED for unknown ones
 * @outdated: a node has a newer map than this authority, which will change nothing from then on;
 *            must not block. NULL: only that node is refused
 * @gather_ns: deaths and enrolments within it are judged together; 0: 300 ms
 * @silent_ns: for how long a node had not been heard, and did not answer when it was asked, before this authority
 *         began; NULL, 0: it counts from its own beginning, for what an earlier one has heard is unknown
 * @fence: in a cluster without leases a node that is up and was not heard for @fence_ns is named here, again
 *         and again while it is silent: whoever can kill its process does, and says
 *         authority_node_died() once it has seen it end (R3). [fiber] NULL: nobody looks
 * @move_ns: positions that moved are published at most so often; 0: 1 s
 *
 * In a cluster with leases a node that is up and was not heard for two thirds of a lease is down.
 */
struct authority_config {
    struct reactor *reactor;
    struct net *net;
    struct cluster_map *map;
    int (*save)(void *ctx, const void *map, size_t len);
    int (*wish)(void *ctx, const char *wish, char **answer);
    void (*outdated)(void *ctx, uint64_t epoch);
    uint64_t (*silent_ns)(void *ctx, uint32_t node);
    void (*fence)(void *ctx, const char *node);
    void *ctx;
    uint64_t gather_ns;
    uint64_t fence_ns;
    uint64_t move_ns;
};

struct authority;
int authority_create(const struct authority_config *config, struct authority **out);
int authority_listen(struct authority *authority, const char *address);
const char *authority_address(const struct authority *authority);
void authority_stop(struct authority *authority);    /* [fiber] waits for what is under way */
void authority_destroy(struct authority *authority); /* after authority_stop() */

/* The newest epoch; valid until the calling fiber blocks. */
const struct cluster_map *authority_map(const struct authority *authority);

/* The node's process is dead, and its exit was seen (R3). [fiber] Returns when it is published. */
int authority_node_died(struct authority *authority, const char *node);

/* Apply one of the changes above and publish. [fiber] */
int authority_change(struct authority *authority, int (*change)(struct cluster_map *map, void *arg),
                     void *arg);

/*
 * authority_wish() - [fiber] What an administrator asks, one line of JSON: {"wish": NAME, ...}.
 *   map; pool_create, pool_set {name, k, m, erasure, cache, ttl_s, quota_bytes, stripe_size,
 *   copies_below, users}; pool_remove {name}; node_down {node} (after fencing); target_replaced,
 *   target_accept {target}; node_add {node, data, replication, management, rack, row, weights: one for
 *   each target}, whose answer has the targets' ids, in order, and partition_bits; node_drain
 *   {node, undo}; node_remove {node}; node_weight {node, weight}; node_move {nodes, rack, row}
 * @answer: {"ok": true, ...} or {"ok": false, "error": NAME, "message": TEXT}; the caller frees it.
 *          NULL only when out of memory.
 */
void authority_wish(struct authority *authority, const char *wish, char **answer);

/*
 * etcd, through libcurl and a thread of its own. Linked with cluster_etcd_dep only.
 *
 * @endpoints: "https://HOST:PORT"; "http://" only without certificates
 * @ca, @certificate, @key: PEM files; read anew for each connection
 */
struct etcd_config {
    const char *const *endpoints;
    unsigned endpoints_count;
    const char *ca, *certificate, *key;
};

struct etcd_ops; /* cluster/etcd.h */
struct etcd_door {
    const struct etcd_ops *ops;
    void *ctx;
};

struct etcd_client;
/* Connects to nobody yet. Return: 0, SHOAL_E_CONFIG (logged), NO_MEMORY or SYSTEM. */
int etcd_client_create(struct reactor *reactor, const struct etcd_config *config,
                       struct etcd_client **out);
void etcd_client_stop(struct etcd_client *client);    /* [fiber] all that is under way fails */
void etcd_client_destroy(struct etcd_client *client); /* after etcd_client_stop() */
struct etcd_door etcd_client_door(struct etcd_client *client);

/*
 * The authority over etcd. Each node has one: it stands for election, is the authority while it is
 * elected, and otherwise the door to the one who is. docs/decisions/etcd.md says how.
 *
 * @net: where nodes call each other; @address: where the authority listens, "host:port"
 * @prefix: of the cluster's keys in etcd
 * @cluster: the cluster's id, or all zero for that of the map in etcd
 * @known_epoch: of the newest map that this node has; NULL: none
 * @mark_load, @mark_save: a number that only grows, durable: how new a map this node has seen in
 *      etcd. SHOAL_E_NOT_FOUND: none yet. NULL: not kept
 * @heard: when this node was last asked for a lease by another (R43), or 0; NULL: it does not say
 */
struct authority_etcd_config {
    struct reactor *reactor;
    struct net *net;
    struct etcd_door etcd;
    const char *name, *address, *prefix;
    uint8_t cluster[16];
    uint64_t (*known_epoch)(void *ctx);
    int (*mark_load)(void *ctx, uint64_t *mark);
    int (*mark_save)(void *ctx, uint64_t mark);
    uint64_t (*heard)(void *ctx, uint32_t node);
    void *ctx;
};

struct authority_etcd;
/* [fiber] Listens, and goes on by itself. Return: 0, NO_MEMORY, or what net_listen() gave. */
int authority_etcd_create(const struct authority_etcd_config *config, struct authority_etcd **out);
void authority_etcd_stop(struct authority_etcd *e);    /* [fiber] resigns if it can */
void authority_etcd_destroy(struct authority_etcd *e); /* after authority_etcd_stop() */
/* While nobody is known to lead, its calls end with SHOAL_E_UNAVAILABLE. */
struct authority_door authority_etcd_door(struct authority_etcd *e);
/* The authority while this node leads, else NULL; valid until the calling fiber blocks. */
struct authority *authority_etcd_leads(struct authority_etcd *e);
/* "host:port" of who leads as far as is known, or ""; valid until the calling fiber blocks. */
const char *authority_etcd_leader(const struct authority_etcd *e);

/*
 * authority_etcd_found() - [fiber] Put the first map of a new cluster into etcd.
 * Return: 0, SHOAL_E_EXISTS when there is one, or an error with which nothing is known.
 */
int authority_etcd_found(struct etcd_door etcd, const char *prefix, const struct cluster_map *map);

/* A pool from such JSON fields, and the map as JSON (NULL: no memory); for the command line too. */
struct json_t;
int map_pool_from_json(const struct json_t *json, struct map_pool *pool, char *why);
struct json_t *cluster_map_to_json(const struct cluster_map *map);

#endif
