/* SPDX-License-Identifier: Apache-2.0 */
/* The nodes' door to an authority behind a network address. */
#include <stdlib.h>
#include <string.h>

#include "cluster/cluster.h"
#include "core/reactor.h"
#include "net/net.h"

#define REMOTE_CALL_NS 5000000000ull

struct authority_remote {
    struct reactor *reactor;
    struct net_peer *peer;
};

/* Sends what is in @header, and leaves *in after the head of a reply that says yes. */
static int ask(struct authority_remote *remote, uint8_t *header, size_t len,
               const struct iovec *reply_payload, size_t *reply_payload_len, struct decoder *in)
{
    struct net_call call = {
        .header = header,
        .header_len = len,
        .reply_payload = reply_payload,
        .reply_payload_count = reply_payload != NULL,
        .deadline_ns = reactor_now_ns(remote->reactor) + REMOTE_CALL_NS,
        .reply_header = header,
        .reply_header_len = WIRE_MESSAGE_MAX,
    };
    int error = len == 0 ? SHOAL_E_TOO_LARGE : net_call(remote->peer, &call);
    if (error != 0)
        return error;
    struct wire_head head;
    *in = decoder_init(header, call.reply_header_len);
    wire_head_decode(in, &head);
    if (!decoder_ok(in))
        return SHOAL_E_INVALID;
    if (reply_payload_len != NULL)
        *reply_payload_len = call.reply_payload_len;
    return -(int)head.status;
}

#define REMOTE_CALL(name)                                                                          \
    static int remote_##name(void *ctx, const struct wire_##name *message,                         \
                             struct wire_##name##_reply *reply)                                    \
    {                                                                                              \
        uint8_t header[WIRE_MESSAGE_MAX];                                                          \
        struct wire_head head = {.type = WIRE_##name, .target = WIRE_NO_TARGET};                   \
        struct decoder in;                                                                         \
        size_t len = wire_##name##_encode(header, sizeof header, &head, message);                  \
        int error = ask(ctx, header, len, NULL, NULL, &in);                                        \
        return error != 0 ? error : wire_##name##_reply_decode(&in, reply);                        \
    }

REMOTE_CALL(enroll)
REMOTE_CALL(caught_up)
REMOTE_CALL(heartbeat)
REMOTE_CALL(moved)

static int remote_fetch(void *ctx, uint64_t have_epoch, void *buffer, size_t size, size_t *len)
{
    uint8_t header[WIRE_MESSAGE_MAX];
    struct wire_head head = {.type = WIRE_map_get, .target = WIRE_NO_TARGET};
    struct wire_map_get message = {.have_epoch = have_epoch};
    struct iovec payload = {buffer, size};
    struct decoder in;
    size_t header_len = wire_map_get_encode(header, sizeof header, &head, &message);
    return ask(ctx, header, header_len, &payload, len, &in);
}

static const struct authority_ops remote_ops = {
    .enroll = remote_enroll,
    .caught_up = remote_caught_up,
    .heartbeat = remote_heartbeat,
    .moved = remote_moved,
    .fetch = remote_fetch,
};

int authority_remote_create(struct reactor *reactor, struct net *net, const char *address,
                            struct authority_remote **out)
{
    struct authority_remote *remote = calloc(1, sizeof *remote);
    if (remote == NULL)
        return SHOAL_E_NO_MEMORY;
    remote->reactor = reactor;
    int error = net_peer_open(net, address, NULL, 64, &remote->peer);
    if (error != 0) {
        free(remote);
        return error;
    }
    *out = remote;
    return 0;
}

void authority_remote_destroy(struct authority_remote *remote)
{
    net_peer_close(remote->peer);
    free(remote);
}

struct authority_door authority_remote_door(struct authority_remote *remote)
{
    return (struct authority_door){&remote_ops, remote};
}
