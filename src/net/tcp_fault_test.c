/* SPDX-License-Identifier: Apache-2.0 */
/* Peers that die, stall, flood or say nothing, and that they harm nobody else. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
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
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 3000, NULL, NULL), 0);
}

/* A call works again once the pause after the failure is over. */
static void works_again(struct rig *rig)
{
    uint64_t give_up = rig_now(rig) + 3000 * RIG_MS;
    int error = 0;
    do {
        fiber_sleep(5 * RIG_MS);
        error = rig_call(rig, RIG_ECHO, 0, 3000, NULL, NULL);
    } while (error == SHOAL_E_CONNECTION && rig_now(rig) < give_up);
    RIG_ASSERT_EQUAL(rig, error, 0);
}

FAULT(a_peer_that_dies_in_the_middle_of_a_payload_is_a_connection_error)
{
    struct proxy proxy;
    peer_through(rig, &proxy);
    const struct iovec iov = {rig->client_buffer, 4u << 20};
    proxy_set(&proxy, PROXY_CUT, true, 1500000);
    RIG_ASSERT_EQUAL(rig, rig_call_payload(rig, RIG_SOURCE, 4u << 20, 3000, NULL, 0, &iov, 1, NULL),
                     SHOAL_E_CONNECTION);
    proxy_set(&proxy, PROXY_NONE, true, 0);
    works_again(rig);
    proxy_set(&proxy, PROXY_CUT, false, 1500000);
    RIG_ASSERT_EQUAL(rig, rig_call_payload(rig, RIG_SINK, 0, 3000, &iov, 1, NULL, 0, NULL),
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
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 1000, NULL, NULL), 0);
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
        RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 1000, NULL, NULL), SHOAL_E_CONNECTION);
        fiber_sleep(30 * RIG_MS);
    }
    uint64_t start = rig_now(rig);
    for (unsigned i = 0; i < 10; i++)
        RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 1000, NULL, NULL), SHOAL_E_CONNECTION);
    RIG_ASSERT(rig, rig_now(rig) - start < 50 * RIG_MS);
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
    RIG_ASSERT(rig, rig_now(rig) - start < 3000 * RIG_MS);
    proxy_stop(&proxy);
}

FAULT(a_slow_handler_is_not_taken_for_a_dead_peer)
{
    /* Longer than three times ping_ms: the pongs keep the connection. */
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_SLEEP, 1200, 5000, NULL, NULL), 0);
}

FAULT(a_deadline_holds_when_the_peer_takes_nothing)
{
    struct proxy proxy;
    peer_through(rig, &proxy);
    const struct iovec iov = {rig->client_buffer, NET_PAYLOAD_MAX};
    proxy_set(&proxy, PROXY_STALL, false, 200000);
    uint64_t start = rig_now(rig);
    int error = rig_call_payload(rig, RIG_SINK, 0, 100, &iov, 1, NULL, 0, NULL);
    RIG_ASSERT_EQUAL(rig, error, SHOAL_E_TIMEOUT);
    RIG_ASSERT(rig, rig_now(rig) - start < 400 * RIG_MS);
    proxy_stop(&proxy);
    settle(rig);
}

FAULT(an_idle_connection_arms_no_timer)
{
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 1000, NULL, NULL), 0);
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
    transfer->result = rig_call_payload(transfer->rig, RIG_SOURCE, NET_PAYLOAD_MAX, 20000, NULL, 0,
                                        &iov, 1, NULL);
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

/* ---- hostile clients ---- */

struct hostile {
    const char *address;
    struct raw *raw;
    int result;
    unsigned refused;
};

/* Asks for a large reply and reads none of it, until the server hangs up. */
static void ask_and_never_read(void *arg)
{
    struct hostile *hostile = arg;
    struct raw *raw = hostile->raw;
    struct tcp_frame frame;
    uint8_t header[NET_HEADER_MAX];
    hostile->result = raw_open(raw, raw_socket(hostile->address), "client", false);
    if (hostile->result == 0)
        hostile->result = raw_hello(raw, TCP_VERSION_MIN, TCP_VERSION_MAX);
    if (hostile->result == 0)
        hostile->result = raw_receive(raw, &frame, header);
    for (uint64_t i = 0; i < 8 && hostile->result == 0; i++) {
        frame = (struct tcp_frame){.type = TCP_CALL,
                                   .call = (i + 1) << 16 | i,
                                   .header_len = (uint32_t)rig_header(header, RIG_SOURCE,
                                                                      NET_PAYLOAD_MAX),
                                   .deadline_us = 20000000,
                                   .room = NET_PAYLOAD_MAX};
        hostile->result = raw_send(raw, &frame, header);
    }
}

FAULT(a_client_that_does_not_read_harms_nobody_else_and_is_given_up)
{
    struct hostile hostile = {.address = net_listener_address(rig->listener),
                              .raw = malloc(sizeof *hostile.raw)};
    test_in_thread(rig, ask_and_never_read, &hostile);
    RIG_ASSERT_EQUAL(rig, hostile.result, 0);
    while (rig->handlers_running < 8)
        fiber_sleep(RIG_MS);
    for (unsigned i = 0; i < 50; i++) {
        uint64_t start = rig_now(rig);
        RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 1000, NULL, NULL), 0);
        /* The first waits for the handlers to make what nobody will read. */
        RIG_ASSERT(rig, i == 0 || rig_now(rig) - start < 200 * RIG_MS);
        fiber_sleep(RIG_MS);
    }
    RIG_ASSERT_EQUAL(rig, rig->handlers_running, 8);
    uint64_t start = rig_now(rig);
    settle(rig);
    RIG_ASSERT(rig, rig_now(rig) - start < 3000 * RIG_MS);
    raw_close(hostile.raw);
    free(hostile.raw);
}

/* More calls than a connection is admitted, on slots of its own; counts what is refused. */
static void flood(void *arg)
{
    struct hostile *hostile = arg;
    struct raw *raw = hostile->raw;
    struct tcp_frame frame;
    uint8_t header[NET_HEADER_MAX];
    hostile->result = raw_open(raw, raw_socket(hostile->address), "client", false);
    if (hostile->result == 0)
        hostile->result = raw_hello(raw, TCP_VERSION_MIN, TCP_VERSION_MAX);
    if (hostile->result == 0)
        hostile->result = raw_receive(raw, &frame, header);
    const unsigned calls = 1100; /* admitted, but more than the server has fibers left */
    for (uint64_t i = 0; i < calls && hostile->result == 0; i++) {
        frame = (struct tcp_frame){.type = TCP_CALL,
                                   .call = (i + 1) << 16 | i,
                                   .header_len = (uint32_t)rig_header(header, RIG_SLEEP, 300),
                                   .deadline_us = 20000000};
        hostile->result = raw_send(raw, &frame, header);
    }
    for (unsigned i = 0; i < calls && hostile->result == 0; i++) {
        hostile->result = raw_receive(raw, &frame, header);
        hostile->refused += frame.type == TCP_REFUSE && frame.status == -SHOAL_E_BUSY;
    }
    raw_close(raw);
}

static void sleep_long(void *arg)
{
    struct transfer *transfer = arg;
    transfer->result = rig_call(transfer->rig, RIG_SLEEP, 1500, 5000, NULL, NULL);
    transfer->done = true;
}

FAULT(every_call_beyond_what_the_server_has_room_for_is_busy)
{
    struct transfer one = {.rig = rig};
    struct hostile hostile = {.address = net_listener_address(rig->listener),
                              .raw = malloc(sizeof *hostile.raw)};
    RIG_ASSERT_EQUAL(rig, fiber_spawn(rig->tests, sleep_long, &one), 0);
    fiber_sleep(50 * RIG_MS);
    RIG_ASSERT_EQUAL(rig, rig->handlers_running, 1);
    test_in_thread(rig, flood, &hostile);
    RIG_ASSERT_EQUAL(rig, hostile.result, 0);
    RIG_ASSERT_EQUAL(rig, hostile.refused, 1);
    while (!one.done)
        fiber_sleep(RIG_MS);
    RIG_ASSERT_EQUAL(rig, one.result, 0);
    free(hostile.raw);
}

/* A call that breaks the rules of slots. */
static void reuse_slot(void *arg)
{
    struct hostile *hostile = arg;
    struct raw *raw = hostile->raw;
    struct tcp_frame frame;
    uint8_t header[NET_HEADER_MAX];
    hostile->result = raw_open(raw, raw_socket(hostile->address), "client", false);
    if (hostile->result == 0)
        hostile->result = raw_hello(raw, TCP_VERSION_MIN, TCP_VERSION_MAX);
    if (hostile->result == 0)
        hostile->result = raw_receive(raw, &frame, header);
    for (uint64_t i = 0; i < 2 && hostile->result == 0; i++) {
        frame = (struct tcp_frame){.type = TCP_CALL,
                                   .call = (i + 1) << 16,
                                   .header_len = (uint32_t)rig_header(header, RIG_HANG, 0),
                                   .deadline_us = 20000000};
        hostile->result = raw_send(raw, &frame, header);
    }
    if (hostile->result == 0)
        hostile->result = raw_receive(raw, &frame, header);
    raw_close(raw);
}

FAULT(a_client_that_reuses_a_slot_too_early_is_cut_off)
{
    struct hostile hostile = {.address = net_listener_address(rig->listener),
                              .raw = malloc(sizeof *hostile.raw)};
    test_in_thread(rig, reuse_slot, &hostile);
    RIG_ASSERT_EQUAL(rig, hostile.result, SHOAL_E_CONNECTION);
    settle(rig);
    RIG_ASSERT_EQUAL(rig, rig->cancelled_seen, 1);
    free(hostile.raw);
}

static bool hung_up_within(int fd, unsigned ms)
{
    const struct timeval limit = {.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};
    char byte;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    ssize_t got = recv(fd, &byte, 1, 0);
    return got == 0 || (got > 0 && recv(fd, &byte, 1, 0) >= 0);
}

struct strangers {
    const char *address;
    unsigned turned_away;
    bool silent_closed, rubbish_closed;
};

static void strangers_come(void *arg)
{
    struct strangers *strangers = arg;
    int fds[25];
    for (unsigned i = 0; i < ARRAY_LEN(fds); i++)
        fds[i] = raw_socket(strangers->address);
    for (unsigned i = 20; i < ARRAY_LEN(fds); i++)
        strangers->turned_away += hung_up_within(fds[i], 300);
    strangers->silent_closed = hung_up_within(fds[0], 2000);
    for (unsigned i = 0; i < ARRAY_LEN(fds); i++)
        close(fds[i]);
    usleep(100000);
    int fd = raw_socket(strangers->address);
    uint8_t rubbish[2000];
    memset(rubbish, 'x', sizeof rubbish);
    send(fd, rubbish, sizeof rubbish, MSG_NOSIGNAL);
    char bytes[256];
    while (recv(fd, bytes, sizeof bytes, 0) > 0)
        ;
    strangers->rubbish_closed = true;
    close(fd);
}

FAULT(strangers_get_no_further_than_the_limit_and_not_for_long)
{
    struct strangers strangers = {.address = net_listener_address(rig->listener)};
    test_in_thread(rig, strangers_come, &strangers);
    RIG_ASSERT_EQUAL(rig, strangers.turned_away, 5);
    RIG_ASSERT(rig, strangers.silent_closed);
    RIG_ASSERT(rig, strangers.rubbish_closed);
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 1000, NULL, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest both[] = {
        cmocka_unit_test(a_peer_that_dies_in_the_middle_of_a_payload_is_a_connection_error),
        cmocka_unit_test(a_restarted_server_is_reached_again),
        cmocka_unit_test(after_a_failure_calls_fail_at_once_until_the_pause_is_over),
        cmocka_unit_test(a_peer_that_falls_silent_is_given_up_before_the_deadline),
        cmocka_unit_test(a_slow_handler_is_not_taken_for_a_dead_peer),
        cmocka_unit_test(a_deadline_holds_when_the_peer_takes_nothing),
        cmocka_unit_test(an_idle_connection_arms_no_timer),
        cmocka_unit_test(large_payloads_do_not_hold_up_small_calls),
    };
    const struct CMUnitTest hostile[] = {
        cmocka_unit_test(a_client_that_does_not_read_harms_nobody_else_and_is_given_up),
        cmocka_unit_test(every_call_beyond_what_the_server_has_room_for_is_busy),
        cmocka_unit_test(a_client_that_reuses_a_slot_too_early_is_cut_off),
        cmocka_unit_test(strangers_get_no_further_than_the_limit_and_not_for_long),
    };
    int failed = 0;
    test_certificates_make(NULL);
    backend = RIG_TCP_PLAIN;
    failed += cmocka_run_group_tests_name("faults, plain", both, NULL, NULL);
    backend = RIG_TCP_TLS;
    failed += cmocka_run_group_tests_name("faults, TLS", both, NULL, NULL);
    failed += cmocka_run_group_tests_name("hostile clients", hostile, NULL, NULL);
    test_certificates_remove(NULL);
    return failed;
}
