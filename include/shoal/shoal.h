/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libshoal: store and fetch blobs of a Shoal cluster.
 *
 *   struct shoal *shoal;
 *   int rc = shoal_open(NULL, NULL, &shoal);
 *   if (rc == 0)
 *       rc = shoal_put(shoal, "durable", "greetings/1", "hello", 5);
 *   if (rc != 0)
 *       fprintf(stderr, "%s\n", shoal_message());
 *
 * A blob lives in a *pool* under a key of 32 bytes and is a string of bytes of any length. The key
 * comes from a name (which then can be listed), from the content, or is chosen by the caller.
 *
 * Threads: a handle may be used by any number of threads at once. The library has no thread of its
 * own: whoever waits for a result also makes progress for everybody else, so a synchronous call
 * costs no hand-over between threads. A program that only submits must call shoal_poll() or
 * shoal_wait(), for instance when shoal_fd() becomes readable. After fork() a handle belongs to the
 * parent.
 *
 * Errors: 0 or a negative SHOAL_E_* of shoal/error.h; shoal_message() then has a sentence for a
 * person. Memory handed over in a struct iovec is lent until the operation ends, and is neither
 * copied nor kept.
 */
#ifndef SHOAL_SHOAL_H
#define SHOAL_SHOAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "shoal/error.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SHOAL_KEY_BYTES 32
#define SHOAL_NAME_MAX 1024
#define SHOAL_IOV_MAX 12         /* elements of a request's scatter/gather list */
#define SHOAL_REQUESTS_MAX 1024u /* of one handle under way at once, at most */

struct shoal;

struct shoal_key {
    uint8_t bytes[SHOAL_KEY_BYTES];
};

/* Totally ordered; all zero is none. Compare with shoal_version_compare(). */
struct shoal_version {
    uint64_t epoch;
    uint64_t counter;
    uint32_t incarnation;
    uint32_t reserved;
};

int shoal_version_compare(const struct shoal_version *a, const struct shoal_version *b);

/* "EPOCH.INCARNATION.COUNTER", as `shoal stat` prints it. @out: at least 64 bytes. */
void shoal_version_print(const struct shoal_version *version, char *out, size_t size);
int shoal_version_parse(const char *text, struct shoal_version *version);

/* The key of a blob put by name. @len: 1 to SHOAL_NAME_MAX, any bytes but 0. */
int shoal_key_of_name(const char *name, size_t len, struct shoal_key *key);

/*
 * The key of content in memory: SHA-256 of the bytes up to one stripe (4 MiB); beyond that SHA-256
 * of "shoal-tree-1", the length as 8 little-endian bytes, and the SHA-256 of each 4 MiB piece in
 * order. docs/formats say the same.
 */
void shoal_key_of_content(const void *data, size_t len, struct shoal_key *key);

/* ---- a handle ---- */

/*
 * struct shoal_options - Zero means the default throughout.
 * @timeout_ms: of each operation that names none itself (30,000)
 * @requests_max: operations under way at once; more end with SHOAL_E_BUSY (64)
 * @hedge_us: when a member has not answered a read for so long, another one is asked too (20,000)
 */
struct shoal_options {
    uint32_t timeout_ms;
    uint32_t requests_max;
    uint32_t hedge_us;
    uint32_t reserved[5];
};

/*
 * shoal_open() - Connect to a cluster.
 * @config: path of a client.yaml; NULL: $SHOAL_CONFIG, else the cluster that `shoal up` started last.
 * @options: may be NULL.
 * Return: 0, SHOAL_E_CONFIG, SHOAL_E_NOT_FOUND (no configuration), SHOAL_E_CONNECTION (no node
 * answers), SHOAL_E_DENIED (certificate refused), SHOAL_E_VERSION, SHOAL_E_SYSTEM (io_uring refused).
 */
int shoal_open(const char *config, const struct shoal_options *options, struct shoal **out);

/* Operations under way end with SHOAL_E_CANCELLED. No other thread may use the handle any more. */
void shoal_close(struct shoal *shoal);

/* What went wrong in this thread's last failing call: one line, no newline. Valid until the next. */
const char *shoal_message(void);

const char *shoal_version_string(void);

/* ---- one operation ---- */

enum shoal_op {
    SHOAL_OP_PUT = 1,
    SHOAL_OP_GET = 2,
    SHOAL_OP_STAT = 3,
    SHOAL_OP_REMOVE = 4,
    SHOAL_OP_EXISTS = 5,
};

enum shoal_flags {
    SHOAL_IF_ABSENT = 1,  /* put: only if no such blob exists, else SHOAL_E_EXISTS */
    SHOAL_IF_VERSION = 2, /* put, remove: only if the blob has version @expected: SHOAL_E_CONDITION */
    SHOAL_CONTENT = 4,    /* put: the key is the content's hash, a hit moves no data; get: verify */
    SHOAL_TOUCH = 8,      /* exists: count as a use, for eviction */
};

/*
 * struct shoal_request - An operation and its outcome. Zero it, fill in what the operation needs.
 * @pool: of every operation; lent
 * @name: the blob by name (lent; with zero terminator); NULL: by @key
 * @key: the blob by key; after SHOAL_CONTENT puts and puts by name: the key it got
 * @iov, @iov_count: put: the bytes; get: where they go; at most SHOAL_IOV_MAX
 * @offset: get: the first byte wanted
 * @timeout_ms: 0: the handle's
 * @ttl_s: put into a cache: 0: the pool's
 * @keys, @present, @keys_count: exists: any number of keys, and for each one byte that becomes 1 or 0
 * @user: the caller's
 *
 * @status: 0 or SHOAL_E_*
 * @bytes: get: how many were read, less than asked for at the end of the blob; put: how many it has
 * @size: get, stat: length of the blob
 * @existed: put: the content was there already
 */
struct shoal_request {
    enum shoal_op op;
    uint32_t flags;
    const char *pool;
    const char *name;
    struct shoal_key key;
    const struct iovec *iov;
    uint32_t iov_count;
    uint32_t timeout_ms;
    uint64_t offset;
    struct shoal_version expected;
    uint32_t ttl_s;
    uint32_t keys_count;
    const struct shoal_key *keys;
    uint8_t *present;
    void *user;

    int status;
    bool existed;
    uint64_t bytes;
    uint64_t size;
    uint64_t created_s, expires_s; /* get, stat: seconds since 1970; 0: never */
    struct shoal_version version;

    uint64_t private_[12];
};

/* shoal_run() - Do it now. Return: request->status. */
int shoal_run(struct shoal *shoal, struct shoal_request *request);

/*
 * shoal_submit() - Start it. The request and all that it points to are lent until shoal_poll() or
 * shoal_wait() has handed the request back.
 * Return: 0, SHOAL_E_BUSY (requests_max are under way), SHOAL_E_INVALID.
 */
int shoal_submit(struct shoal *shoal, struct shoal_request *request);

/*
 * shoal_poll() - Make progress without sleeping, and take submitted requests that ended.
 * Return: how many were written to @done.
 */
unsigned shoal_poll(struct shoal *shoal, struct shoal_request **done, unsigned max);

/* shoal_wait() - As shoal_poll(), but sleep until at least one ended or @timeout_ms passed (-1: ever). */
unsigned shoal_wait(struct shoal *shoal, struct shoal_request **done, unsigned max, int timeout_ms);

/* A file descriptor that is readable when shoal_poll() has something to do. Not to be read or closed. */
int shoal_fd(const struct shoal *shoal);

/*
 * shoal_register() - Tell the library of memory that will be used for many transfers, so that the
 * transport can pin it once. Return: 0, SHOAL_E_FULL (too many regions), SHOAL_E_UNSUPPORTED is
 * never returned: a transport that gains nothing from it takes it and does nothing.
 */
int shoal_register(struct shoal *shoal, void *memory, size_t len);
int shoal_unregister(struct shoal *shoal, void *memory, size_t len);

/* ---- the common cases in one call ---- */

int shoal_put(struct shoal *shoal, const char *pool, const char *name, const void *data, size_t len);

/* @got: length read. A blob larger than @size ends with SHOAL_E_TOO_LARGE and @got its length. */
int shoal_get(struct shoal *shoal, const char *pool, const char *name, void *buffer, size_t size,
              size_t *got);
int shoal_remove(struct shoal *shoal, const char *pool, const char *name);

/* ---- streams: blobs of any size through little memory; one thread at a time each ---- */

struct shoal_writer;
struct shoal_reader;

/*
 * shoal_writer_open() - Begin a put of unknown or large length.
 * @like: pool, name or key, flags, expected, ttl_s as for a put (SHOAL_CONTENT is refused here: a
 *        content key must be known first; hash the input, then write by key)
 * @size: the length if it is known, else UINT64_MAX (the writer then holds back one stripe)
 */
int shoal_writer_open(struct shoal *shoal, const struct shoal_request *like, uint64_t size,
                      struct shoal_writer **out);
int shoal_writer_write(struct shoal_writer *writer, const void *data, size_t len);
/* The blob appears at once and whole. The writer is gone, whatever is returned. @result may be NULL. */
int shoal_writer_finish(struct shoal_writer *writer, struct shoal_request *result);
/* Nothing appears. */
void shoal_writer_abort(struct shoal_writer *writer);

/*
 * shoal_reader_open() - Begin to read one version of a blob from @offset on.
 * @info: may be NULL; size, version, times and key are filled in.
 */
int shoal_reader_open(struct shoal *shoal, const struct shoal_request *like,
                      struct shoal_reader **out, struct shoal_request *info);
/*
 * Return: 0 with *@got bytes, less than @size only at the end; SHOAL_E_CHANGED when the blob was
 * replaced or removed meanwhile, and the version being read is gone.
 */
int shoal_reader_read(struct shoal_reader *reader, void *buffer, size_t size, size_t *got);
void shoal_reader_close(struct shoal_reader *reader);

/* ---- listing ---- */

struct shoal_listed {
    struct shoal_key key;
    struct shoal_version version;
    uint64_t size;
    uint64_t created_s;
    const char *name; /* zero-terminated; "" when it was put by key */
    size_t name_len;
};

/*
 * shoal_list() - Every blob of @pool whose name starts with @prefix, in no order.
 * @each: returns false to stop. It must not use the handle.
 * A blob that is there during the whole call is listed exactly once.
 */
int shoal_list(struct shoal *shoal, const char *pool, const char *prefix,
               bool (*each)(void *ctx, const struct shoal_listed *blob), void *ctx);

#ifdef __cplusplus
}
#endif

#endif
