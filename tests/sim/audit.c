/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is the redundancy whole? When nothing is wrong any more and all is quiet, the members of each set hold
 * the same: every object that one of them has, tombstones too, all have, committed at the same version, undamaged, each
 * the piece of its position; nothing is left half done, nor with a target that it has moved away from. Looked at in the engines themselves, past all that nodes say. A pool of one
 * copy has nothing to be made whole from.
 */
#include <stdarg.h>
#include <stdio.h>

#include "base/check.h"
#include "base/macros.h"
#include "sim.h"

#define ENTRIES 64u

struct auditor {
    struct sim *sim;
    const struct cluster_map *map;
    char *why;
    size_t size;
};

static struct engine *engine_of(const struct sim *sim, uint32_t target)
{
    return sim->nodes[target / sim->drives].drives[target % sim->drives].engine;
}

static bool missing(const struct auditor *a, const struct engine_entry *entry, uint32_t target,
                    const char *what)
{
    int len = snprintf(a->why, a->size,
                       "pool %u key %02x%02x.. kind %u form %u version (%llu, %u, %llu) on "
                       "target %u %s;",
                       entry->id.pool, entry->id.key.bytes[0], entry->id.key.bytes[1],
                       (unsigned)entry->kind, (unsigned)entry->form,
                       (unsigned long long)entry->version.epoch, entry->version.incarnation,
                       (unsigned long long)entry->version.counter, target, what);
    const struct map_pool *pool = cluster_map_pool(a->map, entry->id.pool & ~BLOB_POOL_UPLOADS);
    struct target_set set;

    cluster_map_set(a->map, pool, &entry->id, &set);
    for (unsigned i = 0; i < set.width && len >= 0 && (size_t)len < a->size; i++) {
        struct engine_entry committed = {0}, prepared = {0};
        (void)engine_find(engine_of(a->sim, set.targets[i]->id), &entry->id, &committed, &prepared);
        len += snprintf(a->why + len, a->size - (size_t)len, " %u has %llu.%llu %llu.%llu",
                        set.targets[i]->id, (unsigned long long)committed.version.epoch,
                        (unsigned long long)committed.version.counter,
                        (unsigned long long)prepared.version.epoch,
                        (unsigned long long)prepared.version.counter);
    }
    return false;
}

/* What the others of its set say of @entry, which @target has. */
static bool all_have(const struct auditor *a, const struct engine_entry *entry, uint32_t target)
{
    const struct map_pool *pool = cluster_map_pool(a->map, entry->id.pool & ~BLOB_POOL_UPLOADS);
    struct target_set set;

    CHECK(pool != NULL);
    cluster_map_set(a->map, pool, &entry->id, &set);
    unsigned position = 0;
    while (position < set.width && set.targets[position]->id != target)
        position++;
    if (position == set.width)
        return missing(a, entry, target, "is of a slot that moved away");
    if (entry->position != position)
        return missing(a, entry, target, "is the piece of another position");
    if (set.width == 1)
        return true;
    if (entry->prepared)
        return missing(a, entry, target, "is still prepared");
    if (entry->hollow)
        return missing(a, entry, target, "is damaged");
    for (unsigned i = 0; i < set.width; i++) {
        struct engine_entry theirs = {0};
        (void)engine_find(engine_of(a->sim, set.targets[i]->id), &entry->id, &theirs, NULL);
        if (blob_version_compare(&theirs.version, &entry->version) != 0)
            return missing(a, entry, set.targets[i]->id, "is not there");
    }
    return true;
}

static bool target_is_right(const struct auditor *a, uint32_t target)
{
    struct engine_entry entries[ENTRIES];

    for (uint32_t partition = 0; partition < 1u << SIM_PARTITION_BITS; partition++) {
        uint64_t cursor = 0;
        do {
            unsigned count =
                engine_list(engine_of(a->sim, target), partition, &cursor, entries, ENTRIES);
            for (unsigned i = 0; i < count; i++)
                if (!all_have(a, &entries[i], target))
                    return false;
        } while (cursor != 0);
    }
    return true;
}

bool audit(struct sim *sim, char *why, size_t size)
{
    const struct auditor a = {sim, authority_map(sim->authority.authority), why, size};

    for (unsigned node = 0; node < SIM_NODES; node++)
        for (unsigned drive = 0; drive < sim->drives; drive++)
            if (sim->nodes[node].joined && !target_is_right(&a, sim_target(sim, node, drive)))
                return false;
    return true;
}
