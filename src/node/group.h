/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of a node share, each on a reactor of its own: group.c, lease.c. */
#ifndef SHOAL_NODE_GROUP_H
#define SHOAL_NODE_GROUP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/mailbox.h"
#include "core/reactor.h"
#include "node/node.h"

struct offer;

/* @part: where it is served. @stale: to be said when enrolling; the leader's */
struct group_target {
    uint32_t id;
    unsigned part;
    uint64_t device;
    bool stale;
    atomic_bool failed; /* its engine stopped */
    atomic_bool slow;   /* its drive did not answer in time, and it has not enrolled since (R3b) */
    atomic_bool back;   /* it answers again: the leader is to enrol anew */
};

struct bell {
    struct mail mail;
    atomic_bool rung;
};

/* @node: of its own reactor only; NULL before it is created and after */
struct group_part {
    struct node_group *group;
    struct reactor *reactor;
    struct net_service service; /* for requests that came by another part */
    struct node *node;
    _Atomic(struct offer *) offer;
    struct bell offered;
    _Atomic uint64_t epoch; /* that it has adopted */
};

/*
 * struct leases - All by index of the other node in the map. The leader writes, all read.
 * @started_ns: of this process
 * @incarnation: whose leases these are; 0: nobody's
 * @counts_until: theirs to us; @granted_until: ours to them; @asked: when each asked us last
 * @company_ns: when this node last knew that it is not the only one to think that it is up (R47)
 */
struct leases {
    uint64_t started_ns;
    _Atomic uint32_t incarnation;
    _Atomic uint64_t counts_until_ns[CLUSTER_NODES_MAX];
    _Atomic uint64_t granted_until_ns[CLUSTER_NODES_MAX];
    _Atomic uint64_t asked_ns[CLUSTER_NODES_MAX];
    _Atomic uint64_t company_ns;
};

struct node_group {
    unsigned parts_count, targets_count;
    struct group_part parts[NODE_TARGETS_MAX];
    struct group_target targets[NODE_TARGETS_MAX];
    _Atomic uint64_t wanted_epoch; /* by a part that does not lead; 0: none */
    struct bell want;
    struct leases leases;
};

#endif
