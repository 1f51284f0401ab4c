/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which piece of a cache to give up: nearly the least recently used.
 *
 * Each pick looks at two random tables of the index, some eighty entries, and keeps the best that
 * it ever saw among EVICT_CANDIDATES. A candidate that was used since, or is gone, falls out. With
 * 10,000 pieces this comes within a fraction of a point of the hit ratio of exact LRU, and costs no
 * memory for each piece but 16 bits of time.
 */
#include "engine/internal.h"
#include "shoal/error.h"

#define TABLES_A_PICK 2u

/* A pool that is a small part of the index is looked for a little longer. */
#define TABLES_MAX 64u

static uint16_t age(const struct engine *engine, uint16_t tick)
{
    return (uint16_t)(engine->tick - tick);
}

static bool better(const struct engine *engine, const struct evict_candidate *a,
                   const struct evict_candidate *b)
{
    if (a->expired != b->expired)
        return a->expired;
    return age(engine, a->tick) > age(engine, b->tick);
}

static bool valid(struct engine *engine, const struct evict_candidate *candidate)
{
    const struct index_slot *slot = index_find_id(&engine->index, &candidate->id);
    if (slot == NULL || slot->tick != candidate->tick)
        return false;
    struct blob_version version = index_slot_version(&engine->index, slot);
    return blob_version_compare(&version, &candidate->version) == 0;
}

/* Into a free place, or in the place of the worst of this pool, or of a pool's last one. */
static void offer(struct engine *engine, const struct evict_candidate *candidate)
{
    struct evict_candidate *worst = NULL;
    for (unsigned i = 0; i < engine->candidate_count; i++) {
        struct evict_candidate *at = &engine->candidates[i];
        if (blob_id_equal(&at->id, &candidate->id)) {
            *at = *candidate;
            return;
        }
        if (worst == NULL || better(engine, worst, at))
            worst = at;
    }
    if (engine->candidate_count < EVICT_CANDIDATES)
        engine->candidates[engine->candidate_count++] = *candidate;
    else if (better(engine, candidate, worst))
        *worst = *candidate;
}

static unsigned sample_table(struct engine *engine, uint32_t pool)
{
    struct index_item items[INDEX_TABLE_MAX];
    uint64_t random = prng_next(reactor_prng(engine->dev->reactor));
    uint64_t now_s = reactor_wall_s(engine->dev->reactor);
    unsigned count = index_sample(&engine->index, random, items), found = 0;
    for (unsigned i = 0; i < count; i++) {
        const struct index_item *item = &items[i];
        if (item->id.pool != pool || item->form != BLOB_BYTES)
            continue;
        found++;
        struct evict_candidate candidate = {
            .id = item->id,
            .version = item->version,
            .tick = item->tick,
            .expired = item->expires_s != 0 && item->expires_s <= now_s,
        };
        offer(engine, &candidate);
    }
    return found;
}

static int pick(struct engine *engine, uint32_t pool)
{
    int best = -1;
    for (unsigned i = 0; i < engine->candidate_count;) {
        struct evict_candidate *at = &engine->candidates[i];
        if (!valid(engine, at)) {
            *at = engine->candidates[--engine->candidate_count];
            continue;
        }
        if (at->id.pool == pool && (best < 0 || better(engine, at, &engine->candidates[best])))
            best = (int)i;
        i++;
    }
    return best;
}

/* The pool's pieces are so few that sampling misses them: the first one in order. */
static int find_any(struct engine *engine, uint32_t pool)
{
    struct index_item items[INDEX_TABLE_MAX];
    struct index_key key = {0, 0}, next;
    for (; key.partition < 1u << engine->sb.partition_bits; key = next) {
        unsigned count = index_walk_table(&engine->index, &key, items, NULL, &next);
        for (unsigned i = 0; i < count; i++) {
            if (items[i].id.pool != pool || items[i].form != BLOB_BYTES)
                continue;
            engine->candidate_count = 0;
            struct evict_candidate candidate = {
                .id = items[i].id, .version = items[i].version, .tick = items[i].tick};
            offer(engine, &candidate);
            return 0;
        }
    }
    return -1;
}

int engine_evict_pick(struct engine *engine, uint32_t pool, struct engine_entry *entry)
{
    const struct intern_pool *at = intern_pool_find(&engine->index.intern, pool);
    if (at == NULL || at->objects == 0)
        return SHOAL_E_NOT_FOUND;
    unsigned found = 0;
    for (unsigned i = 0; i < TABLES_MAX && (i < TABLES_A_PICK || found == 0); i++)
        found += sample_table(engine, pool);
    int best = pick(engine, pool);
    if (best < 0)
        best = find_any(engine, pool);
    if (best < 0)
        return SHOAL_E_NOT_FOUND;
    struct evict_candidate chosen = engine->candidates[best];
    engine->candidates[best] = engine->candidates[--engine->candidate_count];
    return engine_find(engine, &chosen.id, entry, NULL);
}
