/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "net/tcp.h"
#include "shoal/error.h"

/*
 * How long a piece of payload that the kernel is still sending may outlive its call. A frame cannot
 * be cut short: when the other side takes none of it, only closing sets the memory free.
 */
#define WITHDRAW_NS UINT64_C(100000000)

/*
 * Most sends fit the socket's buffer, and then a system call at once is cheaper, and earlier, than
 * one through the ring with a completion to be taken. Within one poll only the first send of small
 * frames and so much payload go that way: what follows waits for the ring, and gathers there.
 */
#define NOW_BYTES_PER_POLL (1u << 20)

_Static_assert(TCP_CHUNK_PLAIN % NET_SUM_BYTES == 0 && TCP_CHUNK_TLS % NET_SUM_BYTES == 0,
               "the sums of a payload are those of its pieces");

static void send_complete(struct uring_op *op, int32_t result, uint32_t flags);

int tcp_tx_create(struct tcp_conn *conn)
{
    struct tcp_tx *tx = &conn->tx;
    list_init(&tx->urgent);
    list_init(&tx->bulk);
    tx->op.complete = send_complete;
    tx->head = malloc(TCP_HEAD_ROOM);
    tx->cipher = malloc(TCP_CIPHER_ROOM);
    conn->pipe.out = tx->cipher;
    conn->pipe.out_room = TCP_CIPHER_ROOM;
    return tx->head != NULL && tx->cipher != NULL ? 0 : SHOAL_E_NO_MEMORY;
}

void tcp_tx_destroy(struct tcp_conn *conn)
{
    free(conn->tx.head);
    free(conn->tx.cipher);
}

/* ---- making frames ---- */

static size_t frame_overhead(const struct tcp_conn *conn)
{
    return TCP_FRAME_BYTES + (conn->plain ? TCP_TAG_BYTES : 0);
}

static uint32_t deadline_us(const struct tcp_conn *conn, uint64_t deadline_ns)
{
    uint64_t now = tcp_now(conn->net);
    uint64_t us = deadline_ns > now ? (deadline_ns - now) / 1000 : 0;
    return us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
}

static void append_frame(struct tcp_conn *conn, struct tcp_frame *frame, const void *header)
{
    struct tcp_tx *tx = &conn->tx;
    uint8_t *at = tx->head + tx->head_len;
    size_t overhead = frame_overhead(conn);
    CHECK(tx->head_len + overhead + frame->header_len <= TCP_HEAD_ROOM);
    frame->version = conn->version;
    frame->sequence = conn->sequence_out++;
    if (frame->header_len > 0)
        memcpy(at + overhead, header, frame->header_len);
    frame->header_crc = crc32c(0, at + overhead, frame->header_len);
    tcp_frame_encode(frame, at);
    if (conn->plain)
        tcp_tag_make(conn->tag_out, at, at + overhead, frame->header_len, at + TCP_FRAME_BYTES);
    tx->head_len += overhead + frame->header_len;
}

/* The next frame of @out; its piece of payload is added to the iov, and moved on from. */
static unsigned append_out(struct tcp_conn *conn, struct tcp_out *out, uint32_t piece)
{
    struct tcp_tx *tx = &conn->tx;
    bool first = out->offset == 0;
    struct tcp_frame frame = {.type = first ? out->type : TCP_DATA,
                              .status = out->status,
                              .call = out->call,
                              .header_len = first ? out->header_len : 0,
                              .payload_len = piece,
                              .total = out->total,
                              .offset = out->offset,
                              .room = out->room};
    if (out->type == TCP_CALL)
        frame.deadline_us = deadline_us(conn, out->deadline_ns);
    unsigned count = 0;
    if (out->sums != NULL)
        frame.payload_crc = crc32c_join(out->sums + out->offset / NET_SUM_BYTES, NET_SUM_BYTES, piece);
    for (uint32_t left = piece; left > 0; count++) {
        size_t len = 0;
        void *at = net_iov_take(&out->payload, left, &len);
        CHECK(at != NULL && count < NET_IOV_MAX);
        if (out->sums == NULL)
            frame.payload_crc = crc32c(frame.payload_crc, at, len);
        tx->iov[1 + count] = (struct iovec){at, len};
        left -= (uint32_t)len;
    }
    append_frame(conn, &frame, out->header);
    out->offset += piece;
    out->payload_left -= piece;
    out->last_made = out->payload_left == 0;
    return count;
}

static bool head_fits(const struct tcp_conn *conn, const struct tcp_out *out)
{
    return conn->tx.head_len + frame_overhead(conn) + out->header_len <= TCP_HEAD_ROOM;
}

static void append_urgent(struct tcp_conn *conn)
{
    struct list_node *node;
    while ((node = list_first(&conn->tx.urgent)) != NULL) {
        struct tcp_out *out = container_of(node, struct tcp_out, node);
        if (!head_fits(conn, out))
            return;
        list_remove(node);
        append_out(conn, out, 0);
        if (out->sent != NULL)
            out->sent(out);
    }
}

/* One piece of the payload whose turn it is. */
static unsigned append_bulk(struct tcp_conn *conn)
{
    struct list_node *node = list_first(&conn->tx.bulk);
    if (node == NULL)
        return 0;
    struct tcp_out *out = container_of(node, struct tcp_out, node);
    if (!head_fits(conn, out))
        return 0;
    list_remove(node);
    conn->tx.lent = out;
    conn->tx.lent_withdrawn = false;
    uint32_t chunk = conn->plain ? TCP_CHUNK_PLAIN : TCP_CHUNK_TLS;
    return append_out(conn, out, MIN(out->payload_left, chunk));
}

/* ---- sending ---- */

static void submit(struct tcp_conn *conn)
{
    struct tcp_tx *tx = &conn->tx;
    struct io_uring_sqe *sqe = uring_get_sqe(conn->net->uring, &tx->op);
    io_uring_prep_sendmsg(sqe, conn->fd, &tx->message, MSG_NOSIGNAL | MSG_WAITALL);
    tx->busy = true;
    tx->since_ns = tcp_now(conn->net);
    tcp_conn_watch(conn);
}

void tcp_tx_flush_pipe(struct tcp_conn *conn)
{
    struct tcp_tx *tx = &conn->tx;
    CHECK(!tx->busy);
    if (conn->pipe.out_len == 0)
        return;
    tx->iov[0] = (struct iovec){tx->cipher, conn->pipe.out_len};
    tx->message = (struct msghdr){.msg_iov = tx->iov, .msg_iovlen = 1};
    conn->pipe.out_len = 0;
    submit(conn);
}

/* The payload that was lent is sent, or encrypted: on to its next piece, or done. */
static void lent_back(struct tcp_conn *conn)
{
    struct tcp_tx *tx = &conn->tx;
    struct tcp_out *out = tx->lent;
    if (out == NULL)
        return;
    tx->lent = NULL;
    fiber_queue_wake_all(&conn->quiet);
    if (tx->lent_withdrawn)
        return;
    if (out->payload_left > 0)
        list_push_back(&tx->bulk, &out->node);
    else if (out->sent != NULL)
        out->sent(out);
}

static int encrypt(struct tcp_conn *conn, unsigned pieces)
{
    struct tcp_tx *tx = &conn->tx;
    int error = tls_write(conn->tls, tx->head, tx->head_len);
    for (unsigned i = 0; i < pieces && error == 0; i++)
        error = tls_write(conn->tls, tx->iov[1 + i].iov_base, tx->iov[1 + i].iov_len);
    return error;
}

/* A short send: what is left of the message. Return: whether anything is. */
static bool advance(struct msghdr *message, size_t sent)
{
    while (message->msg_iovlen > 0 && sent >= message->msg_iov->iov_len) {
        sent -= message->msg_iov->iov_len;
        message->msg_iov++;
        message->msg_iovlen--;
    }
    if (message->msg_iovlen == 0)
        return false;
    message->msg_iov->iov_base = (uint8_t *)message->msg_iov->iov_base + sent;
    message->msg_iov->iov_len -= sent;
    return true;
}

static bool may_send_now(struct tcp_conn *conn, bool bulk)
{
    struct tcp_tx *tx = &conn->tx;
    uint64_t now = tcp_now(conn->net);
    if (tx->poll_ns != now) {
        tx->poll_ns = now;
        tx->now_bytes = 0;
    }
    return bulk ? tx->now_bytes < NOW_BYTES_PER_POLL : tx->now_bytes == 0;
}

/* Return: whether all of the message is sent; else the ring, or the end of the connection, has it.
 */
static bool send_message(struct tcp_conn *conn, bool bulk)
{
    struct tcp_tx *tx = &conn->tx;
    if (may_send_now(conn, bulk)) {
        ssize_t sent = sendmsg(conn->fd, &tx->message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN && errno != EINTR) {
            tcp_conn_close(conn, SHOAL_E_CONNECTION);
            return false;
        }
        tx->now_bytes += sent > 0 ? (size_t)sent : 0;
        if (!advance(&tx->message, sent > 0 ? (size_t)sent : 0))
            return true;
    }
    submit(conn);
    return false;
}

static int encrypt_message(struct tcp_conn *conn, unsigned pieces)
{
    struct tcp_tx *tx = &conn->tx;
    int error = encrypt(conn, pieces);
    lent_back(conn);
    tx->iov[0] = (struct iovec){tx->cipher, conn->pipe.out_len};
    tx->message = (struct msghdr){.msg_iov = tx->iov, .msg_iovlen = 1};
    conn->pipe.out_len = 0;
    if (error != 0)
        tcp_conn_close(conn, error);
    return error;
}

static bool pump_once(struct tcp_conn *conn)
{
    struct tcp_tx *tx = &conn->tx;
    tx->head_len = 0;
    append_urgent(conn);
    unsigned pieces = append_bulk(conn);
    if (tx->head_len == 0)
        return false;
    if (conn->plain) {
        tx->iov[0] = (struct iovec){tx->head, tx->head_len};
        tx->message = (struct msghdr){.msg_iov = tx->iov, .msg_iovlen = 1 + pieces};
    } else if (encrypt_message(conn, pieces) != 0) {
        return false;
    }
    if (!send_message(conn, pieces > 0))
        return false;
    lent_back(conn);
    return true;
}

void tcp_tx_pump(struct tcp_conn *conn)
{
    /* What is sent at once may wake, refuse or close: the connection must outlast this loop. */
    tcp_conn_get(conn);
    while (!conn->tx.busy && conn->state == CONN_OPEN && pump_once(conn))
        ;
    tcp_conn_put(conn);
}

void tcp_tx_queue(struct tcp_conn *conn, struct tcp_out *out)
{
    CHECK(!list_linked(&out->node));
    out->last_made = false;
    list_push_back(out->payload_left > 0 ? &conn->tx.bulk : &conn->tx.urgent, &out->node);
    tcp_tx_pump(conn);
}

int tcp_tx_greet(struct tcp_conn *conn, uint8_t type, int status, const void *body, size_t len)
{
    struct tcp_frame frame = {
        .type = type, .status = (uint16_t)-status, .header_len = (uint32_t)len};
    CHECK(!conn->tx.busy && !conn->plain);
    conn->tx.head_len = 0;
    append_frame(conn, &frame, body);
    return tls_write(conn->tls, conn->tx.head, conn->tx.head_len);
}

static void sent(struct tcp_conn *conn, int32_t result)
{
    struct tcp_tx *tx = &conn->tx;
    tx->busy = false;
    if (conn->state != CONN_CLOSING && conn->state != CONN_CONNECTING) {
        if (result == -EINTR || result == -EAGAIN)
            result = 0;
        if (result < 0) {
            tcp_conn_close(conn, SHOAL_E_CONNECTION);
            return;
        }
        if (advance(&tx->message, (size_t)result)) {
            submit(conn);
            return;
        }
        lent_back(conn);
        if (conn->plain) {
            free(tx->cipher);
            tx->cipher = NULL;
        }
    }
    if (conn->state == CONN_CONNECTING && result < 0)
        conn->connect_errno = -result;
    tcp_conn_sent(conn);
}

static void send_complete(struct uring_op *op, int32_t result, uint32_t flags)
{
    (void)flags;
    struct tcp_conn *conn = container_of(op, struct tcp_conn, tx.op);
    tcp_conn_get(conn);
    sent(conn, result);
    tcp_conn_put(conn);
}

void tcp_tx_withdraw(struct tcp_conn *conn, struct tcp_out *out)
{
    list_remove(&out->node);
    if (conn->tx.lent != out)
        return;
    conn->tx.lent_withdrawn = true;
    tcp_conn_get(conn);
    uint64_t give_up = tcp_now(conn->net) + WITHDRAW_NS;
    while (conn->tx.lent == out) {
        if (!fiber_queue_wait_until(&conn->quiet, give_up)) {
            tcp_conn_close(conn, SHOAL_E_CONNECTION);
            give_up = UINT64_MAX;
        }
    }
    tcp_conn_put(conn);
}
