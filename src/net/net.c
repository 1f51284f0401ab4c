/* SPDX-License-Identifier: Apache-2.0 */
#include "net/net.h"

#include <string.h>

#include "base/check.h"
#include "core/fiber.h"
#include "core/reactor.h"
#include "net/backend.h"
#include "shoal/error.h"

size_t net_iov_bytes(const struct iovec *iov, unsigned count)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < count; i++)
        bytes += iov[i].iov_len;
    return bytes;
}

struct net_iov_cursor net_iov_cursor(const struct iovec *iov, unsigned count)
{
    return (struct net_iov_cursor){.iov = iov, .count = count};
}

void *net_iov_take(struct net_iov_cursor *cursor, size_t limit, size_t *len)
{
    while (cursor->index < cursor->count) {
        const struct iovec *piece = &cursor->iov[cursor->index];
        size_t left = piece->iov_len - cursor->offset;
        if (left == 0) {
            cursor->index++;
            cursor->offset = 0;
            continue;
        }
        uint8_t *at = (uint8_t *)piece->iov_base + cursor->offset;
        *len = left < limit ? left : limit;
        cursor->offset += *len;
        return at;
    }
    *len = 0;
    return NULL;
}

void net_iov_scatter(const struct iovec *iov, unsigned count, const void *from, size_t len)
{
    struct net_iov_cursor cursor = net_iov_cursor(iov, count);
    const uint8_t *at = from;
    while (len > 0) {
        size_t piece = 0;
        void *to = net_iov_take(&cursor, len, &piece);
        CHECK(to != NULL);
        memcpy(to, at, piece);
        at += piece;
        len -= piece;
    }
}

void net_iov_gather(void *to, const struct iovec *iov, unsigned count, size_t len)
{
    struct net_iov_cursor cursor = net_iov_cursor(iov, count);
    uint8_t *at = to;
    while (len > 0) {
        size_t piece = 0;
        const void *from = net_iov_take(&cursor, len, &piece);
        CHECK(from != NULL);
        memcpy(at, from, piece);
        at += piece;
        len -= piece;
    }
}

static int payload_check(const struct iovec *iov, unsigned count)
{
    if (count > NET_IOV_MAX || (count > 0 && iov == NULL))
        return SHOAL_E_INVALID;
    if (net_iov_bytes(iov, count) > NET_PAYLOAD_MAX)
        return SHOAL_E_TOO_LARGE;
    return 0;
}

static bool text_fits(const char *text, size_t room)
{
    return text == NULL || strnlen(text, room) < room;
}

/* ---- calling ---- */

int net_peer_open(struct net *net, const char *address, const char *name, unsigned max_calls,
                  struct net_peer **out)
{
    if (address == NULL || !text_fits(address, NET_ADDRESS_MAX) ||
        !text_fits(name, sizeof((struct net_peer *)0)->name) || max_calls == 0)
        return SHOAL_E_INVALID;
    return net->ops->peer_open(net, address, name, max_calls, out);
}

void net_peer_close(struct net_peer *peer)
{
    CHECK(!peer->closing);
    peer->net->ops->peer_close(peer);
}

int net_call(struct net_peer *peer, struct net_call *call)
{
    CHECK(fiber_self() != NULL);
    call->reply_payload_len = 0;
    call->reply_payload_crc = 0;
    if (call->header_len == 0 || call->header_len > NET_HEADER_MAX)
        return SHOAL_E_INVALID;
    int error = payload_check(call->payload, call->payload_count);
    if (error == 0)
        error = payload_check(call->reply_payload, call->reply_payload_count);
    if (error != 0)
        return error;
    if (peer->closing)
        return SHOAL_E_CANCELLED;
    if (call->deadline_ns <= reactor_now_ns(peer->net->reactor))
        return SHOAL_E_TIMEOUT;
    return peer->net->ops->call(peer, call);
}

void net_call_cancel(struct net_peer *peer, struct net_call *call)
{
    peer->net->ops->call_cancel(peer, call);
}

/* ---- answering ---- */

int net_listen(struct net *net, const char *address, const struct net_service *service,
               struct net_listener **out)
{
    if (address == NULL || !text_fits(address, NET_ADDRESS_MAX))
        return SHOAL_E_INVALID;
    return net->ops->listen(net, address, service, out);
}

const char *net_listener_address(const struct net_listener *listener)
{
    return listener->address;
}

void net_listener_close(struct net_listener *listener)
{
    CHECK(!listener->closing);
    listener->net->ops->listener_close(listener);
}

const void *net_request_header(const struct net_request *request, size_t *len)
{
    *len = request->header_len;
    return request->header;
}

const struct net_identity *net_request_identity(const struct net_request *request)
{
    return &request->identity;
}

size_t net_request_payload_len(const struct net_request *request)
{
    return request->payload_len;
}

uint32_t net_request_payload_crc(const struct net_request *request)
{
    CHECK(request->pulled);
    return request->payload_crc;
}

uint64_t net_request_deadline_ns(const struct net_request *request)
{
    return request->deadline_ns;
}

bool net_request_cancelled(const struct net_request *request)
{
    return reactor_now_ns(request->net->reactor) >= request->deadline_ns ||
           request->net->ops->request_cancelled(request);
}

int net_request_pull(struct net_request *request, const struct iovec *iov, unsigned iov_count,
                     uint64_t deadline_ns)
{
    CHECK(fiber_self() != NULL);
    CHECK(!request->pulled);
    int error = payload_check(iov, iov_count);
    if (error != 0)
        return error;
    if (net_iov_bytes(iov, iov_count) < request->payload_len)
        return SHOAL_E_TOO_LARGE;
    request->pulled = true;
    if (request->payload_len == 0)
        return 0;
    return request->net->ops->request_pull(request, iov, iov_count, deadline_ns);
}

int net_reply(struct net_request *request, const void *header, size_t header_len,
              const struct iovec *payload, unsigned payload_count)
{
    CHECK(fiber_self() != NULL);
    CHECK(header_len <= NET_HEADER_MAX);
    CHECK(payload_check(payload, payload_count) == 0);
    return request->net->ops->reply(request, header, header_len, payload, payload_count);
}

void net_request_sums(struct net_request *request, const uint32_t *sums)
{
    request->reply_sums = sums;
}

void net_refuse(struct net_request *request, int error)
{
    CHECK(error < 0);
    request->net->ops->refuse(request, error);
}

void net_destroy(struct net *net)
{
    net->ops->destroy(net);
}
