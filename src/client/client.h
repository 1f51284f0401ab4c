/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client: blobs in, blobs out, whatever the cluster is doing.
 *
 * Everything here is for fibers of one reactor, and deterministic: the simulator runs it as it is.
 * The public API (shoal/shoal.h) is a lock and a reactor around it. The client keeps the newest
 * cluster map it has heard of, computes from it whom to ask, splits blobs into stripes, reads the
 * pieces of a stripe in parallel and reconstructs what is missing, and repeats what may be
 * repeated, under the same request id, until the operation's deadline.
 *
 * Memory for parity and for streaming comes from a bounded set of buffers taken at start. Payload
 * is lent by the caller and goes straight to and from the network.
 */
#ifndef SHOAL_CLIENT_CLIENT_H
#define SHOAL_CLIENT_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/uio.h>

#include "base/blob.h"
#include "base/macros.h"
#include "base/value.h"
#include "cluster/cluster.h"
#include "wire/wire.h"

struct reactor;
struct net;
struct client;
struct shoal;

#define CLIENT_IOV_MAX 12u
#define CLIENT_STRIPE_MAX (16u << 20)
#define CLIENT_STREAM_STRIPES 4u /* stripes of one stream under way at once */

/*
 * struct client_config - 0 means the default.
 * @seeds: addresses of nodes' data planes, asked for the map in turn; copied
 * @operations_max: put, get ... under way at once (64); more fibers than that are refused BUSY
 * @buffers: stripes of scratch memory for reconstruction and streams (8)
 * @stripe_max: the largest stripe of any pool used (4 MiB)
 */
struct client_config {
    const char *const *seeds;
    unsigned seeds_count;
    uint64_t timeout_ns; /* 30 s */
    uint64_t hedge_ns;   /* 20 ms */
    uint64_t call_ns;    /* one attempt of a call, at most (5 s) */
    unsigned operations_max;
    unsigned calls_max; /* to one node at once (256) */
    unsigned buffers;
    uint32_t stripe_max;
};

/* No I/O yet. Return: 0, SHOAL_E_NO_MEMORY, SHOAL_E_INVALID. */
int client_create(struct reactor *reactor, struct net *net, const struct client_config *config,
                  struct client **out);
/* Everything under way ends soon, with SHOAL_E_CANCELLED, and nothing new begins. */
void client_cancel_all(struct client *client);
/* [fiber] Close what is open; no operation may be under way. */
void client_close(struct client *client);
/* After client_close(). */
void client_destroy(struct client *client);

/* client_connect() - [fiber] Have a map. Every operation does it by itself when there is none. */
int client_connect(struct client *client, uint64_t deadline_ns);

/* Ask for a newer map; 0 also when there is none newer. [fiber] */
int client_refresh(struct client *client, uint64_t deadline_ns);

/* The newest map known, or NULL; valid until the fiber blocks. */
const struct cluster_map *client_map(const struct client *client);

/* ---- blobs [fiber] ---- */

/*
 * struct client_blob - Which blob, and how.
 * @pool: by name; lent
 * @id.key: its key; when @name_len > 0 it is ignored and derived from the name
 * @deadline_ns: absolute; 0: the configured timeout from now
 * @request: the id of the operation; none: a new one at random
 */
struct client_blob {
    const char *pool;
    struct blob_key key;
    const char *name;
    size_t name_len;
    uint64_t deadline_ns;
    struct blob_request_id request;
};

struct client_put_options {
    enum wire_condition condition;
    struct blob_version expected;
    bool content; /* the key is the content's: a committed blob is a hit, before any payload moves */
    uint32_t ttl_s;
};

struct client_put_result {
    struct blob_version version;
    bool existed;
};

struct client_info {
    struct blob_key key;
    struct blob_version version;
    uint64_t size;
    uint64_t created_s, expires_s;
    uint32_t stripe_size, stripe_count;
    uint64_t upload;
    uint64_t bytes; /* read */
};

/* Any length; @options may be NULL. */
int client_put(struct client *client, const struct client_blob *blob, const struct iovec *iov,
               unsigned iov_count, const struct client_put_options *options,
               struct client_put_result *result);

/*
 * client_get() - Bytes [offset, offset + room of @iov), or up to the blob's end.
 * @verify: the key is a content key; a whole read is hashed and compared (SHOAL_E_CORRUPT)
 * Return: 0, NOT_FOUND, UNAVAILABLE, CHANGED (replaced meanwhile again and again), CORRUPT, ...
 */
int client_get(struct client *client, const struct client_blob *blob, uint64_t offset,
               const struct iovec *iov, unsigned iov_count, bool verify, struct client_info *info);

int client_stat(struct client *client, const struct client_blob *blob, struct client_info *info);

int client_remove(struct client *client, const struct client_blob *blob,
                  const struct client_put_options *options, struct blob_version *version);

/* @present: one byte a key, 1 or 0. Grouped by primary. */
int client_exists(struct client *client, const char *pool, const struct blob_key *keys,
                  size_t count, bool touch, uint64_t deadline_ns, uint8_t *present);

/* ---- streams [fiber]; one fiber at a time each ---- */

struct client_writer;
struct client_reader;

/* @size: UINT64_MAX when unknown. BUSY when no buffers are left. */
int client_writer_open(struct client *client, const struct client_blob *blob, uint64_t size,
                       const struct client_put_options *options, struct client_writer **out);
int client_writer_write(struct client_writer *writer, const void *data, size_t len);
int client_writer_finish(struct client_writer *writer, struct client_put_result *result);
void client_writer_abort(struct client_writer *writer);

int client_reader_open(struct client *client, const struct client_blob *blob, uint64_t offset,
                       struct client_reader **out, struct client_info *info);
int client_reader_read(struct client_reader *reader, void *buffer, size_t size, size_t *got);
void client_reader_close(struct client_reader *reader);

/* ---- listing [fiber] ---- */

struct client_listing {
    const char *pool;
    const char *prefix;
    size_t prefix_len;
    /* Returns false to stop. */
    bool (*each)(void *ctx, const struct wire_item_listed *item);
    void *ctx;
    uint64_t deadline_ns;
};
int client_list(struct client *client, const struct client_listing *listing);

/* ---- administration [fiber] ---- */

/* What a node (index into the map) says of itself. */
int client_report(struct client *client, uint32_t node, uint64_t deadline_ns,
                  struct wire_report_reply *reply);
int client_headway(struct client *client, uint32_t node, uint64_t deadline_ns,
                   struct wire_headway_reply *reply);

/*
 * client_admin() - Send a wish to the authority, which listens at @address.
 * @answer: a line of JSON that the caller frees
 */
int client_admin(struct client *client, const char *address, const char *wish,
                 uint64_t deadline_ns, char **answer);

/* ---- content keys ---- */

#define CLIENT_CONTENT_PIECE (4u << 20)

/* Hashes a stream of bytes to its content key; see shoal_key_of_content(). */
struct client_hash;
struct client_hash *client_hash_create(void);
void client_hash_destroy(struct client_hash *hash);
void client_hash_begin(struct client_hash *hash);
void client_hash_update(struct client_hash *hash, const void *data, size_t len);
/* Return: 0 or SHOAL_E_NO_MEMORY. */
int client_hash_finish(struct client_hash *hash, struct blob_key *key);

/* ---- under the public handle, for the command line ---- */

/*
 * struct client_file - A client.yaml, with paths made absolute.
 * @nodes: addresses of data planes; @authority: where wishes go
 */
struct client_file {
    char *cluster;
    struct value_list nodes;
    char *authority;
    char *data_plane;
    char *ca, *certificate, *key;
    char *renewal;
    char *admin_certificate, *admin_key;
};
/* @path: NULL: SHOAL_CONFIG, else the cluster started last. @why: what is wrong, for a person. */
int client_file_load(const char *path, struct client_file *file, struct value_error *why);
void client_file_free(struct client_file *file);
/* Every entry, as commented YAML. */
void client_file_reference(FILE *out);
/* One more of nodes in the file at @path, if it is not there. Return: 0 or SHOAL_E_*. */
int client_file_add_node(const char *path, const char *address);
/* One less; it is no error when it is not there, or the only one, which stays. */
int client_file_remove_node(const char *path, const char *address);
int client_file_set_authority(const char *path, const char *addresses);
/* As YAML to @path. */
int client_file_write(const char *path, const struct client_file *file);
/* Where the directory of the cluster started last is noted. Return: 0 or SHOAL_E_NOT_FOUND. */
int client_file_last(char *path, size_t size);
/* The file that holds this note. */
int client_file_note(char *path, size_t size);

struct shoal_options;
/* As shoal_open(); @admin: with the administrator's certificate, and without asking for a map. */
int shoal_open_as(const char *config, const struct shoal_options *options, bool admin,
                  struct shoal **out);
/* Run @run(@arg) as a fiber of the handle's reactor and wait for it. Any thread. */
int shoal_run_fiber(struct shoal *shoal, void (*run)(void *arg), void *arg);
struct client *shoal_client(struct shoal *shoal);
const struct client_file *shoal_file(const struct shoal *shoal);
uint64_t shoal_deadline_ns(const struct shoal *shoal, uint32_t timeout_ms);
/* What shoal_message() says from now on; returns @error. */
int shoal_fail(int error, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
