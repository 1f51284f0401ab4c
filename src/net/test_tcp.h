/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the TCP backend share: the rig's nets, certificates, a proxy, a raw peer. */
#ifndef NET_TEST_TCP_H
#define NET_TEST_TCP_H

#include <pthread.h>
#include <stdatomic.h>

#include "net/tcp_frame.h"
#include "net/tcp_tls.h"
#include "net/test_rig.h"

extern char test_directory[64]; /* with ca, server and client */

/* Of the nets to be made: short for tests of just these, so long that no load reaches them else. */
extern struct test_limits {
    uint32_t handshake_ms, stall_ms, ping_ms;
} test_limits;

int test_certificates_make(void **state);
int test_certificates_remove(void **state);

/* A net with the certificate @stem that trusts the authority @ca. */
struct net *test_net(struct rig *rig, const char *stem, const char *ca, bool plain);
/* A call by @net to @address; its own peer. @return what net_call() returned. */
int test_call_from(struct rig *rig, struct net *net, const char *address, const char *name);

/*
 * A proxy in a thread between two sockets, that counts what it passes to either side and, at a
 * byte, turns a bit, stops passing, or cuts the connection. It takes one connection after another.
 */
enum proxy_fault { PROXY_NONE, PROXY_FLIP, PROXY_STALL, PROXY_CUT };

struct proxy {
    pthread_t thread;
    int listen_fd;
    uint16_t port, target_port;
    char address[NET_ADDRESS_MAX];
    atomic_int fault;     /* enum proxy_fault */
    atomic_int to_client; /* which direction it strikes */
    atomic_llong at;      /* byte of that direction, counted from when it was set */
    atomic_llong passed[2];
    atomic_bool stop;
};

void proxy_start(struct proxy *proxy, const char *target);
void proxy_stop(struct proxy *proxy);
void proxy_set(struct proxy *proxy, enum proxy_fault fault, bool to_client, long long at);

/*
 * A hand-made peer: blocking, in its own thread, TLS and frames with the real parsers, so that it
 * can say what no net ever would.
 */
struct raw {
    int fd;
    struct tls_context *context;
    struct tls_session *tls;
    struct tls_pipe pipe;
    uint64_t sequence;
    uint8_t in[65536], out[65536];
    size_t in_start, in_end;
};

int raw_socket(const char *address);
/* A listening socket on a free port. */
int raw_listen(char *address, size_t room);
/* TLS on a connected socket; 0 or an error. */
int raw_open(struct raw *raw, int fd, const char *stem, bool server);
void raw_close(struct raw *raw);
int raw_send(struct raw *raw, struct tcp_frame *frame, const void *header);
int raw_send_payload(struct raw *raw, const void *payload, size_t len);
int raw_receive(struct raw *raw, struct tcp_frame *frame, uint8_t *header);
int raw_hello(struct raw *raw, uint8_t version_min, uint8_t version_max);

/* Runs @run in a thread and lets the reactor go on until it returns; [fiber]. */
void test_in_thread(struct rig *rig, void (*run)(void *arg), void *arg);

#endif
