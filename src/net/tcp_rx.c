/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "net/tcp.h"
#include "shoal/error.h"

/*
 * How much a plain connection reads at once while it expects a frame: little, so that the payload
 * behind the frame stays in the kernel and goes from there to where it is wanted. Where nothing but
 * small frames comes, more.
 */
#define WANT_LEAST 512u
#define WANT_MOST 16384u

/* So much payload is taken in one turn without the ring; then others have theirs. */
#define NOW_BYTES_PER_TURN (1u << 20)

static void receive_complete(struct uring_op *op, int32_t result, uint32_t flags);

int tcp_rx_create(struct tcp_conn *conn)
{
    struct tcp_rx *rx = &conn->rx;
    rx->op.complete = receive_complete;
    rx->buffer = malloc(TCP_RX_ROOM);
    rx->want = TCP_RX_ROOM;
    rx->need = TCP_FRAME_BYTES;
    return rx->buffer != NULL ? 0 : SHOAL_E_NO_MEMORY;
}

void tcp_rx_plain(struct tcp_conn *conn)
{
    conn->rx.want = WANT_LEAST;
}

void tcp_rx_destroy(struct tcp_conn *conn)
{
    free(conn->rx.buffer);
}

/* ---- from the kernel ---- */

static size_t frame_overhead(const struct tcp_conn *conn)
{
    return TCP_FRAME_BYTES + (conn->plain ? TCP_TAG_BYTES : 0);
}

/* The payload to where it is wanted, and @more bytes of what follows it to the buffer. */
static struct msghdr *direct_message(struct tcp_conn *conn, size_t more)
{
    struct tcp_rx *rx = &conn->rx;
    unsigned count = 0;
    uint32_t left = rx->left;
    if (rx->landing == NULL) {
        rx->iov[count++] = (struct iovec){conn->net->sink, MIN(left, TCP_SINK_BYTES)};
        left -= MIN(left, TCP_SINK_BYTES);
    } else {
        struct net_iov_cursor to = rx->landing->to;
        for (; left > 0; count++) {
            size_t len = 0;
            void *at = net_iov_take(&to, left, &len);
            CHECK(at != NULL && count < NET_IOV_MAX);
            rx->iov[count] = (struct iovec){at, len};
            left -= (uint32_t)len;
        }
    }
    rx->direct_bytes = rx->left - left;
    rx->start = rx->end = 0;
    if (left == 0 && more > 0)
        rx->iov[count++] = (struct iovec){rx->buffer, more};
    rx->message = (struct msghdr){.msg_iov = rx->iov, .msg_iovlen = count};
    return &rx->message;
}

/* @len bytes have come to where direct_message() had them go. */
static void direct_landed(struct tcp_conn *conn, size_t len)
{
    struct tcp_rx *rx = &conn->rx;
    size_t payload = MIN(len, rx->direct_bytes);
    rx->end = len - payload;
    rx->left -= (uint32_t)payload;
    while (payload > 0 && rx->landing != NULL) {
        size_t piece = 0;
        void *at = net_iov_take(&rx->landing->to, payload, &piece);
        rx->crc = crc32c(rx->crc, at, piece);
        payload -= piece;
    }
}

static bool wants_payload(const struct tcp_conn *conn)
{
    return conn->rx.in_payload && conn->rx.left > 0 && conn->rx.start == conn->rx.end;
}

/*
 * More of a payload, if it is there already, without the ring.
 * Return: bytes, 0 when there is nothing now, or an error.
 */
static int receive_now(struct tcp_conn *conn)
{
    struct tcp_rx *rx = &conn->rx;
    ssize_t got;
    if (rx->busy || !wants_payload(conn))
        return 0;
    if (conn->plain) {
        got = recvmsg(conn->fd, direct_message(conn, WANT_LEAST), MSG_DONTWAIT);
    } else {
        rx->start = rx->end = 0;
        got = recv(conn->fd, rx->buffer, TCP_RX_ROOM, MSG_DONTWAIT);
    }
    if (got < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : SHOAL_E_CONNECTION;
    if (got == 0)
        return SHOAL_E_CONNECTION;
    conn->heard_ns = tcp_now(conn->net);
    if (conn->plain)
        direct_landed(conn, (size_t)got);
    else
        rx->end = (size_t)got;
    return (int)got;
}

void tcp_rx_arm(struct tcp_conn *conn)
{
    struct tcp_rx *rx = &conn->rx;
    if (rx->busy || conn->state == CONN_CLOSING || conn->state == CONN_CLOSED || rx->paused)
        return;
    rx->busy = true;
    rx->turn++;
    struct io_uring_sqe *sqe = uring_get_sqe(conn->net->uring, &rx->op);
    rx->direct = conn->plain && wants_payload(conn);
    if (rx->direct) {
        /* All of the piece, and where another piece must follow, the frame that it comes in. */
        const struct tcp_frame *frame = &rx->frame;
        bool last = frame->total - frame->offset == frame->payload_len;
        struct msghdr *message = direct_message(conn, last ? 0 : frame_overhead(conn));
        io_uring_prep_recvmsg(sqe, conn->fd, message, MSG_WAITALL);
        return;
    }
    if (rx->start == rx->end) {
        rx->start = rx->end = 0;
    } else if (rx->start > 0) {
        memmove(rx->buffer, rx->buffer + rx->start, rx->end - rx->start);
        rx->end -= rx->start;
        rx->start = 0;
    }
    size_t room = TCP_RX_ROOM - rx->end;
    CHECK(room > 0);
    io_uring_prep_recv(sqe, conn->fd, rx->buffer + rx->end, MIN(rx->want, room), 0);
}

/* ---- payload ---- */

static int input(struct tcp_conn *conn, void *to, size_t len)
{
    struct tcp_rx *rx = &conn->rx;
    if (conn->plain) {
        size_t take = MIN(len, rx->end - rx->start);
        memcpy(to, rx->buffer + rx->start, take);
        rx->start += take;
        return (int)take;
    }
    conn->pipe.in = rx->buffer + rx->start;
    conn->pipe.in_len = rx->end - rx->start;
    int got = tls_read(conn->tls, to, len);
    rx->start = rx->end - conn->pipe.in_len;
    return got;
}

/* Return: bytes, 0 when nothing has come, or an error. */
static int input_payload(struct tcp_conn *conn)
{
    struct tcp_rx *rx = &conn->rx;
    size_t len = MIN(rx->left, TCP_SINK_BYTES);
    uint8_t *at = conn->net->sink;
    struct net_iov_cursor before = {0};
    if (rx->landing != NULL) {
        before = rx->landing->to;
        at = net_iov_take(&rx->landing->to, rx->left, &len);
    }
    int got = input(conn, at, len);
    if (got < 0)
        return got;
    rx->left -= (uint32_t)got;
    if (rx->landing != NULL) {
        rx->crc = crc32c(rx->crc, at, (size_t)got);
        rx->landing->to = before;
        net_iov_take(&rx->landing->to, (size_t)got, &len);
    }
    return got;
}

static int payload_begin(struct tcp_conn *conn, struct tcp_landing *landing)
{
    struct tcp_rx *rx = &conn->rx;
    rx->in_payload = true;
    rx->saw_payload = true;
    rx->left = rx->frame.payload_len;
    rx->crc = 0;
    rx->landing = landing;
    rx->unchecked = landing == NULL;
    if (landing == NULL)
        return 0;
    if (rx->frame.total != landing->total || rx->frame.offset != landing->received)
        return SHOAL_E_INVALID;
    return 0;
}

static int payload_end(struct tcp_conn *conn)
{
    struct tcp_rx *rx = &conn->rx;
    struct tcp_landing *landing = rx->landing;
    rx->in_payload = false;
    rx->landing = NULL;
    if (landing == NULL)
        return 0;
    if (!rx->unchecked && rx->crc != rx->frame.payload_crc) {
        LOG_WARN("%s: payload does not match its checksum", conn->remote);
        landing->active = false;
        landing->landed(landing, SHOAL_E_CORRUPT);
        return SHOAL_E_CORRUPT;
    }
    landing->crc = crc32c_combine(landing->crc, rx->crc, rx->frame.payload_len);
    landing->received += rx->frame.payload_len;
    if (landing->received == landing->total) {
        landing->active = false;
        landing->landed(landing, 0);
    }
    return 0;
}

/* ---- frames ---- */

/* The fixed part is here: how long is the rest? */
static int frame_begin(struct tcp_conn *conn)
{
    struct tcp_rx *rx = &conn->rx;
    int error = tcp_frame_decode(rx->head, &rx->frame);
    if (error == 0 && rx->frame.version != conn->version)
        error = SHOAL_E_VERSION;
    if (error != 0) {
        LOG_WARN("%s: a malformed frame: %s", conn->remote, shoal_error_text(error));
        return error;
    }
    if (rx->frame.sequence != conn->sequence_in) {
        LOG_WARN("%s: a frame out of sequence", conn->remote);
        return SHOAL_E_CORRUPT;
    }
    rx->framed = true;
    rx->need = frame_overhead(conn) + rx->frame.header_len;
    return 0;
}

/* All of it but the payload is here. */
static int frame_end(struct tcp_conn *conn)
{
    struct tcp_rx *rx = &conn->rx;
    const struct tcp_frame *frame = &rx->frame;
    const uint8_t *header = rx->head + frame_overhead(conn);
    if (conn->plain && !tcp_tag_right(conn->tag_in, rx->head, header, frame->header_len,
                                      rx->head + TCP_FRAME_BYTES)) {
        LOG_WARN("%s: a frame with a wrong tag", conn->remote);
        return SHOAL_E_CORRUPT;
    }
    if (crc32c(0, header, frame->header_len) != frame->header_crc) {
        LOG_WARN("%s: a message header does not match its checksum", conn->remote);
        return SHOAL_E_CORRUPT;
    }
    conn->sequence_in++;
    struct tcp_landing *landing = NULL;
    int error = 0;
    bool about_call = frame->type != TCP_HELLO && frame->type != TCP_PING &&
                      frame->type != TCP_PONG && !(frame->type == TCP_REFUSE && frame->call == 0);
    if (!about_call)
        tcp_conn_frame(conn, frame, header);
    else if (conn->state != CONN_OPEN)
        error = SHOAL_E_INVALID;
    else if (conn->server)
        error = tcp_listen_frame(conn, frame, header, &landing);
    else
        error = tcp_peer_frame(conn, frame, header, &landing);
    if (error == SHOAL_E_INVALID)
        LOG_WARN("%s: a frame of type %u that has no place here", conn->remote, frame->type);
    rx->framed = false;
    rx->have = 0;
    rx->need = frame_overhead(conn); /* a HELLO may have changed it */
    if (error == 0 && frame->payload_len > 0)
        error = payload_begin(conn, landing);
    return error;
}

/* Return: whether to go on, 0 when more must come in, or an error. */
static int step(struct tcp_conn *conn)
{
    struct tcp_rx *rx = &conn->rx;
    int error = 0;
    if (rx->in_payload) {
        if (rx->left > 0)
            return input_payload(conn);
        error = payload_end(conn);
        return error != 0 ? error : 1;
    }
    if (rx->have < rx->need) {
        int got = input(conn, rx->head + rx->have, rx->need - rx->have);
        if (got <= 0)
            return got;
        rx->have += (size_t)got;
        return 1;
    }
    error = rx->framed ? frame_end(conn) : frame_begin(conn);
    return error != 0 ? error : 1;
}

static bool may_receive(const struct tcp_conn *conn)
{
    return (conn->state == CONN_GREETING || conn->state == CONN_OPEN) && !conn->rx.paused;
}

void tcp_rx_run(struct tcp_conn *conn)
{
    struct tcp_rx *rx = &conn->rx;
    int more = 1;
    size_t now_bytes = 0;
    tcp_conn_get(conn);
    while (more > 0 && may_receive(conn)) {
        more = step(conn);
        if (more == 0 && now_bytes < NOW_BYTES_PER_TURN) {
            more = receive_now(conn);
            now_bytes += more > 0 ? (size_t)more : 0;
        }
        if (more < 0)
            tcp_conn_close(conn, more == SHOAL_E_DENIED ? more : SHOAL_E_CONNECTION);
    }
    if (conn->plain && rx->saw_payload)
        rx->want = WANT_LEAST;
    rx->saw_payload = rx->in_payload;
    if (may_receive(conn) || conn->state == CONN_DRAINING)
        tcp_rx_arm(conn);
    tcp_conn_put(conn);
}

static void received(struct tcp_conn *conn, int32_t result)
{
    struct tcp_rx *rx = &conn->rx;
    bool direct = rx->direct;
    rx->busy = false;
    rx->direct = false;
    if (direct)
        fiber_queue_wake_all(&conn->quiet);
    /* A receive that was cancelled for tcp_rx_abandon() is no end of the connection. */
    bool nothing = result == -EINTR || result == -EAGAIN || result == -ECANCELED;
    if (result > 0 && conn->state != CONN_CLOSING) {
        conn->heard_ns = tcp_now(conn->net);
        if (direct) {
            direct_landed(conn, (size_t)result);
        } else {
            rx->end += (size_t)result;
            if (conn->plain && (size_t)result == rx->want)
                rx->want = MIN(rx->want * 2, WANT_MOST);
        }
    }
    tcp_conn_received(conn, nothing ? 1 : result);
}

static void receive_complete(struct uring_op *op, int32_t result, uint32_t flags)
{
    (void)flags;
    struct tcp_conn *conn = container_of(op, struct tcp_conn, rx.op);
    tcp_conn_get(conn);
    received(conn, result);
    tcp_conn_put(conn);
}

void tcp_rx_abandon(struct tcp_conn *conn, struct tcp_landing *landing)
{
    struct tcp_rx *rx = &conn->rx;
    landing->active = false;
    if (rx->landing != landing)
        return;
    rx->landing = NULL;
    rx->unchecked = true;
    if (!rx->direct)
        return;
    uint64_t turn = rx->turn;
    uring_cancel(conn->net->uring, &rx->op);
    tcp_conn_get(conn);
    while (rx->direct && rx->turn == turn)
        fiber_queue_wait(&conn->quiet);
    tcp_conn_put(conn);
}
