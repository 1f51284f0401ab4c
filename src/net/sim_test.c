/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/macros.h"
#include "net/test_rig.h"
#include "shoal/error.h"

static const struct net_sim_faults calm = {
    .delay_ns = 20000, .jitter_ns = 20000, .bytes_per_s = UINT64_C(2000000000)};

void rig_nets_create(struct rig *rig)
{
    assert_int_equal(net_sim_world_create(&rig->clock, 42, &calm, &rig->world), 0);
    struct net_identity server = {.role = NET_ROLE_NODE, .name = "server", .cluster = "c"};
    struct net_identity client = {.role = NET_ROLE_CLIENT, .name = "client", .cluster = "c"};
    assert_int_equal(net_sim_create(rig->world, rig->reactor, "server", &server, &rig->server_net),
                     0);
    assert_int_equal(net_sim_create(rig->world, rig->reactor, "client", &client, &rig->client_net),
                     0);
}

void rig_nets_destroy(struct rig *rig)
{
    net_destroy(rig->client_net);
    net_destroy(rig->server_net);
}

const char *rig_listen_address(const struct rig *rig)
{
    (void)rig;
    return "server:0";
}

static void with(struct rig *rig, void (*set)(struct net_sim_faults *faults))
{
    struct net_sim_faults faults = calm;
    set(&faults);
    net_sim_set_faults(rig->world, &faults);
}

static void all_lost(struct net_sim_faults *faults)
{
    faults->loss_ppm = 1000000;
}

static void all_reset(struct net_sim_faults *faults)
{
    faults->reset_ppm = 1000000;
}

static void all_held(struct net_sim_faults *faults)
{
    faults->held_ppm = 1000000;
}

static void all_silent(struct net_sim_faults *faults)
{
    faults->silent_ppm = 1000000;
}

static void lost_messages(struct rig *rig)
{
    with(rig, all_lost);
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 100, NULL, NULL), SHOAL_E_TIMEOUT);
    RIG_ASSERT_EQUAL(rig, rig->served, 0);
}

static void a_lost_message_is_a_timeout(void **state)
{
    (void)state;
    rig_run(RIG_SIM, lost_messages);
}

static void reset_connections(struct rig *rig)
{
    with(rig, all_reset);
    uint64_t start = rig_now(rig);
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 100, NULL, NULL), SHOAL_E_CONNECTION);
    RIG_ASSERT(rig, rig_now(rig) - start < 2 * RIG_MS);
}

static void a_reset_is_a_connection_error_at_once(void **state)
{
    (void)state;
    rig_run(RIG_SIM, reset_connections);
}

static void cut_links(struct rig *rig)
{
    net_sim_cut(rig->world, "server", "client", true);
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 100, NULL, NULL), SHOAL_E_TIMEOUT);
    RIG_ASSERT_EQUAL(rig, rig->served, 1);
    net_sim_cut(rig->world, "client", "server", true);
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 100, NULL, NULL), SHOAL_E_TIMEOUT);
    RIG_ASSERT_EQUAL(rig, rig->served, 1);
    net_sim_heal(rig->world);
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 100, NULL, NULL), 0);
}

static void a_cut_is_one_way_and_heals(void **state)
{
    (void)state;
    rig_run(RIG_SIM, cut_links);
}

static void held_requests(struct rig *rig)
{
    with(rig, all_held);
    net_sim_cut(rig->world, "client", "server", true);
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 100, NULL, NULL), SHOAL_E_TIMEOUT);
    RIG_ASSERT_EQUAL(rig, rig->served, 0);
    net_sim_heal(rig->world);
    fiber_sleep(50 * RIG_MS);
    RIG_ASSERT_EQUAL(rig, rig->served, 1);
}

static void a_request_may_be_executed_after_its_caller_gave_up(void **state)
{
    (void)state;
    rig_run(RIG_SIM, held_requests);
}

struct caller {
    struct rig *rig;
    int result;
    bool done;
    uint64_t ended_ns;
};

static void call_and_note(void *arg)
{
    struct caller *caller = arg;
    caller->result = rig_call(caller->rig, RIG_HANG, 0, 1000, NULL, NULL);
    caller->ended_ns = rig_now(caller->rig);
    caller->done = true;
}

static void crash_server(struct rig *rig, int expected, uint64_t within_ms)
{
    struct caller caller = {.rig = rig};
    RIG_ASSERT_EQUAL(rig, fiber_spawn(rig->tests, call_and_note, &caller), 0);
    fiber_sleep(10 * RIG_MS);
    uint64_t crashed = rig_now(rig);
    net_sim_crash(rig->world, "server");
    while (!caller.done)
        fiber_sleep(RIG_MS);
    RIG_ASSERT_EQUAL(rig, caller.result, expected);
    RIG_ASSERT(rig, caller.ended_ns - crashed <= within_ms * RIG_MS);
    while (rig->handlers_running > 0)
        fiber_sleep(RIG_MS);
    RIG_ASSERT_EQUAL(rig, rig->cancelled_seen, 1);
}

static void told_crash(struct rig *rig)
{
    crash_server(rig, SHOAL_E_CONNECTION, 2);
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 100, NULL, NULL), SHOAL_E_CONNECTION);
}

static void silent_crash(struct rig *rig)
{
    with(rig, all_silent);
    crash_server(rig, SHOAL_E_TIMEOUT, 1000);
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 100, NULL, NULL), SHOAL_E_TIMEOUT);
}

static void peers_of_a_crashed_host_lose_their_connections(void **state)
{
    (void)state;
    rig_run(RIG_SIM, told_crash);
}

static void a_silent_crash_shows_as_timeouts(void **state)
{
    (void)state;
    rig_run(RIG_SIM, silent_crash);
}

static void crashed_client(struct rig *rig)
{
    struct caller caller = {.rig = rig};
    RIG_ASSERT_EQUAL(rig, fiber_spawn(rig->tests, call_and_note, &caller), 0);
    fiber_sleep(10 * RIG_MS);
    net_sim_crash(rig->world, "client");
    while (!caller.done || rig->handlers_running > 0)
        fiber_sleep(RIG_MS);
    RIG_ASSERT_EQUAL(rig, caller.result, SHOAL_E_SHUTDOWN);
    RIG_ASSERT_EQUAL(rig, rig->cancelled_seen, 1);
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 100, NULL, NULL), SHOAL_E_SHUTDOWN);
}

static void everything_of_a_crashed_host_ends_with_shutdown(void **state)
{
    (void)state;
    rig_run(RIG_SIM, crashed_client);
}

static void restarted(struct rig *rig)
{
    char address[NET_ADDRESS_MAX];
    snprintf(address, sizeof address, "%s", net_listener_address(rig->listener));
    net_sim_crash(rig->world, "client");
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 100, NULL, NULL), SHOAL_E_SHUTDOWN);
    net_peer_close(rig->peer);
    net_destroy(rig->client_net);
    struct net_identity client = {.role = NET_ROLE_CLIENT, .name = "client", .cluster = "c"};
    RIG_ASSERT_EQUAL(
        rig, net_sim_create(rig->world, rig->reactor, "client", &client, &rig->client_net), 0);
    RIG_ASSERT_EQUAL(rig, net_peer_open(rig->client_net, address, NULL, 10, &rig->peer), 0);
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 100, NULL, NULL), 0);
}

static void a_host_comes_back_with_a_new_net(void **state)
{
    (void)state;
    rig_run(RIG_SIM, restarted);
}

static void slow_host(struct rig *rig)
{
    net_sim_slow(rig->world, "server", 20 * RIG_MS);
    uint64_t start = rig_now(rig);
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 1000, NULL, NULL), 0);
    RIG_ASSERT(rig, rig_now(rig) - start >= 40 * RIG_MS);
}

static void a_slow_host_answers_late(void **state)
{
    (void)state;
    rig_run(RIG_SIM, slow_host);
}

/* ---- one seed, one run ---- */

static uint64_t trace_hash;

static void hash_event(void *ctx, const struct net_sim_event *event)
{
    (void)ctx;
    char line[256];
    int len =
        snprintf(line, sizeof line, "%llu %s %s %s %s %llu %zu %zu",
                 (unsigned long long)event->at_ns, event->what, event->kind, event->from, event->to,
                 (unsigned long long)event->call, event->header_len, event->payload_len);
    trace_hash = hash64(line, (size_t)len, trace_hash);
}

static void faulty(struct net_sim_faults *faults)
{
    faults->loss_ppm = 20000;
    faults->reset_ppm = 20000;
    faults->slow_ppm = 100000;
    faults->slow_ns = 30 * RIG_MS;
}

static void stormy_caller(void *arg)
{
    struct caller *caller = arg;
    const struct iovec iov = {caller->rig->client_buffer, 10000};
    for (unsigned i = 0; i < 20; i++) {
        (void)rig_call(caller->rig, RIG_ECHO, i, 40, NULL, NULL);
        (void)rig_call_payload(caller->rig, RIG_SINK, 0, 40, &iov, 1, NULL, 0, NULL);
        (void)rig_call_payload(caller->rig, RIG_SOURCE, 5000, 40, NULL, 0, &iov, 1, NULL);
    }
    caller->done = true;
}

static void storm(struct rig *rig)
{
    with(rig, faulty);
    net_sim_set_trace(rig->world, hash_event, NULL);
    trace_hash = 0;
    struct caller callers[8] = {0};
    for (size_t i = 0; i < ARRAY_LEN(callers); i++) {
        callers[i].rig = rig;
        RIG_ASSERT_EQUAL(rig, fiber_spawn(rig->tests, stormy_caller, &callers[i]), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(callers); i++) {
        while (!callers[i].done)
            fiber_sleep(RIG_MS);
    }
    RIG_ASSERT(rig, rig->served > 100);
}

static void one_seed_gives_one_run(void **state)
{
    (void)state;
    rig_run(RIG_SIM, storm);
    uint64_t first = trace_hash;
    rig_run(RIG_SIM, storm);
    assert_true(first == trace_hash);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lost_message_is_a_timeout),
        cmocka_unit_test(a_reset_is_a_connection_error_at_once),
        cmocka_unit_test(a_cut_is_one_way_and_heals),
        cmocka_unit_test(a_request_may_be_executed_after_its_caller_gave_up),
        cmocka_unit_test(peers_of_a_crashed_host_lose_their_connections),
        cmocka_unit_test(a_silent_crash_shows_as_timeouts),
        cmocka_unit_test(everything_of_a_crashed_host_ends_with_shutdown),
        cmocka_unit_test(a_host_comes_back_with_a_new_net),
        cmocka_unit_test(a_slow_host_answers_late),
        cmocka_unit_test(one_seed_gives_one_run),
    };
    int failed = 0;
    rig_promises(RIG_SIM, "net over sim", &failed);
    failed += cmocka_run_group_tests_name("sim", tests, NULL, NULL);
    return failed;
}
