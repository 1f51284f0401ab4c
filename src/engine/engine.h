/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The blob engine: one device, thousands to hundreds of millions of objects, crash safe.
 *
 * An engine owns one device (dev/dev.h) and lives on the device's reactor. It keeps, for each
 * object, at most one *committed* piece and at most one newer *prepared* one, each either bytes, a
 * marker or a tombstone (base/blob.h). It knows nothing of the cluster: which versions are
 * prepared, committed or dropped is decided above. What it promises is that what it said is durable
 * is there after any crash, that what it returns is what was written, and that it never answers
 * from a damaged or stale place on the device. docs/formats/disk.md describes the layout.
 *
 * All functions run on the reactor; those marked [fiber] block the calling fiber. Errors of every
 * function that touches the device: IO (and the engine is stopped when it was the journal's),
 * CORRUPT, SHUTDOWN.
 */
#ifndef SHOAL_ENGINE_ENGINE_H
#define SHOAL_ENGINE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/uio.h>

#include "base/blob.h"
#include "base/metrics.h"
#include "core/dma.h"
#include "dev/dev.h"

struct engine;

#define ENGINE_DEVICE_MIN (4u << 20)   /* the smallest device */
#define ENGINE_PAYLOAD_MAX (16u << 20) /* the largest piece */

struct engine_format_config {
    uint8_t cluster[16];
    uint32_t target;         /* the target's number in the cluster */
    unsigned partition_bits; /* 0..24; 16 usually */
    bool force;              /* overwrite what is there already */
};

/*
 * engine_format() - [fiber] Make an empty engine on @dev.
 * Return: 0, SHOAL_E_EXISTS (a format is there and !force), SHOAL_E_TOO_LARGE / INVALID (size).
 */
int engine_format(struct dev *dev, struct dma_arena *arena,
                  const struct engine_format_config *config);

/*
 * What an engine takes from the arena while it is open: ENGINE_DMA_LARGE buffers of 256 KiB and one
 * of 64 KiB; besides, 4 KiB (8 KiB for pieces beyond 11 MiB) for each prepare or repair under way.
 * engine_format() needs 4 KiB. An arena that has none is NO_MEMORY on opening, BUSY later.
 */
#define ENGINE_DMA_LARGE 2u

struct engine_config {
    uint64_t index_max_objects; /* 0: as many as the device could hold */
    uint64_t commit_delay_ns;   /* how long a lazy record may wait for company; 0: 10 ms */
    struct metrics *metrics;    /* NULL: none */
    uint32_t break_rules;       /* tests only: see engine/rules.h; 0 in production */
};

/*
 * struct engine_report - What opening found; valid also when opening failed.
 * @device: drawn when it was formatted: the same name with another one is another, empty device
 * @stale: memory was lost (damage inside the journal, an old image, a rebuild by sweep): what it
 *         holds is true, but not known to be complete; the target must return as a learner
 */
struct engine_report {
    uint8_t cluster[16];
    uint32_t target;
    uint64_t device;
    uint64_t generation;
    uint64_t replayed;
    uint64_t objects;
    bool stale;
    bool clean_shutdown;
    char problem[256]; /* for a person; "" when there is none */
};

/*
 * engine_open() - [fiber] Recover and serve. Newest checkpoint and bounded replay, never a sweep.
 * Return: 0, SHOAL_E_FORMAT (nothing of ours, or newer), SHOAL_E_CORRUPT (beyond what opening can
 * do: `shoal fsck --repair` may), SHOAL_E_INVALID (the device is smaller than it was), NO_MEMORY.
 */
int engine_open(struct dev *dev, struct dma_arena *arena, const struct engine_config *config,
                struct engine **out, struct engine_report *report);

/*
 * engine_clear_stale() - [fiber] The target has caught up: it is not stale any more. Until somebody
 * says so, each opening reports it as stale.
 */
int engine_clear_stale(struct engine *engine);

/* [fiber] Waits for what is under way, writes a last checkpoint, forgets. @fast: skip the
 * checkpoint. */
void engine_close(struct engine *engine, bool fast);

/* ---- writing ---- */

/*
 * engine_prepare() - [fiber] Store a piece as prepared; durable on return.
 * @payload: desc->shard_len bytes in DMA memory (any split on 4 KiB boundaries; the last element
 * may end anywhere, but its memory must reach the next 4 KiB boundary); lent until return
 * @units: CRC32C of each ENGINE_UNIT_BYTES of the payload when the caller has them, else NULL
 *
 * It replaces an older prepared piece of the object: what is to survive is committed first. Return:
 * 0, SHOAL_E_LOW_WATER (a committed or prepared version that is not older is there), SHOAL_E_FULL
 * (device or index), SHOAL_E_BUSY (no DMA buffer, too many prepared pieces), SHOAL_E_CANCELLED (it
 * was aborted or replaced meanwhile), SHOAL_E_INVALID, SHOAL_E_TOO_LARGE.
 */
#define ENGINE_UNIT_BYTES 16384u
int engine_prepare(struct engine *engine, const struct blob_desc *desc, const struct iovec *payload,
                   unsigned payload_count, const uint32_t *units);

/*
 * engine_commit() - The prepared version becomes the committed one, at once in memory, and durable
 * with the journal's next group or within commit_delay_ns. Frees the version it replaces.
 * Return: 0 (also when it is committed already), SHOAL_E_NOT_FOUND, SHOAL_E_BUSY (the journal is
 * full for a moment: nothing changed), SHOAL_E_IO.
 */
int engine_commit(struct engine *engine, const struct blob_id *id,
                  const struct blob_version *version);

/* engine_abort() - [fiber] Forget a prepared version; durable on return. NOT_FOUND is success. */
int engine_abort(struct engine *engine, const struct blob_id *id,
                 const struct blob_version *version);

/*
 * engine_drop() - Forget a committed piece (evicted, collected, not listed by the clean members) if
 * it has this version. At once in memory, lazily on the device unless engine_sync() follows.
 * Return: as engine_commit().
 */
int engine_drop(struct engine *engine, const struct blob_id *id,
                const struct blob_version *version);

/* engine_sync() - [fiber] Everything said before is durable on return. */
int engine_sync(struct engine *engine);

/*
 * engine_repair() - [fiber] Write the bytes of a committed version anew (they were damaged or
 * hollow, or a learner fetched them): same version, committed, durable on return. Also stores a
 * committed piece that is not there at all. Return as engine_prepare().
 */
int engine_repair(struct engine *engine, const struct blob_desc *desc, const struct iovec *payload,
                  unsigned payload_count, const uint32_t *units);

/* ---- reading ---- */

/* What the index knows, without touching the device. */
struct engine_entry {
    struct blob_id id;
    struct blob_version version;
    enum blob_kind kind;
    enum blob_form form;
    uint8_t position; /* in its set: which of the pieces this is */
    bool prepared; /* else committed */
    bool hollow;   /* known, but its bytes are damaged here */
    bool torn;     /* hollow, and prepared: a crash cut the write of it short. It was never durable here, unless
                    * the drive lied, or lost it before anything else was written to the journal */
    uint32_t shard_len;
    uint16_t depends;               /* of a prepared one */
    struct blob_request_id request; /* of a prepared one: who asked for it */
};

/*
 * engine_find() - Either pointer may be NULL.
 * Return: 0 when there is a committed or prepared entry. An absent one has version none.
 * SHOAL_E_NOT_FOUND when there is neither.
 */
int engine_find(struct engine *engine, const struct blob_id *id, struct engine_entry *committed,
                struct engine_entry *prepared);

/* Mark an object as just used, for eviction. */
void engine_touch(struct engine *engine, const struct blob_id *id);

/* Memory that engine_read() needs to return @len bytes. */
size_t engine_read_room(size_t len);

/*
 * engine_read() - [fiber] Read [@offset, @offset+@len) of a piece's payload, every unit checked.
 * @version: committed or prepared; must match exactly
 * @buffer: DMA memory of engine_read_room(len) bytes
 * @data: where in @buffer the first byte asked for is
 * @units: out, may be NULL: the CRC32C of each unit of ENGINE_UNIT_BYTES that the range touches, whole
 * @desc: out, may be NULL: the whole description
 * Return: 0, NOT_FOUND (gone, or another version), INVALID (beyond shard_len), HOLLOW, CORRUPT (the
 * piece is then remembered as hollow).
 */
int engine_read(struct engine *engine, const struct blob_id *id, const struct blob_version *version,
                uint32_t offset, uint32_t len, void *buffer, const uint8_t **data,
                struct blob_desc *desc, uint32_t *units);

/* engine_describe() - [fiber] The description alone; @buffer as for a read of 0 bytes. */
int engine_describe(struct engine *engine, const struct blob_id *id,
                    const struct blob_version *version, void *buffer, struct blob_desc *desc);

/* ---- partitions ---- */

/*
 * engine_list() - Entries of a partition, in an order that is stable while they live: an entry that
 * stays is seen exactly once by a walk from *@cursor = 0 until it is 0 again, also when it is
 * committed meanwhile. An object's prepared and committed entries follow one another.
 * @max: 2 or more
 * Return: how many were written to @entries; may be 0 before the end.
 */
unsigned engine_list(struct engine *engine, uint32_t partition, uint64_t *cursor,
                     struct engine_entry *entries, unsigned max);

struct engine_digest {
    uint64_t committed; /* how many committed entries */
    uint64_t prepared;
    uint64_t hash; /* order-free, of (id, version, tombstone or not) of the committed ones: the same
                    * on all members, whether they hold bytes or a marker */
};
void engine_partition_digest(struct engine *engine, uint32_t partition,
                             struct engine_digest *digest);

/* Every prepared entry of the target, in no order. Return: how many there are. */
unsigned engine_list_prepared(struct engine *engine, struct engine_entry *entries, unsigned max);

/* [fiber] Forget a whole partition; durable on return. */
int engine_drop_partition(struct engine *engine, uint32_t partition);

/* ---- space ---- */

struct engine_usage {
    uint64_t bytes_total; /* what payload and descriptions may take */
    uint64_t bytes_used;
    uint64_t objects, objects_max;
    uint64_t heads; /* blobs */
};
void engine_usage(const struct engine *engine, struct engine_usage *usage);
void engine_pool_usage(const struct engine *engine, uint32_t pool, struct engine_usage *usage);
/* How many of a pool's blobs have their head in this partition. */
uint64_t engine_partition_heads(const struct engine *engine, uint32_t pool, uint32_t partition);

/*
 * engine_evict_pick() - The least recently used committed piece with bytes of @pool, or an expired
 * one (sampled: see the implementation for how near to LRU). Return: 0 or SHOAL_E_NOT_FOUND.
 */
int engine_evict_pick(struct engine *engine, uint32_t pool, struct engine_entry *entry);

/* ---- care ---- */

/* Since opening; @pass_objects in the pass that is under way. */
struct engine_scrub_progress {
    uint64_t objects_checked, bytes_checked, damaged, passes, pass_objects;
};

/*
 * engine_scrub_step() - [fiber] Check the next few pieces; @damaged is called for each bad one (it
 * is hollow from then on), and on each pass anew until it is repaired. Return: bytes read, for the caller's rate; 0 when a pass ended.
 */
int64_t engine_scrub_step(struct engine *engine, unsigned max_objects,
                          void (*damaged)(void *ctx, const struct engine_entry *entry), void *ctx);
void engine_scrub_progress(const struct engine *engine, struct engine_scrub_progress *progress);

/* [fiber] Write a checkpoint now (tests; otherwise it runs by itself). */
int engine_checkpoint(struct engine *engine);

/* True once a journal failure stopped it; everything then returns SHOAL_E_IO. */
bool engine_stopped(const struct engine *engine);

/* Since when its device has not answered an operation that is under way; 0: none is. */
uint64_t engine_waiting_since_ns(const struct engine *engine);

/* ---- offline ---- */

struct engine_fsck_result {
    uint64_t objects, errors, repaired;
    bool fatal; /* cannot be opened as it is */
};

/*
 * engine_fsck() - [fiber] Find and say everything that is wrong, one line each to @out; with
 * @repair mend what can be (superblock and checkpoint from their twin, the index by a sweep of the
 * extents; the target is stale then).
 */
int engine_fsck(struct dev *dev, struct dma_arena *arena, bool repair, FILE *out,
                struct engine_fsck_result *result);

/* engine_inspect() - [fiber] Superblock, journal, checkpoint, entries as JSON text, for people. */
int engine_inspect(struct dev *dev, struct dma_arena *arena, FILE *out);

#endif
