/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the client: views of the map, peers, and the exchange of one message.
 */
#ifndef CLIENT_PRIVATE_H
#define CLIENT_PRIVATE_H

#include "base/list.h"
#include "base/macros.h"
#include "client/client.h"
#include "core/fiber.h"
#include "core/reactor.h"
#include "ec/ec.h"
#include "net/net.h"

#define CLIENT_CODES 4u

struct client_peer {
    struct list_node node;
    char address[NET_ADDRESS_MAX];
    struct net_peer *peer;
    unsigned users; /* views that name it, and calls without a view */
};

/*
 * struct view - One map in use. The client holds the newest; each operation holds the one that it
 * works with, so the map cannot go while a fiber blocks.
 */
struct view {
    struct cluster_map *map;
    struct client_peer **peers; /* by node, opened on first use */
    unsigned holders;
};

struct client {
    struct reactor *reactor;
    struct net *net;
    struct client_config config;
    char (*seeds)[NET_ADDRESS_MAX];
    struct fiber_pool *fibers; /* pieces of operations; when empty they run in line */
    struct list peers;
    struct view *view; /* NULL before the first map */
    struct fiber_mutex refreshing;
    uint64_t refreshed_ns;
    uint32_t mute_node; /* index of one that did not answer when it was asked for a map; UINT32_MAX: none */
    unsigned operations;
    struct list exchanges; /* calls under way */
    bool watching;             /* a fiber looks after them */
    struct fiber_queue watch;  /* it is to end, or has ended */
    bool closing;

    uint8_t *scratch; /* config.buffers of scratch_bytes each */
    size_t scratch_bytes;
    uint64_t scratch_free; /* bit i: buffer i is free */
    struct fiber_queue scratch_waiters;

    struct ec_code codes[CLIENT_CODES]; /* k == 0: unused */
    unsigned next_code;
};

/*
 * struct operation - What all steps of one call of the API share.
 * @unknown: an attempt may have had an effect that we did not hear of
 * @trouble_since_ns: since when nothing but "unavailable" has come back; 0: not so
 */
struct operation {
    struct client *client;
    uint64_t deadline_ns;
    struct blob_request_id request;
    const char *pool_name;
    struct map_pool pool;
    struct blob_id id; /* of the head */
    uint16_t name_len;
    const char *name;

    unsigned tries;
    bool unknown;
    int last_error;
    uint64_t trouble_since_ns;
};

int operation_begin(struct operation *op, struct client *client, const struct client_blob *blob);
void operation_end(struct operation *op);
/* A part of @op with a request id, and patience, of its own. */
void operation_fork(struct operation *part, const struct operation *op);

/*
 * operation_again() - [fiber] Whether to try again after @error: asks for a newer map or waits a moment,
 * as the error demands.
 */
bool operation_again(struct operation *op, int error);
/* The error to return when operation_again() said no. */
int operation_error(const struct operation *op, int error);

struct view *view_hold(struct client *client); /* NULL: no map yet */
void view_release(struct client *client, struct view *view);

/* How a message is encoded and its reply decoded. */
struct verb {
    uint16_t type;
    size_t (*encode)(void *buffer, size_t size, const struct wire_head *head, const void *message);
    int (*decode)(struct decoder *in, void *reply);
};
#define VERBS(X)                                                                                   \
    X(map_get) X(put) X(get) X(stat) X(remove) X(exists) X(list) X(upload_open) X(upload_touch)    \
    X(report) X(headway) X(admin)
#define VERB_DECLARE(name) extern const struct verb verb_##name;
VERBS(VERB_DECLARE)
#undef VERB_DECLARE

/*
 * struct exchange - One message to one peer, and its answer.
 * @got: bytes of reply payload
 * @cancelled: set by exchange_cancel(); the call ends soon
 * @began_ns, @to, @incarnation: since when it is under way; the node's index in the map, or UINT32_MAX, and
 *        which life of it
 * @retry, @first_epoch: in @message; ask_primary() keeps them (R8). NULL where it has none
 */
struct exchange {
    const struct verb *verb;
    const void *message;
    void *reply;
    const struct iovec *payload;
    unsigned payload_count;
    const struct iovec *into;
    unsigned into_count;
    uint64_t deadline_ns;
    size_t got;
    uint32_t got_crc; /* of the reply payload, by the transport */
    bool *retry;
    uint64_t *first_epoch;

    struct list_node node; /* in client->exchanges while under way */
    struct net_peer *peer;
    struct net_call *call;
    uint64_t began_ns;
    uint32_t to, incarnation;
    bool cancelled;
};

/* A newer map is in use: calls to nodes that are not up in it end. */
void exchanges_end_lost(struct client *client);
/* [fiber] The fiber that looks after calls ends. */
void exchanges_unwatch(struct client *client);

/* [fiber] Return: the reply's status, or what net_call() says. */
int exchange_with_target(struct operation *op, struct view *view, const struct map_target *target,
                         struct exchange *exchange);
int exchange_with_node(struct operation *op, struct view *view, uint32_t node,
                       struct exchange *exchange);
int exchange_with_address(struct client *client, const char *address, const char *name,
                          struct exchange *exchange);
void exchange_cancel(struct exchange *exchange);

/* [fiber] Ask the primary of @id until it answers for good or the deadline passes. */
int ask_primary(struct operation *op, const struct blob_id *id, struct exchange *exchange);

/* [fiber] Scratch memory of client->scratch_bytes; NULL when none came free by @deadline_ns. */
uint8_t *scratch_get(struct client *client, uint64_t deadline_ns);
uint8_t *scratch_try(struct client *client);
void scratch_put(struct client *client, uint8_t *buffer);

const struct ec_code *client_code(struct client *client, unsigned k, unsigned m);

/* A range of scattered memory, as another list. Return: elements, or -1 when @max are too few. */
int iov_slice(const struct iovec *iov, unsigned count, size_t offset, size_t len,
              struct iovec *out, unsigned max);
size_t iov_len(const struct iovec *iov, unsigned count);
uint32_t iov_crc32c(const struct iovec *iov, unsigned count);
void iov_copy_in(const struct iovec *iov, unsigned count, size_t offset, const void *from,
                 size_t len);
void iov_copy_out(const struct iovec *iov, unsigned count, size_t offset, void *to, size_t len);

/* Run @run(@arg) beside the caller, which waits with fiber_group_wait(); in line without a fiber. */
struct task {
    struct fiber_group *group;
    void (*run)(struct task *task);
};
void task_start(struct client *client, struct fiber_group *group, struct task *task);

/*
 * struct stripe_desc - What the client needs of a struct blob_desc; without its name, so that many
 * fit on a fiber's stack.
 */
struct stripe_desc {
    struct blob_version version;
    uint8_t form, k, m;
    uint32_t stripe_len, stripe_crc;
    uint32_t stripe_size, stripe_count;
    uint64_t blob_len, upload;
    uint64_t created_s, expires_s;
};
void stripe_desc_of(const struct blob_desc *desc, struct stripe_desc *out);

/*
 * struct stripe_read - One object, or a range of it, at one version.
 * @id: which; @want: a certain version, or none
 * @layout_known: @desc holds stripe_len, k and m, from a head or an earlier attempt
 * @guess_len: else how long the stripe is supposed to be
 * @offset, @iov, @iov_count: the range of the stripe and where it goes; clipped to the stripe
 * @desc: of the version read; @bytes: how many came
 */
struct stripe_read {
    struct blob_id id;
    struct blob_version want;
    bool layout_known;
    uint32_t guess_len;
    uint32_t offset;
    const struct iovec *iov;
    unsigned iov_count;
    struct stripe_desc desc;
    size_t bytes;
};
int stripe_read(struct operation *op, struct stripe_read *read);

/* The newest committed description of @id, from its primary. NOT_FOUND for a tombstone. */
int stripe_stat(struct operation *op, const struct blob_id *id, struct stripe_desc *desc);

/* Put one object whose fields @put names; crc and length are taken from @iov. */
int stripe_put(struct operation *op, struct wire_put *put, const struct iovec *iov,
               unsigned iov_count, struct wire_put_reply *reply);

uint32_t blob_stripe_len(const struct stripe_desc *head, uint32_t index);
/*
 * head_find() - [fiber] What a blob is, learned as a reader of its first byte does: from the members,
 * so that it needs the primary no more than a get.
 */
int head_find(struct operation *op, struct stripe_desc *head);
/* [offset, ...) of the blob into @iov, stripes in parallel. @bytes: out. */
int blob_range_read(struct operation *op, const struct stripe_desc *head, uint64_t offset,
                    const struct iovec *iov, unsigned iov_count, size_t *bytes);

void client_info_of(const struct operation *op, const struct stripe_desc *desc,
                    struct client_info *info);

/* Fields that every put of a part of the blob shares. */
void put_init(const struct operation *op, struct wire_put *put, enum blob_kind kind,
              uint64_t blob_len, uint32_t stripe_count, uint32_t index, uint64_t upload);
int upload_open(struct operation *op, uint64_t blob_len, uint64_t *upload);
int upload_touch(struct operation *op, uint64_t upload, bool close);

#endif
