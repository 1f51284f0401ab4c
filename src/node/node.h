/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A storage node: the handlers that clients and other nodes call, and what a node does by itself
 * (settling, catching up, repairing, collecting, evicting).
 *
 * A struct node lives on one reactor and serves one or more targets, each an open engine. A node that
 * runs on several reactors has a struct node on each, which together are one node to all others. It is
 * logic only: sockets, files and processes are given to it through net.h, engine.h, the door to the
 * authority and struct node_store, so the simulator runs it as shoald does. docs/protocol.md has
 * its rules; the comments cite them by number.
 *
 *     node_create(&config, &node);
 *     in a fiber: node_start(node);   enrols and starts to serve; returns at once
 *     in a fiber: node_stop(node);    stops serving, waits for what is under way
 *     node_destroy(node);             then the engines may be closed
 *
 * All functions run on the reactor; those of a group, on any thread.
 */
#ifndef SHOAL_NODE_NODE_H
#define SHOAL_NODE_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/metrics.h"
#include "cluster/cluster.h"
#include "core/dma.h"
#include "engine/engine.h"
#include "net/net.h"

struct node;
struct node_group;
struct reactor;

#define NODE_TARGETS_MAX 32u

/*
 * struct node_target_config - A target that this node serves.
 * @engine: opened; stays the caller's, and must outlive the node
 * @device, @stale: what engine_report said
 */
struct node_target_config {
    uint32_t id;
    uint64_t device;
    struct engine *engine;
    bool stale;
};

/*
 * struct node_store - Where a node keeps its newest map (R1).
 * @load: *bytes is memory that the node frees; SHOAL_E_NOT_FOUND when there is none yet
 * @save: durable on return; may block the thread
 */
struct node_store {
    int (*load)(void *ctx, void **bytes, size_t *len);
    int (*save)(void *ctx, const void *bytes, size_t len);
    void *ctx;
};

/*
 * struct node_config - 0 means the default that stands in brackets.
 * @group, @part: set by node_group_create(); NULL: a node on one reactor
 * @data, @replication: the two planes; may be one and the same struct net
 * @data_address, @replication_address: what to listen on; equal: one listener for both
 * @arena: where payload lies. A put takes one buffer of a stripe and its parity: (k+m)/k of
 *         stripe_len, each shard rounded up to 4 KiB; a read one of engine_read_room(its length)
 */
struct node_config {
    char name[CLUSTER_NAME_MAX];
    struct node_group *group;
    unsigned part;
    struct reactor *reactor;
    struct net *data;
    struct net *replication;
    char data_address[CLUSTER_ADDRESS_MAX];
    char replication_address[CLUSTER_ADDRESS_MAX];
    struct dma_arena *arena;
    struct metrics *metrics; /* NULL: an own one that nobody sees */
    struct authority_door authority;
    struct node_store store;
    unsigned targets_count;
    struct node_target_config targets[NODE_TARGETS_MAX];

    unsigned client_fibers;  /* requests of clients at once (128) */
    unsigned member_fibers;  /* of primaries at once (256) */
    unsigned control_fibers; /* settling, maps, what the node does by itself (64) */
    unsigned call_fibers;    /* calls that a put makes in parallel (512) */
    unsigned client_calls;   /* requests of one client at once (64) */
    unsigned peer_calls;     /* calls to one node at once (128) */
    unsigned window;         /* request ids remembered for each target (16384) */
    uint64_t call_ns;        /* one try of a call to a member (3 s) */
    uint64_t put_ns;         /* how long a put may take in all (10 s) */
    uint64_t wait_ns;        /* how long a request waits for another of its object (3 s) */
    uint64_t commit_batch_ns;  /* commits travel in company (10 ms) */
    uint64_t heartbeat_ns;     /* at most; a twelfth of a lease where there are leases (500 ms) */
    uint64_t slow_ns;          /* a drive that does not answer for so long is as good as dead (5 s) */
    uint64_t tombstone_s;      /* kept at least so long (60) */
    uint64_t upload_s;         /* an upload not touched so long is closed (60) */
    uint64_t care_ns;          /* pause between rounds of collecting and evicting (1 s) */
    uint64_t scrub_bytes_per_s;    /* (32 MiB) */
    uint64_t scrub_pause_ns;       /* before each pass over a target (10 min) */
    uint64_t catch_up_bytes_per_s; /* while there are clients (256 MiB) */
};

/*
 * node_group_create() - Make one node of several. Of each config its reactor and targets are read,
 * and its group and part are set, and the others' authority: the first leads, and it alone uses its
 * authority and its store. What arrives at any of them reaches the one whose target it is for, so
 * all may listen at one address (NET_SHARE_JOIN). Start the first, whose address the others need; stop
 * all before one is destroyed; destroy the group last.
 * Return: 0, SHOAL_E_NO_MEMORY, SHOAL_E_INVALID (more than NODE_TARGETS_MAX targets).
 */
int node_group_create(struct node_config *parts, unsigned count, struct node_group **out);
void node_group_destroy(struct node_group *group);

/* Return: 0, SHOAL_E_NO_MEMORY, SHOAL_E_INVALID, or what loading the saved map gave. */
int node_create(const struct node_config *config, struct node **out);

/*
 * node_start() - [fiber] Listen and begin to enrol. Enrolling goes on in the background until the
 * authority answers. Return: 0 or what net_listen() gave.
 */
int node_start(struct node *node);

/* The addresses really listened on (a port 0 was replaced). */
const char *node_data_address(const struct node *node);
const char *node_replication_address(const struct node *node);

/* The newest map, or NULL; valid until the fiber blocks. */
const struct cluster_map *node_map(const struct node *node);

/* When the node of this index in the map last asked this one for a lease; 0: never. */
uint64_t node_heard_ns(const struct node *node, uint32_t index);

/* True when every slot of which it is primary is settled, and no target is catching up. */
bool node_is_settled(const struct node *node);

/* [fiber] No more requests are taken; those under way end. Engines are left as they are. */
void node_stop(struct node *node);
void node_destroy(struct node *node);

/* What `report` answers, for all parts; [fiber] when there are several. */
void node_report(struct node *node, struct wire_report_reply *report);

#endif
