/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All of a slot. The engine's partitions hold every pool, whose sets differ, so what two members
 * compare is a pool's part of a partition.
 */
#include "base/hash.h"
#include "base/planted.h"
#include "node/node_private.h"

#define STRAY 0x5bd1e995u /* makes a digest another one, so that strays are found, and dropped */

unsigned slot_list(struct target *t, uint32_t pool, uint32_t partition, uint64_t *cursor,
                   struct engine_entry *entries, unsigned max)
{
    unsigned count = engine_list(t->engine, partition, cursor, entries, max);
    unsigned kept = 0;
    for (unsigned i = 0; i < count; i++)
        if ((entries[i].id.pool & ~BLOB_POOL_UPLOADS) == pool)
            entries[kept++] = entries[i];
    return kept;
}

/* Is it the piece of another position than the one that is learned? Nobody has such a piece. */
static bool is_stray(const struct engine_entry *entry, uint32_t position)
{
    return position != SLOT_ALL && entry->position != position && !PLANTED(kept_position);
}

/* The sum does not depend on the order of listing, which differs between members. */
void slot_digest(struct target *t, uint32_t pool, uint32_t partition, uint32_t position,
                 uint64_t *objects, uint64_t *hash)
{
    struct engine_entry entries[64];
    uint64_t cursor = 0;
    *objects = *hash = 0;
    do {
        unsigned count = slot_list(t, pool, partition, &cursor, entries, 64);
        for (unsigned i = 0; i < count; i++) {
            const struct engine_entry *e = &entries[i];
            if (e->prepared || (e->hollow && position != SLOT_ALL))
                continue;
            uint64_t h = blob_id_hash(&e->id, 1);
            h = hash_mix64(h ^ e->version.epoch);
            h = hash_mix64(h ^ e->version.incarnation);
            h = hash_mix64(h ^ e->version.counter ^ (is_stray(e, position) ? STRAY : 0));
            *hash += hash_mix64(h ^ (e->form == BLOB_TOMBSTONE));
            (*objects)++;
        }
    } while (cursor != 0);
}
