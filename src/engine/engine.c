/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/engine.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "engine/internal.h"
#include "engine/record.h"
#include "shoal/error.h"

#define COMMIT_DELAY_NS UINT64_C(10000000)
#define QUARANTINE_MAX 32768u

/* ---- format ---- */

static int format_checkpoint(struct dev *dev, const struct layout *layout,
                             const struct superblock *sb, void *block)
{
    struct checkpoint_head head = {.device = sb->device,
                                   .id = 1,
                                   .generation = sb->generation,
                                   .first_seq = 1,
                                   .chunks = 1,
                                   .blocks = 1};
    struct checkpoint_chunk chunk = {.device = sb->device,
                                     .id = 1,
                                     .space = CHECKPOINT_COMMITTED,
                                     .end = {.partition = 1u << sb->partition_bits}};
    uint64_t at = layout->checkpoint_start[0] * LAYOUT_BLOCK;
    checkpoint_chunk_seal(block, CHECKPOINT_CHUNK_HEADER, &chunk);
    int rc = dev_write(dev, at + LAYOUT_BLOCK, block, LAYOUT_BLOCK);
    checkpoint_head_encode(block, &head);
    if (rc == 0)
        rc = dev_write(dev, at, block, LAYOUT_BLOCK);
    return rc == 0 ? dev_flush(dev) : rc;
}

static int format(struct dev *dev, const struct layout *layout,
                  const struct engine_format_config *config, void *block)
{
    struct superblock old;
    struct superblock_found found;
    int rc = superblock_load(dev, block, &old, &found);
    if (rc == SHOAL_E_IO)
        return rc;
    bool ours = rc != SHOAL_E_FORMAT || found.version[0] != 0 || found.version[1] != 0;
    if (ours && !config->force)
        return SHOAL_E_EXISTS;
    struct prng *prng = reactor_prng(dev->reactor);
    struct superblock sb = {
        .sequence = rc == 0 ? old.sequence : 0,
        .target = config->target,
        .partition_bits = config->partition_bits,
        .device = prng_next(prng),
        .secret = prng_next(prng),
        .generation = 1,
        .blocks = layout->blocks,
    };
    memcpy(sb.cluster, config->cluster, sizeof sb.cluster);
    rc = format_checkpoint(dev, layout, &sb, block);
    return rc == 0 ? superblock_store(dev, block, &sb, true) : rc;
}

int engine_format(struct dev *dev, struct dma_arena *arena,
                  const struct engine_format_config *config)
{
    struct layout layout;
    if (config->partition_bits > BLOB_PARTITION_BITS_MAX)
        return SHOAL_E_INVALID;
    int rc = layout_compute(dev->size_bytes, &layout);
    if (rc != 0)
        return rc;
    void *block = dma_get(arena, LAYOUT_BLOCK);
    if (block == NULL)
        return SHOAL_E_NO_MEMORY;
    rc = format(dev, &layout, config, block);
    dma_put(arena, block);
    return rc;
}

/* ---- open ---- */

int engine_setup(struct dev *dev, struct dma_arena *arena, const struct engine_config *config,
                 const struct superblock *sb, struct engine **out)
{
    struct engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL)
        return SHOAL_E_NO_MEMORY;
    engine->dev = dev;
    engine->arena = arena;
    engine->config = *config;
    engine->sb = *sb;
    engine->owner = (struct extent_owner){
        .device = sb->device, .target = sb->target, .partition_bits = sb->partition_bits};
    memcpy(engine->owner.cluster, sb->cluster, sizeof sb->cluster);
    fiber_queue_init(&engine->idle);
    fiber_mutex_init(&engine->scratch_lock);
    list_init(&engine->prepared.all);
    list_init(&engine->repairs);
    uint64_t delay = config->commit_delay_ns != 0 ? config->commit_delay_ns : COMMIT_DELAY_NS;
    int rc = layout_compute(sb->blocks * LAYOUT_BLOCK, &engine->layout);
    if (rc == 0) {
        engine->objects_max = engine->layout.objects_max;
        if (config->index_max_objects != 0)
            engine->objects_max = MIN(engine->objects_max, config->index_max_objects);
        rc = journal_init(&engine->journal, dev, arena, &engine->layout, sb->device, delay,
                          config->break_rules);
    }
    engine->journal.progressed = engine_progressed;
    engine->journal.ctx = engine;
    engine->chunk = dma_get(arena, CHECKPOINT_CHUNK_BYTES);
    engine->scratch = dma_get(arena, CHECKPOINT_CHUNK_BYTES);
    if (rc == 0 && (engine->chunk == NULL || engine->scratch == NULL))
        rc = SHOAL_E_NO_MEMORY;
    if (rc == 0)
        rc = index_init(&engine->index, sb->partition_bits, sb->secret, engine->layout.objects_max);
    if (rc == 0)
        rc = prepared_init(&engine->prepared, engine->layout.prepared_max, sb->secret);
    if (rc == 0)
        rc = alloc_init(&engine->alloc, &engine->layout);
    if (rc == 0)
        rc = quarantine_init(&engine->quarantine, QUARANTINE_MAX);
    if (rc != 0) {
        engine_teardown(engine);
        return rc;
    }
    *out = engine;
    return 0;
}

void engine_teardown(struct engine *engine)
{
    if (engine->journal.dev != NULL)
        journal_free(&engine->journal);
    index_free(&engine->index);
    prepared_free(&engine->prepared);
    alloc_free(&engine->alloc);
    quarantine_free(&engine->quarantine);
    if (engine->chunk != NULL)
        dma_put(engine->arena, engine->chunk);
    if (engine->scratch != NULL)
        dma_put(engine->arena, engine->scratch);
    free(engine);
}

static void register_counters(struct engine *engine)
{
    struct metrics *metrics = engine->config.metrics;
    if (metrics == NULL)
        return;
    char labels[64];
    (void)snprintf(labels, sizeof labels, "target=\"%u\"", engine->sb.target);
    struct engine_counters *count = &engine->count;
    count->prepares = metric_counter(metrics, "shoal_engine_prepares_total",
                                     "Pieces taken by the engine.", labels);
    count->commits =
        metric_counter(metrics, "shoal_engine_commits_total", "Pieces committed.", labels);
    count->aborts =
        metric_counter(metrics, "shoal_engine_aborts_total", "Prepared pieces forgotten.", labels);
    count->drops =
        metric_counter(metrics, "shoal_engine_drops_total", "Committed pieces forgotten.", labels);
    count->reads = metric_counter(metrics, "shoal_engine_reads_total", "Reads of pieces.", labels);
    count->read_bytes =
        metric_counter(metrics, "shoal_engine_read_bytes_total", "Payload read.", labels);
    count->written_bytes = metric_counter(metrics, "shoal_engine_written_bytes_total",
                                          "Payload made durable.", labels);
    count->checkpoints = metric_counter(metrics, "shoal_engine_checkpoints_total",
                                        "Checkpoints of the index written.", labels);
    count->damaged =
        metric_counter(metrics, "shoal_engine_damaged_total", "Pieces found damaged.", labels);
    count->objects =
        metric_gauge(metrics, "shoal_engine_objects", "Pieces that the index holds.", labels);
    count->bytes_used =
        metric_gauge(metrics, "shoal_engine_used_bytes", "Bytes taken by extents.", labels);
}

static int load_superblock(struct dev *dev, void *block, struct superblock *sb,
                           struct engine_report *report)
{
    struct superblock_found found;
    int rc = superblock_load(dev, block, sb, &found);
    unsigned newer = MAX(found.version[0], found.version[1]);
    if (rc == SHOAL_E_FORMAT && newer != 0)
        (void)snprintf(report->problem, sizeof report->problem,
                       "the device has format version %u; this program knows version %u", newer,
                       SUPERBLOCK_VERSION);
    else if (rc == SHOAL_E_FORMAT)
        (void)snprintf(report->problem, sizeof report->problem,
                       "the device holds no Shoal format; run `shoal format` first");
    else if (rc != 0)
        (void)snprintf(report->problem, sizeof report->problem,
                       "both superblocks are unreadable; `shoal fsck --repair` may rebuild them");
    if (rc != 0)
        return rc;
    memcpy(report->cluster, sb->cluster, sizeof report->cluster);
    report->target = sb->target;
    report->device = sb->device;
    report->generation = sb->generation;
    if (sb->blocks > dev->size_bytes / LAYOUT_BLOCK) {
        (void)snprintf(report->problem, sizeof report->problem,
                       "the device has %llu bytes and had %llu when it was formatted",
                       (unsigned long long)dev->size_bytes,
                       (unsigned long long)(sb->blocks * LAYOUT_BLOCK));
        return SHOAL_E_INVALID;
    }
    return 0;
}

int engine_begin(struct engine *engine, struct recovery *recovery)
{
    struct superblock *sb = &engine->sb;
    if (recovery->damaged || recovery->overlaps > 0 || recovery->generation > sb->generation)
        sb->stale = true;
    if (!engine_broken(engine, ENGINE_RULE_GENERATION))
        sb->generation = MAX(sb->generation, recovery->generation) + 1;
    int rc = superblock_store(engine->dev, engine->chunk, sb,
                              !engine_broken(engine, ENGINE_RULE_SUPERBLOCK_TURNS));
    if (rc != 0)
        return rc;
    struct checkpoint_state *state = &engine->checkpoint;
    state->newest = recovery->area;
    for (unsigned i = 0; i < 2; i++) {
        bool usable = recovery->head_results[i] == 0 && recovery->load_results[i] == 0;
        state->id[i] = usable ? recovery->heads[i].id : 0;
        state->position[i] = usable ? recovery->heads[i].position : 0;
    }
    /* Numbers of checkpoints are never used twice, not even of one that was lost. */
    state->next_id = MAX(sb->generation << 32, recovery->heads[recovery->area].id + 1);
    journal_begin(&engine->journal, &recovery->at, sb->generation);
    return 0;
}

/* What was found damaged is written down, before the barrier passes it. */
static int record_hollow(struct engine *engine, const struct recovery *recovery)
{
    for (size_t i = 0; i < recovery->check_count; i++) {
        const struct recovery_check *check = &recovery->checks[i];
        struct record record = {.type = check->torn ? RECORD_TORN : RECORD_HOLLOW,
                                .id = check->id,
                                .version = check->version};
        int rc = engine_wait_room(engine);
        if (rc != 0)
            return rc;
        engine_append(engine, &record, NULL);
    }
    return recovery->check_count > 0 ? journal_sync(&engine->journal) : 0;
}

/*
 * What lies behind the damage is of an older generation than whatever stands in front of it: so it
 * is not found, and told, again by the next recovery.
 */
static int record_damage(struct engine *engine, const struct recovery *recovery)
{
    if (!recovery->damaged)
        return 0;
    int rc = engine_wait_room(engine);
    if (rc != 0)
        return rc;
    engine_append(engine, &(struct record){.type = RECORD_BARRIER}, NULL);
    return journal_sync(&engine->journal);
}

static int recover(struct engine *engine, struct engine_report *report)
{
    struct recovery recovery = {.problem = report->problem, .problem_size = sizeof report->problem};
    int rc = recovery_run(engine, &recovery);
    report->replayed = recovery.replayed;
    report->clean_shutdown = recovery.clean;
    report->objects = engine->index.count + prepared_count(&engine->prepared);
    if (rc == 0)
        rc = engine_begin(engine, &recovery);
    if (rc == 0)
        rc = checkpoint_start(engine);
    if (rc == 0)
        rc = record_damage(engine, &recovery);
    if (rc == 0)
        rc = record_hollow(engine, &recovery);
    report->stale = engine->sb.stale;
    report->generation = engine->sb.generation;
    recovery_free(&recovery);
    return rc;
}

int engine_open(struct dev *dev, struct dma_arena *arena, const struct engine_config *config,
                struct engine **out, struct engine_report *report)
{
    *report = (struct engine_report){0};
    *out = NULL;
    void *block = dma_get(arena, LAYOUT_BLOCK);
    if (block == NULL)
        return SHOAL_E_NO_MEMORY;
    struct superblock sb;
    int rc = load_superblock(dev, block, &sb, report);
    dma_put(arena, block);
    struct engine *engine;
    if (rc == 0)
        rc = engine_setup(dev, arena, config, &sb, &engine);
    if (rc != 0)
        return rc;
    rc = recover(engine, report);
    if (rc != 0) {
        checkpoint_shut(engine);
        journal_quiesce(&engine->journal);
        engine_teardown(engine);
        return rc;
    }
    register_counters(engine);
    *out = engine;
    return 0;
}

/* ---- while it runs ---- */

int engine_enter(struct engine *engine)
{
    if (engine->closing)
        return SHOAL_E_SHUTDOWN;
    if (engine->journal.stopped)
        return SHOAL_E_IO;
    engine->in_flight++;
    return 0;
}

void engine_leave(struct engine *engine)
{
    CHECK(engine->in_flight > 0);
    if (--engine->in_flight == 0)
        fiber_queue_wake_all(&engine->idle);
}

bool engine_stopped(const struct engine *engine)
{
    return engine->journal.stopped;
}

uint64_t engine_waiting_since_ns(const struct engine *engine)
{
    return dev_waiting_since_ns(engine->dev);
}

/* Something became durable: what the recorded barrier has passed may be written over. */
void engine_progressed(void *ctx)
{
    struct engine *engine = ctx;
    if (engine->quarantine.count > 0)
        (void)quarantine_release(&engine->quarantine, &engine->alloc,
                                 engine->journal.recorded_barrier);
    if (engine->journal.stopped) {
        fiber_queue_wake_all(&engine->checkpoint.wake);
        fiber_queue_wake_all(&engine->checkpoint.done);
    }
    if (engine->count.objects != NULL) {
        gauge_set(engine->count.objects, (double)engine->index.count);
        gauge_set(engine->count.bytes_used, (double)(engine->alloc.blocks_used * LAYOUT_BLOCK));
    }
}

int engine_clear_stale(struct engine *engine)
{
    int rc = engine_enter(engine);
    if (rc != 0)
        return rc;
    if (engine->sb.stale) {
        void *block = dma_get(engine->arena, LAYOUT_BLOCK);
        rc = block == NULL ? SHOAL_E_BUSY : journal_sync(&engine->journal);
        if (rc == 0) {
            engine->sb.stale = false;
            rc = superblock_store(engine->dev, block, &engine->sb, true);
            engine->sb.stale = rc != 0;
        }
        if (block != NULL)
            dma_put(engine->arena, block);
    }
    engine_leave(engine);
    return rc;
}

/* ---- close ---- */

static void last_words(struct engine *engine, bool fast)
{
    struct journal *journal = &engine->journal;
    if (!fast && !journal->stopped) {
        int rc = engine_checkpoint(engine);
        if (rc != 0)
            LOG_WARN("%s: no checkpoint was written on closing: %s", engine->dev->name,
                     shoal_error_text(rc));
    }
    engine->closing = true;
    while (engine->in_flight > 0)
        fiber_queue_wait(&engine->idle);
    while (!journal->stopped && !engine_admits(engine, true)) {
        if (!engine->checkpoint.running)
            checkpoint_request(engine);
        fiber_queue_wait(&journal->room);
    }
    if (journal->stopped)
        return;
    struct journal_op op = {0};
    engine_append(engine, &(struct record){.type = RECORD_CLEAN_SHUTDOWN}, &op);
    int rc = journal_wait(journal, &op);
    if (rc != 0)
        LOG_WARN("%s: closing was not recorded: %s", engine->dev->name, shoal_error_text(rc));
}

void engine_close(struct engine *engine, bool fast)
{
    last_words(engine, fast);
    checkpoint_shut(engine);
    journal_quiesce(&engine->journal);
    engine_teardown(engine);
}
