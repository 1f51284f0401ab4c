/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One settling of one pool's slots: settle.c asks, decide.c judges. All memory is the settling's own
 * and goes with it.
 */
#ifndef SHOAL_NODE_SETTLE_H
#define SHOAL_NODE_SETTLE_H

#include "node/node_private.h"

enum fate { FATE_UNKNOWN, FATE_FORWARD, FATE_BACK, FATE_OBSOLETE, FATE_UNDECIDED };

/* A version that somebody has prepared and not committed. @asked: to be decided now. */
struct claim {
    struct blob_id id;
    struct blob_version version;
    uint16_t depends; /* what all reports agree on */
    enum blob_form form;
    enum fate fate;
    bool asked;
    unsigned object; /* index into testimonies */
};

/* What each clean member and each learner of the set says of one object. */
struct object_testimony {
    struct blob_id id;
    struct members set;
    uint16_t heard; /* positions */
    struct wire_item_testimony from[BLOB_SET_MAX];
};

struct witness {
    struct member member;
    int error;
};

struct settling {
    struct target *target;
    struct pool_view pool;
    uint64_t epoch;
    unsigned slots, settled;
    struct witness *witnesses;
    unsigned witnesses_count;
    struct claim *claims;
    unsigned claims_count, claims_room;
    struct object_testimony *testimonies;
    unsigned testimonies_count;
};

int settling_add(struct settling *s, const struct blob_id *id, const struct blob_version *version,
                 uint16_t depends, enum blob_form form);
struct witness *settling_witness(struct settling *s, uint32_t target);
bool settling_is_current(const struct settling *s);

/* [fiber] Ask everybody who serves or learns its position about each claimed object (R24). */
int settling_testimonies(struct settling *s);
/* [fiber] Decide every claim and act on it; FATE_UNKNOWN stays where acting failed. */
void settling_decide(struct settling *s);

#endif
