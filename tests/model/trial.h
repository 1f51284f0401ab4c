/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An engine beside a model of it: an array that says for each object what is committed and what is
 * prepared. Random operations go to both, from several fibers at once, each with objects of its
 * own; every answer is compared. When the drive has faults the demand becomes: an error or the
 * right bytes, never other bytes, and no version that was never written.
 */
#ifndef SHOAL_TESTS_MODEL_TRIAL_H
#define SHOAL_TESTS_MODEL_TRIAL_H

#include "../engine/fixture.h"

#define TRIAL_OBJECTS 96u
#define TRIAL_LANES 6u
#define TRIAL_PARTITION_BITS 3u

struct object {
    struct piece committed;
    struct piece prepared;
    uint64_t changes; /* begun; grows with each */
};

/* What was ever given to the engine under a version's number. */
struct written {
    uint8_t object;
    uint8_t form;
    uint32_t len;
};

/*
 * struct trial - @strict: nothing fails, every answer must be the model's. Otherwise an operation
 * may fail, and what is held may be older or missing; only bytes and versions are judged.
 */
struct trial {
    struct fixture fixture;
    struct object objects[TRIAL_OBJECTS];
    struct written *written;
    uint64_t versions, versions_max;
    struct dev *dev;
    struct engine *engine;
    struct engine_report report;
    struct dev_sim_faults faults;
    bool strict;
    bool over;
    unsigned rounds, round_operations; /* of each lane */
    uint64_t operations, refused, judged_bytes;
    char wrong[256];
};

struct trial *trial_create(uint64_t device_bytes, uint64_t seed, uint64_t versions_max);

/* Fails the test if something was wrong. Return: how many operations were compared. */
uint64_t trial_end(struct trial *trial);

/* Rounds of operations, and between them looks at the whole, crashes, and openings. */
void trial_run(struct trial *trial);

/* ---- [fiber] parts of it ---- */

int trial_open(struct trial *trial); /* with the faults on from the moment it is open */
void trial_close(struct trial *trial, bool fast);

/* The model takes over what the engine says, if that was once true. */
void trial_adopt(struct trial *trial);

/* Is each object as the model says? Only in a strict trial. */
void trial_check_objects(struct trial *trial);

void trial_complain(struct trial *trial, unsigned object, const char *what, int error);

void trial_prepare(struct trial *trial, unsigned number);
void trial_commit(struct trial *trial, unsigned number);
void trial_abort(struct trial *trial, unsigned number);
void trial_drop(struct trial *trial, unsigned number);
void trial_repair(struct trial *trial, unsigned number);
void trial_read(struct trial *trial, unsigned number);
void trial_find(struct trial *trial, unsigned number);

/* ---- [fiber] whole.c: looks at the engine as a whole, with no other operation under way ---- */

void trial_check_partitions(struct trial *trial);
void trial_drop_partition(struct trial *trial);
void trial_evict(struct trial *trial);
void trial_scrub(struct trial *trial);

/* A walk of all partitions while other fibers change them. */
void trial_walk(struct trial *trial);

#endif
