/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a slow drive stores after its target has given the slot away goes again: nobody else would look
 * for it there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "shoal/error.h"
#include "sim.h"

#define SLOW 0u /* the node, and its target */
#define KEYS 64u

static struct sim *sim;
static unsigned failed;

static const struct cluster_map *map_now(void)
{
    return authority_map(sim->authority.authority);
}

static int weigh_less(struct cluster_map *map, void *arg)
{
    (void)arg;
    return map_change_target_weight(map, SLOW, 20);
}

static void change_fiber(void *arg)
{
    (void)arg;
    CHECK(authority_change(sim->authority.authority, weigh_less, NULL) == 0);
}

/* Positions of @key that the slow target is about to give up. */
static bool is_moving(struct sim *of, unsigned key)
{
    struct blob_id id = {.pool = cluster_map_pool_named(map_now(), "replicated")->id};
    struct target_set set;

    (void)of;
    memset(&id.key, (int)key, sizeof id.key);
    cluster_map_set(map_now(), cluster_map_pool(map_now(), id.pool), &id, &set);
    for (unsigned i = 0; i < set.width; i++)
        if ((set.moving >> i & 1) != 0 && set.targets[i]->id == SLOW)
            return true;
    return false;
}

static bool moves(struct sim *of)
{
    for (unsigned key = 0; key < KEYS; key++)
        if (is_moving(of, key))
            return true;
    return false;
}

static void put_fiber(void *arg)
{
    struct sim_client *client = arg;
    struct client_blob blob = {.pool = "replicated",
                               .deadline_ns = reactor_now_ns(client->host.reactor) + 10 * SECOND};
    struct client_put_result result;
    static uint8_t bytes[3000];
    struct iovec iov = {bytes, sizeof bytes};

    for (unsigned key = 0; key < KEYS; key++) {
        if (!is_moving(sim, key))
            continue;
        memset(&blob.key, (int)key, sizeof blob.key);
        failed += client_put(client->client, &blob, &iov, 1, NULL, &result) != 0;
        break;
    }
    client->busy--;
}

static bool has_moved(struct sim *of)
{
    return cluster_is_settled(of) && clients_are_idle(of);
}

static void what_is_stored_after_its_slot_moved_away_goes_again(void **state)
{
    char why[450] = "";

    (void)state;
    CHECK(fiber_spawn(sim->authority.host.fibers, change_fiber, NULL) == 0);
    assert_true(sim_until(sim, moves, sim->now_ns + 10 * SECOND));
    dev_sim_set_latency(sim->nodes[SLOW].drives[0].dev, 4 * SECOND, 4 * SECOND);
    sim->clients[0].busy++;
    CHECK(fiber_spawn(sim->clients[0].host.fibers, put_fiber, &sim->clients[0]) == 0);
    assert_true(sim_until(sim, has_moved, sim->now_ns + 3500 * MS));
    assert_int_equal(failed, 0);

    (void)sim_until(sim, moves, sim->now_ns + 20 * SECOND);
    if (!audit(sim, why, sizeof why))
        fail_msg("%s", why);
}

static int start(void **state)
{
    (void)state;
    sim = calloc(1, sizeof *sim);
    CHECK(sim != NULL);
    sim_begin(sim, &(struct sim_options){.seed = 3});
    clients_create(sim);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_stored_after_its_slot_moved_away_goes_again),
    };
    return cmocka_run_group_tests_name("late", tests, start, stop);
}
