/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bugs on purpose, to see that the simulator finds them (tests/sim). Only a build configured with
 * -Dplanted=true can have one, and has it only when told to; in every other build PLANTED() is
 * false and costs nothing.
 *
 *     if (PLANTED(skip_settling))
 *         return; // what the rule forbids
 */
#ifndef BASE_PLANTED_H
#define BASE_PLANTED_H

#include <stdbool.h>

/* Each with the rule that it breaks (R: docs/protocol.md; the rest: docs/formats/disk.md). */
#define PLANTED_SOUGHT(X)                                                                           \
    X(early_ack, "R12: a write is acknowledged when all but one member have it")                   \
    X(skip_settling, "R23: a new primary serves without asking what is prepared")                  \
    X(old_epoch, "R1: messages of an older epoch are acted on, and under an older map")            \
    X(early_collection, "R30: a tombstone is dropped at once, whoever may lack it")                \
    X(trusted_checksum, "a read returns what lies on the drive without checking it")               \
    X(reused_extent, "a freed extent is used again before the barrier has passed its record")      \
    X(reused_version, "R10: a restarted primary counts its versions from the start again")         \
    X(answering_learner, "R20: a member answers reads while it catches up")                        \
    X(forgotten_write, "R17, R27: a write in flight does not go to a member that returns")         \
    X(older_beside_prepared, "R20: a member answers from the older of two versions")               \
    X(collected_upload, "R34: stripes of an upload that is going on are collected")                \
    X(unforgotten_request, "R8: a version that was taken back answers the retry of its request")   \
    X(trusted_window, "R8: a new primary takes its window for all that was executed")              \
    X(lost_range, "R38: a target takes over rows that it has not learned")                         \
    X(kept_position, "R40: the piece of a position that a target had before counts as another's")          \
    X(trusted_device, "R4: an empty device under an old name is taken for the one that was there")

/* Of moments too rare for seeds: tests/sim/lease_test.c stages them. */
#define PLANTED_STAGED(X)                                                                          \
    X(ignored_lease, "R44: a member answers readers without the leases that it needs")              \
    X(ignored_grant, "R45: a write goes on without a member to which a lease was granted")

#define PLANTED_LIST(X) PLANTED_SOUGHT(X) PLANTED_STAGED(X)

enum planted {
    PLANTED_none,
#define X(name, what) PLANTED_##name,
    PLANTED_LIST(X)
#undef X
        PLANTED_COUNT
};

/* Those that seeds have to find come first. */
#define X(name, what) +1
enum { PLANTED_SOUGHT_COUNT = 1 PLANTED_SOUGHT(X) };
#undef X

#ifdef SHOAL_PLANTED
extern enum planted planted_bug; /* set before anything else runs */
#define PLANTED(name) (planted_bug == PLANTED_##name)
#else
#define PLANTED(name) false
#endif

const char *planted_name(enum planted bug);
const char *planted_what(enum planted bug);
/* PLANTED_COUNT: there is none of that name. */
enum planted planted_find(const char *name);
/* False: this build has none. */
bool planted_plant(enum planted bug);

#endif
