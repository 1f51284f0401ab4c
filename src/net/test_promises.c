/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What net.h promises, as tests that run on each backend.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/codec.h"
#include "base/crc32c.h"
#include "base/macros.h"
#include "net/test_rig.h"
#include "shoal/error.h"

static enum rig_backend backend;

#define PROMISE(name)                                                                              \
    static void name##_body(struct rig *rig);                                                      \
    static void name(void **state)                                                                 \
    {                                                                                              \
        (void)state;                                                                               \
        rig_run(backend, name##_body);                                                             \
    }                                                                                              \
    static void name##_body(struct rig *rig)

/* For tests of short deadlines: a handshake on a loaded machine takes its time. */
static void connect_first(struct rig *rig)
{
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 5000, NULL, NULL), 0);
}

/* In virtual time nothing is late; a loaded machine may be, by some of this. */
static uint64_t grace_ns(const struct rig *rig)
{
    return rig->backend == RIG_SIM ? 900 * RIG_MS : 9000 * RIG_MS;
}

static void handler_runs(struct rig *rig)
{
    while (rig->handlers_running == 0)
        fiber_sleep(RIG_MS);
}

PROMISE(a_call_brings_back_the_reply)
{
    uint8_t reply[64];
    size_t len = 0;
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0xdecade, 10000, reply, &len), 0);
    uint8_t expected[8];
    RIG_ASSERT_EQUAL(rig, len, rig_header(expected, RIG_ECHO, 0xdecade));
    RIG_ASSERT(rig, memcmp(reply, expected, len) == 0);
}

PROMISE(the_handler_knows_who_calls)
{
    uint8_t reply[64];
    size_t len = 0;
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ROLE, 0, 10000, reply, &len), 0);
    RIG_ASSERT_EQUAL(rig, len, 1 + strlen("client"));
    RIG_ASSERT_EQUAL(rig, reply[0], NET_ROLE_CLIENT);
    RIG_ASSERT(rig, memcmp(reply + 1, "client", 6) == 0);
}

static void sink(struct rig *rig, size_t len)
{
    rig_pattern(rig->client_buffer, len, 3);
    const struct iovec iov[3] = {{rig->client_buffer, len / 4},
                                 {rig->client_buffer + len / 4, 0},
                                 {rig->client_buffer + len / 4, len - len / 4}};
    int crc = (int)(crc32c(0, rig->client_buffer, len) & 0x7fffffff);
    RIG_ASSERT_EQUAL(rig, rig_call_payload(rig, RIG_SINK, 0, 10000, iov, 3, NULL, 0, NULL), crc);
}

PROMISE(a_payload_of_any_length_is_pulled_whole)
{
    static const size_t lengths[] = {0,     1,      4095,   4096,     70000,
                                     65536, 262144, 262145, 1u << 20, NET_PAYLOAD_MAX};
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++)
        sink(rig, lengths[i]);
}

PROMISE(a_reply_of_any_length_lands_in_the_callers_memory)
{
    static const uint32_t lengths[] = {0,     1,      4095,   4096,     70000,
                                       65536, 262144, 262145, 1u << 20, NET_PAYLOAD_MAX};
    uint8_t *expected = malloc(NET_PAYLOAD_MAX);
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        uint32_t len = lengths[i];
        memset(rig->client_buffer, 0xee, NET_PAYLOAD_MAX);
        const struct iovec iov[2] = {{rig->client_buffer, len / 3},
                                     {rig->client_buffer + len / 3, len - len / 3}};
        const struct iovec whole = {rig->client_buffer, len};
        size_t came = 0;
        RIG_ASSERT_EQUAL(
            rig, rig_call_payload(rig, RIG_SOURCE, len, 10000, NULL, 0, &whole, 1, &came), 0);
        RIG_ASSERT_EQUAL(rig, came, len);
        memset(rig->client_buffer, 0xee, NET_PAYLOAD_MAX);
        RIG_ASSERT_EQUAL(rig, rig_call_payload(rig, RIG_SOURCE, len, 10000, NULL, 0, iov, 2, &came),
                         0);
        RIG_ASSERT_EQUAL(rig, came, len);
        rig_pattern(expected, len, len);
        RIG_ASSERT(rig, memcmp(expected, rig->client_buffer, len) == 0);
        RIG_ASSERT(rig, len == NET_PAYLOAD_MAX || rig->client_buffer[len] == 0xee);
    }
    free(expected);
}

PROMISE(payloads_whose_sums_are_told_arrive_as_any_others)
{
    static const uint32_t lengths[] = {1, NET_SUM_BYTES, 70000, 262144, 262145, 1000000};
    uint8_t *expected = malloc(1u << 20);
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        uint32_t len = lengths[i];
        const struct iovec iov = {rig->client_buffer, len};
        size_t came = 0;
        RIG_ASSERT_EQUAL(
            rig, rig_call_payload(rig, RIG_SUMMED, len, 10000, NULL, 0, &iov, 1, &came), 0);
        rig_pattern(expected, len, len);
        RIG_ASSERT_EQUAL(rig, came, len);
        RIG_ASSERT(rig, memcmp(expected, rig->client_buffer, len) == 0);
        uint8_t header[8], reply[64];
        uint32_t *sums = rig_sums(expected, len);
        struct net_call call = {.header = header,
                                .header_len = rig_header(header, RIG_SINK, 0),
                                .payload = &iov,
                                .payload_count = 1,
                                .payload_sums = sums,
                                .deadline_ns = rig_now(rig) + 10000 * RIG_MS,
                                .reply_header = reply,
                                .reply_header_len = sizeof reply};
        RIG_ASSERT_EQUAL(rig, net_call(rig->peer, &call), 0);
        RIG_ASSERT_EQUAL(rig, load_le32(reply), crc32c(0, expected, len));
        free(sums);
    }
    free(expected);
}

PROMISE(a_payload_that_is_not_what_its_sums_say_never_arrives)
{
    static const uint32_t lengths[] = {1, 262144, 262145, 1000000};
    for (size_t i = 0; i < ARRAY_LEN(lengths) && rig->backend != RIG_SIM; i++) {
        const struct iovec iov = {rig->client_buffer, lengths[i]};
        RIG_ASSERT_EQUAL(
            rig, rig_call_payload(rig, RIG_MISSUMMED, lengths[i], 10000, NULL, 0, &iov, 1, NULL),
            SHOAL_E_CONNECTION);
    }
}

PROMISE(a_reply_that_does_not_fit_is_too_large_and_the_next_call_works)
{
    const struct iovec iov = {rig->client_buffer, 4096};
    RIG_ASSERT_EQUAL(rig, rig_call_payload(rig, RIG_SOURCE, 4097, 10000, NULL, 0, &iov, 1, NULL),
                     SHOAL_E_TOO_LARGE);
    RIG_ASSERT_EQUAL(rig, rig_call_payload(rig, RIG_SOURCE, 4096, 10000, NULL, 0, &iov, 1, NULL),
                     0);
}

PROMISE(a_refusal_is_what_the_caller_gets)
{
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_REFUSE, -SHOAL_E_BUSY, 10000, NULL, NULL),
                     SHOAL_E_BUSY);
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_REFUSE, -SHOAL_E_DENIED, 10000, NULL, NULL),
                     SHOAL_E_DENIED);
}

PROMISE(a_call_ends_at_its_deadline_and_the_handler_is_told)
{
    connect_first(rig);
    uint64_t start = rig_now(rig);
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_HANG, 0, 500, NULL, NULL), SHOAL_E_TIMEOUT);
    RIG_ASSERT(rig, rig_now(rig) - start >= 500 * RIG_MS);
    RIG_ASSERT(rig, rig_now(rig) - start < 500 * RIG_MS + grace_ns(rig));
    while (rig->handlers_running > 0)
        fiber_sleep(RIG_MS);
    RIG_ASSERT_EQUAL(rig, rig->cancelled_seen, 1);
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 10000, NULL, NULL), 0);
}

PROMISE(a_deadline_in_the_past_sends_nothing)
{
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 0, NULL, NULL), SHOAL_E_TIMEOUT);
    RIG_ASSERT_EQUAL(rig, rig->served, 0);
}

struct cancel_case {
    struct rig *rig;
    struct net_call call;
    int result;
    bool done;
};

static void call_in_fiber(void *arg)
{
    struct cancel_case *one = arg;
    one->result = net_call(one->rig->peer, &one->call);
    one->done = true;
}

static void cancel_after(struct rig *rig, enum rig_op op, uint32_t operand, uint64_t after_ns,
                         size_t payload)
{
    uint8_t header[8], reply[64];
    const struct iovec iov = {rig->client_buffer, payload};
    const struct iovec room = {rig->client_buffer, NET_PAYLOAD_MAX};
    struct cancel_case one = {.rig = rig,
                              .call = {.header = header,
                                       .header_len = rig_header(header, op, operand),
                                       .payload = &iov,
                                       .payload_count = 1,
                                       .reply_payload = &room,
                                       .reply_payload_count = 1,
                                       .deadline_ns = rig_now(rig) + 30000 * RIG_MS,
                                       .reply_header = reply,
                                       .reply_header_len = sizeof reply}};
    RIG_ASSERT_EQUAL(rig, fiber_spawn(rig->tests, call_in_fiber, &one), 0);
    if (after_ns > 0)
        fiber_sleep(after_ns);
    else
        fiber_yield();
    bool was_done = one.done;
    net_call_cancel(rig->peer, &one.call);
    uint64_t start = rig_now(rig);
    while (!one.done)
        fiber_sleep(RIG_MS / 10);
    RIG_ASSERT(rig, rig_now(rig) - start < grace_ns(rig));
    RIG_ASSERT(rig, was_done || one.result == SHOAL_E_CANCELLED || one.result == 0);
    /* The memory is ours again: nothing may write to it now. */
    uint64_t mark = 0x5a5a5a5a5a5a5a5a;
    memset(rig->client_buffer, 0x5a, NET_PAYLOAD_MAX);
    fiber_sleep(5 * RIG_MS);
    for (size_t at = 0; at < NET_PAYLOAD_MAX; at += 4096)
        RIG_ASSERT(rig, memcmp(rig->client_buffer + at, &mark, sizeof mark) == 0);
}

PROMISE(a_call_can_be_cancelled_in_each_phase)
{
    cancel_after(rig, RIG_HANG, 0, 0, 0);                        /* before it left, or connected */
    cancel_after(rig, RIG_HANG, 0, 20 * RIG_MS, 0);              /* while the handler runs */
    cancel_after(rig, RIG_SLEEP_PULL, 20, 5 * RIG_MS, 1u << 20); /* before the pull */
    for (uint64_t us = 100; us < 12000; us += 1300) {
        cancel_after(rig, RIG_SINK, 0, us * 1000, NET_PAYLOAD_MAX);
        cancel_after(rig, RIG_SOURCE, NET_PAYLOAD_MAX, us * 1000, 0);
    }
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 5000, NULL, NULL), 0);
    while (rig->handlers_running > 0)
        fiber_sleep(RIG_MS);
}

PROMISE(a_pull_of_a_caller_that_gave_up_ends)
{
    const struct iovec iov = {rig->client_buffer, 1u << 20};
    connect_first(rig);
    RIG_ASSERT_EQUAL(rig, rig_call_payload(rig, RIG_SLEEP_PULL, 900, 500, &iov, 1, NULL, 0, NULL),
                     SHOAL_E_TIMEOUT);
    while (rig->handlers_running > 0)
        fiber_sleep(RIG_MS);
    RIG_ASSERT(rig, rig->last_pull == SHOAL_E_CANCELLED || rig->last_pull == SHOAL_E_TIMEOUT);
}

struct many {
    struct rig *rig;
    unsigned running, ok, busy, other;
};

static void one_of_many(void *arg)
{
    struct many *many = arg;
    int error = rig_call(many->rig, RIG_SLEEP, 20, 20000, NULL, NULL);
    many->ok += error == 0;
    many->busy += error == SHOAL_E_BUSY;
    many->other += error != 0 && error != SHOAL_E_BUSY;
    many->running--;
}

static struct many run_many(struct rig *rig, unsigned count)
{
    struct many many = {.rig = rig};
    for (unsigned i = 0; i < count; i++) {
        if (fiber_spawn(rig->tests, one_of_many, &many) == 0)
            many.running++;
    }
    while (many.running > 0)
        fiber_sleep(RIG_MS);
    return many;
}

PROMISE(a_thousand_calls_are_outstanding_at_once)
{
    struct many many = run_many(rig, 1000);
    RIG_ASSERT_EQUAL(rig, many.ok, 1000);
}

PROMISE(a_call_beyond_the_peers_bound_is_busy_at_once)
{
    struct net_peer *wide = rig->peer;
    RIG_ASSERT_EQUAL(
        rig,
        net_peer_open(rig->client_net, net_listener_address(rig->listener), NULL, 10, &rig->peer),
        0);
    struct many many = run_many(rig, 30);
    RIG_ASSERT_EQUAL(rig, many.ok, 10);
    RIG_ASSERT_EQUAL(rig, many.busy, 20);
    net_peer_close(rig->peer);
    rig->peer = wide;
}

PROMISE(closing_a_peer_cancels_its_calls)
{
    struct net_peer *kept = rig->peer;
    RIG_ASSERT_EQUAL(
        rig,
        net_peer_open(rig->client_net, net_listener_address(rig->listener), NULL, 10, &rig->peer),
        0);
    uint8_t header[8], reply[64];
    struct cancel_case one = {.rig = rig,
                              .call = {.header = header,
                                       .header_len = rig_header(header, RIG_HANG, 0),
                                       .deadline_ns = rig_now(rig) + 30000 * RIG_MS,
                                       .reply_header = reply,
                                       .reply_header_len = sizeof reply}};
    connect_first(rig);
    RIG_ASSERT_EQUAL(rig, fiber_spawn(rig->tests, call_in_fiber, &one), 0);
    handler_runs(rig);
    RIG_ASSERT(rig, !one.done);
    net_peer_close(rig->peer);
    RIG_ASSERT(rig, one.done);
    RIG_ASSERT_EQUAL(rig, one.result, SHOAL_E_CANCELLED);
    rig->peer = kept;
    while (rig->handlers_running > 0)
        fiber_sleep(RIG_MS);
    RIG_ASSERT_EQUAL(rig, rig->cancelled_seen, 1);
}

PROMISE(nobody_listening_is_a_connection_error)
{
    char address[NET_ADDRESS_MAX];
    snprintf(address, sizeof address, "%s", net_listener_address(rig->listener));
    net_listener_close(rig->listener);
    rig->listener = NULL;
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 10000, NULL, NULL), SHOAL_E_CONNECTION);
}

PROMISE(a_peer_of_another_name_is_denied)
{
    struct net_peer *kept = rig->peer;
    RIG_ASSERT_EQUAL(rig,
                     net_peer_open(rig->client_net, net_listener_address(rig->listener), "other",
                                   10, &rig->peer),
                     0);
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 10000, NULL, NULL), SHOAL_E_DENIED);
    net_peer_close(rig->peer);
    rig->peer = kept;
    RIG_ASSERT_EQUAL(rig, rig->served, 0);
}

PROMISE(impossible_calls_are_refused)
{
    uint8_t header[8], reply[64];
    struct net_call call = {.header = header,
                            .header_len = 0,
                            .deadline_ns = rig_now(rig) + RIG_MS,
                            .reply_header = reply,
                            .reply_header_len = sizeof reply};
    RIG_ASSERT_EQUAL(rig, net_call(rig->peer, &call), SHOAL_E_INVALID);
    const struct iovec huge = {rig->client_buffer, NET_PAYLOAD_MAX + 1};
    call.header_len = rig_header(header, RIG_ECHO, 0);
    call.payload = &huge;
    call.payload_count = 1;
    RIG_ASSERT_EQUAL(rig, net_call(rig->peer, &call), SHOAL_E_TOO_LARGE);
    struct net_peer *peer = NULL;
    RIG_ASSERT_EQUAL(rig, net_peer_open(rig->client_net, "server", NULL, 0, &peer),
                     SHOAL_E_INVALID);
}

/* ---- everything at once ---- */

#define STORM_CALLERS 16u
#define STORM_BYTES 300000u

struct stormy {
    struct rig *rig;
    struct prng prng;
    unsigned *running;
    unsigned ok, ended_early, wrong;
    uint8_t *memory;
};

static bool all_are(const uint8_t *at, size_t len, uint8_t value)
{
    for (size_t i = 0; i < len; i++) {
        if (at[i] != value)
            return false;
    }
    return true;
}

static void storm_once(struct stormy *stormy)
{
    static const enum rig_op ops[] = {RIG_ECHO,   RIG_SINK, RIG_SINK,      RIG_SOURCE,
                                      RIG_SOURCE, RIG_HANG, RIG_SLEEP_PULL};
    struct rig *rig = stormy->rig;
    enum rig_op op = ops[prng_below(&stormy->prng, ARRAY_LEN(ops))];
    uint32_t len = (uint32_t)prng_below(&stormy->prng, STORM_BYTES);
    uint64_t ms = prng_between(&stormy->prng, 1, 20) * prng_between(&stormy->prng, 1, 20);
    const struct iovec iov = {stormy->memory, len};
    bool offers = op == RIG_SINK || op == RIG_SLEEP_PULL;
    uint32_t operand = op == RIG_SOURCE ? len : (uint32_t)prng_between(&stormy->prng, 1, 10);
    rig_pattern(stormy->memory, len, len);
    uint32_t crc = crc32c(0, stormy->memory, len) & 0x7fffffff;
    size_t came = 0;
    int result = rig_call_payload(rig, op, operand, ms, &iov, offers ? 1 : 0, &iov,
                                  op == RIG_SOURCE ? 1 : 0, &came);
    if (result < 0)
        stormy->ended_early++;
    else if (op == RIG_SINK ? (uint32_t)result == crc : result == 0)
        stormy->ok++;
    else
        stormy->wrong++;
    if (result == 0 && op == RIG_SOURCE)
        stormy->wrong += came != len || (crc32c(0, stormy->memory, len) & 0x7fffffff) != crc;
    /* Ours again: whatever is still on its way must not land here. */
    memset(stormy->memory, 0xa5, STORM_BYTES);
    fiber_sleep(prng_below(&stormy->prng, 3 * RIG_MS));
    stormy->wrong += !all_are(stormy->memory, STORM_BYTES, 0xa5);
}

static void storm_caller(void *arg)
{
    struct stormy *stormy = arg;
    for (unsigned i = 0; i < 10; i++)
        storm_once(stormy);
    (*stormy->running)--;
}

PROMISE(calls_that_end_in_every_way_at_once_do_not_touch_each_others_memory)
{
    struct stormy callers[STORM_CALLERS] = {0};
    unsigned running = STORM_CALLERS;
    unsigned ok = 0, wrong = 0, ended_early = 0;
    connect_first(rig);
    for (unsigned i = 0; i < STORM_CALLERS; i++) {
        callers[i].rig = rig;
        callers[i].running = &running;
        callers[i].memory = malloc(STORM_BYTES);
        prng_seed(&callers[i].prng, i + 1);
        RIG_ASSERT_EQUAL(rig, fiber_spawn(rig->tests, storm_caller, &callers[i]), 0);
    }
    while (running > 0)
        fiber_sleep(RIG_MS);
    for (unsigned i = 0; i < STORM_CALLERS; i++) {
        ok += callers[i].ok;
        wrong += callers[i].wrong;
        ended_early += callers[i].ended_early;
        free(callers[i].memory);
    }
    RIG_ASSERT_EQUAL(rig, wrong, 0);
    RIG_ASSERT(rig, ok > 0 && ended_early > 0);
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 10000, NULL, NULL), 0);
    while (rig->handlers_running > 0)
        fiber_sleep(RIG_MS);
}

void rig_promises(enum rig_backend which, const char *name, int *failed)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_brings_back_the_reply),
        cmocka_unit_test(the_handler_knows_who_calls),
        cmocka_unit_test(a_payload_of_any_length_is_pulled_whole),
        cmocka_unit_test(a_reply_of_any_length_lands_in_the_callers_memory),
        cmocka_unit_test(payloads_whose_sums_are_told_arrive_as_any_others),
        cmocka_unit_test(a_payload_that_is_not_what_its_sums_say_never_arrives),
        cmocka_unit_test(a_reply_that_does_not_fit_is_too_large_and_the_next_call_works),
        cmocka_unit_test(a_refusal_is_what_the_caller_gets),
        cmocka_unit_test(a_call_ends_at_its_deadline_and_the_handler_is_told),
        cmocka_unit_test(a_deadline_in_the_past_sends_nothing),
        cmocka_unit_test(a_call_can_be_cancelled_in_each_phase),
        cmocka_unit_test(a_pull_of_a_caller_that_gave_up_ends),
        cmocka_unit_test(a_thousand_calls_are_outstanding_at_once),
        cmocka_unit_test(a_call_beyond_the_peers_bound_is_busy_at_once),
        cmocka_unit_test(closing_a_peer_cancels_its_calls),
        cmocka_unit_test(nobody_listening_is_a_connection_error),
        cmocka_unit_test(a_peer_of_another_name_is_denied),
        cmocka_unit_test(impossible_calls_are_refused),
        cmocka_unit_test(calls_that_end_in_every_way_at_once_do_not_touch_each_others_memory),
    };
    backend = which;
    *failed += _cmocka_run_group_tests(name, tests, ARRAY_LEN(tests), NULL, NULL);
}
