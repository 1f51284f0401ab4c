/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "net/tcp.h"
#include "shoal/error.h"

#define BACKLOG 256
#define PAUSE_NS UINT64_C(100000000)
#define SLOT_BITS 16u

/* ---- accepting ---- */

static void arm_accept(struct tcp_listener *listener)
{
    struct tcp_net *net = tcp_net_of(listener->base.net);
    struct io_uring_sqe *sqe = uring_get_sqe(net->uring, &listener->accept_op);
    io_uring_prep_accept(sqe, listener->fd, NULL, NULL, SOCK_CLOEXEC);
    listener->accepting = true;
}

static void pause_over(struct timer *timer)
{
    arm_accept(container_of(timer, struct tcp_listener, pause));
}

static void accepted(struct uring_op *op, int32_t result, uint32_t flags)
{
    (void)flags;
    struct tcp_listener *listener = container_of(op, struct tcp_listener, accept_op);
    listener->accepting = false;
    if (listener->base.closing) {
        if (result >= 0)
            close(result);
        fiber_queue_wake_all(&listener->idle);
        return;
    }
    if (result >= 0)
        tcp_conn_accept(listener, result);
    if (result < 0 && result != -ECONNABORTED && result != -EINTR) {
        struct reactor *reactor = listener->base.net->reactor;
        LOG_WARN("%s: accepting a connection: %s", listener->base.address, strerror(-result));
        timer_arm(reactor, &listener->pause, reactor_now_ns(reactor) + PAUSE_NS, pause_over);
        return;
    }
    arm_accept(listener);
}

/*
 * The first of those that share binds as one that does not, so that a port which somebody else has is
 * refused; from then on it lets others of this user in.
 */
static int bind_socket(int fd, const struct sockaddr_storage *address, socklen_t len,
                       enum net_tcp_share share)
{
    int on = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0)
        return -1;
    if (share == NET_SHARE_JOIN && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0)
        return -1;
    if (bind(fd, (const struct sockaddr *)address, len) != 0)
        return -1;
    if (share == NET_SHARE_FIRST && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0)
        return -1;
    return listen(fd, BACKLOG);
}

static int open_socket(const char *text, enum net_tcp_share share,
                       struct sockaddr_storage *address, int *out)
{
    socklen_t len = 0;
    if (tcp_address_parse(text, address, &len) != 0) {
        LOG_ERROR("cannot listen on '%s': an address looks like 10.0.0.1:7400 or [::1]:7400", text);
        return SHOAL_E_INVALID;
    }
    int fd = socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind_socket(fd, address, len, share) != 0) {
        LOG_ERROR("cannot listen on %s: %s", text, strerror(errno));
        if (fd >= 0)
            close(fd);
        return SHOAL_E_SYSTEM;
    }
    len = sizeof *address;
    getsockname(fd, (struct sockaddr *)address, &len);
    *out = fd;
    return 0;
}

int tcp_listen(struct net *base, const char *address, const struct net_service *service,
               struct net_listener **out)
{
    struct tcp_listener *listener = calloc(1, sizeof *listener);
    if (listener == NULL)
        return SHOAL_E_NO_MEMORY;
    struct sockaddr_storage bound;
    int error = open_socket(address, tcp_net_of(base)->config.share, &bound, &listener->fd);
    if (error != 0) {
        free(listener);
        return error;
    }
    listener->base.net = base;
    listener->base.service = *service;
    listener->accept_op.complete = accepted;
    tcp_address_format(&bound, listener->base.address, sizeof listener->base.address);
    fiber_queue_init(&listener->idle);
    arm_accept(listener);
    *out = &listener->base;
    return 0;
}

/* ---- requests ---- */

static struct tcp_request *request_of(const struct net_request *request)
{
    return container_of((struct net_request *)request, struct tcp_request, base);
}

static unsigned slot_of(uint64_t call)
{
    return call & ((1u << SLOT_BITS) - 1);
}

/* Whatever the handler waits for is over. */
static void request_wake(struct tcp_request *request, int result)
{
    struct completion *waiting = request->waiting;
    request->waiting = NULL;
    if (waiting != NULL)
        completion_signal(waiting, result);
}

static void request_cancel(struct tcp_request *request, int error)
{
    if (request->cancelled)
        return;
    request->cancelled = true;
    request->cancel_error = error;
    request_wake(request, error);
}

/* A caller reuses its slot when it holds the whole answer, or has said that it wants none. */
static void request_leave_table(struct tcp_request *request)
{
    struct tcp_request **entry = &request->conn->table[slot_of(request->call)];
    if (*entry == request)
        *entry = NULL;
}

static void request_free(struct tcp_request *request)
{
    struct tcp_conn *conn = request->conn;
    struct tcp_listener *listener = request->listener;
    request_leave_table(request);
    list_remove(&request->node);
    conn->unanswered--;
    pool_put(conn->net->requests, request);
    tcp_conn_put(conn);
    if (--listener->unanswered == 0)
        fiber_queue_wake_all(&listener->idle);
}

bool tcp_request_cancelled(const struct net_request *base)
{
    return request_of(base)->cancelled;
}

static void pull_landed(struct tcp_landing *landing, int error)
{
    request_wake(container_of(landing, struct tcp_request, landing), error);
}

int tcp_request_pull(struct net_request *base, const struct iovec *iov, unsigned iov_count,
                     uint64_t deadline_ns)
{
    struct tcp_request *request = request_of(base);
    struct tcp_conn *conn = request->conn;
    if (request->cancelled)
        return request->cancel_error;
    struct completion done = {0};
    request->waiting = &done;
    request->landing = (struct tcp_landing){.active = true,
                                            .to = net_iov_cursor(iov, iov_count),
                                            .total = (uint32_t)base->payload_len,
                                            .landed = pull_landed};
    request->out = (struct tcp_out){.type = TCP_PULL, .call = request->call};
    list_node_init(&request->out.node);
    tcp_tx_queue(conn, &request->out);
    int64_t result = 0;
    if (!completion_wait_until(&done, MIN(deadline_ns, base->deadline_ns), &result))
        result = SHOAL_E_TIMEOUT;
    request->waiting = NULL;
    tcp_tx_withdraw(conn, &request->out);
    tcp_rx_abandon(conn, &request->landing);
    base->payload_crc = request->landing.crc;
    return (int)result;
}

static void reply_sent(struct tcp_out *out)
{
    request_wake(container_of(out, struct tcp_request, out), 0);
}

int tcp_reply(struct net_request *base, const void *header, size_t header_len,
              const struct iovec *payload, unsigned payload_count)
{
    struct tcp_request *request = request_of(base);
    int64_t result = request->cancel_error;
    if (!request->cancelled) {
        uint32_t bytes = (uint32_t)net_iov_bytes(payload, payload_count);
        struct completion done = {0};
        request->waiting = &done;
        request->out = (struct tcp_out){.type = TCP_REPLY,
                                        .call = request->call,
                                        .header = header,
                                        .header_len = (uint32_t)header_len,
                                        .payload = net_iov_cursor(payload, payload_count),
                                        .sums = base->reply_sums,
                                        .payload_left = bytes,
                                        .total = bytes,
                                        .sent = reply_sent};
        list_node_init(&request->out.node);
        tcp_tx_queue(request->conn, &request->out);
        if (!completion_wait_until(&done, base->deadline_ns, &result))
            result = SHOAL_E_TIMEOUT;
        request->waiting = NULL;
        tcp_tx_withdraw(request->conn, &request->out);
    }
    request_free(request);
    return (int)result;
}

static void refusal_sent(struct tcp_out *out)
{
    request_free(container_of(out, struct tcp_request, out));
}

void tcp_refuse(struct net_request *base, int error)
{
    struct tcp_request *request = request_of(base);
    if (request->cancelled) {
        request_free(request);
        return;
    }
    request->out = (struct tcp_out){.type = TCP_REFUSE,
                                    .status = (uint16_t)-error,
                                    .call = request->call,
                                    .sent = refusal_sent};
    list_node_init(&request->out.node);
    tcp_tx_queue(request->conn, &request->out);
}

/* ---- frames ---- */

/* No room for another request: say so, without one. */
static void refuse_call(struct tcp_conn *conn, uint64_t call, int error)
{
    unsigned linked = 0;
    struct tcp_out *chosen = NULL;
    for (unsigned i = 0; i < TCP_REFUSALS; i++) {
        if (list_linked(&conn->refusals[i].node))
            linked++;
        else
            chosen = &conn->refusals[i];
    }
    CHECK(chosen != NULL);
    chosen->status = (uint16_t)-error;
    chosen->call = call;
    chosen->offset = 0;
    tcp_tx_queue(conn, chosen);
    /* That was the last: read no further until some of them are on their way. */
    conn->rx.paused = linked + 1 == TCP_REFUSALS && list_linked(&chosen->node);
}

static int on_call(struct tcp_conn *conn, const struct tcp_frame *frame, const uint8_t *header)
{
    struct tcp_net *net = conn->net;
    struct tcp_listener *listener = conn->listener;
    unsigned slot = slot_of(frame->call);
    if (slot >= conn->max_calls)
        return SHOAL_E_INVALID;
    struct tcp_request *before = conn->table[slot];
    if (before != NULL && !(before->out.type == TCP_REPLY && before->out.last_made))
        return SHOAL_E_INVALID;
    conn->table[slot] = NULL;
    if (listener->base.closing) {
        refuse_call(conn, frame->call, SHOAL_E_SHUTDOWN);
        return 0;
    }
    /* Cancelled ones whose handlers still run count too: they hold the same resources. */
    struct tcp_request *request =
        conn->unanswered < conn->max_calls ? pool_get(net->requests) : NULL;
    if (request == NULL) {
        refuse_call(conn, frame->call, SHOAL_E_BUSY);
        return 0;
    }
    memset(request, 0, offsetof(struct tcp_request, header));
    memcpy(request->header, header, frame->header_len);
    request->base =
        (struct net_request){.net = &net->base,
                             .header = request->header,
                             .header_len = frame->header_len,
                             .payload_len = frame->total,
                             .deadline_ns = tcp_now(net) + (uint64_t)frame->deadline_us * 1000,
                             .identity = conn->identity};
    request->conn = conn;
    request->listener = listener;
    request->call = frame->call;
    list_node_init(&request->out.node);
    tcp_conn_get(conn);
    list_push_back(&conn->requests, &request->node);
    conn->table[slot] = request;
    conn->unanswered++;
    listener->unanswered++;
    listener->base.service.request(listener->base.service.ctx, &request->base);
    return 0;
}

int tcp_listen_frame(struct tcp_conn *conn, const struct tcp_frame *frame, const uint8_t *header,
                     struct tcp_landing **landing)
{
    if (frame->type == TCP_CALL)
        return on_call(conn, frame, header);
    unsigned slot = slot_of(frame->call);
    if ((frame->type != TCP_DATA && frame->type != TCP_CANCEL) || slot >= conn->max_calls)
        return SHOAL_E_INVALID;
    struct tcp_request *request = conn->table[slot];
    if (request == NULL || request->call != frame->call)
        return 0;
    if (frame->type == TCP_CANCEL) {
        request_leave_table(request);
        request_cancel(request, SHOAL_E_CANCELLED);
    } else if (request->landing.active) {
        *landing = &request->landing;
    }
    return 0;
}

/* ---- ends ---- */

void tcp_listen_closed(struct tcp_conn *conn)
{
    struct tcp_listener *listener = conn->listener;
    list_for_each(&conn->requests, struct tcp_request, node, request)
        request_cancel(request, SHOAL_E_CONNECTION);
    conn->listener = NULL;
    listener->conns--;
    fiber_queue_wake_all(&listener->idle);
}

static void conns_close(struct tcp_listener *listener, struct tcp_net *net)
{
    list_for_each(&net->conns, struct tcp_conn, node, conn) {
        if (conn->listener == listener)
            tcp_conn_close(conn, SHOAL_E_SHUTDOWN);
    }
}

void tcp_listener_close(struct net_listener *base)
{
    struct tcp_listener *listener = container_of(base, struct tcp_listener, base);
    struct tcp_net *net = tcp_net_of(base->net);
    base->closing = true;
    shutdown(listener->fd, SHUT_RDWR);
    timer_cancel(&listener->pause);
    if (listener->accepting)
        uring_cancel(net->uring, &listener->accept_op);
    list_for_each(&net->conns, struct tcp_conn, node, conn) {
        if (conn->listener != listener)
            continue;
        list_for_each(&conn->requests, struct tcp_request, node, request)
            request_cancel(request, SHOAL_E_CANCELLED);
    }
    while (listener->unanswered > 0)
        fiber_queue_wait(&listener->idle);
    conns_close(listener, net);
    while (listener->conns > 0 || listener->accepting)
        fiber_queue_wait(&listener->idle);
    close(listener->fd);
    free(listener);
}
