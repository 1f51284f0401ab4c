/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <liburing.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "net/cert.h"
#include "net/tcp.h"
#include "shoal/error.h"

#define MS UINT64_C(1000000)
#define DRAIN_NS (1000 * MS)

static void tick(struct timer *timer);

/* ---- life ---- */

static void out_init(struct tcp_out *out, uint8_t type)
{
    list_node_init(&out->node);
    out->type = type;
}

static struct tcp_conn *conn_create(struct tcp_net *net, int fd, bool server)
{
    struct tcp_conn *conn = calloc(1, sizeof *conn);
    if (conn == NULL)
        return NULL;
    conn->net = net;
    conn->fd = fd;
    conn->server = server;
    conn->references = 1;
    conn->version = TCP_VERSION_HELLO;
    conn->error = SHOAL_E_CONNECTION;
    conn->handshake_due_ns = tcp_now(net) + net->config.handshake_ms * MS;
    fiber_queue_init(&conn->quiet);
    list_init(&conn->requests);
    list_node_init(&conn->node);
    out_init(&conn->ping, TCP_PING);
    out_init(&conn->pong, TCP_PONG);
    for (unsigned i = 0; i < TCP_REFUSALS; i++)
        out_init(&conn->refusals[i], TCP_REFUSE);
    if (server)
        conn->table = calloc(net->config.max_calls, sizeof *conn->table);
    if (tcp_rx_create(conn) != 0 || tcp_tx_create(conn) != 0 || (server && conn->table == NULL)) {
        conn->fd = -1;
        tcp_conn_put(conn);
        return NULL;
    }
    list_push_back(&net->conns, &conn->node);
    return conn;
}

void tcp_conn_get(struct tcp_conn *conn)
{
    conn->references++;
}

void tcp_conn_put(struct tcp_conn *conn)
{
    CHECK(conn->references > 0);
    if (--conn->references > 0)
        return;
    CHECK(!timer_armed(&conn->timer) && conn->fd < 0);
    tls_session_destroy(conn->tls);
    tcp_tag_destroy(conn->tag_in);
    tcp_tag_destroy(conn->tag_out);
    tcp_rx_destroy(conn);
    tcp_tx_destroy(conn);
    free(conn->table);
    free(conn);
}

/* The kernel has let go of everything: tell whoever waits. */
static void finish(struct tcp_conn *conn)
{
    if (conn->state != CONN_CLOSING || conn->rx.busy || conn->tx.busy)
        return;
    struct tcp_net *net = conn->net;
    conn->state = CONN_CLOSED;
    conn->tx.lent = NULL;
    conn->rx.landing = NULL;
    close(conn->fd);
    conn->fd = -1;
    timer_cancel(&conn->timer);
    struct list_node *node;
    while ((node = list_pop_front(&conn->tx.urgent)) != NULL) {
        struct tcp_out *out = container_of(node, struct tcp_out, node);
        /* Refusals and cancels end with the connection; everybody else is told below. */
        if ((out->type == TCP_REFUSE || out->type == TCP_CANCEL) && out->sent != NULL)
            out->sent(out);
    }
    if (conn->server)
        tcp_listen_closed(conn);
    else
        tcp_peer_closed(conn);
    fiber_queue_wake_all(&conn->quiet);
    list_remove(&conn->node);
    if (list_empty(&net->conns))
        fiber_queue_wake_all(&net->conns_gone);
    tcp_conn_put(conn);
}

void tcp_conn_close(struct tcp_conn *conn, int error)
{
    if (conn->state == CONN_CLOSING || conn->state == CONN_CLOSED)
        return;
    LOG_DEBUG("%s: the connection closes: %s", conn->remote, shoal_error_text(error));
    conn->state = CONN_CLOSING;
    conn->error = error;
    shutdown(conn->fd, SHUT_RDWR);
    if (conn->rx.busy)
        uring_cancel(conn->net->uring, &conn->rx.op);
    if (conn->tx.busy)
        uring_cancel(conn->net->uring, &conn->tx.op);
    /* The last reference may go here: callers that go on with @conn hold their own. */
    finish(conn);
}

/*
 * What is in the pipe is the reason. Closing a socket with bytes unread would take it back, so a
 * server reads on until the other side hangs up; a client's calls are waiting, and it does not.
 */
static void drain(struct tcp_conn *conn, int error)
{
    conn->state = CONN_DRAINING;
    conn->error = error;
    conn->handshake_due_ns = tcp_now(conn->net) + DRAIN_NS;
    timer_arm(conn->net->base.reactor, &conn->timer, conn->handshake_due_ns, tick);
    tcp_tx_flush_pipe(conn);
    if (!conn->tx.busy)
        tcp_conn_close(conn, error);
    else
        tcp_rx_arm(conn);
}

void tcp_conn_refuse(struct tcp_conn *conn, int error)
{
    if (conn->tx.busy || conn->plain || tcp_tx_greet(conn, TCP_REFUSE, error, NULL, 0) != 0)
        tcp_conn_close(conn, error);
    else
        drain(conn, error);
}

/* ---- watching ---- */

static uint64_t watch_interval(const struct tcp_conn *conn)
{
    return MIN(conn->net->config.ping_ms, conn->net->config.stall_ms) * MS;
}

/* Only while there is something to watch, so that an idle connection costs nothing. */
void tcp_conn_watch(struct tcp_conn *conn)
{
    if (timer_armed(&conn->timer))
        return;
    uint64_t due = conn->state < CONN_OPEN ? conn->handshake_due_ns
                                           : tcp_now(conn->net) + watch_interval(conn);
    timer_arm(conn->net->base.reactor, &conn->timer, due, tick);
}

static void look_after(struct tcp_conn *conn)
{
    uint64_t now = tcp_now(conn->net);
    const struct net_tcp_config *config = &conn->net->config;
    if (conn->state < CONN_OPEN || conn->state == CONN_DRAINING) {
        if (now < conn->handshake_due_ns) {
            tcp_conn_watch(conn);
            return;
        }
        if (conn->state != CONN_DRAINING)
            LOG_WARN("%s: no handshake within %llu ms", conn->remote,
                     (unsigned long long)config->handshake_ms);
        tcp_conn_close(conn, conn->error < 0 ? conn->error : SHOAL_E_CONNECTION);
        return;
    }
    if (conn->tx.busy && now - conn->tx.since_ns > config->stall_ms * MS) {
        LOG_WARN("%s takes nothing for %llu ms and is given up", conn->remote,
                 (unsigned long long)config->stall_ms);
        tcp_conn_close(conn, SHOAL_E_CONNECTION);
        return;
    }
    bool calling = !conn->server && conn->peer != NULL && conn->peer->calls > 0;
    uint64_t silent = now - conn->heard_ns;
    conn->silent_ticks = calling && silent >= config->ping_ms * MS ? conn->silent_ticks + 1 : 0;
    if (conn->silent_ticks >= 3 && silent > 3 * config->ping_ms * MS) {
        LOG_WARN("%s is silent for %llu ms and is given up", conn->remote,
                 (unsigned long long)(silent / MS));
        tcp_conn_close(conn, SHOAL_E_CONNECTION);
        return;
    }
    if (calling && silent >= config->ping_ms * MS && !list_linked(&conn->ping.node))
        tcp_tx_queue(conn, &conn->ping);
    if (calling || conn->tx.busy)
        tcp_conn_watch(conn);
}

static void tick(struct timer *timer)
{
    struct tcp_conn *conn = container_of(timer, struct tcp_conn, timer);
    tcp_conn_get(conn);
    look_after(conn);
    tcp_conn_put(conn);
}

/* ---- opening ---- */

static void set_socket_options(int fd, const struct sockaddr_storage *remote)
{
    int on = 1;
    int idle_s = 60;
    int unacknowledged_ms = 30000;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unacknowledged_ms, sizeof unacknowledged_ms);
    /*
     * Between processes of one host there is no congestion, but a host's default may pace each send
     * with timers (BBR), which made 1 MiB take twice as long. On a network the host's choice stands.
     */
    if (tcp_address_is_loopback(remote))
        setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", strlen("reno"));
}

static int start_tls(struct tcp_conn *conn)
{
    conn->state = CONN_HANDSHAKE;
    conn->tls = tls_session_create(conn->net->tls, conn->server, &conn->pipe, conn->remote);
    return conn->tls != NULL ? 0 : SHOAL_E_NO_MEMORY;
}

int tcp_conn_connect(struct tcp_peer *peer)
{
    struct tcp_net *net = tcp_net_of(peer->base.net);
    tcp_renew(net);
    int fd = socket(peer->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        LOG_ERROR("cannot make a socket: %s", strerror(errno));
        return SHOAL_E_CONNECTION;
    }
    struct tcp_conn *conn = conn_create(net, fd, false);
    if (conn == NULL) {
        close(fd);
        return SHOAL_E_NO_MEMORY;
    }
    set_socket_options(fd, &peer->address);
    conn->state = CONN_CONNECTING;
    conn->peer = peer;
    conn->address = peer->address;
    conn->address_len = peer->address_len;
    memcpy(conn->remote, peer->base.address, sizeof conn->remote);
    peer->conn = conn;
    struct io_uring_sqe *sqe = uring_get_sqe(net->uring, &conn->tx.op);
    io_uring_prep_connect(sqe, fd, (struct sockaddr *)&conn->address, conn->address_len);
    conn->tx.busy = true;
    tcp_conn_watch(conn);
    return 0;
}

void tcp_conn_accept(struct tcp_listener *listener, int fd)
{
    struct tcp_net *net = tcp_net_of(listener->base.net);
    struct tcp_conn *conn = NULL;
    tcp_renew(net);
    if (listener->conns >= net->config.max_connections)
        LOG_WARN("%s: %u connections are open, which is the limit; another is turned away",
                 listener->base.address, listener->conns);
    else
        conn = conn_create(net, fd, true);
    if (conn == NULL) {
        close(fd);
        return;
    }
    conn->address_len = sizeof conn->address;
    getpeername(fd, (struct sockaddr *)&conn->address, &conn->address_len);
    set_socket_options(fd, &conn->address);
    tcp_address_format(&conn->address, conn->remote, sizeof conn->remote);
    conn->listener = listener;
    conn->max_calls = (uint16_t)net->config.max_calls;
    listener->conns++;
    if (start_tls(conn) != 0) {
        tcp_conn_close(conn, SHOAL_E_NO_MEMORY);
        return;
    }
    tcp_conn_watch(conn);
    tcp_rx_arm(conn);
}

/* Who is there? The certificate is the authority's; that it is the right one is for us to see. */
static int admit(struct tcp_conn *conn)
{
    const struct net_identity *ours = &conn->net->identity;
    const struct net_identity *theirs = &conn->identity;
    int error = tls_identity(conn->tls, &conn->identity);
    if (error != 0) {
        LOG_WARN("%s: the certificate does not say a name, a role and a cluster", conn->remote);
        return error;
    }
    if (strcmp(theirs->cluster, ours->cluster) != 0) {
        LOG_WARN("%s: '%s' is of cluster %s, we are of %s", conn->remote, theirs->name,
                 theirs->cluster, ours->cluster);
        return SHOAL_E_DENIED;
    }
    if (conn->server)
        return 0;
    if (theirs->role != NET_ROLE_NODE && theirs->role != NET_ROLE_AUTHORITY) {
        LOG_WARN("%s: '%s' serves with the certificate of a %s", conn->remote, theirs->name,
                 cert_role_name(theirs->role));
        return SHOAL_E_DENIED;
    }
    const char *expected = conn->peer->base.name;
    if (expected[0] != '\0' && strcmp(expected, theirs->name) != 0) {
        LOG_WARN("%s: '%s' answers where '%s' was expected", conn->remote, theirs->name, expected);
        return SHOAL_E_DENIED;
    }
    return 0;
}

static int send_hello(struct tcp_conn *conn, uint8_t version_min, uint8_t version_max, bool plain)
{
    struct tcp_hello hello = {.version_min = version_min,
                              .version_max = version_max,
                              .plain = plain,
                              .max_calls = (uint16_t)conn->net->config.max_calls};
    memcpy(hello.cluster, conn->net->identity.cluster, sizeof hello.cluster);
    uint8_t body[128];
    size_t len = tcp_hello_encode(&hello, body, sizeof body);
    return tcp_tx_greet(conn, TCP_HELLO, 0, body, len);
}

/* TLS is up on this side; what it wrote last may still be in the pipe. */
static void greet(struct tcp_conn *conn)
{
    conn->state = CONN_GREETING;
    int error = admit(conn);
    if (error == 0 && !conn->server)
        error = send_hello(conn, TCP_VERSION_MIN, TCP_VERSION_MAX, conn->net->config.plain);
    if (error != 0) {
        tcp_conn_refuse(conn, error);
        return;
    }
    tcp_tx_flush_pipe(conn);
    tcp_rx_run(conn);
}

static void handshake(struct tcp_conn *conn)
{
    if (conn->tx.busy)
        return; /* the pipe is being read; tcp_conn_sent() comes back here */
    struct tcp_rx *rx = &conn->rx;
    conn->pipe.in = rx->buffer + rx->start;
    conn->pipe.in_len = rx->end - rx->start;
    int done = tls_handshake(conn->tls);
    rx->start = rx->end - conn->pipe.in_len;
    if (done < 0) {
        drain(conn, done);
    } else if (done == 0) {
        tcp_tx_flush_pipe(conn);
        tcp_rx_arm(conn);
    } else {
        greet(conn);
    }
}

static void connected(struct tcp_conn *conn)
{
    if (conn->connect_errno != 0) {
        LOG_DEBUG("%s: cannot connect: %s", conn->remote, strerror(conn->connect_errno));
        tcp_conn_close(conn, SHOAL_E_CONNECTION);
    } else if (start_tls(conn) != 0) {
        tcp_conn_close(conn, SHOAL_E_NO_MEMORY);
    } else {
        handshake(conn);
    }
}

static int switch_to_plain(struct tcp_conn *conn)
{
    uint8_t client[TCP_TAG_KEY_BYTES], server[TCP_TAG_KEY_BYTES];
    if (tls_export(conn->tls, "EXPORTER-shoal-frames-client-1", client, sizeof client) != 0 ||
        tls_export(conn->tls, "EXPORTER-shoal-frames-server-1", server, sizeof server) != 0)
        return SHOAL_E_SYSTEM;
    conn->tag_in = tcp_tag_create(conn->server ? client : server);
    conn->tag_out = tcp_tag_create(conn->server ? server : client);
    explicit_bzero(client, sizeof client);
    explicit_bzero(server, sizeof server);
    conn->plain = true;
    tcp_rx_plain(conn);
    tls_session_destroy(conn->tls);
    conn->tls = NULL;
    return conn->tag_in != NULL && conn->tag_out != NULL ? 0 : SHOAL_E_NO_MEMORY;
}

static void opened(struct tcp_conn *conn, const struct tcp_hello *hello)
{
    bool plain = hello->plain && conn->net->config.plain;
    uint8_t version = hello->version_max < TCP_VERSION_MAX ? hello->version_max : TCP_VERSION_MAX;
    int error = conn->server ? send_hello(conn, version, version, plain) : 0;
    if (error == 0 && plain)
        error = switch_to_plain(conn);
    if (error != 0) {
        tcp_conn_close(conn, error);
        return;
    }
    conn->state = CONN_OPEN;
    conn->version = version;
    conn->heard_ns = tcp_now(conn->net);
    timer_cancel(&conn->timer);
    if (!conn->server)
        conn->max_calls = hello->max_calls;
    LOG_DEBUG("%s: connection with %s '%s' is open, %s", conn->remote,
              cert_role_name(conn->identity.role), conn->identity.name,
              plain ? "plain with tags" : "TLS");
    if (conn->server) {
        tcp_tx_flush_pipe(conn);
        return;
    }
    tcp_peer_opened(conn);
    tcp_tx_pump(conn);
}

static void on_hello(struct tcp_conn *conn, const struct tcp_frame *frame, const uint8_t *header)
{
    struct tcp_hello hello;
    /* A server has nothing to send before; a client's HELLO may still count as being sent. */
    if (conn->state != CONN_GREETING || (conn->server && conn->tx.busy) ||
        tcp_hello_decode(header, frame->header_len, &hello) != 0) {
        LOG_WARN("%s: a HELLO that makes no sense", conn->remote);
        tcp_conn_close(conn, SHOAL_E_CONNECTION);
        return;
    }
    if (hello.version_min > TCP_VERSION_MAX || hello.version_max < TCP_VERSION_MIN) {
        LOG_WARN("%s speaks versions %u to %u of the protocol, we speak %u to %u", conn->remote,
                 hello.version_min, hello.version_max, TCP_VERSION_MIN, TCP_VERSION_MAX);
        tcp_conn_refuse(conn, SHOAL_E_VERSION);
        return;
    }
    opened(conn, &hello);
}

void tcp_conn_frame(struct tcp_conn *conn, const struct tcp_frame *frame, const uint8_t *header)
{
    switch (frame->type) {
    case TCP_HELLO:
        on_hello(conn, frame, header);
        break;
    case TCP_REFUSE: {
        int error = -(int)frame->status;
        LOG_WARN("%s refuses this connection: %s", conn->remote, shoal_error_text(error));
        bool known = strcmp(shoal_error_name(error), "UNKNOWN") != 0;
        tcp_conn_close(conn, known ? error : SHOAL_E_CONNECTION);
        break;
    }
    case TCP_PING:
        if (conn->state == CONN_OPEN && !list_linked(&conn->pong.node))
            tcp_tx_queue(conn, &conn->pong);
        break;
    default: /* a PONG: that it came was all it had to say */
        break;
    }
}

/* ---- events ---- */

void tcp_conn_received(struct tcp_conn *conn, int32_t result)
{
    if (conn->state == CONN_CLOSING) {
        finish(conn);
        return;
    }
    if (result <= 0) {
        tcp_conn_close(conn, conn->state == CONN_DRAINING ? conn->error : SHOAL_E_CONNECTION);
    } else if (conn->state == CONN_DRAINING) {
        conn->rx.start = conn->rx.end = 0;
        tcp_rx_arm(conn);
    } else if (conn->state == CONN_HANDSHAKE) {
        handshake(conn);
    } else {
        tcp_rx_run(conn);
    }
}

void tcp_conn_sent(struct tcp_conn *conn)
{
    switch (conn->state) {
    case CONN_CONNECTING:
        connected(conn);
        break;
    case CONN_HANDSHAKE:
        if (!conn->rx.busy)
            handshake(conn);
        break;
    case CONN_GREETING:
        tcp_rx_run(conn);
        break;
    case CONN_DRAINING:
        if (conn->server)
            shutdown(conn->fd, SHUT_WR);
        else
            tcp_conn_close(conn, conn->error);
        break;
    case CONN_OPEN:
        tcp_tx_pump(conn);
        if (conn->rx.paused) {
            conn->rx.paused = false;
            tcp_rx_run(conn);
        }
        break;
    case CONN_CLOSING:
        finish(conn);
        break;
    case CONN_CLOSED:
        break;
    }
}
