/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net-call-64k, net-call-1m and the like: a call of 64 bytes that is answered with a payload, at
 * the median, against a raw socket that does the same. Plain, and with TLS. Servers are processes
 * of their own; the two sides take turns in small batches.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "raw_socket.h"

#include "base/check.h"
#include "base/codec.h"
#include "base/file.h"
#include "core/fiber.h"
#include "core/reactor.h"
#include "net/net.h"

#define REQUEST_BYTES RAW_REQUEST_BYTES
#define BATCH 25u

static char directory[64];

/* ---- net ---- */

static struct net *net_open(struct reactor *reactor, const char *stem, bool plain)
{
    char certificate[128], key[128], ca[128];
    snprintf(certificate, sizeof certificate, "%s/%s.crt", directory, stem);
    snprintf(key, sizeof key, "%s/%s.key", directory, stem);
    snprintf(ca, sizeof ca, "%s/ca.crt", directory);
    const struct net_tcp_config config = {
        .certificate = certificate, .key = key, .ca = ca, .plain = plain};
    struct net *net = NULL;
    CHECK(net_tcp_create(reactor, &config, &net) == 0);
    return net;
}

static struct reactor *reactor_open(const char *name)
{
    const struct reactor_config config = {.name = name, .cpu = -1, .uring_entries = 128};
    struct reactor *reactor = NULL;
    CHECK(reactor_create(&config, &reactor) == 0);
    return reactor;
}

struct server {
    struct reactor *reactor;
    struct fiber_pool *fibers;
    uint8_t *payload;
    bool plain;
    int tell; /* where the address goes */
};

static struct server server;

static void answer(void *arg)
{
    size_t len = 0;
    const uint8_t *header = net_request_header(arg, &len);
    const struct iovec iov = {server.payload, load_le32(header)};
    net_reply(arg, header, 16, &iov, 1);
}

static void on_request(void *ctx, struct net_request *request)
{
    (void)ctx;
    CHECK(fiber_spawn(server.fibers, answer, request) == 0);
}

static void serve(void *arg)
{
    (void)arg;
    const struct net_service service = {on_request, NULL};
    struct net_listener *listener = NULL;
    struct net *net = net_open(server.reactor, "server", server.plain);
    CHECK(net_listen(net, "127.0.0.1:0", &service, &listener) == 0);
    const char *address = net_listener_address(listener);
    CHECK(write(server.tell, address, strlen(address) + 1) > 0);
}

static pid_t net_start(bool plain, char *address, size_t room)
{
    int pair[2];
    CHECK(pipe(pair) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        server.plain = plain;
        server.tell = pair[1];
        server.payload = aligned_alloc(4096, NET_PAYLOAD_MAX);
        memset(server.payload, 7, NET_PAYLOAD_MAX);
        server.reactor = reactor_open("server");
        CHECK(fiber_pool_create(server.reactor, "bench", 16, 0, &server.fibers) == 0);
        CHECK(fiber_spawn(server.fibers, serve, NULL) == 0);
        reactor_run(server.reactor);
    }
    CHECK(read(pair[0], address, room) > 0);
    close(pair[0]);
    close(pair[1]);
    return pid;
}

/* ---- measuring ---- */

struct bench {
    struct reactor *reactor;
    uint16_t raw_port;
    char address[2][NET_ADDRESS_MAX]; /* plain, TLS */
    uint8_t *memory;
    /* of the measurement under way */
    uint32_t size;
    int fd;
    struct net_peer *peer;
};

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void raw_once(struct bench *bench)
{
    raw_socket_get(bench->fd, bench->memory, bench->size);
}

static void net_once(struct bench *bench)
{
    uint8_t header[REQUEST_BYTES] = {0};
    uint8_t reply[64];
    const struct iovec room = {bench->memory, bench->size};
    store_le32(header, bench->size);
    struct net_call call = {.header = header,
                            .header_len = sizeof header,
                            .reply_payload = &room,
                            .reply_payload_count = 1,
                            .deadline_ns = bench_now_ns() + UINT64_C(5000000000),
                            .reply_header = reply,
                            .reply_header_len = sizeof reply};
    CHECK(net_call(bench->peer, &call) == 0);
}

static double batch(struct bench *bench, void (*once)(struct bench *bench))
{
    double us[BATCH];
    for (unsigned i = 0; i < BATCH; i++) {
        uint64_t start = bench_now_ns();
        once(bench);
        us[i] = (double)(bench_now_ns() - start) / 1000;
    }
    qsort(us, BATCH, sizeof us[0], compare);
    return us[BATCH / 2];
}

static double raw_batch(void *context)
{
    return batch(context, raw_once);
}

static double net_batch(void *context)
{
    return batch(context, net_once);
}

static void measure(struct bench *bench, struct net *net, bool plain, uint32_t size,
                    const char *name, double goal)
{
    bench->size = size;
    bench->fd = raw_socket_connect(bench->raw_port);
    CHECK(net_peer_open(net, bench->address[plain ? 0 : 1], "server", 4, &bench->peer) == 0);
    const struct bench_pairs pairs =
        bench_pairs(&(struct bench_side){net_batch, bench}, &(struct bench_side){raw_batch, bench},
                    BENCH_PAIRS);
    bench_print(&(struct bench_figure){.name = name,
                                       .unit = "us",
                                       .value = pairs.ours,
                                       .baseline = pairs.raw,
                                       .noise = pairs.noise,
                                       .goal = goal});
    net_peer_close(bench->peer);
    close(bench->fd);
}

static void run(void *arg)
{
    struct bench *bench = arg;
    struct net *net = net_open(bench->reactor, "client", true);
    /* The goals are those of a get through libshoal, of which this is the largest part. */
    measure(bench, net, true, 1, "net-call-1", 2);
    measure(bench, net, true, 4096, "net-call-4k", 2);
    measure(bench, net, true, 65536, "net-call-64k", 1.35);
    measure(bench, net, true, 1u << 20, "net-call-1m", 1.35);
    measure(bench, net, false, 65536, "net-call-64k-tls", 4);
    measure(bench, net, false, 1u << 20, "net-call-1m-tls", 4);
    net_destroy(net);
    reactor_stop(bench->reactor);
}

int main(int argc, char **argv)
{
    static struct bench bench;
    struct fiber_pool *fibers = NULL;
    pid_t raw, servers[2];
    bench_start(argc, argv, "Calls over TCP against a raw socket.");
    snprintf(directory, sizeof directory, "/tmp/shoal-net-bench-XXXXXX");
    CHECK(mkdtemp(directory) != NULL && net_cert_create_ca(directory, "bench") == 0);
    CHECK(net_cert_issue(directory, NET_ROLE_NODE, "server", directory, "server") == 0);
    CHECK(net_cert_issue(directory, NET_ROLE_CLIENT, "client", directory, "client") == 0);
    servers[0] = net_start(true, bench.address[0], NET_ADDRESS_MAX);
    servers[1] = net_start(false, bench.address[1], NET_ADDRESS_MAX);
    bench.raw_port = raw_socket_start(&raw);
    bench.memory = aligned_alloc(4096, NET_PAYLOAD_MAX);
    memset(bench.memory, 1, NET_PAYLOAD_MAX);
    bench.reactor = reactor_open("client");
    CHECK(fiber_pool_create(bench.reactor, "bench", 1, 0, &fibers) == 0);
    CHECK(fiber_spawn(fibers, run, &bench) == 0);
    reactor_run(bench.reactor);
    fiber_pool_destroy(fibers);
    reactor_destroy(bench.reactor);
    kill(raw, SIGKILL);
    for (unsigned i = 0; i < 2; i++)
        kill(servers[i], SIGKILL);
    while (wait(NULL) > 0)
        ;
    return file_remove_tree(directory) == 0 ? 0 : 1;
}
