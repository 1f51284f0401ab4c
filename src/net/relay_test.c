/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Three reactors in three threads: calls of one arrive by the net of the second and are answered on
 * the third. Under TSan this is what watches all that two reactors of a process share on the way.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/codec.h"
#include "base/crc32c.h"
#include "core/mailbox.h"
#include "core/test_reactor.h"
#include "net/test_tcp.h"
#include "shoal/error.h"

#define CALLERS 8u
#define CALLS 40u
#define PAYLOAD_MAX 300000u
#define RELAYED_MAX 16u
#define DEADLINE_NS UINT64_C(30000000000)

/* The second reactor owns the net, the third the handlers. */
static struct {
    struct reactor *reactor;
    struct fiber_pool *fibers;
    struct net *net;
    struct net_relay *relay;
    struct net_listener *listener;
    pthread_t thread;
    struct mail end;
} front;
static struct {
    struct reactor *reactor;
    struct fiber_pool *fibers;
    pthread_t thread;
    unsigned served; /* theirs alone */
} back;
static struct net_service back_service;
static atomic_uint refused; /* calls that were told busy */

static struct {
    struct reactor *reactor;
    struct fiber_pool *fibers;
    struct net *net;
    struct net_peer *peer;
    struct fiber_group running;
} client;

static struct net_tcp_config tcp_config(const char *stem, enum net_tcp_share share)
{
    static char paths[3][160];
    snprintf(paths[0], sizeof paths[0], "%s/%s.crt", test_directory, stem);
    snprintf(paths[1], sizeof paths[1], "%s/%s.key", test_directory, stem);
    snprintf(paths[2], sizeof paths[2], "%s/ca.crt", test_directory);
    return (struct net_tcp_config){.certificate = paths[0], .key = paths[1], .ca = paths[2],
                                   .share = share};
}

/* ---- the handlers' side ---- */

static void handle(void *arg)
{
    struct net_request *request = arg;
    size_t len = 0;
    const uint8_t *header = net_request_header(request, &len);
    uint32_t operand = load_le32(header + 1);
    uint8_t *buffer = malloc(PAYLOAD_MAX);
    CHECK(reactor_self() == back.reactor && buffer != NULL);
    CHECK(net_request_identity(request)->role == NET_ROLE_CLIENT);
    back.served++;
    if (header[0] == RIG_SINK) {
        struct iovec iov = {buffer, net_request_payload_len(request)};
        uint8_t reply[4];
        CHECK(net_request_pull(request, &iov, 1, net_request_deadline_ns(request)) == 0);
        store_le32(reply, net_request_payload_crc(request));
        CHECK(net_request_payload_crc(request) == crc32c(0, buffer, iov.iov_len));
        CHECK(net_reply(request, reply, sizeof reply, NULL, 0) == 0);
    } else if (header[0] == RIG_SOURCE) {
        struct iovec iov = {buffer, operand};
        rig_pattern(buffer, operand, operand);
        CHECK(net_reply(request, header, len, &iov, 1) == 0);
    } else if (header[0] == RIG_HANG) {
        while (refused < RELAYED_MAX)
            fiber_sleep(RIG_MS);
        CHECK(net_reply(request, header, len, NULL, 0) == 0);
    } else {
        fiber_sleep(operand * RIG_MS);
        (void)net_reply(request, header, len, NULL, 0); /* its caller may be gone */
    }
    free(buffer);
}

static void back_request(void *ctx, struct net_request *request)
{
    size_t len = 0;
    const uint8_t *header = net_request_header(request, &len);
    CHECK(ctx == &back && reactor_self() == back.reactor);
    if (header[0] == RIG_REFUSE || fiber_spawn(back.fibers, handle, request) != 0)
        net_refuse(request, SHOAL_E_DENIED);
}

static void front_request(void *ctx, struct net_request *request)
{
    CHECK(ctx == &front && reactor_self() == front.reactor);
    net_relay_request(front.relay, back.reactor, &back_service, request);
}

/* ---- up and down ---- */

static void *run_thread(void *arg)
{
    reactor_run(arg);
    return NULL;
}

static void end_fiber(void *arg)
{
    (void)arg;
    net_listener_close(front.listener);
    net_relay_destroy(front.relay);
    net_destroy(front.net);
    reactor_stop(front.reactor);
}

static void end_arrived(struct mail *mail)
{
    (void)mail;
    CHECK(fiber_spawn(front.fibers, end_fiber, NULL) == 0);
}

static void bring_up(void)
{
    front.reactor = test_reactor_real();
    back.reactor = test_reactor_real();
    back_service = (struct net_service){back_request, &back};
    struct net_service service = {front_request, &front};
    struct net_tcp_config config = tcp_config("server", NET_SHARE_NO);
    CHECK(fiber_pool_create(front.reactor, "front", 1, 0, &front.fibers) == 0);
    CHECK(fiber_pool_create(back.reactor, "back", 2 * RELAYED_MAX, 0, &back.fibers) == 0);
    CHECK(net_tcp_create(front.reactor, &config, &front.net) == 0);
    CHECK(net_relay_create(front.reactor, RELAYED_MAX, &front.relay) == 0);
    CHECK(net_listen(front.net, "127.0.0.1:0", &service, &front.listener) == 0);
    CHECK(pthread_create(&front.thread, NULL, run_thread, front.reactor) == 0);
    CHECK(pthread_create(&back.thread, NULL, run_thread, back.reactor) == 0);
}

static void take_down(void)
{
    front.end.deliver = end_arrived;
    mailbox_post(front.reactor, &front.end);
    pthread_join(front.thread, NULL);
    reactor_stop(back.reactor);
    pthread_join(back.thread, NULL);
    while (fiber_pool_in_use(front.fibers) + fiber_pool_in_use(back.fibers) > 0) {
        reactor_poll_once(front.reactor);
        reactor_poll_once(back.reactor);
    }
    fiber_pool_destroy(front.fibers);
    fiber_pool_destroy(back.fibers);
    reactor_destroy(front.reactor);
    reactor_destroy(back.reactor);
}

/* ---- the calling side: this thread ---- */

static int call(enum rig_op op, uint32_t operand, uint64_t within_ns, struct iovec *payload,
                struct iovec *room, uint8_t *reply)
{
    uint8_t header[8];
    struct net_call call = {.header = header,
                            .header_len = rig_header(header, op, operand),
                            .payload = payload,
                            .payload_count = payload != NULL,
                            .reply_payload = room,
                            .reply_payload_count = room != NULL,
                            .deadline_ns = reactor_now_ns(client.reactor) + within_ns,
                            .reply_header = reply,
                            .reply_header_len = 64};
    int error = net_call(client.peer, &call);
    if (error == 0 && room != NULL)
        room->iov_len = call.reply_payload_len;
    return error;
}

static void caller(void *arg)
{
    uint32_t number = (uint32_t)(uintptr_t)arg;
    uint8_t reply[64];
    uint8_t *out = malloc(PAYLOAD_MAX), *in = malloc(PAYLOAD_MAX), *expected = malloc(PAYLOAD_MAX);
    CHECK(out != NULL && in != NULL && expected != NULL);
    for (uint32_t i = 0; i < CALLS; i++) {
        uint32_t size = (number * CALLS + i) * 937u % PAYLOAD_MAX + 1;
        struct iovec payload = {out, size}, room = {in, PAYLOAD_MAX};
        rig_pattern(out, size, number + i);
        rig_pattern(expected, size, size);
        CHECK(call(RIG_SINK, 0, DEADLINE_NS, &payload, NULL, reply) == 0);
        CHECK(load_le32(reply) == crc32c(0, out, size));
        CHECK(call(RIG_SOURCE, size, DEADLINE_NS, NULL, &room, reply) == 0);
        CHECK(room.iov_len == size && memcmp(in, expected, size) == 0);
        if (i % 8 == 0)
            CHECK(call(RIG_REFUSE, 0, DEADLINE_NS, NULL, NULL, reply) == SHOAL_E_DENIED);
    }
    free(out);
    free(in);
    free(expected);
    fiber_group_done(&client.running);
}

static void hanger(void *arg)
{
    uint8_t reply[64];
    (void)arg;
    int error = call(RIG_HANG, 0, DEADLINE_NS, NULL, NULL, reply);
    CHECK(error == 0 || error == SHOAL_E_BUSY);
    if (error == SHOAL_E_BUSY)
        refused++;
    fiber_group_done(&client.running);
}

static void run_bodies(void (*body)(void), unsigned fibers)
{
    bring_up();
    client.reactor = test_reactor_real();
    struct net_tcp_config config = tcp_config("client", NET_SHARE_NO);
    CHECK(fiber_pool_create(client.reactor, "client", fibers + 1, 0, &client.fibers) == 0);
    CHECK(net_tcp_create(client.reactor, &config, &client.net) == 0);
    CHECK(net_peer_open(client.net, net_listener_address(front.listener), NULL, 64,
                        &client.peer) == 0);
    fiber_group_init(&client.running);
    body();
    while (fiber_pool_in_use(client.fibers) > 0) {
        reactor_wait(client.reactor, UINT64_MAX);
        reactor_poll_once(client.reactor);
    }
    fiber_pool_destroy(client.fibers);
    reactor_destroy(client.reactor);
    take_down();
}

static void close_client(void *arg)
{
    (void)arg;
    fiber_group_wait(&client.running);
    net_peer_close(client.peer);
    net_destroy(client.net);
}

static void spawn_callers(void)
{
    back.served = 0;
    for (uintptr_t i = 0; i < CALLERS; i++) {
        fiber_group_add(&client.running);
        CHECK(fiber_spawn(client.fibers, caller, (void *)i) == 0);
    }
    CHECK(fiber_spawn(client.fibers, close_client, NULL) == 0);
}

static void payload_goes_both_ways_between_threads(void **state)
{
    (void)state;
    run_bodies(spawn_callers, CALLERS);
    assert_int_equal(back.served, CALLERS * CALLS * 2);
}

static void spawn_hangers(void)
{
    for (unsigned i = 0; i < 2 * RELAYED_MAX; i++) {
        fiber_group_add(&client.running);
        CHECK(fiber_spawn(client.fibers, hanger, NULL) == 0);
    }
    CHECK(fiber_spawn(client.fibers, close_client, NULL) == 0);
}

/* Those that got through are answered when all others were told busy. */
static void more_than_the_bound_are_refused_as_busy(void **state)
{
    (void)state;
    run_bodies(spawn_hangers, 2 * RELAYED_MAX);
    assert_int_equal(refused, RELAYED_MAX);
}

static void give_up(void *arg)
{
    uint8_t reply[64];
    (void)arg;
    CHECK(call(RIG_SLEEP, 100, DEADLINE_NS, NULL, NULL, reply) == 0); /* it is connected */
    CHECK(call(RIG_SLEEP, 300, 30 * RIG_MS, NULL, NULL, reply) == SHOAL_E_TIMEOUT);
    fiber_group_done(&client.running);
}

static void spawn_give_up(void)
{
    fiber_group_add(&client.running);
    CHECK(fiber_spawn(client.fibers, give_up, NULL) == 0);
    CHECK(fiber_spawn(client.fibers, close_client, NULL) == 0);
}

/* The net is closed while a handler elsewhere still sleeps over a request of it. */
static void a_listener_waits_for_handlers_on_other_reactors(void **state)
{
    (void)state;
    run_bodies(spawn_give_up, 1);
}

/* ---- one address for several nets ---- */

static void served_nothing(void *ctx, struct net_request *request)
{
    (void)ctx;
    net_refuse(request, SHOAL_E_SHUTDOWN);
}

static int listen_as(enum net_tcp_share share, const char *address, struct net **net,
                     struct net_listener **listener)
{
    struct net_tcp_config config = tcp_config("server", share);
    struct net_service service = {served_nothing, NULL};
    CHECK(net_tcp_create(front.reactor, &config, net) == 0);
    return net_listen(*net, address, &service, listener);
}

static void share_fiber(void *arg)
{
    struct net *nets[4];
    struct net_listener *first, *second, *none;
    (void)arg;
    CHECK(listen_as(NET_SHARE_FIRST, "127.0.0.1:0", &nets[0], &first) == 0);
    const char *address = net_listener_address(first);
    CHECK(listen_as(NET_SHARE_JOIN, address, &nets[1], &second) == 0);
    CHECK(strcmp(net_listener_address(second), address) == 0);
    CHECK(listen_as(NET_SHARE_FIRST, address, &nets[2], &none) == SHOAL_E_SYSTEM);
    CHECK(listen_as(NET_SHARE_NO, address, &nets[3], &none) == SHOAL_E_SYSTEM);
    net_listener_close(first);
    net_listener_close(second);
    for (unsigned i = 0; i < ARRAY_LEN(nets); i++)
        net_destroy(nets[i]);
}

static void an_address_is_shared_with_who_joins_and_nobody_else(void **state)
{
    (void)state;
    front.reactor = test_reactor_real();
    CHECK(fiber_pool_create(front.reactor, "share", 1, 0, &front.fibers) == 0);
    CHECK(fiber_spawn(front.fibers, share_fiber, NULL) == 0);
    while (fiber_pool_in_use(front.fibers) > 0)
        if (reactor_poll_once(front.reactor) == 0)
            reactor_wait(front.reactor, UINT64_MAX);
    fiber_pool_destroy(front.fibers);
    reactor_destroy(front.reactor);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(payload_goes_both_ways_between_threads),
        cmocka_unit_test(more_than_the_bound_are_refused_as_busy),
        cmocka_unit_test(a_listener_waits_for_handlers_on_other_reactors),
        cmocka_unit_test(an_address_is_shared_with_who_joins_and_nobody_else),
    };
    return cmocka_run_group_tests_name("relay", tests, test_certificates_make,
                                       test_certificates_remove);
}
