/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/bitmap.h"
#include "base/check.h"
#include "base/macros.h"
#include "dev/backend.h"
#include "shoal/error.h"

struct dev_record {
    struct dev dev;
    struct dev *inner;
    struct dev_record_log *log;
};

/* A copy of the caller's operation goes down, so that its completion comes through here. */
struct record_io {
    struct dev_io inner;
    struct dev_io *outer;
    struct dev_record *record;
    uint64_t id;
};

/* ---- the log ---- */

static void *grown(void *array, size_t count, size_t *room, size_t size)
{
    if (count < *room)
        return array;
    *room = MAX(*room * 2, (size_t)64);
    array = realloc(array, *room * size);
    CHECK_MSG(array != NULL, "out of memory while recording");
    return array;
}

static void append(struct dev_record_log *log, enum dev_record_kind kind, uint64_t id, int result)
{
    log->entries =
        grown(log->entries, log->entry_count, &log->entry_room, sizeof(*log->entries));
    log->entries[log->entry_count++] =
        (struct dev_record_entry){.kind = kind, .id = id, .result = result};
}

static uint64_t append_write(struct dev_record_log *log, const struct dev_io *io)
{
    size_t len = dev_io_bytes(io);
    uint8_t *bytes = malloc(len);

    CHECK_MSG(bytes != NULL, "out of memory while recording");
    size_t at = 0;
    for (unsigned i = 0; i < io->iov_count; at += io->iov[i++].iov_len)
        memcpy(bytes + at, io->iov[i].iov_base, io->iov[i].iov_len);
    log->writes = grown(log->writes, log->write_count, &log->write_room, sizeof(*log->writes));
    log->writes[log->write_count] =
        (struct dev_record_write){.offset_bytes = io->offset_bytes, .len = len, .bytes = bytes};
    return log->write_count++;
}

void dev_record_mark(struct dev_record_log *log, uint64_t id)
{
    append(log, DEV_RECORD_MARK, id, 0);
}

void dev_record_log_free(struct dev_record_log *log)
{
    for (size_t i = 0; i < log->write_count; i++)
        free(log->writes[i].bytes);
    free(log->writes);
    free(log->entries);
    *log = (struct dev_record_log){0};
}

/* ---- the device ---- */

static void inner_done(struct dev_io *inner, int result)
{
    struct record_io *wrapped = container_of(inner, struct record_io, inner);
    struct dev_record *record = wrapped->record;
    struct dev_io *outer = wrapped->outer;

    if (outer->op == DEV_WRITE)
        append(record->log, DEV_RECORD_WRITE_COMPLETED, wrapped->id, result);
    else if (outer->op == DEV_FLUSH)
        append(record->log, DEV_RECORD_FLUSH_COMPLETED, wrapped->id, result);
    free(wrapped);
    dev_finish(&record->dev, outer, result);
}

static void submit(struct dev *dev, struct dev_io *io)
{
    struct dev_record *record = container_of(dev, struct dev_record, dev);
    struct record_io *wrapped = calloc(1, sizeof(*wrapped));

    CHECK_MSG(wrapped != NULL, "out of memory while recording");
    wrapped->inner.op = io->op;
    wrapped->inner.offset_bytes = io->offset_bytes;
    wrapped->inner.iov_count = io->iov_count;
    memcpy(wrapped->inner.iov, io->iov, sizeof(io->iov));
    wrapped->inner.done = inner_done;
    wrapped->outer = io;
    wrapped->record = record;
    if (io->op == DEV_WRITE) {
        wrapped->id = append_write(record->log, io);
        append(record->log, DEV_RECORD_WRITE_SUBMITTED, wrapped->id, 0);
    } else if (io->op == DEV_FLUSH) {
        wrapped->id = record->log->flush_count++;
        append(record->log, DEV_RECORD_FLUSH_SUBMITTED, wrapped->id, 0);
    }
    dev_submit(record->inner, &wrapped->inner);
}

static void close_device(struct dev *dev)
{
    struct dev_record *record = container_of(dev, struct dev_record, dev);

    dev_close(record->inner);
    free(record);
}

static const struct dev_ops record_ops = {.submit = submit, .close = close_device};

int dev_record_open(struct dev *inner, struct dev_record_log *log, struct dev **out)
{
    struct dev_record *record = calloc(1, sizeof(*record));

    if (record == NULL)
        return SHOAL_E_NO_MEMORY;
    dev_init(&record->dev, &record_ops, inner->reactor, inner->name, inner->size_bytes);
    record->dev.volatile_cache = inner->volatile_cache;
    record->dev.read_only = inner->read_only;
    record->inner = inner;
    record->log = log;
    *out = &record->dev;
    return 0;
}

/* ---- building images ---- */

/* Entries up to which completed writes are durable at @prefix: the submission of the last flush. */
static size_t durable_limit(const struct dev_record_log *log, size_t prefix, bool volatile_cache)
{
    size_t limit = 0;

    if (!volatile_cache)
        return prefix;
    for (size_t i = 0; i < prefix; i++) {
        const struct dev_record_entry *end = &log->entries[i];
        if (end->kind != DEV_RECORD_FLUSH_COMPLETED || end->result != 0)
            continue;
        for (size_t j = limit; j < i; j++)
            if (log->entries[j].kind == DEV_RECORD_FLUSH_SUBMITTED && log->entries[j].id == end->id)
                limit = j;
    }
    return limit;
}

static void make_room(struct dev_record_split *split, size_t room)
{
    if (split->room >= room)
        return;
    split->durable = realloc(split->durable, room * sizeof(*split->durable));
    split->in_doubt = realloc(split->in_doubt, room * sizeof(*split->in_doubt));
    CHECK_MSG(split->durable != NULL && split->in_doubt != NULL, "out of memory");
    split->room = room;
}

void dev_record_split(const struct dev_record_log *log, size_t prefix, bool volatile_cache,
                      struct dev_record_split *split)
{
    struct bitmap completed;

    CHECK(prefix <= log->entry_count);
    make_room(split, log->write_count + 1);
    split->durable_count = 0;
    split->in_doubt_count = 0;
    CHECK(bitmap_alloc(&completed, log->write_count + 1) == 0);
    size_t limit = durable_limit(log, prefix, volatile_cache);
    /* A write that failed may have done anything: it stays in doubt for ever. */
    for (size_t i = 0; i < limit; i++)
        if (log->entries[i].kind == DEV_RECORD_WRITE_COMPLETED && log->entries[i].result == 0)
            bitmap_set(&completed, log->entries[i].id);
    for (size_t i = 0; i < prefix; i++) {
        if (log->entries[i].kind != DEV_RECORD_WRITE_SUBMITTED)
            continue;
        size_t write = log->entries[i].id;
        if (bitmap_test(&completed, write))
            split->durable[split->durable_count++] = write;
        else
            split->in_doubt[split->in_doubt_count++] = write;
    }
    bitmap_free(&completed);
}

void dev_record_split_free(struct dev_record_split *split)
{
    free(split->durable);
    free(split->in_doubt);
    *split = (struct dev_record_split){0};
}

void dev_record_apply_part(const struct dev_record_log *log, size_t write,
                           struct dev_record_fate fate, struct dev_sim_store *store)
{
    const struct dev_record_write *bytes = &log->writes[write];

    CHECK(write < log->write_count && fate.from <= fate.to && fate.to <= bytes->len);
    dev_sim_store_write(store, bytes->offset_bytes + fate.from, bytes->bytes + fate.from,
                        fate.to - fate.from);
}

void dev_record_apply(const struct dev_record_log *log, const struct dev_record_split *split,
                      const struct dev_record_fate *fates, struct dev_sim_store *store)
{
    size_t durable = 0;
    size_t in_doubt = 0;

    /* Both lists rise; merged, they give the order of submission. */
    while (durable < split->durable_count || in_doubt < split->in_doubt_count) {
        if (in_doubt == split->in_doubt_count ||
            (durable < split->durable_count &&
             split->durable[durable] < split->in_doubt[in_doubt])) {
            size_t write = split->durable[durable++];
            struct dev_record_fate all = {0, log->writes[write].len};
            dev_record_apply_part(log, write, all, store);
        } else {
            dev_record_apply_part(log, split->in_doubt[in_doubt], fates[in_doubt], store);
            in_doubt++;
        }
    }
}
