/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the authority. authority.c owns the map and publishes; authority_serve.c answers the
 * network; authority_wish.c reads what administrators want; authority_silence.c notices who is not
 * heard any more.
 *
 * Changes are gathered: whoever wants one queues a struct change and waits. The first of a batch
 * starts a timer; when it ends all are applied to a copy, which is saved and becomes the map. So the
 * deaths of a killed cluster are judged together (R4), and its enrolments make one epoch.
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
 * @urgent: does not wait for company
 */
struct change {
    struct list_node node;
    int (*apply)(struct cluster_map *map, void *arg);
    void *arg;
    bool urgent;
    int result;
    struct completion done;
};

/* When a node was last heard, or first missed, in this life of it; and asked whether it lives. */
struct heard {
    uint32_t incarnation;
    uint64_t at_ns, asked_ns;
};

struct authority {
    struct authority_config config;
    struct cluster_map *map;
    struct fiber_pool *fibers;
    struct net_listener *listener;
    struct net_peer *peers[CLUSTER_NODES_MAX];
    char peer_address[CLUSTER_NODES_MAX][CLUSTER_ADDRESS_MAX];
    uint64_t pushed[CLUSTER_NODES_MAX]; /* the epoch that a push under way or done carries */
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
int authority_apply(struct authority *authority, int (*apply)(struct cluster_map *map, void *arg),
                    void *arg, bool urgent);

/* The node's process of this incarnation lives. */
void authority_heard(struct authority *authority, const char *node, size_t len,
                     uint32_t incarnation);
void authority_silence(void *authority); /* the fiber that looks for who is silent */

/* [fiber] Ask a node for the epoch and the incarnation that it has; 0 or what net_call() gave. */
int authority_ask_node(struct net *net, const struct map_node *node, uint64_t deadline_ns,
                       struct wire_map_get_reply *reply);

/* A node has a newer map: ours is an old one, and nothing may come of it. */
void authority_outdated(struct authority *authority, uint64_t epoch);

/* [fiber] The wish node_add: 0 and the answer, or an error and why in @message. */
struct json_t;
int authority_node_add(struct authority *authority, const struct json_t *json,
                       struct json_t **answer, char *message, size_t size);

void authority_request(void *ctx, struct net_request *request);

#endif
