/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A blob whose content key is there already is a hit: the payload that crosses the network is counted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "shoal/error.h"
#include "sim.h"

#define SMALL ((size_t)3000)
#define STRIPE ((size_t)SIM_STRIPE_BYTES)
#define LARGE (5 * STRIPE)

static struct sim *sim;
static size_t payload_bytes;
static uint8_t bytes[LARGE];

static void count(void *ctx, const struct net_sim_event *event)
{
    (void)ctx;
    if (strcmp(event->what, "send") == 0 && strcmp(event->kind, "data") == 0)
        payload_bytes += event->payload_len;
}

/* A put of the first @len bytes, and the payload that was pulled for it. */
struct putting {
    struct sim_client *from;
    const char *pool;
    uint8_t key;
    size_t len;
    struct client_put_result result;
    size_t moved;
    int error;
};

static void put_fiber(void *arg)
{
    struct putting *put = arg;
    struct client_blob blob = {.pool = put->pool, .deadline_ns = reactor_now_ns(put->from->host.reactor) + 10 * SECOND};
    struct iovec iov = {bytes, put->len};

    memset(&blob.key, put->key, sizeof blob.key);
    size_t before = payload_bytes;
    put->error = client_put(put->from->client, &blob, &iov, 1,
                            &(struct client_put_options){.content = true}, &put->result);
    put->moved = payload_bytes - before;
    put->from->busy--;
}

static struct putting put(unsigned client, const char *pool, uint8_t key, size_t len)
{
    struct putting put = {.from = &sim->clients[client], .pool = pool, .key = key, .len = len};

    put.from->busy++;
    CHECK(fiber_spawn(put.from->host.fibers, put_fiber, &put) == 0);
    CHECK(sim_until(sim, clients_are_idle, sim->now_ns + 60 * SECOND));
    assert_int_equal(put.error, 0);
    return put;
}

static int start(void **state)
{
    (void)state;
    sim = calloc(1, sizeof *sim);
    CHECK(sim != NULL);
    sim_begin(sim, &(struct sim_options){.seed = 11});
    clients_create(sim);
    net_sim_set_trace(sim->world, count, NULL);
    CHECK(sim_until(sim, cluster_is_settled, sim->now_ns + 60 * SECOND));
    return 0;
}

static int stop(void **state)
{
    (void)state;
    sim_end(sim);
    free(sim);
    return 0;
}

static void a_first_put_moves_the_bytes_and_a_second_one_none(void **state)
{
    static const struct {
        const char *pool;
        size_t len;
    } cases[] = {{"durable", SMALL}, {"durable", STRIPE}, {"replicated", STRIPE}, {"durable", LARGE}};

    (void)state;
    for (uint8_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct putting first = put(0, cases[i].pool, i + 1, cases[i].len);
        assert_false(first.result.existed);
        assert_true(first.moved >= cases[i].len);
        struct putting second = put(1, cases[i].pool, i + 1, cases[i].len);
        assert_true(second.result.existed);
        assert_int_equal(second.moved, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_first_put_moves_the_bytes_and_a_second_one_none),
    };
    return cmocka_run_group_tests_name("hit", tests, start, stop);
}
