/* SPDX-License-Identifier: Apache-2.0 */
/* Peers with a good certificate and bad manners, and strangers: they harm nobody but themselves. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/log.h"
#include "base/macros.h"
#include "base/pool.h"
#include "base/random.h"
#include "net/test_tcp.h"
#include "shoal/error.h"

#define FAULT(name)                                                                                \
    static void name##_body(struct rig *rig);                                                      \
    static void name(void **state)                                                                 \
    {                                                                                              \
        (void)state;                                                                               \
        rig_run(RIG_TCP_TLS, name##_body);                                                         \
    }                                                                                              \
    static void name##_body(struct rig *rig)

static void settle(struct rig *rig)
{
    while (rig->handlers_running > 0)
        fiber_sleep(RIG_MS);
}

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
                                   .header_len =
                                       (uint32_t)rig_header(header, RIG_SOURCE, NET_PAYLOAD_MAX),
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
    unsigned slow = 0;
    for (unsigned i = 0; i < 50; i++) {
        uint64_t start = rig_now(rig);
        RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 15000, NULL, NULL), 0);
        slow += rig_now(rig) - start >= 200 * RIG_MS;
        fiber_sleep(RIG_MS);
    }
    /* The first waits for the handlers to make what nobody will read; some, for a loaded machine. */
    RIG_ASSERT(rig, slow <= 5);
    RIG_ASSERT_EQUAL(rig, rig->handlers_running, 8);
    uint64_t start = rig_now(rig);
    settle(rig);
    RIG_ASSERT(rig, rig_now(rig) - start < 15000 * RIG_MS);
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
                                   .header_len = (uint32_t)rig_header(header, RIG_SLEEP, 1000),
                                   .deadline_us = 20000000};
        hostile->result = raw_send(raw, &frame, header);
    }
    for (unsigned i = 0; i < calls && hostile->result == 0; i++) {
        hostile->result = raw_receive(raw, &frame, header);
        hostile->refused += frame.type == TCP_REFUSE && frame.status == -SHOAL_E_BUSY;
    }
    raw_close(raw);
}

struct hanging {
    struct rig *rig;
    struct net_call call;
    bool done;
    int result;
};

static void hang(void *arg)
{
    struct hanging *hanging = arg;
    hanging->result = net_call(hanging->rig->peer, &hanging->call);
    hanging->done = true;
}

FAULT(every_call_beyond_what_the_server_has_room_for_is_busy)
{
    uint8_t header[8], reply[64];
    struct hanging one = {.rig = rig,
                          .call = {.header = header,
                                   .header_len = rig_header(header, RIG_HANG, 0),
                                   .deadline_ns = rig_now(rig) + 20000 * RIG_MS,
                                   .reply_header = reply,
                                   .reply_header_len = sizeof reply}};
    struct hostile hostile = {.address = net_listener_address(rig->listener),
                              .raw = malloc(sizeof *hostile.raw)};
    RIG_ASSERT_EQUAL(rig, fiber_spawn(rig->tests, hang, &one), 0);
    while (rig->handlers_running < 1)
        fiber_sleep(RIG_MS);
    test_in_thread(rig, flood, &hostile);
    RIG_ASSERT_EQUAL(rig, hostile.result, 0);
    RIG_ASSERT_EQUAL(rig, hostile.refused, 1);
    net_call_cancel(rig->peer, &one.call);
    while (!one.done)
        fiber_sleep(RIG_MS);
    RIG_ASSERT_EQUAL(rig, one.result, SHOAL_E_CANCELLED);
    settle(rig);
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
        strangers->turned_away += hung_up_within(fds[i], 2000);
    strangers->silent_closed = hung_up_within(fds[0], 20000);
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
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 15000, NULL, NULL), 0);
}

/* ---- noise ---- */

static void quiet(void *arg, enum log_level level, const char *line)
{
    (void)arg;
    (void)level;
    (void)line;
}

/* A frame that decodes, with fields at random, near what is plausible. */
static struct tcp_frame random_frame(struct prng *prng, bool server, uint64_t last_call)
{
    static const uint8_t likely[2][4] = {{TCP_CALL, TCP_CALL, TCP_DATA, TCP_CANCEL},
                                         {TCP_REPLY, TCP_PULL, TCP_DATA, TCP_REFUSE}};
    static const uint32_t lengths[] = {0, 1, 4, 5, 64, 4096, 65536, 100000};
    struct tcp_frame frame = {.type = likely[server][prng_below(prng, 4)]};
    if (prng_chance(prng, 1, 20))
        frame.type = (uint8_t)prng_between(prng, TCP_CALL, TCP_PONG);
    frame.call =
        prng_chance(prng, 1, 2) ? last_call : prng_below(prng, 1000) << 16 | prng_below(prng, 16);
    if (frame.type == TCP_CALL || frame.type == TCP_REPLY)
        frame.header_len = (uint32_t)prng_between(prng, 5, 40);
    if (frame.type == TCP_REFUSE)
        frame.status = (uint16_t)prng_between(prng, 1, 40);
    frame.deadline_us = frame.type == TCP_CALL ? (uint32_t)prng_below(prng, 200000) : 0;
    if (frame.type == TCP_CALL || frame.type == TCP_REPLY || frame.type == TCP_DATA)
        frame.total = lengths[prng_below(prng, ARRAY_LEN(lengths))];
    if (frame.type == TCP_REPLY || frame.type == TCP_DATA)
        frame.payload_len = MIN(frame.total, lengths[prng_below(prng, ARRAY_LEN(lengths))]);
    if (frame.type == TCP_DATA && prng_chance(prng, 1, 4))
        frame.offset = (uint32_t)prng_below(prng, frame.total - frame.payload_len + 1);
    return frame;
}

/* Until the other side hangs up, or it has said enough. */
static void speak_at_random(struct raw *raw, struct prng *prng, bool server, uint64_t call)
{
    uint8_t bytes[64] = {0};
    uint8_t *zeros = calloc(1, 131072);
    for (unsigned i = 0; i < 40; i++) {
        struct tcp_frame frame = random_frame(prng, server, call);
        /* Any op of the rig's; the operand is kept small. */
        bytes[0] = (uint8_t)prng_below(prng, RIG_ROLE + 1);
        bytes[1] = (uint8_t)prng_between(prng, 1, 30);
        frame.payload_crc = crc32c(0, zeros, frame.payload_len) ^ prng_chance(prng, 1, 20);
        if (raw_send(raw, &frame, bytes) != 0)
            break;
        if (raw_send_payload(raw, zeros, frame.payload_len) != 0)
            break;
    }
    free(zeros);
}

static void noisy_clients(void *arg)
{
    struct hostile *hostile = arg;
    struct raw *raw = hostile->raw;
    struct prng prng;
    struct tcp_frame frame;
    uint8_t header[NET_HEADER_MAX];
    prng_seed(&prng, 5);
    for (unsigned i = 0; i < 60; i++) {
        int error = raw_open(raw, raw_socket(hostile->address), "client", false);
        if (error == 0)
            error = raw_hello(raw, TCP_VERSION_MIN, TCP_VERSION_MAX);
        if (error == 0)
            error = raw_receive(raw, &frame, header);
        if (error == 0)
            speak_at_random(raw, &prng, false, (uint64_t)i << 16 | i % 16);
        hostile->result |= error;
        raw_close(raw);
    }
}

FAULT(a_server_outlives_clients_that_send_frames_at_random)
{
    struct hostile hostile = {.address = net_listener_address(rig->listener),
                              .raw = malloc(sizeof *hostile.raw)};
    log_set_sink(quiet, NULL);
    test_in_thread(rig, noisy_clients, &hostile);
    log_set_sink(NULL, NULL);
    RIG_ASSERT_EQUAL(rig, hostile.result, 0);
    RIG_ASSERT(rig, rig->served > 20);
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 5000, NULL, NULL), 0);
    settle(rig);
    free(hostile.raw);
}

struct noisy_server {
    int listen_fd;
    struct raw raw;
};

static void *noisy_server_run(void *arg)
{
    struct noisy_server *server = arg;
    struct prng prng;
    struct tcp_frame frame;
    uint8_t header[NET_HEADER_MAX];
    prng_seed(&prng, 6);
    for (int fd; (fd = accept(server->listen_fd, NULL, NULL)) >= 0;) {
        int error = raw_open(&server->raw, fd, "server", true);
        if (error == 0)
            error = raw_receive(&server->raw, &frame, header);
        if (error == 0)
            error = raw_hello(&server->raw, TCP_VERSION_MIN, TCP_VERSION_MAX);
        if (error == 0)
            error = raw_receive(&server->raw, &frame, header);
        if (error == 0)
            speak_at_random(&server->raw, &prng, true, frame.call);
        raw_close(&server->raw);
    }
    return NULL;
}

FAULT(a_client_outlives_servers_that_send_frames_at_random)
{
    struct noisy_server *server = calloc(1, sizeof *server);
    struct net_peer *kept = rig->peer;
    char address[NET_ADDRESS_MAX];
    pthread_t thread;
    unsigned answered = 0, rounds = 0;
    server->listen_fd = raw_listen(address, sizeof address);
    RIG_ASSERT_EQUAL(rig, pthread_create(&thread, NULL, noisy_server_run, server), 0);
    log_set_sink(quiet, NULL);
    /* About one round in ten is answered by chance, if the answer is read before the reset. */
    for (; rounds < 50 || (answered == 0 && rounds < 1000); rounds++) {
        const struct iovec iov = {rig->client_buffer, 100000};
        RIG_ASSERT_EQUAL(rig, net_peer_open(rig->client_net, address, "server", 4, &rig->peer), 0);
        int error = rig_call_payload(rig, RIG_SOURCE, 1, 3000, &iov, 1, &iov, 1, NULL);
        answered += error == 0;
        net_peer_close(rig->peer);
    }
    log_set_sink(NULL, NULL);
    shutdown(server->listen_fd, SHUT_RDWR);
    pthread_join(thread, NULL);
    RIG_ASSERT(rig, answered > 0 && answered < rounds);
    rig->peer = kept;
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 5000, NULL, NULL), 0);
    close(server->listen_fd);
    free(server);
}

FAULT(a_server_without_memory_for_a_request_is_busy)
{
    RIG_ASSERT_EQUAL(rig, rig_call(rig, RIG_ECHO, 0, 5000, NULL, NULL), 0);
    unsigned busy = 0;
    for (uint64_t n = 1;; n++) {
        pool_fail_after(n);
        int error = rig_call(rig, RIG_ECHO, 0, 5000, NULL, NULL);
        bool fired = pool_fail_fired();
        pool_fail_after(0);
        RIG_ASSERT_EQUAL(rig, error, fired ? SHOAL_E_BUSY : 0);
        if (!fired)
            break;
        busy++;
    }
    RIG_ASSERT(rig, busy >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_that_does_not_read_harms_nobody_else_and_is_given_up),
        cmocka_unit_test(every_call_beyond_what_the_server_has_room_for_is_busy),
        cmocka_unit_test(a_client_that_reuses_a_slot_too_early_is_cut_off),
        cmocka_unit_test(strangers_get_no_further_than_the_limit_and_not_for_long),
        cmocka_unit_test(a_server_outlives_clients_that_send_frames_at_random),
        cmocka_unit_test(a_client_outlives_servers_that_send_frames_at_random),
        cmocka_unit_test(a_server_without_memory_for_a_request_is_busy),
    };
    test_limits = (struct test_limits){.handshake_ms = 3000, .stall_ms = 3000, .ping_ms = 1000};
    return cmocka_run_group_tests_name("tcp, hostile peers", tests, test_certificates_make,
                                       test_certificates_remove);
}
