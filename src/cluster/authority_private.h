/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the authority. authority.c owns the map and publishes; authority_serve.c answers the
 * network; authority_wish.c reads what administrators want; authority_silence.c notices who is not
 * heard any more, authority_out.c who is down for too long; authority_survey.c asks all before one leads.
 *
 * Changes are gathered: whoever wants one queues a struct change and waits. The first of a batch
 * starts a timer; when it ends all are applied to a copy, which is saved and becomes the map. So the
 * deaths of a killed cluster are judged together (R4), and its enrolments make one epoch. What moved
 * is published at most once in config.move_ns, for each epoch costs every node something.
 */
#ifndef SHOAL_CLUSTER_AUTHORITY_PRIVATE_H
#define SHOAL_CLUSTER_AUTHORITY_PRIVATE_H

#include "base/list.h"
#include "cluster/cluster.h"
#include "core/fiber.h"
#include "net/net.h"

#define AUTHORITY_FIBERS 128u
/* Changes that wait while nothing can be saved; the other fibers go on answering. */
#define AUTHORITY_CHANGES_MAX 64u
#define AUTHORITY_PUSH_NS 2000000000ull

/*
 * struct change - One wish for another map, on the stack of the fiber that waits for it.
 * @apply: alters the copy; a refusal leaves it as it was
 * @urgent: does not wait for company; @patient: waits for the next time that moves are published
 */
struct change {
    struct list_node node;
    int (*apply)(struct cluster_map *map, void *arg);
    void *arg;
    bool urgent, patient;
    int result;
    struct completion done;
};

/* When a node was last heard, or first missed, in this life of it; and asked whether it lives. */
struct heard {
    uint32_t incarnation;
    uint64_t at_ns, asked_ns;
    uint64_t epoch, behind_ns; /* the one that it said, and since when that is an old one; 0: it is not */
};

/*
 * struct absence - Of a target that is down, as far as this authority has seen.
 * @since_ns: 0: it is not down
 * @incarnation: of its node's life that ended
 * @epoch: in which it was down
 * @alone_ns: since when no other node can be in its company (R47); 0: some may be
 */
struct absence {
    uint64_t since_ns, epoch, alone_ns;
    uint32_t incarnation;
    bool gave_up_ones;
};

struct authority {
    struct authority_config config;
    struct cluster_map *map;
    struct fiber_pool *fibers;
    struct net_listener *listener;
    struct net_peer *peers[CLUSTER_NODES_MAX];
    char peer_address[CLUSTER_NODES_MAX][CLUSTER_ADDRESS_MAX];
    uint64_t seen_epoch[CLUSTER_NODES_MAX];    /* as the node's last heartbeat said, */
    uint32_t seen_incarnation[CLUSTER_NODES_MAX]; /* and who sent it */
    bool unconfirmed;    /* the newest map waits for everybody to know it (R46) */
    bool all_know;       /* everybody does */
    uint64_t moved_ns;   /* when moves were published last */
    uint64_t silence_ns; /* after which a node is down; 0: somebody else sees deaths */
    struct absence *absences; /* of each target in the map */
    uint32_t absences_count;
    struct list changes;
    unsigned changes_count;
    struct fiber_queue work;
    struct fiber_group running;
    struct heard heard[CLUSTER_NODES_MAX];
    struct fiber_queue end; /* woken when it stops */
    bool outdated;
    bool stopping;
};

/* [fiber] Queue, wait, and return what came of it. */
enum apply_when { APPLY_GATHERED, APPLY_AT_ONCE, APPLY_WITH_MOVES };
int authority_apply(struct authority *authority, int (*apply)(struct cluster_map *map, void *arg),
                    void *arg, enum apply_when when);

/* A heartbeat: does everybody know the newest map now (R39, R46)? */
void authority_saw(struct authority *authority, uint32_t node, uint32_t incarnation,
                   uint64_t epoch);

/* authority_out.c: loop: what is down for too long is out (R42). */
void authority_outs(void *authority);

/* The node's process of this incarnation lives. */
void authority_heard(struct authority *authority, const char *node, size_t len,
                     uint32_t incarnation, uint64_t epoch);
void authority_silence(void *authority); /* the fiber that looks for who is silent */
/* Has the node said that it is at the newest epoch? */
bool authority_knows(const struct authority *authority, uint32_t node);

/* [fiber] Ask a node for the epoch and the incarnation that it has; 0 or what net_call() gave. */
int authority_ask_node(struct net *net, const struct map_node *node, uint64_t deadline_ns,
                       struct wire_map_get_reply *reply);

/*
 * struct survey - What nodes say when they are asked, authority_survey.c.
 * @self: the node that asks, which lives. @heard: as of struct authority_etcd_config, with @ctx
 * @newest: out: of the epochs that were answered in time; one that comes later says so itself
 * @silent_ns: out, of each node of the map: as of struct authority_config
 */
struct survey {
    struct reactor *reactor;
    struct net *net;
    struct fiber_pool *fibers;
    const char *self;
    uint64_t (*heard)(void *ctx, uint32_t node);
    void *ctx;
    uint64_t newest;
    uint64_t *silent_ns;
};
/* [fiber] Asks all nodes that are up in the map, for 700 ms at most. */
void authority_survey(struct survey *survey, const struct cluster_map *map);

/* A node has a newer map: ours is an old one, and nothing may come of it. */
void authority_outdated(struct authority *authority, uint64_t epoch);

/* [fiber] The wish node_add: 0 and the answer, or an error and why in @message. */
struct json_t;
int authority_node_add(struct authority *authority, const struct json_t *json,
                       struct json_t **answer, char *message, size_t size);

/* authority_moving.c: node_drain, node_remove, node_weight. [fiber] */
struct json_t;
int authority_node_moving(struct authority *authority, const char *wish, const struct json_t *json,
                          char *message, size_t size);

int authority_nodes_move(struct authority *authority, const struct json_t *json, char *message,
                         size_t size);

void authority_request(void *ctx, struct net_request *request);

#endif
