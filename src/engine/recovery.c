/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "engine/internal.h"
#include "shoal/error.h"

static void problem(struct recovery *recovery, const char *format, ...) PRINTF_LIKE(2, 3);

/* The first problem is the cause of the others. */
static void problem(struct recovery *recovery, const char *format, ...)
{
    if (recovery->problem == NULL || recovery->problem[0] != '\0')
        return;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(recovery->problem, recovery->problem_size, format, args);
    va_end(args);
}

int recovery_start_over(struct engine *engine)
{
    index_free(&engine->index);
    prepared_free(&engine->prepared);
    int rc = index_init(&engine->index, engine->sb.partition_bits, engine->sb.secret,
                        engine->layout.objects_max);
    return rc != 0
               ? rc
               : prepared_init(&engine->prepared, engine->layout.prepared_max, engine->sb.secret);
}

/* The newer checkpoint, or the older one when the newer is damaged. */
static int load_newest(struct engine *engine, struct recovery *recovery)
{
    for (unsigned i = 0; i < 2; i++)
        recovery->head_results[i] = checkpoint_read_head(engine, i, &recovery->heads[i]);
    unsigned first = 0;
    if (recovery->head_results[1] == 0 &&
        (recovery->head_results[0] != 0 || recovery->heads[1].id > recovery->heads[0].id))
        first = 1;
    for (unsigned i = 0; i < 2; i++) {
        unsigned area = i == 0 ? first : 1 - first;
        int rc = recovery->head_results[area];
        if (rc == 0) {
            rc = checkpoint_load(engine, area, &recovery->heads[area], &recovery->ranges);
            recovery->load_results[area] = rc;
            if (rc == 0) {
                recovery->area = area;
                return 0;
            }
            checkpoint_ranges_free(&recovery->ranges);
            int again = recovery_start_over(engine);
            if (again != 0)
                return again;
            if (rc == SHOAL_E_NO_MEMORY)
                return rc;
        }
        if (rc != SHOAL_E_NOT_FOUND)
            problem(recovery, "checkpoint %u is damaged (%s)", area, shoal_error_text(rc));
    }
    problem(recovery, "neither checkpoint can be read");
    return SHOAL_E_CORRUPT;
}

/* An extent that overlaps another was not written by us: its bytes are not to be trusted. */
static bool mark(struct engine *engine, const struct state_piece *piece)
{
    if (piece->place.block == 0)
        return true;
    if (alloc_mark(&engine->alloc, &piece->place, state_extent_blocks(piece)) != 0)
        return false;
    state_charge(engine, piece->id.pool, piece->place.block, true);
    return true;
}

static void derive_space(struct engine *engine, struct recovery *recovery)
{
    engine->allocating = true;
    struct index_item items[INDEX_TABLE_MAX];
    struct index_key key = {0, 0}, next;
    for (; key.partition < 1u << engine->sb.partition_bits; key = next) {
        unsigned count = index_walk_table(&engine->index, &key, items, NULL, &next);
        for (unsigned i = 0; i < count; i++) {
            struct state_piece piece;
            state_piece_of(engine, &items[i], &piece);
            if (mark(engine, &piece))
                continue;
            recovery->overlaps++;
            struct index_slot *slot = index_find_id(&engine->index, &piece.id);
            slot->block = 0;
            index_slot_set_hollow(slot, true);
        }
    }
    list_for_each(&engine->prepared.all, struct prepared, in_all, prepared) {
        struct state_piece piece = {.id = prepared->id,
                                    .shared = prepared->shared,
                                    .shard_len = prepared->shard_len,
                                    .place = prepared->place};
        if (mark(engine, &piece))
            continue;
        recovery->overlaps++;
        prepared->place.block = 0;
        prepared->hollow = true;
    }
}

/* Is what this record brought still here, and where? */
static bool still_there(struct engine *engine, const struct recovery_check *check,
                        struct read_target *target)
{
    struct prepared *prepared = prepared_find(&engine->prepared, &check->id);
    if (prepared != NULL && prepared->place.block == check->block &&
        blob_version_compare(&prepared->version, &check->version) == 0) {
        *target = (struct read_target){.version = prepared->version,
                                       .block = check->block,
                                       .shard_len = prepared->shard_len,
                                       .shared = prepared->shared};
        return !prepared->hollow;
    }
    struct index_slot *slot = index_find_id(&engine->index, &check->id);
    if (slot == NULL || slot->block != check->block)
        return false;
    *target = (struct read_target){.version = index_slot_version(&engine->index, slot),
                                   .block = check->block,
                                   .shard_len = slot->shard_len,
                                   .shared = slot->shared};
    return !slot->hollow && blob_version_compare(&target->version, &check->version) == 0;
}

/* @torn: the extent is not what was written, rather than unreadable. */
static void make_hollow(struct engine *engine, struct recovery_check *check, bool torn)
{
    bool forget = engine_broken(engine, ENGINE_RULE_HOLLOW);
    struct prepared *prepared = prepared_find(&engine->prepared, &check->id);
    if (prepared != NULL && prepared->place.block == check->block) {
        prepared->hollow = true;
        prepared->torn = check->torn = torn;
        if (forget)
            state_forget_prepared(engine, prepared, check->seq);
        return;
    }
    struct index_slot *slot = index_find_id(&engine->index, &check->id);
    CHECK(slot != NULL);
    index_slot_set_hollow(slot, true);
    if (forget)
        state_drop(engine, &check->id, check->seq);
}

/* Beyond the barrier nothing promises that the extents arrived. What stays in @checks is hollow. */
static int verify_payloads(struct engine *engine, struct recovery *recovery)
{
    size_t kept = 0;
    for (size_t i = 0; i < recovery->check_count; i++) {
        struct recovery_check *check = &recovery->checks[i];
        struct read_target target;
        uint32_t header_crc = 0;
        if (check->seq <= recovery->barrier || !still_there(engine, check, &target))
            continue;
        int rc = read_verify(engine, &check->id, &target, engine->chunk, &header_crc);
        if (rc == 0 && header_crc == check->header_crc)
            continue;
        make_hollow(engine, check, rc == 0 || rc == SHOAL_E_CORRUPT);
        recovery->hollow++;
        recovery->checks[kept++] = *check;
    }
    recovery->check_count = kept;
    return 0;
}

int recovery_run(struct engine *engine, struct recovery *recovery)
{
    int rc = load_newest(engine, recovery);
    if (rc != 0)
        return rc;
    const struct checkpoint_head *head = &recovery->heads[recovery->area];
    rc = replay_journal(engine, head, recovery);
    if (rc != 0) {
        problem(recovery, "a valid journal record cannot be applied (%s)", shoal_error_text(rc));
        return rc == SHOAL_E_NO_MEMORY ? rc : SHOAL_E_CORRUPT;
    }
    derive_space(engine, recovery);
    if (!engine_broken(engine, ENGINE_RULE_VERIFY))
        rc = verify_payloads(engine, recovery);
    else
        recovery->check_count = 0;
    if (recovery->damaged)
        problem(recovery, "the journal is damaged at position %llu: what came after it is lost",
                (unsigned long long)recovery->damaged_position);
    if (recovery->generation > engine->sb.generation)
        problem(recovery, "the superblock is older than the journal");
    if (recovery->overlaps > 0)
        problem(recovery, "%llu extents overlap others", (unsigned long long)recovery->overlaps);

    unsigned other = 1 - recovery->area;
    uint64_t tail = head->position;
    bool other_ok = recovery->head_results[other] == 0 && recovery->load_results[other] == 0 &&
                    recovery->heads[other].id < head->id;
    if (other_ok && recovery->heads[other].position < tail &&
        recovery->at.head - recovery->heads[other].position <= engine->layout.journal_blocks)
        tail = recovery->heads[other].position;
    recovery->at.tail = tail;
    return rc;
}

void recovery_free(struct recovery *recovery)
{
    checkpoint_ranges_free(&recovery->ranges);
    free(recovery->checks);
    *recovery = (struct recovery){0};
}
