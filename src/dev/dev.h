/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Block devices: the door through which bytes reach and leave stable storage.
 *
 * A device is an array of 4 KiB blocks owned by one reactor. Offsets, lengths and memory are
 * multiples of DEV_BLOCK_BYTES. Operations are asynchronous (dev_submit) with a blocking form for
 * fibers on top. Completion of a write means durable only when `volatile_cache` is false; else a
 * later completed flush makes every write completed before that flush was submitted durable.
 *
 * Backends: `uring` (files and block devices, O_DIRECT), `sim` (memory, with faults), `record` (a
 * wrapper that logs writes and flushes for crash tests). An SPDK NVMe queue pair a reactor fits
 * behind the same operations: it submits in dev_ops.submit and completes from a reactor_source.
 */
#ifndef SHOAL_DEV_DEV_H
#define SHOAL_DEV_DEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/list.h"
#include "core/timer.h"

struct metrics;
struct prng;
struct reactor;
struct dev;

#define DEV_BLOCK_BYTES 4096u
#define DEV_MAX_IOV 8u
#define DEV_MAX_IO_BYTES (64u << 20)

enum dev_op { DEV_READ, DEV_WRITE, DEV_FLUSH };

/*
 * struct dev_io - One operation, owned by the caller until done() is called.
 * @iov: memory, aligned to 4 KiB in address and length; lent to the device until done()
 * @done: called once, on the reactor's stack and never from within dev_submit(), with 0 or a
 *        negative SHOAL_E_* (IO, FULL, SHUTDOWN, INVALID). A short transfer is an IO error; nothing
 *        is known then of what was written.
 */
struct dev_io {
    enum dev_op op;
    uint64_t offset_bytes;
    struct iovec iov[DEV_MAX_IOV];
    unsigned iov_count;
    void (*done)(struct dev_io *io, int result);

    /* The device's while the operation is under way. */
    struct list_node node;
    struct list_node order; /* of dev->under_way */
    uint64_t submitted_ns;
    int result;
    void *backend[10];
};

struct dev_ops {
    void (*submit)(struct dev *dev, struct dev_io *io);
    void (*close)(struct dev *dev);
};

struct dev {
    const struct dev_ops *ops;
    struct reactor *reactor;
    uint64_t size_bytes;
    bool volatile_cache; /* a completed write needs a flush to be durable */
    bool read_only;
    char name[64];       /* for messages: the path's last part, or what a test calls it */

    /* Private to dev/. */
    unsigned in_flight;
    struct list under_way; /* oldest first */
    struct list finished; /* done, but not told yet: see dev_finish_later() */
    struct timer finish_timer;
    struct dev_metrics *metrics;
};

/*
 * dev_submit() - Never fails; a range outside the device, a misaligned or too long transfer, or a
 * write to a read-only device completes with SHOAL_E_INVALID.
 */
void dev_submit(struct dev *dev, struct dev_io *io);

/* Blocking forms, for fibers. Return 0 or a negative SHOAL_E_*. */
int dev_read(struct dev *dev, uint64_t offset_bytes, void *buffer, size_t len);
int dev_write(struct dev *dev, uint64_t offset_bytes, const void *buffer, size_t len);
int dev_writev(struct dev *dev, uint64_t offset_bytes, const struct iovec *iov, unsigned count);
int dev_flush(struct dev *dev);

/* When the oldest operation that is under way was submitted; 0: none is. */
uint64_t dev_waiting_since_ns(const struct dev *dev);

/* No operation may be under way (CHECKed). NULL is harmless. */
void dev_close(struct dev *dev);

/*
 * dev_register_metrics() - Count from now on: operations' latency, bytes, errors, queue depth, with
 * @labels (such as `target="0"`). @metrics must outlive the device.
 */
void dev_register_metrics(struct dev *dev, struct metrics *metrics, const char *labels);

/*
 * dev_uring_open() - A file or block device through the reactor's io_uring, with O_DIRECT where the
 * file system has it (told once in the log where not).
 * @size_bytes: 0: as it is; else a regular file is created or grown to this size, allocated and
 *              written once, so that later writes need no metadata and cannot fail for space. A
 *              larger file, or a block device, is taken as it is; a smaller block device is
 *              refused.
 * The device holds a lock (flock) on it, exclusive unless @read_only: two nodes cannot share one.
 * Blocks the thread while it writes a new file; call it at start.
 * Return: 0, or what was found wrong, logged with path and remedy: SHOAL_E_NOT_FOUND, DENIED, BUSY
 * (locked or mounted), INVALID (size), FULL, UNSUPPORTED (neither file nor block device), IO,
 * NO_MEMORY or SYSTEM.
 */
int dev_uring_open(struct reactor *reactor, const char *path, uint64_t size_bytes, bool read_only,
                   struct dev **out);

/* ---- sim: a drive in memory, with faults ---- */

/*
 * struct dev_sim_store - What the simulated drive holds. It outlives the open device, as a drive
 * outlives the process: open, crash, open again. Memory is taken as blocks are written.
 *
 * With a volatile cache it holds two images: what reads see, and what would be left after a loss of
 * power, with the writes that lie between the two.
 */
struct dev_sim_store;

int dev_sim_store_create(uint64_t size_bytes, struct dev_sim_store **out); /* all zeros */
void dev_sim_store_destroy(struct dev_sim_store *store); /* no device may be open on it (CHECKed) */
uint64_t dev_sim_store_size(const struct dev_sim_store *store);

/* For tests: look at it, damage it. Any offset and length inside; what is written is durable. */
void dev_sim_store_read(const struct dev_sim_store *store, uint64_t offset_bytes, void *to,
                        size_t len);
void dev_sim_store_write(struct dev_sim_store *store, uint64_t offset_bytes, const void *from,
                         size_t len);
void dev_sim_store_flip_bit(struct dev_sim_store *store, uint64_t offset_bytes, unsigned bit);

/*
 * dev_sim_store_snapshot() - Remember what it holds now; restore() goes back to that, at a cost
 * that grows with the blocks written since and not with the size. Unsynced writes count as durable in a
 * snapshot. Taking another one replaces it.
 */
int dev_sim_store_snapshot(struct dev_sim_store *store);
void dev_sim_store_restore(struct dev_sim_store *store); /* no device may be open on it */

/*
 * dev_sim_store_lose_power() - Each unsynced write is kept, dropped, or torn: random sectors of it,
 * a head, or a tail. A later write may be kept and an earlier one lost. Without an open device;
 * dev_sim_crash() is for one with.
 */
void dev_sim_store_lose_power(struct dev_sim_store *store, struct prng *prng);
unsigned dev_sim_store_unsynced(const struct dev_sim_store *store);

/*
 * struct dev_sim_faults - Chances in a million, drawn for each operation. All zero: none.
 *
 * A failed write or a failed flush may have done any part of its work. What damages the medium and says
 * nothing (rot at rest, torn, misdirected, lost) strikes at damage_from_bytes and beyond, and nowhere
 * else: a drive alone cannot tell a damaged end of its journal from one that was never written.
 */
struct dev_sim_faults {
    uint32_t read_error_ppm;  /* SHOAL_E_IO */
    uint32_t write_error_ppm;
    uint32_t flush_error_ppm;
    uint32_t full_ppm;        /* a write fails with SHOAL_E_FULL */
    uint32_t rot_read_ppm;    /* one bit differs in what is returned */
    uint32_t rot_rest_ppm;    /* one bit of the range is flipped on the medium before it is read */
    uint32_t torn_ppm;        /* a write succeeds, and only some of its sectors arrived */
    uint32_t misdirected_ppm; /* a write succeeds, and arrived at another offset */
    uint32_t lost_ppm;        /* a write succeeds, and did not arrive */
    uint32_t stuck_ppm;       /* an operation does not end until dev_sim_unstick() or a crash */
    bool dead;                /* everything fails with SHOAL_E_IO */
    uint64_t damage_from_bytes;
};

/*
 * struct dev_sim_config - How the device behaves.
 * @seed: of its own random numbers; 0: drawn from the reactor's
 * @latency_min_ns, @latency_max_ns: of each operation, uniform; both 0: it completes in the next
 *        poll (a memory device, for benchmarks)
 * @sector_bytes: what is written whole or not at all, 512 or 4096; 0: 512
 */
struct dev_sim_config {
    const char *name;
    uint64_t seed;
    bool volatile_cache;
    uint64_t latency_min_ns;
    uint64_t latency_max_ns;
    uint32_t sector_bytes;
    struct dev_sim_faults faults;
};

/* One device at a time on a store (else SHOAL_E_BUSY). */
int dev_sim_open(struct reactor *reactor, struct dev_sim_store *store,
                 const struct dev_sim_config *config, struct dev **out);

/* The rest takes a device that dev_sim_open() gave. */
void dev_sim_set_faults(struct dev *dev, const struct dev_sim_faults *faults);
void dev_sim_set_latency(struct dev *dev, uint64_t min_ns, uint64_t max_ns);

/* The @nth operation from now (1: the next) fails with @error; 0 for @nth: none does. */
void dev_sim_fail_nth(struct dev *dev, uint64_t nth, int error);

/* Operations submitted since it was opened: how far dev_sim_fail_nth() can count. */
uint64_t dev_sim_operations(const struct dev *dev);

void dev_sim_unstick(struct dev *dev);

/*
 * dev_sim_crash() - The machine loses power: writes under way and writes not synced are kept,
 * dropped, torn and reordered at random; then operations under way, and all later ones, end with
 * SHOAL_E_SHUTDOWN without effect. Close it, and open the store again.
 *
 * dev_sim_kill() - The process dies and the machine lives: as above, but completed writes stay.
 */
void dev_sim_crash(struct dev *dev, struct prng *prng);
void dev_sim_kill(struct dev *dev, struct prng *prng);

/* ---- record: a wrapper that logs what crash tests need ---- */

/*
 * A crash test records a workload, then builds the images that a crash at any moment could leave:
 *
 *   for (prefix = 0; prefix <= log.entry_count; prefix++) {
 *       dev_record_split(&log, prefix, volatile_cache, &split);
 *       // every write of split.durable is on the device; each of split.in_doubt may be, wholly,
 *       // partly or not at all: choose a fate for each
 *       dev_sim_store_restore(store);
 *       dev_record_apply(&log, &split, fates, store);
 *       ... open an engine on the store, compare with the model ...
 *   }
 *
 * The store was snapshot before the recording began. dev_record_mark() puts the workload's own
 * events ("this put was acknowledged") into the same order.
 */
enum dev_record_kind {
    DEV_RECORD_WRITE_SUBMITTED, /* @id: index into writes */
    DEV_RECORD_WRITE_COMPLETED,
    DEV_RECORD_FLUSH_SUBMITTED, /* @id: counts flushes */
    DEV_RECORD_FLUSH_COMPLETED,
    DEV_RECORD_MARK, /* @id: the caller's */
};

struct dev_record_entry {
    enum dev_record_kind kind;
    int result; /* of what completed */
    uint64_t id;
};

struct dev_record_write {
    uint64_t offset_bytes;
    size_t len;
    uint8_t *bytes;
};

struct dev_record_log {
    struct dev_record_entry *entries;
    size_t entry_count;
    size_t entry_room;
    struct dev_record_write *writes;
    size_t write_count;
    size_t write_room;
    uint64_t flush_count;
};

/*
 * dev_record_open() - A device that passes everything on to @inner, which it owns and closes, and
 * logs into @log, which is zeroed by the caller and freed with dev_record_log_free().
 */
int dev_record_open(struct dev *inner, struct dev_record_log *log, struct dev **out);
void dev_record_mark(struct dev_record_log *log, uint64_t id);
void dev_record_log_free(struct dev_record_log *log);

/*
 * struct dev_record_split - What a crash after the first @prefix entries finds: indices into
 * log->writes, in the order of submission.
 */
struct dev_record_split {
    size_t *durable;
    size_t durable_count;
    size_t *in_doubt;
    size_t in_doubt_count;
    size_t room;
};

/* Zero the struct before the first use; it is reused from prefix to prefix. */
void dev_record_split(const struct dev_record_log *log, size_t prefix, bool volatile_cache,
                      struct dev_record_split *split);
void dev_record_split_free(struct dev_record_split *split);

/*
 * struct dev_record_fate - Of a write in doubt, bytes [from, to) reached the medium: {0, len} all
 * of it, {0, 0} nothing, {0, 512} its first sector. A tear with a hole takes two calls of
 * dev_record_apply_part().
 */
struct dev_record_fate {
    size_t from;
    size_t to;
};

/*
 * dev_record_apply() - Write into @store: of durable writes all, of those in doubt what @fates
 * says, one for each of split->in_doubt; all in the order in which they were submitted.
 */
void dev_record_apply(const struct dev_record_log *log, const struct dev_record_split *split,
                      const struct dev_record_fate *fates, struct dev_sim_store *store);
void dev_record_apply_part(const struct dev_record_log *log, size_t write,
                           struct dev_record_fate fate, struct dev_sim_store *store);

#endif
