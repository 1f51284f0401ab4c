/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forgetting a whole partition: one record, whatever it held. Its extents go past the quarantine,
 * which is bounded, and wait here for the barrier instead.
 */
#include <stdlib.h>

#include "base/check.h"
#include "engine/internal.h"
#include "engine/record.h"
#include "shoal/error.h"

struct dropped {
    struct engine *engine;
    uint64_t *blocks;
    size_t count, capacity;
};

static void take_extent(struct dropped *dropped, uint32_t pool, uint64_t block)
{
    if (block == 0)
        return;
    CHECK(dropped->count < dropped->capacity);
    dropped->blocks[dropped->count++] = block;
    state_charge(dropped->engine, pool, block, false);
}

static bool take_item(void *ctx, const struct index_item *item)
{
    take_extent(ctx, item->id.pool, item->block);
    return true;
}

static void take_all(struct dropped *dropped, uint32_t partition)
{
    struct engine *engine = dropped->engine;
    index_drop_partition(&engine->index, partition, take_item, dropped);
    list_for_each(prepared_list(&engine->prepared, partition), struct prepared, in_partition, at) {
        if (blob_partition(&at->id, engine->sb.partition_bits) != partition)
            continue;
        take_extent(dropped, at->id.pool, at->place.block);
        at->place.block = 0;
        state_forget_prepared(engine, at, 0);
    }
}

static int append_durably(struct engine *engine, const struct record *record)
{
    int rc = engine_wait_room(engine);
    if (rc != 0)
        return rc;
    struct journal_op op = {0};
    engine_append(engine, record, &op);
    return journal_wait(&engine->journal, &op);
}

static int drop(struct engine *engine, uint32_t partition)
{
    struct dropped dropped = {.engine = engine};
    int rc = engine_wait_room(engine);
    if (rc != 0)
        return rc;
    dropped.capacity =
        engine->index.partitions[partition].committed + prepared_count(&engine->prepared);
    dropped.blocks = malloc((dropped.capacity + 1) * sizeof *dropped.blocks);
    if (dropped.blocks == NULL)
        return SHOAL_E_NO_MEMORY;
    struct record record = {.type = RECORD_DROP_PARTITION, .partition = partition};
    take_all(&dropped, partition);
    struct journal_op op = {0};
    uint64_t seq = engine_append(engine, &record, &op);
    rc = journal_wait(&engine->journal, &op);
    struct record barrier = {.type = RECORD_BARRIER};
    while (rc == 0 && dropped.count > 0 && engine->journal.recorded_barrier < seq)
        rc = append_durably(engine, &barrier);
    for (size_t i = 0; i < dropped.count && rc == 0; i++)
        alloc_give(&engine->alloc, dropped.blocks[i]);
    free(dropped.blocks);
    return rc;
}

int engine_drop_partition(struct engine *engine, uint32_t partition)
{
    if (partition >= 1u << engine->sb.partition_bits)
        return SHOAL_E_INVALID;
    int rc = engine_enter(engine);
    if (rc != 0)
        return rc;
    rc = drop(engine, partition);
    engine_leave(engine);
    return rc;
}
