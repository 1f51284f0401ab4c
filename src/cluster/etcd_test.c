/* SPDX-License-Identifier: Apache-2.0 */
/* The client of etcd before a member that says just what a test wants it to say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/macros.h"
#include "base/test_memory.h"
#include "cluster/cluster.h"
#include "cluster/etcd.h"
#include "core/test_reactor.h"
#include "shoal/error.h"

/* ---- a member ---- */

/* One answer; @status 0: none, the connection is closed. @hold: it stays open afterwards. */
struct said {
    int status;
    const char *body;
    bool hold;
};

#define SAID_MAX 4u

struct member {
    int listener;
    pthread_t thread;
    const struct said *said;
    _Atomic unsigned asked;
    char request[4096]; /* the last one */
    char url[64];
};

static void read_request(struct member *member, int fd)
{
    size_t len = 0;
    const char *body = NULL, *length = NULL;
    do {
        ssize_t got = read(fd, member->request + len, sizeof member->request - 1 - len);
        CHECK(got > 0);
        len += (size_t)got;
        member->request[len] = 0;
        body = strstr(member->request, "\r\n\r\n");
        length = strstr(member->request, "Content-Length: ");
    } while (body == NULL || length == NULL ||
             strlen(body + 4) < strtoul(length + strlen("Content-Length: "), NULL, 10));
}

static void say(int fd, const struct said *said)
{
    char head[128];
    int len = snprintf(head, sizeof head, "HTTP/1.1 %d Said\r\nConnection: close\r\n\r\n",
                       said->status);
    CHECK(send(fd, head, (size_t)len, MSG_NOSIGNAL) == len);
    /* Whoever has heard enough hangs up. */
    (void)!send(fd, said->body, strlen(said->body), MSG_NOSIGNAL);
}

static void *member_thread(void *arg)
{
    struct member *member = arg;
    for (unsigned i = 0; i < SAID_MAX && (member->said[i].status != 0 || i == 0 ||
                                          member->said[i].hold); i++) {
        int fd = accept(member->listener, NULL, NULL);
        if (fd < 0)
            break; /* the test is over */
        read_request(member, fd);
        member->asked++;
        if (member->said[i].status != 0)
            say(fd, &member->said[i]);
        char byte;
        while (member->said[i].hold && read(fd, &byte, 1) > 0)
            ;
        close(fd);
    }
    return NULL;
}

static void member_start(struct member *member, const struct said *said)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof address;
    *member = (struct member){.listener = socket(AF_INET, SOCK_STREAM, 0), .said = said};
    CHECK(bind(member->listener, (struct sockaddr *)&address, len) == 0);
    CHECK(listen(member->listener, 8) == 0);
    CHECK(getsockname(member->listener, (struct sockaddr *)&address, &len) == 0);
    snprintf(member->url, sizeof member->url, "http://127.0.0.1:%u//", ntohs(address.sin_port));
    CHECK(pthread_create(&member->thread, NULL, member_thread, member) == 0);
}

static void member_end(struct member *member)
{
    shutdown(member->listener, SHUT_RDWR);
    CHECK(pthread_join(member->thread, NULL) == 0);
    close(member->listener);
}

/* ---- a client ---- */

#define LEASE 77
#define KEPT "{\"result\":{\"header\":{\"revision\":\"7\"},\"ID\":\"77\",\"TTL\":\"5\"}}"
#define GRANTED "{\"header\":{\"revision\":\"7\"},\"ID\":\"77\",\"TTL\":\"5\"}"
#define PUT_DONE                                                                                   \
    "{\"header\":{\"revision\":\"8\"},\"succeeded\":true,\"responses\":[{\"response_put\":{}}]}"
#define CODE(number) "{\"error\":\"so it is\",\"code\":" #number "}"

enum ask { KEEP, GRANT, REVOKE, TXN, WATCH, WATCH_LATE, WATCH_UNTIL_UNWATCHED, WATCH_UNTIL_STOPPED };

struct rig {
    struct reactor *reactor;
    struct fiber_pool *fibers;
    struct etcd_client *client;
    struct etcd_door etcd;
    const struct member *member;
    enum ask ask;
    int result;
};

static int ask(struct rig *rig, enum ask what)
{
    const struct etcd_ops *ops = rig->etcd.ops;
    void *ctx = rig->etcd.ctx;
    uint64_t now = reactor_now_ns(rig->reactor);
    static const struct etcd_txn txn = {
        .put_key = "p/map", .put_bytes = "m", .put_len = 1, .put_lease = LEASE};
    struct etcd_answer answer;
    switch (what) {
    case KEEP:
        return ops->keep_alive(ctx, LEASE);
    case GRANT:
        return ops->grant(ctx, LEASE, 5);
    case REVOKE:
        return ops->revoke(ctx, LEASE);
    case TXN: {
        int result = ops->txn(ctx, &txn, &answer);
        CHECK(result != 0 || (answer.succeeded && answer.revision == 8));
        etcd_answer_free(&answer);
        return result;
    }
    case WATCH_LATE:
        return ops->watch(ctx, "p/leader", 41, now);
    default:
        return ops->watch(ctx, "p/leader", 41, now + UINT64_C(60000000000));
    }
}

static void ask_fiber(void *arg)
{
    struct rig *rig = arg;
    rig->result = ask(rig, rig->ask);
}

static void run_fiber(void *arg)
{
    struct rig *rig = arg;
    if (rig->ask < WATCH_UNTIL_UNWATCHED) {
        rig->result = ask(rig, rig->ask);
    } else {
        CHECK(fiber_spawn(rig->fibers, ask_fiber, rig) == 0);
        while (rig->member->asked == 0)
            fiber_sleep(1000000);
        if (rig->ask == WATCH_UNTIL_UNWATCHED)
            rig->etcd.ops->unwatch(rig->etcd.ctx);
    }
    while (rig->ask == WATCH_UNTIL_UNWATCHED && rig->result == 1)
        fiber_sleep(1000000);
    etcd_client_stop(rig->client);
}

/* What the client makes of it when a member says this, one after the other. */
static int result_of(enum ask what, struct member *member, const struct said *said)
{
    struct rig rig = {
        .ask = what, .result = 1, .reactor = test_reactor_real(), .member = member};
    member_start(member, said);
    const char *endpoints[] = {member->url};
    struct etcd_config config = {.endpoints = endpoints, .endpoints_count = 1};
    assert_int_equal(fiber_pool_create(rig.reactor, "test", 4, 256u << 10, &rig.fibers), 0);
    assert_int_equal(etcd_client_create(rig.reactor, &config, &rig.client), 0);
    rig.etcd = etcd_client_door(rig.client);
    assert_int_equal(fiber_spawn(rig.fibers, run_fiber, &rig), 0);
    test_run_fibers(rig.reactor, rig.fibers);
    etcd_client_destroy(rig.client);
    member_end(member);
    fiber_pool_destroy(rig.fibers);
    reactor_destroy(rig.reactor);
    return rig.result;
}

/* ---- tests ---- */

static void what_etcd_says_has_its_meaning(void **state)
{
    (void)state;
    static const struct {
        enum ask ask;
        struct said said[SAID_MAX];
        int result;
    } cases[] = {
        {KEEP, {{200, KEPT}}, 0},
        {GRANT, {{200, GRANTED}}, 0},
        {REVOKE, {{200, "{}"}}, 0},
        {TXN, {{200, PUT_DONE}}, 0},
        {KEEP, {{200, "{\"result\":{\"ID\":\"77\"}}"}}, SHOAL_E_NOT_FOUND}, /* it has lapsed */
        /* Refused, and certainly so. */
        {KEEP, {{400, CODE(3)}}, SHOAL_E_INVALID},
        {KEEP, {{404, CODE(5)}}, SHOAL_E_NOT_FOUND},
        {KEEP, {{403, CODE(7)}}, SHOAL_E_DENIED},
        {TXN, {{413, CODE(8)}}, SHOAL_E_TOO_LARGE},
        {TXN, {{400, CODE(11)}}, SHOAL_E_INVALID},
        {TXN, {{401, CODE(16)}}, SHOAL_E_DENIED},
        {KEEP, {{412, CODE(9)}}, SHOAL_E_EXISTS},
        {GRANT, {{412, CODE(9)}}, 0}, /* an earlier try made it */
        /* Worth another try. */
        {KEEP, {{503, CODE(14)}, {200, KEPT}}, 0},
        {KEEP, {{500, ""}, {200, KEPT}}, 0},
        {KEEP, {{500, "<html>"}, {200, KEPT}}, 0},
        {KEEP, {{200, "what?"}, {200, KEPT}}, 0},
        {KEEP, {{200, ""}, {200, KEPT}}, 0},
        {KEEP, {{200, "{\"result\":{\"ID\":\"78\",\"TTL\":\"5\"}}"}, {200, KEPT}}, 0},
        {KEEP, {{0, NULL}, {200, KEPT}}, 0},
        /* Refused at last, when an earlier try may have been done. */
        {TXN, {{503, CODE(14)}, {400, CODE(3)}}, SHOAL_E_TIMEOUT},
        {TXN, {{503, CODE(14)}, {401, CODE(16)}}, SHOAL_E_TIMEOUT},
        {KEEP, {{503, CODE(14)}, {404, CODE(5)}}, SHOAL_E_NOT_FOUND},
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct member member;
        int result = result_of(cases[i].ask, &member, cases[i].said);
        if (result != cases[i].result)
            fail_msg("case %u: %s", i, shoal_error_name(result));
    }
}

#define BEGUN "{\"result\":{\"header\":{\"revision\":\"7\"},\"created\":true}}\n"
#define NEWS "{\"result\":{\"header\":{\"revision\":\"8\"},\"events\":[{\"type\":\"PUT\"}]}}\n"

static void a_watch_ends_with_news_or_without(void **state)
{
    (void)state;
    struct member member;
    char *endless = malloc(70000);
    memset(endless, 'x', 69999);
    endless[69999] = 0;
    const struct {
        struct said said[SAID_MAX];
        enum ask ask;
        int result;
    } cases[] = {
        {{{200, NEWS, true}}, WATCH, 0},
        {{{200, BEGUN NEWS, true}}, WATCH, 0},
        {{{200, BEGUN}}, WATCH, SHOAL_E_TIMEOUT},                 /* the member hung up */
        {{{200, BEGUN "what?\n", true}}, WATCH, SHOAL_E_TIMEOUT},
        {{{200, endless, true}}, WATCH, SHOAL_E_TIMEOUT},
        {{{503, CODE(14)}}, WATCH, SHOAL_E_TIMEOUT},
        {{{0, NULL}}, WATCH, SHOAL_E_TIMEOUT},
        {{{200, BEGUN, true}}, WATCH_UNTIL_UNWATCHED, SHOAL_E_TIMEOUT},
        {{{200, BEGUN, true}}, WATCH_UNTIL_STOPPED, SHOAL_E_SHUTDOWN},
        {{{0, NULL}}, WATCH_LATE, SHOAL_E_TIMEOUT},
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        int result = result_of(cases[i].ask, &member, cases[i].said);
        if (result != cases[i].result)
            fail_msg("case %u: %s", i, shoal_error_name(result));
        assert_int_equal(member.asked, cases[i].ask != WATCH_LATE);
    }
    free(endless);
}

static void a_request_has_its_path_and_its_type(void **state)
{
    (void)state;
    struct member member;
    const struct said said[SAID_MAX] = {{200, GRANTED}};
    assert_int_equal(result_of(GRANT, &member, said), 0);
    assert_int_equal(strncmp(member.request, "POST /v3/lease/grant HTTP/1.1\r\n", 31), 0);
    assert_non_null(strstr(member.request, "Content-Type: application/json\r\n"));
    assert_non_null(strstr(member.request, "\r\n\r\n{\"ID\":\"77\",\"TTL\":\"5\"}"));
}

static void a_client_needs_a_sound_configuration(void **state)
{
    (void)state;
    static const char *const plain[] = {"http://a:1"}, *const secure[] = {"https://a:1"};
    char endless[300] = "http://";
    memset(endless + 7, 'x', sizeof endless - 8);
    endless[sizeof endless - 1] = 0;
    const char *const long_one[] = {endless};
    const struct etcd_config bad[] = {
        {.endpoints = plain, .endpoints_count = 0},
        {.endpoints = plain, .endpoints_count = 1, .ca = "a", .certificate = "c", .key = "k"},
        {.endpoints = secure, .endpoints_count = 1},
        {.endpoints = long_one, .endpoints_count = 1},
        {.endpoints = secure, .endpoints_count = 1, .ca = "a"},
        {.endpoints = secure, .endpoints_count = 1, .certificate = "c", .key = "k"},
        {.endpoints = secure, .endpoints_count = 1, .ca = "a", .certificate = "c"},
        {.endpoints = plain, .endpoints_count = 1, .key = "k"},
    };
    struct reactor *reactor = test_reactor_real();
    struct etcd_client *client;
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(etcd_client_create(reactor, &bad[i], &client), SHOAL_E_CONFIG);
    const struct etcd_config good = {.endpoints = plain, .endpoints_count = 1};
    for (uint64_t nth = 1; nth <= 2; nth++) {
        memory_fail_after(nth);
        assert_int_equal(etcd_client_create(reactor, &good, &client), SHOAL_E_NO_MEMORY);
        assert_true(memory_fail_fired());
    }
    reactor_destroy(reactor);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_etcd_says_has_its_meaning),
        cmocka_unit_test(a_watch_ends_with_news_or_without),
        cmocka_unit_test(a_request_has_its_path_and_its_type),
        cmocka_unit_test(a_client_needs_a_sound_configuration),
    };
    return cmocka_run_group_tests_name("etcd", tests, NULL, NULL);
}
