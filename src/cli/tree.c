/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/format.h"
#include "base/progress.h"
#include "cli/sink.h"

#define SMALL_BYTES (1u << 20)
#define STREAM_BYTES (16u << 20)
#define DEPTH_MAX 64u

/* ---- listings ---- */

struct listing_taking {
    struct listing *listing;
    bool keys, failed;
};

static bool take_item(void *ctx, const struct shoal_listed *blob)
{
    struct listing_taking *taking = ctx;
    struct listing *listing = taking->listing;
    if (blob->name_len == 0 && !taking->keys)
        return true;
    if (listing->count == listing->room) {
        size_t room = listing->room == 0 ? 256 : listing->room * 2;
        struct listing_item *items = realloc(listing->items, room * sizeof *items);
        if (items == NULL) {
            taking->failed = true;
            return false;
        }
        listing->items = items;
        listing->room = room;
    }
    char hex[2 * SHOAL_KEY_BYTES + 2] = "@";
    cli_key_hex(&blob->key, hex + 1);
    struct listing_item *item = &listing->items[listing->count];
    *item = (struct listing_item){.key = blob->key, .version = blob->version, .size = blob->size,
                                  .created_s = blob->created_s, .named = blob->name_len > 0,
                                  .name = strdup(blob->name_len > 0 ? blob->name : hex)};
    taking->failed = item->name == NULL;
    listing->count += !taking->failed;
    return !taking->failed;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct listing_item *)a)->name, ((const struct listing_item *)b)->name);
}

bool listing_take(struct shoal *shoal, const char *pool, const char *prefix, bool keys,
                  struct listing *listing)
{
    struct listing_taking taking = {.listing = listing, .keys = keys};
    if (shoal_list(shoal, pool, prefix, take_item, &taking) != 0)
        return false;
    if (taking.failed) {
        shoal_fail(SHOAL_E_NO_MEMORY, "out of memory for so many blobs");
        return false;
    }
    if (listing->count > 0)
        qsort(listing->items, listing->count, sizeof *listing->items, by_name);
    return true;
}

void listing_free(struct listing *listing)
{
    for (size_t i = 0; i < listing->count; i++)
        free(listing->items[i].name);
    free(listing->items);
}

/* ---- many at once ---- */

struct slot {
    struct shoal_request request;
    struct iovec iov;
    uint8_t *buffer;
    char *path; /* of the file */
    char *name; /* of the blob */
    bool busy;
};

struct transfer {
    struct shoal *shoal;
    const struct shoal_request *like;
    const char *directory;
    bool putting;
    struct slot slots[TREE_DEPTH];
    uint8_t *stream;
    struct progress progress;
    uint64_t files, bytes, failed;
};

static void failed(struct transfer *transfer)
{
    transfer->failed++;
    cli_fail_shoal();
}

static bool write_file(const char *path, const void *data, size_t len)
{
    struct sink sink;
    return sink_open(&sink, path) && sink_close(&sink, sink_write(&sink, data, len));
}

static void slot_end(struct transfer *transfer, struct slot *slot)
{
    bool ok = slot->request.status == 0;
    if (!ok)
        shoal_fail(slot->request.status, "%s %s/%s: %s", transfer->putting ? "put" : "get",
                   slot->request.pool, slot->name, shoal_error_text(slot->request.status));
    else if (!transfer->putting)
        ok = write_file(slot->path, slot->buffer, (size_t)slot->request.bytes);
    if (ok) {
        transfer->files++;
        transfer->bytes += slot->request.bytes;
        progress_add(&transfer->progress, slot->request.bytes);
    } else {
        failed(transfer);
    }
    free(slot->path);
    free(slot->name);
    slot->path = slot->name = NULL;
    slot->busy = false;
}

static void reap(struct transfer *transfer, bool wait)
{
    struct shoal_request *done[TREE_DEPTH];
    unsigned count = wait ? shoal_wait(transfer->shoal, done, TREE_DEPTH, -1)
                          : shoal_poll(transfer->shoal, done, TREE_DEPTH);
    for (unsigned i = 0; i < count; i++)
        slot_end(transfer, done[i]->user);
}

static struct slot *slot_free(struct transfer *transfer)
{
    for (;;) {
        for (unsigned i = 0; i < TREE_DEPTH; i++) {
            struct slot *slot = &transfer->slots[i];
            if (slot->busy)
                continue;
            if (slot->buffer == NULL)
                slot->buffer = malloc(SMALL_BYTES);
            return slot->buffer != NULL ? slot : NULL;
        }
        reap(transfer, true);
    }
}

static void drain(struct transfer *transfer)
{
    for (unsigned i = 0; i < TREE_DEPTH; i++)
        while (transfer->slots[i].busy)
            reap(transfer, true);
}

static void slot_start(struct transfer *transfer, struct slot *slot, enum shoal_op op, size_t len)
{
    slot->busy = true;
    slot->iov = (struct iovec){slot->buffer, len};
    slot->request = *transfer->like;
    slot->request.op = op;
    slot->request.name = slot->name;
    slot->request.iov = &slot->iov;
    slot->request.iov_count = 1;
    slot->request.user = slot;
    if (shoal_submit(transfer->shoal, &slot->request) != 0) {
        slot->request.status = SHOAL_E_INVALID;
        slot_end(transfer, slot);
    }
}

/* ---- up ---- */

static bool read_file(int fd, uint8_t *buffer, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t got = read(fd, buffer + done, len - done);
        if (got <= 0)
            return false;
        done += (size_t)got;
    }
    return true;
}

static bool stream_up(struct transfer *transfer, int fd, uint64_t size, const char *name)
{
    struct shoal_request request = *transfer->like;
    struct shoal_writer *writer;
    request.name = name;
    if (shoal_writer_open(transfer->shoal, &request, size, &writer) != 0)
        return false;
    for (uint64_t done = 0; done < size;) {
        size_t len = (size_t)MIN(size - done, (uint64_t)STREAM_BYTES);
        bool ok = read_file(fd, transfer->stream, len);
        if (!ok)
            shoal_fail(SHOAL_E_IO, "%s became shorter while it was read", name);
        if (!ok || shoal_writer_write(writer, transfer->stream, len) != 0) {
            shoal_writer_abort(writer);
            return false;
        }
        done += len;
        progress_add(&transfer->progress, len);
    }
    return shoal_writer_finish(writer, NULL) == 0;
}

static void put_file(struct transfer *transfer, const char *path, const char *name)
{
    struct stat about;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &about) != 0) {
        shoal_fail(SHOAL_E_IO, "cannot read %s: %s", path, strerror(errno));
        failed(transfer);
        if (fd >= 0)
            close(fd);
        return;
    }
    uint64_t size = (uint64_t)about.st_size;
    struct slot *slot = size <= SMALL_BYTES ? slot_free(transfer) : NULL;
    if (slot != NULL && read_file(fd, slot->buffer, (size_t)size)) {
        slot->name = strdup(name);
        slot->path = strdup(path);
        slot_start(transfer, slot, SHOAL_OP_PUT, (size_t)size);
    } else if (slot == NULL && stream_up(transfer, fd, size, name)) {
        transfer->files++;
        transfer->bytes += size;
    } else {
        if (slot != NULL)
            shoal_fail(SHOAL_E_IO, "cannot read %s to its end", path);
        failed(transfer);
    }
    close(fd);
}

static void put_below(struct transfer *transfer, const char *path, const char *name, unsigned depth)
{
    DIR *stream = opendir(path);
    struct dirent *entry;
    if (stream == NULL || depth > DEPTH_MAX) {
        shoal_fail(SHOAL_E_IO, "cannot read the directory %s: %s", path, strerror(errno));
        failed(transfer);
        return;
    }
    while ((entry = readdir(stream)) != NULL) {
        char *below, *blob;
        struct stat about = {0};
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (asprintf(&below, "%s/%s", path, entry->d_name) < 0 ||
            asprintf(&blob, "%s%s%s", name, name[0] != 0 ? "/" : "", entry->d_name) < 0)
            break;
        /* Links are not followed: a blob is bytes, and a cycle would have no end. */
        if (lstat(below, &about) == 0 && S_ISDIR(about.st_mode))
            put_below(transfer, below, blob, depth + 1);
        else if (S_ISREG(about.st_mode))
            put_file(transfer, below, blob);
        free(below);
        free(blob);
    }
    closedir(stream);
}

/* ---- down ---- */

/* A name is somebody else's text: it must stay below the directory. */
static bool safe_name(const char *name)
{
    if (name[0] == '/' || name[0] == 0)
        return false;
    for (const char *part = name; part != NULL; part = strchr(part, '/')) {
        part += *part == '/';
        size_t len = strcspn(part, "/");
        if (len == 0 || (len == 1 && part[0] == '.') || (len == 2 && strncmp(part, "..", 2) == 0))
            return false;
    }
    return true;
}

static bool make_parent(const char *path)
{
    char parent[CLI_PATH_MAX];
    snprintf(parent, sizeof parent, "%s", path);
    *strrchr(parent, '/') = 0;
    if (file_make_directories(parent, 0777) == 0)
        return true;
    shoal_fail(SHOAL_E_IO, "cannot make the directory %s: %s", parent, strerror(errno));
    return false;
}

static bool stream_down(struct transfer *transfer, const struct listing_item *item,
                        const char *path)
{
    struct shoal_request request = *transfer->like;
    struct shoal_reader *reader;
    request.name = item->name;
    request.op = SHOAL_OP_GET;
    if (shoal_reader_open(transfer->shoal, &request, &reader, &request) != 0)
        return false;
    struct sink sink;
    bool ok = sink_open(&sink, path);
    uint64_t done = 0;
    while (ok && done < request.size) {
        size_t got = 0;
        ok = shoal_reader_read(reader, transfer->stream, STREAM_BYTES, &got) == 0 && got > 0 &&
             sink_write(&sink, transfer->stream, got);
        done += got;
        progress_add(&transfer->progress, got);
    }
    ok = sink_close(&sink, ok);
    shoal_reader_close(reader);
    transfer->files += ok;
    transfer->bytes += ok ? done : 0;
    return ok;
}

static void get_blob(struct transfer *transfer, const struct listing_item *item,
                     const char *relative)
{
    char path[CLI_PATH_MAX];
    bool fits = (size_t)snprintf(path, sizeof path, "%s/%s", transfer->directory, relative) <
                sizeof path;
    if (!fits || !safe_name(relative)) {
        shoal_fail(SHOAL_E_INVALID, "the name '%s' cannot be a file below %s", item->name,
                   transfer->directory);
        failed(transfer);
        return;
    }
    if (!make_parent(path)) {
        failed(transfer);
        return;
    }
    if (item->size > SMALL_BYTES) {
        if (!stream_down(transfer, item, path))
            failed(transfer);
        return;
    }
    struct slot *slot = slot_free(transfer);
    if (slot == NULL) {
        failed(transfer);
        return;
    }
    slot->name = strdup(item->name);
    slot->path = strdup(path);
    slot_start(transfer, slot, SHOAL_OP_GET, SMALL_BYTES);
}

/* ---- both ---- */

static int finish(struct transfer *transfer, uint64_t started, bool json, bool quiet)
{
    uint64_t elapsed = cli_now_ns() - started;
    drain(transfer);
    progress_end(&transfer->progress);
    for (unsigned i = 0; i < TREE_DEPTH; i++)
        free(transfer->slots[i].buffer);
    free(transfer->stream);
    if (json)
        cli_print_json(json_pack("{s:I, s:I, s:I, s:f}", "blobs", (json_int_t)transfer->files,
                                 "bytes", (json_int_t)transfer->bytes, "failed",
                                 (json_int_t)transfer->failed, "seconds", (double)elapsed / 1e9));
    else if (!quiet)
        printf("%s %s blobs, %s in %s (%s)%s\n", transfer->putting ? "Stored" : "Fetched",
               format_count(transfer->files).text, format_bytes(transfer->bytes).text,
               format_duration(elapsed).text, format_rate(transfer->bytes, elapsed).text,
               transfer->failed > 0 ? "; some failed" : ".");
    return transfer->failed == 0 ? EXIT_DONE : EXIT_FAILED;
}

static struct transfer *begin(struct shoal *shoal, const struct shoal_request *like,
                              const char *directory, bool putting)
{
    struct transfer *transfer = calloc(1, sizeof *transfer);
    if (transfer == NULL || (transfer->stream = malloc(STREAM_BYTES)) == NULL) {
        free(transfer);
        cli_fail("out of memory");
        return NULL;
    }
    transfer->shoal = shoal;
    transfer->like = like;
    transfer->directory = directory;
    transfer->putting = putting;
    return transfer;
}

int tree_put(struct shoal *shoal, const struct shoal_request *like, const char *directory, bool json,
             bool quiet)
{
    struct transfer *transfer = begin(shoal, like, directory, true);
    uint64_t started = cli_now_ns();
    if (transfer == NULL)
        return EXIT_FAILED;
    progress_begin(&transfer->progress, "put", 0, !quiet && !json);
    char prefix[SHOAL_NAME_MAX + 1];
    snprintf(prefix, sizeof prefix, "%s", like->name != NULL ? like->name : "");
    size_t len = strlen(prefix);
    if (len > 0 && prefix[len - 1] == '/')
        prefix[len - 1] = 0;
    put_below(transfer, directory, prefix, 0);
    int status = finish(transfer, started, json, quiet);
    free(transfer);
    return status;
}

int tree_get(struct shoal *shoal, const struct shoal_request *like, const char *directory, bool json,
             bool quiet)
{
    struct transfer *transfer = begin(shoal, like, directory, false);
    struct listing listing = {0};
    uint64_t started = cli_now_ns(), total = 0;
    char prefix[SHOAL_NAME_MAX + 2] = "";
    if (transfer == NULL)
        return EXIT_FAILED;
    size_t len = like->name != NULL ? strlen(like->name) : 0;
    if (len > 0)
        snprintf(prefix, sizeof prefix, "%s%s", like->name, like->name[len - 1] == '/' ? "" : "/");
    if (!listing_take(shoal, like->pool, prefix, false, &listing))
        failed(transfer);
    else if (listing.count == 0)
        cli_fail("no blob of pool %s has a name that begins with '%s'", like->pool, prefix);
    for (size_t i = 0; i < listing.count; i++)
        total += listing.items[i].size;
    progress_begin(&transfer->progress, "get", total, !quiet && !json);
    for (size_t i = 0; i < listing.count; i++)
        get_blob(transfer, &listing.items[i], listing.items[i].name + strlen(prefix));
    transfer->failed += listing.count == 0 && transfer->failed == 0;
    int status = finish(transfer, started, json, quiet);
    listing_free(&listing);
    free(transfer);
    return status;
}
