/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A test rig: a server and a client on one reactor, over either backend. A test is a function that
 * runs as a fiber. The server obeys the first byte of each request's header (enum rig_op).
 */
#ifndef NET_TEST_RIG_H
#define NET_TEST_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/fiber.h"
#include "core/reactor.h"
#include "net/net.h"

#define RIG_MS UINT64_C(1000000)

enum rig_backend { RIG_SIM, RIG_TCP_TLS, RIG_TCP_PLAIN };

/* What the server does; the operand is the u32 after the op. */
enum rig_op {
    RIG_ECHO,       /* reply with the request's header */
    RIG_SINK,       /* pull the payload, reply with its CRC32C */
    RIG_SOURCE,     /* reply with that many bytes of the pattern */
    RIG_SUMMED,     /* the same, and tell their sums */
    RIG_MISSUMMED,  /* the same, with the last of them wrong */
    RIG_SLEEP,      /* reply after that many ms */
    RIG_HANG,       /* reply when cancelled */
    RIG_REFUSE,     /* refuse with minus that */
    RIG_SLEEP_PULL, /* sleep that many ms, then as RIG_SINK */
    RIG_ROLE        /* reply with the caller's role and name */
};

struct rig {
    enum rig_backend backend;
    struct reactor *reactor;
    struct reactor_clock clock;
    uint64_t now_ns; /* virtual time of the simulated backend */
    struct net_sim_world *world;
    struct fiber_pool *tests;
    struct fiber_pool *handlers;
    struct net *server_net, *client_net;
    struct net_listener *listener;
    struct net_peer *peer;
    void (*body)(struct rig *rig);
    bool finished;
    bool failed_in_fiber;
    unsigned served, cancelled_seen, handlers_running;
    int last_pull; /* result of the newest pull of a handler */
    uint8_t *client_buffer;
    char directory[64]; /* certificates */
};

/* Everything up to a connected peer; runs @body as a fiber; takes all down and checks for leaks. */
void rig_run(enum rig_backend backend, void (*body)(struct rig *rig));

/* Polls and, in the simulator, moves time, until @done says so or 30 s passed. */
void rig_poll_until(struct rig *rig, bool (*done)(struct rig *rig));

/* [fiber] Close the listener, if it is open, and listen at @address again. */
void rig_listen_again(struct rig *rig, const char *address);

/* The header of a request. @return its length. */
size_t rig_header(uint8_t *header, enum rig_op op, uint32_t operand);
/* One call with a deadline of @ms; the reply's header goes to @reply (64 bytes). */
int rig_call(struct rig *rig, enum rig_op op, uint32_t operand, uint64_t ms, uint8_t *reply,
             size_t *reply_len);
int rig_call_payload(struct rig *rig, enum rig_op op, uint32_t operand, uint64_t ms,
                     const struct iovec *payload, unsigned payload_count, const struct iovec *room,
                     unsigned room_count, size_t *came);
uint64_t rig_now(const struct rig *rig);
void rig_pattern(uint8_t *at, size_t len, uint32_t seed);
/* As a payload's sender would have them; to be freed. */
uint32_t *rig_sums(const uint8_t *at, size_t len);

/* Backend of the rig: fills in the two nets; the listener's address is asked for later. */
void rig_nets_create(struct rig *rig);
void rig_nets_destroy(struct rig *rig);
const char *rig_listen_address(const struct rig *rig);

/* An assertion inside a fiber: cmocka's would jump off the fiber's stack. */
#define RIG_ASSERT(rig, cond)                                                                      \
    do {                                                                                           \
        if (!(cond))                                                                               \
            rig_fail((rig), #cond, __FILE__, __LINE__);                                            \
    } while (0)
#define RIG_ASSERT_EQUAL(rig, a, b)                                                                \
    rig_equal((rig), (int64_t)(a), (int64_t)(b), #a " == " #b, __FILE__, __LINE__)
void rig_fail(struct rig *rig, const char *what, const char *file, int line);
void rig_equal(struct rig *rig, int64_t a, int64_t b, const char *what, const char *file, int line);

/* The promises of net.h, one test each, for any backend. */
void rig_promises(enum rig_backend backend, const char *name, int *failed);

#endif
