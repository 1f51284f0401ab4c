/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/check.h"
#include "base/macros.h"
#include "shoal/error.h"
#include "trial.h"

#define PARTITIONS (1u << TRIAL_PARTITION_BITS)

static unsigned object_of(const struct blob_id *id)
{
    unsigned object = 0;

    for (unsigned i = 0; i < 4; i++)
        object |= (unsigned)id->key.bytes[i] << 8 * i;
    CHECK(object >= 1 && object <= TRIAL_OBJECTS);
    return object - 1;
}

static uint32_t partition_of(unsigned object)
{
    const struct blob_id id = fixture_id(object);
    return blob_partition(&id, TRIAL_PARTITION_BITS);
}

/* ---- listing ---- */

struct seen {
    unsigned committed[TRIAL_OBJECTS];
    unsigned prepared[TRIAL_OBJECTS];
};

static void walk(struct trial *trial, uint32_t partition, bool pauses, struct seen *seen)
{
    struct engine_entry entries[7];
    uint64_t cursor = 0;

    do {
        unsigned max = 2 + (unsigned)prng_below(&trial->fixture.prng, 6);
        unsigned got = engine_list(trial->engine, partition, &cursor, entries, max);
        for (unsigned i = 0; i < got; i++) {
            unsigned object = object_of(&entries[i].id);
            (entries[i].prepared ? seen->prepared : seen->committed)[object]++;
            if (partition_of(object) != partition)
                trial_complain(trial, object, "listed in another partition", 0);
        }
        if (pauses)
            fiber_sleep(100000);
    } while (cursor != 0);
}

void trial_walk(struct trial *trial)
{
    struct object before[TRIAL_OBJECTS];
    struct seen seen = {0};

    memcpy(before, trial->objects, sizeof before);
    for (uint32_t partition = 0; partition < PARTITIONS; partition++)
        walk(trial, partition, true, &seen);
    for (unsigned i = 0; i < TRIAL_OBJECTS; i++) {
        const struct object *now = &trial->objects[i];
        if (!trial->strict || now->changes != before[i].changes)
            continue;
        /* A change may have been under way from before to after: then nothing is known. */
        if (seen.committed[i] > 1 || seen.prepared[i] > 1 ||
            (now->committed.version != 0 && seen.committed[i] != 1))
            trial_complain(trial, i, "a walk does not see what stays exactly once", 0);
    }
}

void trial_check_partitions(struct trial *trial)
{
    struct seen seen = {0};
    unsigned prepared = 0;
    struct engine_entry entries[TRIAL_OBJECTS];

    trial_check_objects(trial);
    for (uint32_t partition = 0; partition < PARTITIONS; partition++) {
        struct engine_digest digest;
        struct seen here = {0};
        walk(trial, partition, false, &here);
        engine_partition_digest(trial->engine, partition, &digest);
        for (unsigned i = 0; i < TRIAL_OBJECTS; i++) {
            digest.committed -= here.committed[i];
            digest.prepared -= here.prepared[i];
            seen.committed[i] += here.committed[i];
            seen.prepared[i] += here.prepared[i];
            prepared += here.prepared[i];
        }
        if (digest.committed != 0 || digest.prepared != 0)
            trial_complain(trial, partition, "a digest counts other entries than are listed", 0);
    }
    if (engine_list_prepared(trial->engine, entries, TRIAL_OBJECTS) != prepared)
        trial_complain(trial, 0, "more or fewer prepared pieces than are listed", 0);
    for (unsigned i = 0; i < TRIAL_OBJECTS && trial->strict; i++)
        if (seen.committed[i] != (trial->objects[i].committed.version != 0) ||
            seen.prepared[i] != (trial->objects[i].prepared.version != 0))
            trial_complain(trial, i, "listed otherwise than the model has it", 0);
}

/* ---- changes to many ---- */

void trial_drop_partition(struct trial *trial)
{
    uint32_t partition = (uint32_t)prng_below(&trial->fixture.prng, PARTITIONS);
    int error = engine_drop_partition(trial->engine, partition);

    trial->operations++;
    if (error != 0) {
        if (trial->strict)
            trial_complain(trial, partition, "dropping a partition", error);
        return;
    }
    for (unsigned i = 0; i < TRIAL_OBJECTS; i++) {
        if (partition_of(i) != partition)
            continue;
        trial->objects[i].committed = (struct piece){0};
        trial->objects[i].prepared = (struct piece){0};
    }
    trial_check_partitions(trial);
}

void trial_evict(struct trial *trial)
{
    for (unsigned i = 0; i < 4; i++) {
        struct engine_entry entry;
        unsigned candidates = 0;
        for (unsigned j = 0; j < TRIAL_OBJECTS; j++)
            candidates += trial->objects[j].committed.form == BLOB_BYTES;
        int error = engine_evict_pick(trial->engine, FIXTURE_POOL, &entry);
        trial->operations++;
        if (error != 0) {
            if (trial->strict && (error != SHOAL_E_NOT_FOUND || candidates > 0))
                trial_complain(trial, 0, "nothing is picked for eviction", error);
            return;
        }
        unsigned object = object_of(&entry.id);
        if (entry.form != BLOB_BYTES || entry.prepared)
            trial_complain(trial, object, "what has no committed bytes is picked", 0);
        if (trial->strict && !fixture_same(&trial->objects[object].committed, &entry))
            trial_complain(trial, object, "what is not there is picked", 0);
        trial_drop(trial, object);
    }
}

/* ---- decay ---- */

/* Flip a bit wherever the drive holds the first bytes of a piece. */
static void plant_rot(struct trial *trial, unsigned object)
{
    const struct piece *piece = &trial->objects[object].committed;
    uint64_t size = dev_sim_store_size(trial->fixture.store);
    uint8_t expected[60000], block[DEV_BLOCK_BYTES];
    size_t compared = MIN((size_t)piece->len, (size_t)1024);

    CHECK(piece->len <= sizeof expected);
    fixture_fill(expected, piece->len, object, piece->version);
    for (uint64_t at = 0; at < size; at += sizeof block) {
        dev_sim_store_read(trial->fixture.store, at, block, sizeof block);
        const uint8_t *found = memmem(block, sizeof block, expected, compared);
        if (found != NULL)
            dev_sim_store_flip_bit(trial->fixture.store, at + (uint64_t)(found - block),
                                   (unsigned)prng_below(&trial->fixture.prng, 8));
    }
}

static void count_damaged(void *ctx, const struct engine_entry *entry)
{
    unsigned *damaged = ctx;
    damaged[object_of(&entry->id)]++;
}

/* Two passes: what the first one finds, and what is known already, the second one tells again. */
static int scrub_twice(struct trial *trial, unsigned *damaged)
{
    for (unsigned passes = 0; passes < 2;) {
        int64_t bytes = engine_scrub_step(trial->engine, 5, count_damaged, damaged);
        if (bytes < 0)
            return (int)bytes;
        passes += bytes == 0;
    }
    return 0;
}

void trial_scrub(struct trial *trial)
{
    unsigned damaged[TRIAL_OBJECTS] = {0}, victim = TRIAL_OBJECTS;

    for (unsigned i = 0; i < TRIAL_OBJECTS; i++) {
        const struct piece *piece = &trial->objects[i].committed;
        if (piece->form == BLOB_BYTES && piece->len >= 1024 && !piece->hollow)
            victim = i;
    }
    trial->operations++;
    int error = engine_sync(trial->engine);
    if (victim < TRIAL_OBJECTS)
        plant_rot(trial, victim);
    if (error == 0)
        error = scrub_twice(trial, damaged);
    if (!trial->strict)
        return;
    for (unsigned i = 0; i < TRIAL_OBJECTS; i++) {
        bool bad = i == victim || trial->objects[i].committed.hollow;
        if (damaged[i] != (bad ? 2 : 0))
            trial_complain(trial, i,
                           bad ? "the scrubber does not tell of rot on each pass"
                               : "the scrubber finds rot that is not there",
                           error);
    }
    if (victim == TRIAL_OBJECTS)
        return;
    trial->objects[victim].committed.hollow = true;
    trial_find(trial, victim);
    if (prng_chance(&trial->fixture.prng, 1, 2))
        trial_repair(trial, victim);
}
