/* SPDX-License-Identifier: Apache-2.0 */
#include "net/test_tcp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/file.h"
#include "shoal/error.h"

char test_directory[64];
struct test_limits test_limits = {.handshake_ms = 1000, .stall_ms = 500, .ping_ms = 200};

int test_certificates_make(void **state)
{
    (void)state;
    const char *d = test_directory;
    snprintf(test_directory, sizeof test_directory, "/tmp/shoal-net-XXXXXX");
    CHECK(mkdtemp(test_directory) != NULL);
    CHECK(net_cert_create_ca(d, "reef") == 0);
    CHECK(net_cert_issue(d, NET_ROLE_NODE, "server", d, "server") == 0);
    CHECK(net_cert_issue(d, NET_ROLE_CLIENT, "client", d, "client") == 0);
    return 0;
}

int test_certificates_remove(void **state)
{
    (void)state;
    return file_remove_tree(test_directory);
}

struct net *test_net(struct rig *rig, const char *stem, const char *ca, bool plain)
{
    char certificate[128], key[128], authority[128];
    snprintf(certificate, sizeof certificate, "%s/%s.crt", test_directory, stem);
    snprintf(key, sizeof key, "%s/%s.key", test_directory, stem);
    snprintf(authority, sizeof authority, "%s/%s.crt", test_directory, ca);
    const struct net_tcp_config config = {.certificate = certificate,
                                          .key = key,
                                          .ca = authority,
                                          .plain = plain,
                                          .max_calls = 1100,
                                          .max_requests = 1100,
                                          .max_connections = 20,
                                          .handshake_ms = test_limits.handshake_ms,
                                          .stall_ms = test_limits.stall_ms,
                                          .ping_ms = test_limits.ping_ms};
    struct net *net = NULL;
    CHECK(net_tcp_create(rig->reactor, &config, &net) == 0);
    return net;
}

void rig_nets_create(struct rig *rig)
{
    bool plain = rig->backend == RIG_TCP_PLAIN;
    rig->server_net = test_net(rig, "server", "ca", plain);
    rig->client_net = test_net(rig, "client", "ca", plain);
}

void rig_nets_destroy(struct rig *rig)
{
    net_destroy(rig->client_net);
    net_destroy(rig->server_net);
}

const char *rig_listen_address(const struct rig *rig)
{
    (void)rig;
    return "127.0.0.1:0";
}

int test_call_from(struct rig *rig, struct net *net, const char *address, const char *name)
{
    struct net_peer *kept = rig->peer;
    int error = net_peer_open(net, address, name, 4, &rig->peer);
    if (error == 0) {
        error = rig_call(rig, RIG_ECHO, 1, 15000, NULL, NULL);
        net_peer_close(rig->peer);
    }
    rig->peer = kept;
    return error;
}

/* ---- the proxy ---- */

static void proxy_pair(struct proxy *proxy, int client, int server);

static int socket_to(uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static uint16_t port_of(const char *address)
{
    return (uint16_t)atoi(strrchr(address, ':') + 1);
}

int raw_socket(const char *address)
{
    return socket_to(port_of(address));
}

static void *proxy_run(void *arg)
{
    struct proxy *proxy = arg;
    while (!proxy->stop) {
        struct pollfd wait = {.fd = proxy->listen_fd, .events = POLLIN};
        if (poll(&wait, 1, 20) <= 0)
            continue;
        int client = accept(proxy->listen_fd, NULL, NULL);
        int server = socket_to(proxy->target_port);
        if (client >= 0 && server >= 0)
            proxy_pair(proxy, client, server);
        close(client);
        close(server);
    }
    return NULL;
}

static bool send_all(int fd, const uint8_t *at, size_t len)
{
    while (len > 0) {
        ssize_t sent = send(fd, at, len, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        at += sent;
        len -= (size_t)sent;
    }
    return true;
}

/* Passes some bytes on. @return false when the connection is over. */
static bool proxy_pass(struct proxy *proxy, int from, int to, int direction)
{
    static _Thread_local uint8_t bytes[65536];
    ssize_t got = recv(from, bytes, sizeof bytes, 0);
    if (got <= 0)
        return false;
    long long at = proxy->at - atomic_fetch_add(&proxy->passed[direction], got);
    if (proxy->fault == PROXY_NONE || proxy->to_client != direction || at >= got)
        return send_all(to, bytes, (size_t)got);
    size_t before = at < 0 ? 0 : (size_t)at;
    if (proxy->fault == PROXY_FLIP) {
        bytes[before] ^= 0x10;
        proxy->fault = PROXY_NONE;
        return send_all(to, bytes, (size_t)got);
    }
    if (!send_all(to, bytes, before))
        return false;
    while (proxy->fault == PROXY_STALL && !proxy->stop)
        usleep(1000);
    return proxy->fault == PROXY_NONE && send_all(to, bytes + before, (size_t)got - before);
}

static void proxy_pair(struct proxy *proxy, int client, int server)
{
    while (!proxy->stop) {
        struct pollfd wait[2] = {{.fd = client, .events = POLLIN},
                                 {.fd = server, .events = POLLIN}};
        if (poll(wait, 2, 20) <= 0)
            continue;
        if (wait[0].revents != 0 && !proxy_pass(proxy, client, server, 0))
            return;
        if (wait[1].revents != 0 && !proxy_pass(proxy, server, client, 1))
            return;
    }
}

void proxy_set(struct proxy *proxy, enum proxy_fault fault, bool to_client, long long at)
{
    proxy->to_client = to_client;
    proxy->at = proxy->passed[to_client] + at;
    proxy->fault = (int)fault;
}

int raw_listen(char *address, size_t room)
{
    struct sockaddr_in any = {.sin_family = AF_INET};
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t len = sizeof any;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int small = 65536; /* so that who stops reading is felt soon */
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    CHECK(bind(fd, (struct sockaddr *)&any, sizeof any) == 0 && listen(fd, 8) == 0 &&
          getsockname(fd, (struct sockaddr *)&any, &len) == 0);
    snprintf(address, room, "127.0.0.1:%u", ntohs(any.sin_port));
    return fd;
}

void proxy_start(struct proxy *proxy, const char *target)
{
    memset(proxy, 0, sizeof *proxy);
    proxy->target_port = port_of(target);
    proxy->listen_fd = raw_listen(proxy->address, sizeof proxy->address);
    CHECK(pthread_create(&proxy->thread, NULL, proxy_run, proxy) == 0);
}

void proxy_stop(struct proxy *proxy)
{
    proxy->stop = true;
    pthread_join(proxy->thread, NULL);
    close(proxy->listen_fd);
}

/* ---- the raw peer ---- */

static int raw_flush(struct raw *raw)
{
    for (size_t sent = 0; sent < raw->pipe.out_len;) {
        ssize_t n = send(raw->fd, raw->out + sent, raw->pipe.out_len - sent, MSG_NOSIGNAL);
        if (n <= 0)
            return SHOAL_E_CONNECTION;
        sent += (size_t)n;
    }
    raw->pipe.out_len = 0;
    return 0;
}

static int raw_fill(struct raw *raw)
{
    ssize_t n = recv(raw->fd, raw->in, sizeof raw->in, 0);
    if (n <= 0)
        return SHOAL_E_CONNECTION;
    raw->pipe.in = raw->in;
    raw->pipe.in_len = (size_t)n;
    return 0;
}

int raw_open(struct raw *raw, int fd, const char *stem, bool server)
{
    char certificate[128], key[128], authority[128];
    snprintf(certificate, sizeof certificate, "%s/%s.crt", test_directory, stem);
    snprintf(key, sizeof key, "%s/%s.key", test_directory, stem);
    snprintf(authority, sizeof authority, "%s/ca.crt", test_directory);
    struct net_identity identity;
    memset(raw, 0, sizeof *raw);
    raw->fd = fd;
    raw->pipe.out = raw->out;
    raw->pipe.out_room = sizeof raw->out;
    int error = tls_context_create(certificate, key, authority, &raw->context, &identity);
    if (error != 0)
        return error;
    raw->tls = tls_session_create(raw->context, server, &raw->pipe, "raw");
    for (;;) {
        int done = tls_handshake(raw->tls);
        error = raw_flush(raw);
        if (done != 0 || error != 0)
            return done < 0 ? done : error;
        error = raw_fill(raw);
        if (error != 0)
            return error;
    }
}

void raw_close(struct raw *raw)
{
    tls_session_destroy(raw->tls);
    tls_context_put(raw->context);
    close(raw->fd);
}

int raw_send(struct raw *raw, struct tcp_frame *frame, const void *header)
{
    uint8_t bytes[TCP_FRAME_BYTES];
    frame->sequence = raw->sequence++;
    if (frame->version == 0)
        frame->version = TCP_VERSION_HELLO;
    frame->header_crc = crc32c(0, header, frame->header_len);
    tcp_frame_encode(frame, bytes);
    int error = tls_write(raw->tls, bytes, sizeof bytes);
    if (error == 0)
        error = tls_write(raw->tls, header, frame->header_len);
    return error != 0 ? error : raw_flush(raw);
}

int raw_send_payload(struct raw *raw, const void *payload, size_t len)
{
    const uint8_t *at = payload;
    while (len > 0) {
        size_t piece = len < 16384 ? len : 16384;
        int error = tls_write(raw->tls, at, piece);
        if (error == 0)
            error = raw_flush(raw);
        if (error != 0)
            return error;
        at += piece;
        len -= piece;
    }
    return 0;
}

static int raw_read(struct raw *raw, uint8_t *to, size_t len)
{
    while (len > 0) {
        int got = tls_read(raw->tls, to, len);
        if (got < 0)
            return got;
        to += got;
        len -= (size_t)got;
        if (got == 0 && raw_fill(raw) != 0)
            return SHOAL_E_CONNECTION;
    }
    return 0;
}

int raw_receive(struct raw *raw, struct tcp_frame *frame, uint8_t *header)
{
    uint8_t bytes[TCP_FRAME_BYTES];
    int error = raw_read(raw, bytes, sizeof bytes);
    if (error == 0)
        error = tcp_frame_decode(bytes, frame);
    return error != 0 ? error : raw_read(raw, header, frame->header_len);
}

int raw_hello(struct raw *raw, uint8_t version_min, uint8_t version_max)
{
    const struct tcp_hello hello = {
        .version_min = version_min, .version_max = version_max, .max_calls = 16, .cluster = "reef"};
    uint8_t body[64];
    struct tcp_frame frame = {.type = TCP_HELLO};
    frame.header_len = (uint32_t)tcp_hello_encode(&hello, body, sizeof body);
    return raw_send(raw, &frame, body);
}

struct job {
    void (*run)(void *arg);
    void *arg;
    atomic_bool done;
};

static void *job_run(void *arg)
{
    struct job *job = arg;
    job->run(job->arg);
    job->done = true;
    return NULL;
}

void test_in_thread(struct rig *rig, void (*run)(void *arg), void *arg)
{
    struct job job = {.run = run, .arg = arg};
    pthread_t thread;
    (void)rig;
    CHECK(pthread_create(&thread, NULL, job_run, &job) == 0);
    while (!job.done)
        fiber_sleep(RIG_MS);
    pthread_join(thread, NULL);
}
