/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside a node. One idea a file:
 *
 *   node.c     create, start, stop            serve.c    requests to handlers, by class and right
 *   epoch.c    maps: adopting, fetching       peer.c     calls to other nodes
 *   object.c   what is under way, by object   window.c   request ids that had their answer
 *   put.c      a primary's put                replicate.c prepare on all, then commit
 *   abort.c    taking back                    commit.c   commits, in batches
 *   member.c   what primaries ask             read.c     get, stat, exists, list
 *   settle.c   before a new primary serves    decide.c   what it decides of each object
 *   learn.c    catching up, moving            install.c  fetching one piece from the others
 *   lease.c    leases between members
 *   upload.c   large blobs                    care.c     tombstones, eviction, stripes, scrub
 *   leftovers.c what a member asks after
 *   group.c    the parts of a node that runs on several reactors
 *   report.c   what a node holds              headway.c  how far and how fast learners are
 *   pace.c     what is rebuilt gives way to clients
 *
 * Between two blocking calls a fiber is alone, so only what must hold across them is locked. The map
 * may change at every blocking call: nothing keeps a pointer into it; struct members is a copy.
 */
#ifndef SHOAL_NODE_NODE_PRIVATE_H
#define SHOAL_NODE_NODE_PRIVATE_H

#include <stdatomic.h>

#include "base/codec.h"
#include "base/list.h"
#include "base/pool.h"
#include "base/table.h"
#include "core/fiber.h"
#include "core/mailbox.h"
#include "core/reactor.h"
#include "ec/ec.h"
#include "node/group.h"
#include "node/node.h"
#include "wire/wire.h"

#define NODE_MS 1000000ull
#define NODE_S 1000000000ull
#define NODE_RETRY_NS (20 * NODE_MS) /* between tries of what is not lost yet */
#define NODE_BATCH 96u               /* objects in one message */
#define NODE_LEARN_SLOTS 4u          /* that a target learns at once */
#define NODE_LEARN_PIECES 16u        /* that it fetches at once */
#define NODE_ABORTED_MAX 4096u
#define NODE_OBJECTS_MAX 16384u /* under way or undecided, for each target */
#define NODE_UNITS_MAX 3328u    /* ENGINE_UNITs of all shards of the largest stripe */

/* ---- members: a set as it is in one epoch ---- */

struct member {
    uint32_t target;
    uint32_t node; /* index in the map */
    uint32_t incarnation;
    bool up;
    bool lost;
};

/*
 * The first BLOB_SET_MAX places are those who serve the positions; BLOB_SET_MAX + i is who takes the
 * writes of position i beside (R36): the learner that is to take it over, or who just left it.
 */
#define MEMBERS_MAX (2u * BLOB_SET_MAX)

/*
 * Places as bits. @taking: write-taking, clean ones even while absent (R4); @learners: of those, who is
 * not clean; @leaving: of those, who gave its position up. @grants: of how many others a member needs
 * the grant of a lease to answer readers (R44). @company: it is a set of one that may be given up (R47).
 */
struct members {
    uint64_t epoch;
    unsigned width, grants;
    int primary;
    uint32_t clean, present, learners, leaving, taking;
    bool writable; /* R5 */
    bool company;
    struct member at[MEMBERS_MAX];
};

/* The position whose piece the member at this place holds. */
static inline unsigned place_position(unsigned place)
{
    return place % BLOB_SET_MAX;
}

/* Places as positions. */
static inline uint16_t places_positions(uint32_t places)
{
    return (uint16_t)((places | places >> BLOB_SET_MAX) & ((1u << BLOB_SET_MAX) - 1));
}

/* What operations need of a pool. */
struct pool_view {
    uint32_t id;
    uint8_t k, m;
    bool cache;
    uint32_t ttl_s;
    uint64_t quota_bytes;
    uint32_t stripe_size, copies_below;
};

/* ---- what is under way ---- */

/*
 * struct object - An object with something under way at its primary: a lock (R7) that one fiber holds
 * and others wait for. It exists while somebody holds, waits, or its fate is undecided.
 * @version: what the operation took, none before; readers wait for it (R22)
 * @superseded: versions that it took before and gave up for newer ones (R17); some members may have them
 * @lost: the slot was taken from this primary meanwhile: leave everything to the settling (R6)
 */
#define OBJECT_SUPERSEDED_MAX 4u
struct object {
    struct blob_id id;
    struct target *target;
    struct list_node node;   /* of target->versioned while version is not none, or undecided */
    struct list_node orphan; /* of target->orphans: to be aborted in the background, which holds it */
    unsigned users;
    bool held;
    bool lost;
    bool undecided; /* R26 */
    struct blob_version version;
    struct blob_version superseded[OBJECT_SUPERSEDED_MAX];
    unsigned superseded_count;
    struct fiber_queue waiters;  /* for the lock */
    struct fiber_queue readers;  /* for the outcome */
};

/* A piece that this member fetches and installs; commit, abort and drop of the object wait (R28). */
struct install {
    struct blob_id id;
    struct fiber_queue waiters;
};

/* (object, version) that was aborted here, until low water passes it (R15). */
struct aborted {
    struct blob_id id;
    struct list_node node;
    struct blob_version version;
    uint32_t primary;
};

/* A request id and what became of it (R8). */
struct window_key {
    uint64_t hi, lo, object;
};
struct window_entry {
    struct window_key key;
    struct blob_version version;
    uint64_t at_ns;
    int refusal; /* 0, or why it made no version, in @epoch */
    uint64_t epoch;
};
struct window {
    struct window_entry *ring;
    uint32_t count, next;
    struct table *by_key;
    uint64_t since_epoch; /* of this process: what was first sent before it is not known here */
    uint64_t forgot_ns;   /* when an entry was last overwritten before its time */
};

/* ---- targets ---- */

/* What the next version would have been at some time: everything below it is at least so old. */
#define NODE_AGES 5u
struct version_age {
    uint64_t at_ns;
    struct blob_version next;
};

/*
 * @SLOT_MOVING: this target is to take a position over; @SLOT_MEMBER: it has a place in the set; @SLOT_HELD:
 * somebody who may still answer readers has no place any more (R45).
 */
enum slot_flags {
    SLOT_MINE = 1,
    SLOT_SETTLED = 2,
    SLOT_LEARNED = 4,
    SLOT_MOVING = 8,
    SLOT_MEMBER = 16,
    SLOT_HELD = 32,
};

struct slots {
    uint32_t pool;
    uint8_t *flags; /* one a partition */
};

/* Commits on their way from one of our primaries to one member (R13). */
struct commit_entry {
    struct blob_id id;
    struct blob_version version;
};
struct commit_queue {
    struct list_node node; /* of target->commits */
    struct target *target;
    uint32_t to;
    struct commit_entry *entries; /* a ring */
    uint32_t first, count, room;
    bool sending;
};

/* What was learned since @since_ns. */
struct headway_window {
    uint64_t since_ns, slots, pieces, bytes;
};
struct headway {
    struct headway_window now, before;
    struct counter *pieces_total, *bytes_total; /* NULL: no metrics */
    struct gauge *slots_left, *slots_degraded;
};

struct target {
    struct node *node;
    uint32_t id;
    struct engine *engine;
    struct group_target *shared;
    bool device_stale;  /* the device says so at each opening until it is told otherwise */
    bool serving; /* named up in the map, with our incarnation */
    bool failed;  /* its engine stopped */
    uint64_t slow_ns; /* when its drive was last found slow; 0: never */
    enum target_state state;
    bool lost;
    uint64_t learner_since; /* E_learn, 0: it learns nothing */
    uint32_t moving;        /* slots that it is to take over */
    bool foreign;           /* it may hold something of slots in which it has no place */
    uint64_t held_until_ns; /* no slot is held for longer (R45) */

    uint64_t counter; /* of versions */
    struct slots *slots;
    unsigned slots_count;
    uint32_t unsettled; /* slots that are mine and not settled */

    struct table *objects;
    struct pool *object_pool;
    struct list versioned; /* objects whose operation has taken a version */
    struct list orphans;
    struct table *installs;
    struct pool *install_pool;
    struct table *aborted;
    struct list aborted_list;
    struct pool *aborted_pool;
    struct window window;
    struct blob_version *low_water; /* of each primary, by index of target in the map */
    uint32_t low_water_count;
    struct list commits;
    struct list storing;       /* prepares inside the engine */
    struct fiber_queue stored; /* wakes when one of them ended */

    struct fiber_queue settle_wake, learn_wake, commit_wake, orphan_wake, repair_wake;
    uint64_t learn_done, learn_total;
    struct headway headway;
    struct pool *learn_pieces; /* as many as are fetched at once */
    struct fiber_queue learn_piece_free;
    struct list damaged; /* pieces to be repaired */
    unsigned damaged_count;
    struct list touches; /* of open uploads */
    unsigned touches_count;
    uint64_t care_cursor; /* the partition that care looks at next */
    uint32_t leftover_cursor;
    uint64_t repaired;    /* pieces, since the process started */
    uint64_t scrub_ended_s;
    struct blob_version care_prepared_before;
    struct version_age ages[NODE_AGES];
    unsigned ages_next;
};

/* ---- peers ---- */

struct peer {
    struct node *node;
    char name[CLUSTER_NAME_MAX];
    char address[CLUSTER_ADDRESS_MAX];
    uint32_t incarnation;
    struct net_peer *net;
};

/* ---- requests ---- */

enum request_class { CLASS_CLIENT, CLASS_MEMBER, CLASS_CONTROL, CLASS_LEASE, CLASS_COUNT };

struct request {
    struct node *node;
    struct net_request *net;
    struct wire_head head;
    struct decoder in;
    struct target *target; /* NULL: the node itself */
    enum request_class class;
    uint64_t started_ns;
    uint16_t caller; /* bucket of who may have how many */
    int result;
};

/*
 * struct pace - Of what is read and written to rebuild pieces, ours and those of others.
 * @client_ns: when a client last had something of this node
 * @due_ns: when the bytes of before have had their time
 * @buffers_bytes: what pieces under way have of the DMA memory, @buffers_max of it at most
 */
struct pace {
    uint64_t client_ns;
    uint64_t due_ns;
    unsigned waiting; /* fetches of others */
    uint64_t buffers_bytes, buffers_max;
    struct fiber_queue buffer_free;
};

struct request_metrics {
    struct counter *count, *errors;
    struct histogram *seconds;
};

#define NODE_TYPES 64u
#define NODE_CALLERS 1024u

struct node {
    struct node_config config;
    struct reactor *reactor;
    struct metrics *metrics, *own_metrics;
    struct node_group *group, *own_group;
    struct group_part *part;
    struct net_relay *relay; /* to the other parts; NULL: there are none */
    struct cluster_map *map;
    uint32_t self;        /* index in the map */
    uint32_t incarnation; /* 0: not enrolled */
    bool serving;
    bool stopping;
    uint64_t wanted_epoch;
    struct fiber_mutex adopting;
    struct fiber_queue map_wake; /* the keeper: a newer map is wanted */
    struct fiber_queue adopted;  /* waiters for a newer map */
    struct fiber_queue stop_wake;
    struct fiber_queue lease_wake; /* the leaser: ask now */
    uint64_t quiet_epoch;          /* that the authority was told of (R46) */
    struct lease_ask *lease_asks;  /* one a node of the map, CLUSTER_NODES_MAX; the leader's */

    struct fiber_pool *pools[CLASS_COUNT];
    struct fiber_pool *calls; /* parallel calls of one operation */
    struct fiber_pool *asks;  /* for leases */
    struct fiber_pool *learners; /* slots and pieces that targets learn */
    struct pace pace;
    struct fiber_pool *loops; /* what runs as long as the node */
    struct fiber_group running;
    struct pool *request_pool;
    uint16_t callers[NODE_CALLERS];
    struct net_listener *data_listener, *replication_listener;
    struct peer *peers[CLUSTER_NODES_MAX];
    struct ec_code codes[EC_MEMBERS_MAX + 1][EC_PARITY_MAX + 1]; /* k = 0: not made yet */

    unsigned targets_count;
    struct target targets[NODE_TARGETS_MAX];
    struct request_metrics request_metrics[NODE_TYPES];
    struct counter *prepares_refused, *puts_replayed, *settled_forward, *settled_back;
    struct counter *repaired, *caught_up_objects, *evicted, *tombstones_collected;
    struct counter *stripes_collected, *damaged_found;
};

/* ---- epoch.c ---- */

void node_want_epoch(struct node *node, uint64_t epoch);
/* [fiber] Until the map is at @epoch; false when @deadline_ns passed. */
bool node_wait_epoch(struct node *node, uint64_t epoch, uint64_t deadline_ns);
/* [fiber] Save and use a newer map; frees @map when it is not. */
int node_adopt(struct node *node, struct cluster_map *map);
/* The map stays, this node's incarnation may be another. */
void node_refresh(struct node *node);
void node_keeper(void *node);    /* loop of the leader: fetches maps */
void node_heartbeat(void *node); /* loop: sees failures; the leader enrols, then beats */
bool node_pool_view(const struct node *node, uint32_t pool, struct pool_view *view);
/* False when there is no such pool. */
bool node_members(const struct node *node, uint32_t pool, uint32_t partition,
                  struct members *members);
bool node_members_of(const struct node *node, const struct blob_id *id, struct members *members);
uint8_t *target_slot(const struct target *target, uint32_t pool, uint32_t partition);
bool target_is_primary(const struct target *target, const struct members *members);
/* 0 when this target may act as primary of the object now; else what to answer. */
int target_primary_check(const struct target *target, const struct blob_id *id);
/* And may say what is committed, as long as the caller does not block (R44). */
int target_answer_check(const struct target *target, const struct blob_id *id);
int members_place(const struct members *members, uint32_t target); /* -1: none */
static inline uint32_t node_partition(const struct node *node, const struct blob_id *id)
{
    return cluster_map_partition(node->map, id);
}

/* ---- lease.c ---- */

/* Does what this target has count as the newest, as long as the caller does not block (R44)? */
bool target_may_answer(const struct target *target, const struct members *set);
/* Has somebody who may still answer readers been left out of the slot (R45)? */
bool slot_is_held(const struct target *target, uint32_t pool, uint32_t partition);
static inline bool object_is_held(const struct target *target, const struct blob_id *id)
{
    return slot_is_held(target, id->pool, node_partition(target->node, id));
}
/* Until when this node has promised that one not to go on without it; R43, R45. */
uint64_t lease_granted_until(const struct node *node, uint32_t index);
/* The newest epoch that all parts are at, and in which no promise to somebody who is not up holds any more. */
uint64_t lease_quiet_epoch(const struct node *node);
/* Of the interval between two heartbeats, and between two questions for a lease. */
uint64_t lease_beat_ns(const struct node *node);
/* What was granted to this node's life before is not for the next. */
void leases_forget(struct node_group *group);
/* A majority of nodes, or the authority, still has this node up; since @asked_ns. */
void lease_has_company(struct node *node, uint64_t asked_ns);
void node_leaser(void *node); /* loop of the leader */
int leases_create(struct node *node);
void leases_destroy(struct node *node);

/* ---- group.c ---- */

static inline bool node_leads(const struct node *node)
{
    return node->part == node->group->parts;
}

/* Whose request is it? */
struct group_part *group_part_for(const struct node *node, const struct wire_head *head);
struct group_target *group_target_of(struct node_group *group, uint32_t id);
void group_offer(struct node *leader);             /* its map and incarnation, to all others */
void group_follow(void *node);                     /* loop of the others: takes them */
void group_want(struct node *node, uint64_t epoch); /* the leader should fetch it */
uint64_t group_epoch(const struct node_group *group); /* that all parts are at (R39) */
/* [fiber] if there are several: @look at each part in turn, on its reactor. */
void group_visit(struct node *node, void (*look)(struct node *part, void *arg), void *arg);

/* ---- peer.c: calls; all [fiber] ---- */

struct peer *node_peer(struct node *node, uint32_t index); /* NULL: none */
void node_peers_update(struct node *node);                 /* [fiber] after a map was adopted */
void node_peers_close(struct node *node);

/*
 * One call to a member; *in is left at the reply's fields, in @header. The statuses STALE_EPOCH and
 * NEWER_EPOCH are acted on (maps are exchanged) before they are returned.
 */
struct member_call {
    uint8_t *header; /* of the request, then of the reply */
    size_t header_room;
    size_t header_len;
    const struct iovec *payload;
    unsigned payload_count;
    const uint32_t *payload_sums; /* see struct net_call */
    struct iovec reply_payload; /* .iov_len is set to what came */
    uint64_t deadline_ns;
    struct decoder in;
};
int node_call(struct node *node, const struct member *to, struct member_call *call);
struct wire_head node_head(const struct node *node, uint16_t type, uint32_t target,
                           struct blob_request_id request);

/* Spawn on the pool of parallel calls, or run here when it is used up. */
void node_run_call(struct node *node, void (*run)(void *arg), void *arg);

/* ---- object.c ---- */

/* [fiber] R7. Return: 0 with *out held, SHOAL_E_BUSY, UNAVAILABLE (undecided). */
int object_lock(struct target *target, const struct blob_id *id, uint64_t deadline_ns,
                struct object **out);
/* The same, only if nobody has it. */
struct object *object_try_lock(struct target *target, const struct blob_id *id);
void object_unlock(struct object *object);
/*
 * The operation takes a new version (R10); readers wait from now on. One that it has already is
 * superseded; not for ever: see object_is_restless().
 */
struct blob_version object_take_version(struct object *object);
/* It has superseded as many versions as can be remembered: it is to be taken back. */
static inline bool object_is_restless(const struct object *object)
{
    return object->superseded_count == OBJECT_SUPERSEDED_MAX;
}
/* Decided: readers may look. */
void object_decided(struct object *object);
/* [fiber] R22: 0 when nothing is undecided. */
int object_wait_decided(struct target *target, const struct blob_id *id, uint64_t deadline_ns);
/* R26: what settling could not decide. */
int object_set_undecided(struct target *target, const struct blob_id *id,
                         const struct blob_version *version);
/* The slot was lost or is settled anew. */
void objects_slot_lost(struct target *target);
/* Is something under way that is older, or not decided? */
/*
 * Is anything under way from before @epoch, or undecided, that a learner would miss? @remembers: it has its
 * memory, and keeps what this primary has prepared too.
 */
bool objects_older_in_slot(const struct target *target, uint32_t pool, uint32_t partition,
                           uint64_t epoch, bool remembers);
struct blob_version target_low_water(const struct target *target);

/* Lowers nothing: keeps the highest, forgets aborted entries below it (R14, R15). */
void member_low_water(struct target *target, uint32_t primary, const struct blob_version *low);
bool member_below_low_water(const struct target *target, uint32_t primary,
                            const struct blob_version *version);
int member_note_aborted(struct target *target, const struct blob_id *id,
                        const struct blob_version *version, uint32_t primary);
const struct aborted *member_find_aborted(const struct target *target, const struct blob_id *id);
/* @primary settles these: of its own slots, for the others' prepares may still be on their way. */
void member_forget_aborted(struct target *target, uint32_t primary, uint32_t pool, uint32_t first,
                           uint32_t count);

/* A prepare inside the engine, begun under an epoch; aborts and settling wait for it (R24). */
struct storing {
    struct list_node node;
    struct blob_id id;
    uint64_t epoch;
};
void storing_begin(struct target *target, struct storing *storing, const struct blob_id *id);
void storing_end(struct target *target, struct storing *storing);
void storing_wait_object(struct target *target, const struct blob_id *id);  /* [fiber] */
void storing_wait_older(struct target *target, uint64_t epoch);             /* [fiber] */

int install_lock(struct target *target, const struct blob_id *id, struct install **out);
void install_unlock(struct target *target, struct install *install);
void install_wait(struct target *target, const struct blob_id *id); /* [fiber] */

/* ---- window.c ---- */

int window_create(struct window *window, uint32_t count, uint64_t seed);
void window_destroy(struct window *window);
void window_note(struct window *window, const struct blob_request_id *request,
                 const struct blob_id *id, const struct blob_version *version, uint64_t now_ns);
/* It was answered with @refusal, and is not to be carried out by an earlier try that is still on its way. */
void window_note_refusal(struct window *window, const struct blob_request_id *request,
                         const struct blob_id *id, int refusal, uint64_t epoch, uint64_t now_ns);
const struct window_entry *window_find(const struct window *window,
                                       const struct blob_request_id *request,
                                       const struct blob_id *id);
void window_forget(struct window *window, const struct blob_id *id,
                   const struct blob_version *committed, const struct blob_version *prepared,
                   const struct blob_version *version);
/* All of it, and nothing is known of what was first sent before @epoch. */
void window_clear(struct window *window, uint64_t epoch);
bool window_is_uncertain(const struct window *window, uint64_t first_epoch, uint64_t now_ns);

/* ---- replicate.c ---- */

/*
 * struct shard - What one position gets. @data: NULL for markers, tombstones and empty pieces.
 */
struct shard {
    const uint8_t *data;
    uint32_t len;
    uint32_t crc;
    const uint32_t *units;
};

/*
 * struct replica_op - One write on its way to all members. @desc: without position, form, depends and
 * shard_len, which replicate() fills in for each.
 */
struct replica_op {
    struct target *target;
    struct object *object;
    struct blob_desc desc;
    struct blob_version base;
    enum blob_form form; /* BLOB_TOMBSTONE, or BLOB_BYTES: markers follow from the shards */
    uint16_t holders;    /* positions that hold bytes */
    struct shard shards[BLOB_SET_MAX];
    uint64_t deadline_ns;
};

/*
 * replicate() - [fiber] Take a version, prepare on every write-taking member, commit (R10 to R17).
 * Return: 0 committed; SHOAL_E_TIMEOUT: the outcome is not known (the object stays locked by whom it
 * concerns: the caller's lock is gone); else a definite failure, already taken back everywhere.
 * @unlocked: out: the caller holds the object's lock no more
 */
int replicate(struct replica_op *op, bool *unlocked);

/* [fiber] As replicate(), of a tombstone over what is committed. */
int replicate_tombstone(struct target *target, struct object *object,
                        const struct engine_entry *old, const struct blob_request_id *request,
                        uint64_t deadline_ns, struct blob_version *version, bool *unlocked);

/* ---- abort.c ---- */

/* [fiber] Durably forget this prepared version on this member, and the requests that made it. */
int abort_here(struct target *target, const struct blob_id *id, const struct blob_version *version);
/*
 * [fiber] R18, R19: whatever the object's operation prepared. 0 when all have aborted; else it goes on in
 * the background: *unlocked.
 */
int abort_operation(struct object *object, uint64_t deadline_ns, bool *unlocked);
/* The lock goes to the background, which aborts what the object's operation prepared. */
void abort_later(struct object *object);
void node_orphans(void *target); /* loop of a target */
/* [fiber] One abort of some objects at one member. */
int abort_call(struct target *target, const struct member *to, const struct commit_entry *entries,
               unsigned count, uint64_t deadline_ns);

/* ---- commit.c ---- */

void commit_queue_add(struct target *target, const struct members *members,
                      const struct blob_id *id, const struct blob_version *version);
void commit_queues_free(struct target *target);
void node_committer(void *target); /* loop of a target */
bool commit_queues_empty(const struct target *target);

/* ---- pace.c ---- */

void pace_init(struct node *node);
/* A client has something of this node, or of one that is asked in its name. */
void pace_note_client(struct node *node);
/* [fiber] While there are clients, @bytes take their time at the configured rate. */
void pace_give_way(struct node *node, uint64_t bytes);
/* [fiber] The same for another node's fetch. Return: 0, or SHOAL_E_BUSY when too many wait already. */
int pace_admit_fetch(struct node *node, uint64_t bytes);
/* [fiber] DMA memory for a piece that is rebuilt; NULL: there is none. */
void *pace_buffer_get(struct node *node, size_t size_bytes);
void pace_buffer_put(struct node *node, void *buffer);

/* ---- install.c ---- */

/*
 * install_piece() - [fiber] Rebuild this target's piece of an object at just this version from clean
 * members, and store it (R28). Return: 0 (also when something newer is here), CHANGED (gone there),
 * UNAVAILABLE, or what the engine said.
 */
int install_piece(struct target *target, const struct blob_id *id,
                  const struct blob_version *version, uint64_t *bytes);
/* Not now, and not by this fiber: a damaged piece of ours. */
void install_later(struct target *target, const struct blob_id *id,
                   const struct blob_version *version);
void node_repairer(void *target); /* loop of a target */

/* ---- slot.c: all of a slot ---- */

/* The next entries of the pool in this partition, as engine_list(); upload records too. */
unsigned slot_list(struct target *target, uint32_t pool, uint32_t partition, uint64_t *cursor,
                   struct engine_entry *entries, unsigned max);
/* Of what is committed; a learner does not count what is damaged here, and pieces of other positions
 * make it another. */
#define SLOT_ALL UINT32_MAX
void slot_digest(struct target *target, uint32_t pool, uint32_t partition, uint32_t position,
                 uint64_t *objects, uint64_t *hash);

/* ---- settle.c, learn.c, care.c: loops of a target ---- */

void node_settler(void *target);
void node_learner(void *target);
/* A piece of this object has just been stored: is the slot still one of this target's? */
void learn_note_stored(struct target *target, const struct blob_id *id);
/* Does it learn this slot now? */
bool learner_has(const struct target *target, uint32_t pool, uint32_t partition);
struct pool *learn_pieces_create(void);
void node_carer(void *target);
bool target_over_quota(struct target *target, const struct pool_view *pool, uint64_t more);
void care_leftovers(struct target *target); /* [fiber] what the primaries of others tell nobody twice */
/* Evict from a cache that is at its quota. [fiber] */
void care_make_room(struct target *t, const struct pool_view *pool, uint64_t more);
void node_scrubber(void *target);

/* ---- read.c ---- */

/* [fiber] The description of our piece, or of somebody else's when ours is damaged. */
int describe_object(struct target *target, const struct engine_entry *entry,
                    struct blob_desc *desc);

/* ---- upload.c ---- */

/* [fiber] Under the head's lock: is this upload open? 0, SHOAL_E_CONDITION, or an error. */
int upload_check_open(struct target *target, const struct blob_id *head, uint64_t upload);
/* [fiber] Under the head's lock: the head is committed, or the writer gave up. */
int upload_close(struct target *target, const struct blob_id *head, uint64_t upload);
void upload_expire(struct target *target, const struct blob_id *record); /* [fiber] */
int upload_is_live(struct target *target, const struct blob_id *head, uint64_t upload,
                   bool *live); /* [fiber] at the head's primary */
bool upload_is_record(const struct blob_id *id);
void upload_touches_free(struct target *target);
/* After an epoch: another primary may hear of some, and if they return, our times of them are old. */
void upload_touches_lost(struct target *target);

/* ---- handlers ---- */

typedef void request_handler(struct request *request);
request_handler serve_map_get, serve_map_push, serve_report, serve_headway;

/* ---- headway.c ---- */

struct metrics;
void headway_create(struct target *target, struct metrics *metrics);
void headway_piece(struct target *target, uint64_t bytes); /* fetched */
void headway_slot(struct target *target);                  /* learned under this epoch */
void headway_count(struct target *target);                 /* a pass begins, or there is nothing to learn */
void headway_epoch(struct target *target);                 /* the map is another */
void headway_report(struct target *target, struct wire_item_target_headway *out);
request_handler serve_put, serve_remove, serve_get, serve_stat, serve_exists, serve_list;
request_handler serve_upload_open, serve_upload_touch, serve_upload_stat;
request_handler serve_prepare, serve_commit, serve_abort, serve_drop, serve_find, serve_fetch;
request_handler serve_recall;
request_handler serve_settle, serve_digest, serve_versions, serve_repair;
request_handler serve_lease;

/* ---- serve.c ---- */

void node_request(void *node, struct net_request *request);
/* Exactly one of these ends a request. [fiber] */
void reply_status(struct request *request, int error);
void reply_encoded(struct request *request, const void *header, size_t len,
                   const struct iovec *payload, unsigned count);
struct wire_head reply_head(const struct request *request);

#define REPLY_ROOM(request, name, message, payload, count, room)                                   \
    do {                                                                                           \
        uint8_t reply_bytes_[room];                                                                \
        struct wire_head reply_head_ = reply_head(request);                                        \
        size_t reply_len_ =                                                                        \
            wire_##name##_reply_encode(reply_bytes_, sizeof reply_bytes_, &reply_head_, message);  \
        reply_encoded(request, reply_bytes_, reply_len_, payload, count);                          \
    } while (0)
#define REPLY(request, name, message, payload, count)                                              \
    REPLY_ROOM(request, name, message, payload, count, 2048)
#define REPLY_LARGE(request, name, message)                                                        \
    REPLY_ROOM(request, name, message, NULL, 0, WIRE_MESSAGE_MAX)

/* Decodes the fields of a request; on failure the request is answered and the handler returns. */
#define REQUEST(request, name, message)                                                            \
    struct wire_##name message;                                                                    \
    if (wire_##name##_decode(&(request)->in, &message) != 0) {                                     \
        reply_status(request, SHOAL_E_INVALID);                                                    \
        return;                                                                                    \
    }

/* May this client use the pool? Whatever a node or an administrator sends is admitted. */
int request_pool_check(const struct request *request, uint32_t pool, struct pool_view *view);
/* R1: 0 when sender and receiver are at the same epoch. */
int request_epoch_check(struct request *request);
/* Is the sender the node of this target? */
bool request_is_from(const struct request *request, uint32_t target);
/* Is it the node of the object's primary? Only that one says what is committed. */
bool request_is_from_primary(const struct request *request, const struct blob_id *id);

static inline uint64_t node_now(const struct node *node)
{
    return reactor_now_ns(node->reactor);
}

/* [fiber] Sleep, but end early when the node stops. False: it stops. */
bool node_pause(struct node *node, uint64_t duration_ns);

/* The code for a layout; made on first use. */
const struct ec_code *node_code(struct node *node, unsigned k, unsigned m);

/* CRC of each unit of a piece. */
void units_compute(const uint8_t *data, uint32_t len, uint32_t *units);
static inline uint32_t units_count(uint32_t len)
{
    return len / ENGINE_UNIT_BYTES + (len % ENGINE_UNIT_BYTES != 0);
}

#endif
