/* SPDX-License-Identifier: Apache-2.0 */
#include "net/test_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/codec.h"
#include "base/crc32c.h"
#include "base/macros.h"
#include "shoal/error.h"

void rig_fail(struct rig *rig, const char *what, const char *file, int line)
{
    if (!rig->failed_in_fiber)
        fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
    rig->failed_in_fiber = true;
}

void rig_equal(struct rig *rig, int64_t a, int64_t b, const char *what, const char *file, int line)
{
    if (a == b)
        return;
    fprintf(stderr, "%s:%d: failed: %s: %lld is not %lld\n", file, line, what, (long long)a,
            (long long)b);
    rig->failed_in_fiber = true;
}

static uint64_t virtual_now(void *ctx)
{
    return ((struct rig *)ctx)->now_ns;
}

static uint64_t virtual_wall(void *ctx)
{
    return ((struct rig *)ctx)->now_ns / UINT64_C(1000000000);
}

uint64_t rig_now(const struct rig *rig)
{
    return reactor_now_ns(rig->reactor);
}

void rig_pattern(uint8_t *at, size_t len, uint32_t seed)
{
    for (size_t i = 0; i < len; i++)
        at[i] = (uint8_t)((i * 31 + (i >> 8) * 7 + seed) & 0xff);
}

size_t rig_header(uint8_t *header, enum rig_op op, uint32_t operand)
{
    header[0] = (uint8_t)op;
    store_le32(header + 1, operand);
    return 5;
}

/* ---- the server ---- */

struct work {
    struct rig *rig;
    struct net_request *request;
};

static void serve_sink(struct rig *rig, struct net_request *request)
{
    size_t len = net_request_payload_len(request);
    uint8_t *buffer = malloc(len + 1);
    const struct iovec iov[2] = {{buffer, len / 3}, {buffer + len / 3, len - len / 3}};
    rig->last_pull = net_request_pull(request, iov, 2, net_request_deadline_ns(request));
    uint8_t reply[4];
    if (rig->last_pull == 0)
        RIG_ASSERT_EQUAL(rig, net_request_payload_crc(request), crc32c(0, buffer, len));
    store_le32(reply, crc32c(0, buffer, rig->last_pull == 0 ? len : 0));
    if (rig->last_pull == 0)
        net_reply(request, reply, sizeof reply, NULL, 0);
    else
        net_refuse(request, rig->last_pull);
    free(buffer);
}

static void serve_hang(struct rig *rig, struct net_request *request)
{
    while (!net_request_cancelled(request))
        fiber_sleep(RIG_MS);
    rig->cancelled_seen++;
    net_reply(request, "late", 4, NULL, 0);
}

static void serve_role(struct net_request *request)
{
    const struct net_identity *identity = net_request_identity(request);
    uint8_t reply[1 + sizeof identity->name];
    reply[0] = (uint8_t)identity->role;
    memcpy(reply + 1, identity->name, sizeof identity->name);
    net_reply(request, reply, 1 + strlen(identity->name), NULL, 0);
}

uint32_t *rig_sums(const uint8_t *at, size_t len)
{
    uint32_t *sums = calloc(len / NET_SUM_BYTES + 1, sizeof *sums);
    for (size_t i = 0; i * NET_SUM_BYTES < len; i++)
        sums[i] = crc32c(0, at + i * NET_SUM_BYTES, MIN(len - i * NET_SUM_BYTES, NET_SUM_BYTES));
    return sums;
}

static void serve(void *arg)
{
    struct work *work = arg;
    struct rig *rig = work->rig;
    struct net_request *request = work->request;
    free(work);
    size_t len = 0;
    const uint8_t *header = net_request_header(request, &len);
    uint32_t operand = load_le32(header + 1);
    switch ((enum rig_op)header[0]) {
    case RIG_SLEEP:
        fiber_sleep(operand * RIG_MS);
        /* fall through */
    case RIG_ECHO:
        net_reply(request, header, len, NULL, 0);
        break;
    case RIG_SLEEP_PULL:
        fiber_sleep(operand * RIG_MS);
        /* fall through */
    case RIG_SINK:
        serve_sink(rig, request);
        break;
    case RIG_SOURCE:
    case RIG_SUMMED:
    case RIG_MISSUMMED: {
        uint8_t *buffer = malloc(operand + 1);
        rig_pattern(buffer, operand, operand);
        uint32_t *sums = header[0] == RIG_SOURCE ? NULL : rig_sums(buffer, operand);
        if (header[0] == RIG_MISSUMMED)
            sums[(operand - 1) / NET_SUM_BYTES] ^= 1;
        net_request_sums(request, sums);
        const struct iovec iov[2] = {{buffer, operand / 2},
                                     {buffer + operand / 2, operand - operand / 2}};
        net_reply(request, header, len, iov, 2);
        free(sums);
        free(buffer);
        break;
    }
    case RIG_HANG:
        serve_hang(rig, request);
        break;
    case RIG_ROLE:
        serve_role(request);
        break;
    default:
        net_refuse(request, SHOAL_E_INVALID);
    }
    rig->served++;
    rig->handlers_running--;
}

static void on_request(void *ctx, struct net_request *request)
{
    struct rig *rig = ctx;
    size_t len = 0;
    const uint8_t *header = net_request_header(request, &len);
    if (header[0] == RIG_REFUSE) {
        net_refuse(request, -(int)load_le32(header + 1));
        return;
    }
    struct work *work = malloc(sizeof *work);
    *work = (struct work){rig, request};
    if (fiber_spawn(rig->handlers, serve, work) != 0) {
        free(work);
        net_refuse(request, SHOAL_E_BUSY);
        return;
    }
    rig->handlers_running++;
}

/* ---- the client ---- */

int rig_call_payload(struct rig *rig, enum rig_op op, uint32_t operand, uint64_t ms,
                     const struct iovec *payload, unsigned payload_count, const struct iovec *room,
                     unsigned room_count, size_t *came)
{
    uint8_t header[8], reply[64];
    struct net_call call = {.header = header,
                            .header_len = rig_header(header, op, operand),
                            .payload = payload,
                            .payload_count = payload_count,
                            .reply_payload = room,
                            .reply_payload_count = room_count,
                            .deadline_ns = rig_now(rig) + ms * RIG_MS,
                            .reply_header = reply,
                            .reply_header_len = sizeof reply};
    int error = net_call(rig->peer, &call);
    if (came != NULL)
        *came = call.reply_payload_len;
    if (error == 0 && room_count == 1)
        RIG_ASSERT_EQUAL(rig, call.reply_payload_crc,
                         crc32c(0, room->iov_base, call.reply_payload_len));
    if (error == 0 && op == RIG_SINK)
        return (int)(load_le32(reply) & 0x7fffffff);
    return error;
}

int rig_call(struct rig *rig, enum rig_op op, uint32_t operand, uint64_t ms, uint8_t *reply,
             size_t *reply_len)
{
    uint8_t header[8], ignored[64];
    size_t room = 64;
    struct net_call call = {.header = header,
                            .header_len = rig_header(header, op, operand),
                            .deadline_ns = rig_now(rig) + ms * RIG_MS,
                            .reply_header = reply != NULL ? reply : ignored,
                            .reply_header_len = room};
    int error = net_call(rig->peer, &call);
    if (reply_len != NULL)
        *reply_len = call.reply_header_len;
    return error;
}

/* ---- up and down ---- */

static uint64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

void rig_poll_until(struct rig *rig, bool (*done)(struct rig *rig))
{
    uint64_t give_up = monotonic_ns() + UINT64_C(60000000000);
    while (!done(rig)) {
        CHECK_MSG(monotonic_ns() < give_up, "a test hangs");
        if (reactor_poll_once(rig->reactor) > 0)
            continue;
        uint64_t next = reactor_next_timer_ns(rig->reactor);
        if (rig->backend != RIG_SIM) {
            reactor_wait(rig->reactor, reactor_now_ns(rig->reactor) + 100 * RIG_MS);
            continue;
        }
        next = MIN(next, net_sim_next_event_ns(rig->world));
        CHECK_MSG(next != UINT64_MAX, "nothing will ever happen again");
        rig->now_ns = MAX(rig->now_ns, next);
    }
}

static bool body_finished(struct rig *rig)
{
    return rig->finished;
}

void rig_listen_again(struct rig *rig, const char *address)
{
    const struct net_service service = {on_request, rig};
    if (rig->listener != NULL)
        net_listener_close(rig->listener);
    rig->listener = NULL;
    RIG_ASSERT_EQUAL(rig, net_listen(rig->server_net, address, &service, &rig->listener), 0);
}

static void test_fiber(void *arg)
{
    struct rig *rig = arg;
    rig_listen_again(rig, rig_listen_address(rig));
    RIG_ASSERT_EQUAL(rig,
                     net_peer_open(rig->client_net, net_listener_address(rig->listener), "server",
                                   2000, &rig->peer),
                     0);
    if (!rig->failed_in_fiber)
        rig->body(rig);
    if (rig->peer != NULL)
        net_peer_close(rig->peer);
    if (rig->listener != NULL)
        net_listener_close(rig->listener);
    while (rig->handlers_running > 0)
        fiber_sleep(RIG_MS);
    rig_nets_destroy(rig);
    rig->finished = true;
}

static bool fibers_gone(struct rig *rig)
{
    return fiber_pool_in_use(rig->tests) == 0 && fiber_pool_in_use(rig->handlers) == 0;
}

void rig_run(enum rig_backend backend, void (*body)(struct rig *rig))
{
    struct rig rig = {.backend = backend, .body = body, .now_ns = 1000000000};
    rig.clock = (struct reactor_clock){virtual_now, virtual_wall, &rig};
    const struct reactor_config config = {.name = "rig",
                                          .clock = backend == RIG_SIM ? &rig.clock : NULL,
                                          .seed = 7,
                                          .cpu = -1,
                                          .uring_entries = backend == RIG_SIM ? 0 : 256};
    assert_int_equal(reactor_create(&config, &rig.reactor), 0);
    assert_int_equal(fiber_pool_create(rig.reactor, "tests", 1100, 0, &rig.tests), 0);
    assert_int_equal(fiber_pool_create(rig.reactor, "handlers", 1100, 0, &rig.handlers), 0);
    rig.client_buffer = malloc(NET_PAYLOAD_MAX);
    rig_nets_create(&rig);
    assert_int_equal(fiber_spawn(rig.tests, test_fiber, &rig), 0);
    rig_poll_until(&rig, body_finished);
    rig_poll_until(&rig, fibers_gone);
    fiber_pool_destroy(rig.tests);
    fiber_pool_destroy(rig.handlers);
    if (rig.world != NULL)
        net_sim_world_destroy(rig.world);
    reactor_destroy(rig.reactor);
    free(rig.client_buffer);
    assert_false(rig.failed_in_fiber);
}
