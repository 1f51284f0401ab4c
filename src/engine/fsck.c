/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "engine/internal.h"
#include "shoal/error.h"

struct fsck {
    struct dev *dev;
    struct dma_arena *arena;
    bool repair;
    FILE *out;
    struct engine_fsck_result *result;

    struct superblock sb;
    struct superblock_found found;
    struct engine *engine;
    struct recovery recovery;
    bool swept, rewrite;
    char problem[256];
};

static void say(struct fsck *fsck, bool error, const char *format, ...) PRINTF_LIKE(3, 4);

static void say(struct fsck *fsck, bool error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vfprintf(fsck->out, format, args);
    va_end(args);
    (void)fputc('\n', fsck->out);
    fsck->result->errors += error;
}

static const char *copy_state(const struct superblock_found *found, unsigned which)
{
    switch (found->result[which]) {
    case SHOAL_E_FORMAT:
        return found->version[which] != 0 ? "of a newer format" : "not there";
    case SHOAL_E_IO:
        return "unreadable";
    default:
        return "damaged";
    }
}

static int check_superblocks(struct fsck *fsck, void *buffer)
{
    int rc = superblock_load(fsck->dev, buffer, &fsck->sb, &fsck->found);
    const struct superblock_found *found = &fsck->found;
    if (rc == SHOAL_E_FORMAT && (found->version[0] != 0 || found->version[1] != 0)) {
        say(fsck, true, "superblock: format version %u is newer than this program's (%u)",
            MAX(found->version[0], found->version[1]), SUPERBLOCK_VERSION);
        return rc;
    }
    for (unsigned i = 0; i < 2; i++)
        if (found->result[i] != 0)
            say(fsck, true, "superblock: the %s copy is %s", i == 0 ? "first" : "second",
                copy_state(found, i));
    if (rc == 0 && found->result[0] == 0 && found->result[1] == 0 &&
        found->copy[0].sequence != found->copy[1].sequence)
        say(fsck, false, "superblock: the copies differ, as after a crash while writing them");
    return rc;
}

/* Both superblocks are gone: the extents know whose they are. */
static int rebuild_superblock(struct fsck *fsck, void *buffer)
{
    struct extent_owner owner;
    int rc = sweep_owner(fsck->dev, buffer, &owner);
    if (rc != 0) {
        say(fsck, true, "superblock: lost, and no extent says whose device this was");
        return rc == SHOAL_E_NOT_FOUND ? SHOAL_E_FORMAT : rc;
    }
    fsck->sb = (struct superblock){
        .target = owner.target,
        .partition_bits = owner.partition_bits,
        .device = owner.device,
        .secret = prng_next(reactor_prng(fsck->dev->reactor)),
        .generation = 1,
        .blocks = fsck->dev->size_bytes / LAYOUT_BLOCK,
        .stale = true,
    };
    memcpy(fsck->sb.cluster, owner.cluster, sizeof owner.cluster);
    fsck->swept = true;
    say(fsck, false, "superblock: rebuilt from the extents (target %u)", owner.target);
    return 0;
}

static void check_recovery(struct fsck *fsck)
{
    const struct recovery *recovery = &fsck->recovery;
    for (unsigned i = 0; i < 2; i++) {
        int rc =
            recovery->head_results[i] != 0 ? recovery->head_results[i] : recovery->load_results[i];
        /* The one that is not there is the second one, before it was ever written. */
        if (rc != 0 && rc != SHOAL_E_NOT_FOUND)
            say(fsck, true, "checkpoint %u: %s", i, shoal_error_text(rc));
    }
    if (recovery->damaged)
        say(fsck, true, "journal: damaged at position %" PRIu64 "; what came after it is lost",
            recovery->damaged_position);
    if (recovery->overlaps > 0)
        say(fsck, true, "space: %" PRIu64 " extents overlap others or lie outside",
            recovery->overlaps);
    if (recovery->anomalies > 0)
        say(fsck, false, "journal: %" PRIu64 " records had nothing to act on", recovery->anomalies);
    if (recovery->hollow > 0)
        say(fsck, false, "journal: the bytes of %" PRIu64 " of the last records had not arrived",
            recovery->hollow);
    if (recovery->generation > fsck->sb.generation)
        say(fsck, true, "superblock: older than the journal");
    if (fsck->sb.stale)
        say(fsck, false, "the target is marked as stale: it has to catch up");
}

static void say_piece(struct fsck *fsck, const struct blob_id *id,
                      const struct blob_version *version, uint64_t block, int rc)
{
    char key[2 * BLOB_KEY_BYTES + 1];
    hex_encode(id->key.bytes, BLOB_KEY_BYTES, key);
    say(fsck, true, "piece %u/@%s version %" PRIu64 ".%u.%" PRIu64 " at block %" PRIu64 ": %s",
        id->pool, key, version->epoch, version->incarnation, version->counter, block,
        shoal_error_text(rc));
}

static int check_piece(struct fsck *fsck, const struct blob_id *id,
                       const struct read_target *target, bool *damaged)
{
    uint32_t crc;
    fsck->result->objects++;
    *damaged = false;
    if (target->hollow) {
        say(fsck, false, "a piece of pool %u is known to be damaged (hollow)", id->pool);
        return 0;
    }
    if (target->block == 0)
        return 0;
    int rc = read_verify(fsck->engine, id, target, fsck->engine->chunk, &crc);
    if (rc == SHOAL_E_CORRUPT || rc == SHOAL_E_IO) {
        say_piece(fsck, id, &target->version, target->block, rc);
        *damaged = true;
        rc = 0;
    }
    return rc;
}

static int check_pieces(struct fsck *fsck)
{
    struct engine *engine = fsck->engine;
    struct index_item items[INDEX_TABLE_MAX];
    struct index_key key = {0, 0}, next;
    int rc = 0;
    bool damaged;
    for (; key.partition < 1u << engine->sb.partition_bits && rc == 0; key = next) {
        unsigned count = index_walk_table(&engine->index, &key, items, NULL, &next);
        for (unsigned i = 0; i < count && rc == 0; i++) {
            const struct index_item *item = &items[i];
            struct read_target target = {item->version, item->block, item->shard_len, item->shared,
                                         item->hollow};
            rc = check_piece(fsck, &item->id, &target, &damaged);
            if (damaged && fsck->repair) {
                index_slot_set_hollow(index_find_id(&engine->index, &item->id), true);
                fsck->rewrite = true;
                fsck->result->repaired++;
            }
        }
    }
    list_for_each(&engine->prepared.all, struct prepared, in_all, prepared) {
        if (rc != 0)
            break;
        struct read_target target = {prepared->version, prepared->place.block, prepared->shard_len,
                                     prepared->shared, prepared->hollow};
        rc = check_piece(fsck, &prepared->id, &target, &damaged);
        if (damaged && fsck->repair) {
            prepared->hollow = true;
            fsck->rewrite = true;
            fsck->result->repaired++;
        }
    }
    return rc;
}

/* The index cannot be loaded: fill it from the extents, and begin an empty journal. */
static int sweep(struct fsck *fsck)
{
    struct engine *engine = fsck->engine;
    int rc = recovery_start_over(engine);
    alloc_free(&engine->alloc);
    if (rc == 0)
        rc = alloc_init(&engine->alloc, &engine->layout);
    struct sweep_result result;
    if (rc == 0)
        rc = sweep_run(engine, &result);
    if (rc != 0)
        return rc;
    say(fsck, false,
        "sweep: %" PRIu64 " extents found, %" PRIu64 " kept, %" PRIu64 " damaged, %" PRIu64
        " in the way of newer ones",
        result.found, result.kept, result.damaged, result.displaced);
    recovery_free(&fsck->recovery);
    fsck->recovery = (struct recovery){
        .head_results = {SHOAL_E_NOT_FOUND, SHOAL_E_NOT_FOUND},
        .at = {.next_seq = 1},
        /* No record that is in the ring now may ever be taken for one of the life to come. */
        .generation = MAX(fsck->sb.generation, replay_max_generation(engine)),
    };
    engine->sb.stale = true;
    fsck->swept = true;
    fsck->rewrite = true;
    fsck->result->repaired += result.kept;
    return 0;
}

static int load(struct fsck *fsck)
{
    if (fsck->swept)
        return sweep(fsck);
    fsck->recovery =
        (struct recovery){.problem = fsck->problem, .problem_size = sizeof fsck->problem};
    int rc = recovery_run(fsck->engine, &fsck->recovery);
    check_recovery(fsck);
    if (rc == SHOAL_E_CORRUPT) {
        fsck->result->fatal = true;
        say(fsck, true, "the index cannot be loaded: %s", fsck->problem);
        rc = fsck->repair ? sweep(fsck) : 0;
    }
    return rc;
}

/* A new generation, both superblocks, and both checkpoints from what is in memory now. */
static int rewrite(struct fsck *fsck)
{
    struct engine *engine = fsck->engine;
    int rc = engine_begin(engine, &fsck->recovery);
    for (unsigned i = 0; i < 2 && rc == 0; i++)
        rc = checkpoint_write(engine);
    if (rc != 0) {
        say(fsck, true, "repair failed: %s", shoal_error_text(rc));
        return rc;
    }
    fsck->result->repaired++;
    fsck->result->fatal = false;
    say(fsck, false, "repaired%s",
        engine->sb.stale ? "; the target is stale and must catch up" : "");
    return 0;
}

static int check_engine(struct fsck *fsck)
{
    static const struct engine_config config = {0};
    int rc = engine_setup(fsck->dev, fsck->arena, &config, &fsck->sb, &fsck->engine);
    if (rc != 0)
        return rc;
    rc = load(fsck);
    bool loaded = rc == 0 && !fsck->result->fatal;
    if (rc == 0 && (loaded || fsck->swept))
        rc = check_pieces(fsck);
    bool wanted = fsck->rewrite || fsck->result->errors > 0;
    if (rc == 0 && fsck->repair && wanted)
        rc = rewrite(fsck);
    recovery_free(&fsck->recovery);
    engine_teardown(fsck->engine);
    return rc;
}

static int check_device(struct fsck *fsck, void *buffer)
{
    int rc = check_superblocks(fsck, buffer);
    bool newer = fsck->found.version[0] != 0 || fsck->found.version[1] != 0;
    if (rc != 0) {
        fsck->result->fatal = true;
        bool lost = rc == SHOAL_E_CORRUPT || rc == SHOAL_E_FORMAT || rc == SHOAL_E_IO;
        if (newer || !fsck->repair || !lost)
            return rc == SHOAL_E_FORMAT ? rc : 0;
        rc = rebuild_superblock(fsck, buffer);
        if (rc != 0)
            return rc;
    }
    if (fsck->sb.blocks > fsck->dev->size_bytes / LAYOUT_BLOCK) {
        fsck->result->fatal = true;
        say(fsck, true, "the device is smaller than it was when it was formatted");
        return SHOAL_E_INVALID;
    }
    return 0;
}

int engine_fsck(struct dev *dev, struct dma_arena *arena, bool repair, FILE *out,
                struct engine_fsck_result *result)
{
    *result = (struct engine_fsck_result){0};
    struct fsck fsck = {.dev = dev, .arena = arena, .repair = repair, .out = out, .result = result};
    void *buffer = dma_get(arena, CHECKPOINT_CHUNK_BYTES);
    if (buffer == NULL)
        return SHOAL_E_NO_MEMORY;
    int rc = check_device(&fsck, buffer);
    dma_put(arena, buffer);
    if (rc != 0 || (result->fatal && !fsck.swept))
        return rc;
    return check_engine(&fsck);
}
