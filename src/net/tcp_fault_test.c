/* SPDX-License-Identifier: Apache-2.0 */
/* Peers that die, stall or say nothing, and what their callers see. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/macros.h"
#include "net/test_tcp.h"
#include "shoal/error.h"

static enum rig_backend backend;

#define FAULT(name)                                                                                \
    static void name##_body(struct rig *rig);                                                      \
    static void name(void **state)                                                                 \
    {                                                                                              \
        (void)state;                                                                               \
        rig_run(backend, name##_body);                                                             \
    }                                                                                              \
    static void name##_body(struct rig *rig)

static void settle(struct rig *rig)
{
    while (rig->handlers_running > 0)
        fiber_sleep(RIG_MS);
}

static void peer_through(struct rig *rig, struct proxy *proxy)
{
    proxy_start(proxy, net_listener_address(rig->listener));
    net_peer_close(rig->peer);
    RIG_ASSERT_EQUAL(rig, net_peer_open(rig->client_net, proxy->address, "server", 16, &rig->peer),
                     0);
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 15000, NULL, NULL), 0);
}

/* A call works again once the pause after the failure is over. */
static void works_again(struct rig *rig)
{
    uint64_t give_up = rig_now(rig) + 20000 * RIG_MS;
    int error = 0;
    do {
        fiber_sleep(5 * RIG_MS);
        error = rig_call(rig, RIG_ECHO, 0, 15000, NULL, NULL);
    } while (error == SHOAL_E_CONNECTION && rig_now(rig) < give_up);
    RIG_ASSERT_EQUAL(rig, error, 0);
}

FAULT(a_peer_that_dies_in_the_middle_of_a_payload_is_a_connection_error)
{
    struct proxy proxy;
    peer_through(rig, &proxy);
    const struct iovec iov = {rig->client_buffer, 4u << 20};
    proxy_set(&proxy, PROXY_CUT, true, 1500000);
    RIG_ASSERT_EQUAL(
        rig, rig_call_payload(rig, RIG_SOURCE, 4u << 20, 15000, NULL, 0, &iov, 1, NULL),
        SHOAL_E_CONNECTION);
    proxy_set(&proxy, PROXY_NONE, true, 0);
    works_again(rig);
    proxy_set(&proxy, PROXY_CUT, false, 1500000);
    RIG_ASSERT_EQUAL(rig, rig_call_payload(rig, RIG_SINK, 0, 15000, &iov, 1, NULL, 0, NULL),
                     SHOAL_E_CONNECTION);
    settle(rig);
    RIG_ASSERT_EQUAL(rig, rig->last_pull, SHOAL_E_CONNECTION);
    proxy_set(&proxy, PROXY_NONE, true, 0);
    works_again(rig);
    proxy_stop(&proxy);
}

FAULT(a_restarted_server_is_reached_again)
{
    char address[NET_ADDRESS_MAX];
    snprintf(address, sizeof address, "%s", net_listener_address(rig->listener));
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 15000, NULL, NULL), 0);
    rig_listen_again(rig, address);
    works_again(rig);
}

FAULT(after_a_failure_calls_fail_at_once_until_the_pause_is_over)
{
    char address[NET_ADDRESS_MAX];
    snprintf(address, sizeof address, "%s", net_listener_address(rig->listener));
    net_listener_close(rig->listener);
    rig->listener = NULL;
    for (unsigned i = 0; i < 6; i++) {
        RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 15000, NULL, NULL), SHOAL_E_CONNECTION);
        fiber_sleep(30 * RIG_MS);
    }
    /* Once is enough: the machine may have had other things to do. */
    uint64_t took_ns = UINT64_MAX;
    for (unsigned tries = 0; tries < 20 && took_ns >= 50 * RIG_MS; tries++) {
        uint64_t start = rig_now(rig);
        for (unsigned i = 0; i < 10; i++)
            RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 15000, NULL, NULL),
                             SHOAL_E_CONNECTION);
        took_ns = rig_now(rig) - start;
    }
    RIG_ASSERT(rig, took_ns < 50 * RIG_MS);
    rig_listen_again(rig, address);
    works_again(rig);
}

FAULT(a_peer_that_falls_silent_is_given_up_before_the_deadline)
{
    struct proxy proxy;
    peer_through(rig, &proxy);
    proxy_set(&proxy, PROXY_STALL, true, 0);
    uint64_t start = rig_now(rig);
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 20000, NULL, NULL), SHOAL_E_CONNECTION);
    RIG_ASSERT(rig, rig_now(rig) - start < 15000 * RIG_MS);
    proxy_stop(&proxy);
}

FAULT(a_slow_handler_is_not_taken_for_a_dead_peer)
{
    /* Longer than three times ping_ms: the pongs keep the connection. */
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_SLEEP, 1200, 20000, NULL, NULL), 0);
}

struct slow_call {
    struct rig *rig;
    bool done;
    int result;
};

static void slow_call_run(void *arg)
{
    struct slow_call *slow = arg;
    slow->result = rig_call(slow->rig, RIG_SLEEP, 300, 20000, NULL, NULL);
    slow->done = true;
}

FAULT(a_pause_of_our_own_is_not_taken_for_a_dead_peer)
{
    struct slow_call slow = {.rig = rig};
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 15000, NULL, NULL), 0);
    RIG_ASSERT_EQUAL(rig, fiber_spawn(rig->tests, slow_call_run, &slow), 0);
    while (rig->handlers_running == 0)
        fiber_sleep(RIG_MS);
    usleep(900000); /* all of this process, and longer than three times ping_ms */
    while (!slow.done)
        fiber_sleep(RIG_MS);
    RIG_ASSERT_EQUAL(rig, slow.result, 0);
}

FAULT(a_deadline_holds_when_the_peer_takes_nothing)
{
    struct proxy proxy;
    peer_through(rig, &proxy);
    const struct iovec iov = {rig->client_buffer, NET_PAYLOAD_MAX};
    rig_pattern(rig->client_buffer, NET_PAYLOAD_MAX, 1);
    proxy_set(&proxy, PROXY_STALL, false, 200000);
    uint64_t start = rig_now(rig);
    int error = rig_call_payload(rig, RIG_SINK, 0, 100, &iov, 1, NULL, 0, NULL);
    RIG_ASSERT_EQUAL(rig, error, SHOAL_E_TIMEOUT);
    RIG_ASSERT(rig, rig_now(rig) - start < 4000 * RIG_MS);
    proxy_set(&proxy, PROXY_NONE, false, 0);
    settle(rig);
    proxy_stop(&proxy);
}

struct offer {
    struct rig *rig;
    struct net_call call;
    int result;
    bool done;
};

static void offer_run(void *arg)
{
    struct offer *offer = arg;
    offer->result = net_call(offer->rig->peer, &offer->call);
    offer->done = true;
}

FAULT(what_a_caller_writes_after_its_call_is_never_sent)
{
    struct proxy proxy;
    uint8_t header[8], reply[64];
    const struct iovec iov = {rig->client_buffer, NET_PAYLOAD_MAX};
    struct offer offer = {.rig = rig,
                          .call = {.header = header,
                                   .header_len = rig_header(header, RIG_SINK, 0),
                                   .payload = &iov,
                                   .payload_count = 1,
                                   .deadline_ns = rig_now(rig) + 20000 * RIG_MS,
                                   .reply_header = reply,
                                   .reply_header_len = sizeof reply}};
    peer_through(rig, &proxy);
    rig_pattern(rig->client_buffer, NET_PAYLOAD_MAX, 1);
    proxy_set(&proxy, PROXY_STALL, false, 200000);
    RIG_ASSERT_EQUAL(rig, fiber_spawn(rig->tests, offer_run, &offer), 0);
    while (proxy.passed[0] < proxy.at)
        fiber_sleep(RIG_MS);
    fiber_sleep(50 * RIG_MS); /* until every buffer on the way is full */
    RIG_ASSERT(rig, !offer.done);
    net_call_cancel(rig->peer, &offer.call);
    while (!offer.done)
        fiber_yield();
    RIG_ASSERT_EQUAL(rig, offer.result, SHOAL_E_CANCELLED);
    memset(rig->client_buffer, 0, NET_PAYLOAD_MAX);
    proxy_set(&proxy, PROXY_NONE, false, 0);
    settle(rig);
    /* Were a piece of what is there now to arrive, its checksum would be wrong. */
    RIG_ASSERT(rig, rig->last_pull == SHOAL_E_CANCELLED || rig->last_pull == SHOAL_E_CONNECTION);
    proxy_stop(&proxy);
}

FAULT(a_payload_that_comes_late_does_not_land_in_memory_given_back)
{
    struct proxy proxy;
    peer_through(rig, &proxy);
    const uint32_t len = 1u << 20;
    const struct iovec iov = {rig->client_buffer, len};
    proxy_set(&proxy, PROXY_STALL, true, 400000);
    RIG_ASSERT_EQUAL(rig, rig_call_payload(rig, RIG_SOURCE, len, 150, NULL, 0, &iov, 1, NULL),
                     SHOAL_E_TIMEOUT);
    memset(rig->client_buffer, 0x5a, len);
    proxy_set(&proxy, PROXY_NONE, true, 0);
    /* On the same connection: what was left of the payload went to nobody. */
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 3000, NULL, NULL), 0);
    for (uint32_t i = 0; i < len; i++)
        RIG_ASSERT(rig, rig->client_buffer[i] == 0x5a);
    settle(rig);
    proxy_stop(&proxy);
}

FAULT(an_idle_connection_arms_no_timer)
{
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 15000, NULL, NULL), 0);
    fiber_sleep(600 * RIG_MS);
    RIG_ASSERT_EQUAL(rig, reactor_next_timer_ns(rig->reactor), UINT64_MAX);
}

/* ---- many on one connection ---- */

struct transfer {
    struct rig *rig;
    uint8_t *memory;
    bool done;
    int result;
};

static void transfer_run(void *arg)
{
    struct transfer *transfer = arg;
    const struct iovec iov = {transfer->memory, NET_PAYLOAD_MAX};
    transfer->result =
        rig_call_payload(transfer->rig, RIG_SOURCE, NET_PAYLOAD_MAX, 20000, NULL, 0, &iov, 1, NULL);
    transfer->done = true;
}

FAULT(large_payloads_do_not_hold_up_small_calls)
{
    struct transfer transfers[3] = {0};
    for (unsigned i = 0; i < ARRAY_LEN(transfers); i++) {
        transfers[i].rig = rig;
        transfers[i].memory = malloc(NET_PAYLOAD_MAX);
        RIG_ASSERT_EQUAL(rig, fiber_spawn(rig->tests, transfer_run, &transfers[i]), 0);
    }
    fiber_yield();
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 5000, NULL, NULL), 0);
    for (unsigned i = 0; i < ARRAY_LEN(transfers); i++)
        RIG_ASSERT(rig, !transfers[i].done);
    for (unsigned i = 0; i < ARRAY_LEN(transfers); i++) {
        while (!transfers[i].done)
            fiber_sleep(RIG_MS);
        RIG_ASSERT_EQUAL(rig, transfers[i].result, 0);
        free(transfers[i].memory);
    }
}

int main(void)
{
    const struct CMUnitTest both[] = {
        cmocka_unit_test(a_peer_that_dies_in_the_middle_of_a_payload_is_a_connection_error),
        cmocka_unit_test(a_restarted_server_is_reached_again),
        cmocka_unit_test(after_a_failure_calls_fail_at_once_until_the_pause_is_over),
        cmocka_unit_test(a_peer_that_falls_silent_is_given_up_before_the_deadline),
        cmocka_unit_test(a_slow_handler_is_not_taken_for_a_dead_peer),
        cmocka_unit_test(a_pause_of_our_own_is_not_taken_for_a_dead_peer),
        cmocka_unit_test(a_deadline_holds_when_the_peer_takes_nothing),
        cmocka_unit_test(what_a_caller_writes_after_its_call_is_never_sent),
        cmocka_unit_test(a_payload_that_comes_late_does_not_land_in_memory_given_back),
        cmocka_unit_test(an_idle_connection_arms_no_timer),
        cmocka_unit_test(large_payloads_do_not_hold_up_small_calls),
    };
    int failed = 0;
    test_certificates_make(NULL);
    test_limits.handshake_ms = 10000;
    backend = RIG_TCP_PLAIN;
    failed += cmocka_run_group_tests_name("faults, plain", both, NULL, NULL);
    backend = RIG_TCP_TLS;
    failed += cmocka_run_group_tests_name("faults, TLS", both, NULL, NULL);
    test_certificates_remove(NULL);
    return failed;
}
