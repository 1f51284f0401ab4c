/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a backend of net.h has to provide. The objects that net.h hands out begin with the structs
 * below; net.c checks arguments once, for every backend, and calls through the table.
 */
#ifndef NET_BACKEND_H
#define NET_BACKEND_H

#include "net/net.h"

struct net_ops {
    int (*peer_open)(struct net *net, const char *address, const char *name, unsigned max_calls,
                     struct net_peer **out);
    void (*peer_close)(struct net_peer *peer);
    int (*call)(struct net_peer *peer, struct net_call *call);
    void (*call_cancel)(struct net_peer *peer, struct net_call *call);
    int (*listen)(struct net *net, const char *address, const struct net_service *service,
                  struct net_listener **out);
    void (*listener_close)(struct net_listener *listener);
    bool (*request_cancelled)(const struct net_request *request);
    int (*request_pull)(struct net_request *request, const struct iovec *iov, unsigned iov_count,
                        uint64_t deadline_ns);
    int (*reply)(struct net_request *request, const void *header, size_t header_len,
                 const struct iovec *payload, unsigned payload_count);
    void (*refuse)(struct net_request *request, int error);
    void (*destroy)(struct net *net);
};

struct net {
    const struct net_ops *ops;
    struct reactor *reactor;
};

struct net_peer {
    struct net *net;
    char address[NET_ADDRESS_MAX];
    char name[64]; /* what the peer's certificate must say; empty: any name of the cluster */
    unsigned max_calls;
    bool closing;
};

struct net_listener {
    struct net *net;
    char address[NET_ADDRESS_MAX];
    struct net_service service;
    bool closing;
};

struct net_request {
    struct net *net;
    const void *header;
    size_t header_len;
    size_t payload_len;   /* offered */
    uint64_t deadline_ns; /* of this reactor's clock */
    bool pulled;
    uint32_t payload_crc; /* once it is */
    const uint32_t *reply_sums; /* of the answer's payload; NULL: not known */
    struct net_identity identity;
};

/* Bytes of all @count pieces. */
size_t net_iov_bytes(const struct iovec *iov, unsigned count);

/*
 * A place in a list of pieces. net_iov_take() gives the next contiguous piece of at most @limit
 * bytes and moves on; NULL at the end. Pieces of no bytes are skipped.
 */
struct net_iov_cursor {
    const struct iovec *iov;
    unsigned count;
    unsigned index;
    size_t offset;
};

struct net_iov_cursor net_iov_cursor(const struct iovec *iov, unsigned count);
void *net_iov_take(struct net_iov_cursor *cursor, size_t limit, size_t *len);

/* Copies between one range and pieces that are known to have room. */
void net_iov_scatter(const struct iovec *iov, unsigned count, const void *from, size_t len);
void net_iov_gather(void *to, const struct iovec *iov, unsigned count, size_t len);

#endif
