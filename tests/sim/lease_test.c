/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a cluster does about a member that is alive and of no use: one that is cut off from the others and not
 * from clients, in a cluster that knows of deaths by silence alone; and one whose drive does not answer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "shoal/error.h"
#include "sim.h"

#define LEASE_NS (SIM_LEASE_MS * MS)
#define SLOW_NS (5 * SECOND) /* as in node_config */

static struct sim *sim;

/* One put or get of a blob that is one byte, over and over. */
struct access {
    struct sim_client *by;
    const char *pool;
    uint8_t key, value;
    bool put;
    int error;
    uint64_t took_ns;
};

static void access_fiber(void *arg)
{
    struct access *access = arg;
    uint8_t bytes[4096];
    struct iovec iov = {bytes, sizeof bytes};
    struct client_blob blob = {
        .pool = access->pool,
        .deadline_ns = reactor_now_ns(access->by->host.reactor) + 10 * SECOND};
    struct client_put_result result;
    struct client_info info;

    memset(&blob.key, access->key, sizeof blob.key);
    memset(bytes, access->value, sizeof bytes);
    uint64_t began_ns = sim->now_ns;
    access->error = access->put ? client_put(access->by->client, &blob, &iov, 1, NULL, &result)
                                : client_get(access->by->client, &blob, 0, &iov, 1, false, &info);
    access->took_ns = sim->now_ns - began_ns;
    access->value = bytes[0];
    access->by->busy--;
}

static void begin(struct access *access)
{
    access->by->busy++;
    CHECK(fiber_spawn(access->by->host.fibers, access_fiber, access) == 0);
}

static void finish(void)
{
    CHECK(sim_until(sim, clients_are_idle, sim->now_ns + 60 * SECOND));
}

static struct access put(unsigned client, const char *pool, uint8_t key, uint8_t value)
{
    struct access access = {
        .by = &sim->clients[client], .pool = pool, .key = key, .value = value, .put = true};

    begin(&access);
    finish();
    assert_int_equal(access.error, 0);
    return access;
}

static struct access get(unsigned client, const char *pool, uint8_t key)
{
    struct access access = {.by = &sim->clients[client], .pool = pool, .key = key};

    begin(&access);
    finish();
    assert_int_equal(access.error, 0);
    return access;
}

static bool never(struct sim *which)
{
    (void)which;
    return false;
}

static void pass(uint64_t ns)
{
    (void)sim_until(sim, never, sim->now_ns + ns);
}

/* A key of the pool whose primary is on this node. */
static uint8_t key_of(const char *pool, unsigned node)
{
    const struct cluster_map *map = authority_map(sim->authority.authority);
    const struct map_pool *in = cluster_map_pool_named(map, pool);
    struct blob_id id = {.pool = in->id};

    for (uint8_t key = 1; key != 0; key++) {
        struct target_set set;
        memset(&id.key, key, sizeof id.key);
        cluster_map_set(map, in, &id, &set);
        if (set.targets[set.primary]->node == node)
            return key;
    }
    CHECK(false);
    return 0;
}

static void cut_off(unsigned node)
{
    char name[16], other[16];

    snprintf(name, sizeof name, "node%u", node);
    for (unsigned i = 0; i < SIM_FIRST_NODES + 1; i++) {
        snprintf(other, sizeof other, i < SIM_FIRST_NODES ? "node%u" : "authority", i);
        if (i == node)
            continue;
        net_sim_cut(sim->world, name, other, true);
        net_sim_cut(sim->world, other, name, true);
    }
}

static void start(bool silence)
{
    sim = calloc(1, sizeof *sim);
    CHECK(sim != NULL);
    sim_begin(sim, &(struct sim_options){.seed = 21, .silence = silence});
    clients_create(sim);
    CHECK(sim_until(sim, cluster_is_settled, sim->now_ns + 60 * SECOND));
    pass(SECOND); /* everybody has leases */
}

static void stop(void)
{
    sim_end(sim);
    free(sim);
}

static int apply_down(struct cluster_map *map, void *arg)
{
    return map_change_node_down(map, arg);
}

static void declare_fiber(void *arg)
{
    CHECK(authority_change(sim->authority.authority, apply_down, arg) == 0);
}

/*
 * What is read when a write was acknowledged, by one who has heard of nothing, and asks the one that is cut off.
 * @at_once: nobody waits for its silence
 */
static uint8_t read_from_who_is_cut_off(const char *pool, bool at_once, uint64_t *put_took_ns)
{
    static char name[] = "node2";

    start(true);
    uint8_t key = key_of(pool, 2);
    uint8_t other = key_of(pool, 3);
    put(0, pool, other, 1);
    put(0, pool, key, 1);
    pass(SECOND);
    assert_int_equal(get(2, pool, key).value, 1);
    cut_off(2);
    if (at_once) {
        CHECK(fiber_spawn(sim->authority.host.fibers, declare_fiber, name) == 0);
        pass(SECOND / 10);
        /* The writer hears of it, and does not ask the old primary first. */
        (void)get(1, pool, other);
    }
    *put_took_ns = put(1, pool, key, 2).took_ns;
    uint8_t value = get(2, pool, key).value;
    stop();
    return value;
}

static void a_member_that_is_cut_off_answers_nothing_that_has_changed(void **state)
{
    static const char *const pools[] = {"replicated", "durable"};
    uint64_t put_took_ns;

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(read_from_who_is_cut_off(pools[i], false, &put_took_ns), 2);
        assert_in_range(put_took_ns, LEASE_NS / 3, LEASE_NS + SECOND / 2);
        assert_int_equal(read_from_who_is_cut_off(pools[i], true, &put_took_ns), 2);
        assert_in_range(put_took_ns, LEASE_NS / 3, LEASE_NS + SECOND / 2);
    }
}

/* Only a build with planted bugs has them; else there is nothing to see. */
static void without_leases_or_without_holding_back_it_would_be(void **state)
{
    static const enum planted bugs[] = {PLANTED_ignored_lease, PLANTED_ignored_grant};
    uint64_t put_took_ns;

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        if (!planted_plant(bugs[i]))
            skip();
        uint8_t value = read_from_who_is_cut_off("replicated", true, &put_took_ns);
        CHECK(planted_plant(PLANTED_none));
        if (value != 1)
            fail_msg("nothing is wrong with %s", planted_name(bugs[i]));
    }
}

static void readers_hardly_notice_that_a_member_is_gone(void **state)
{
    (void)state;
    start(true);
    uint8_t key = key_of("replicated", 4);
    put(0, "replicated", key, 7);
    pass(SECOND);
    cut_off(3);
    /* Nobody runs out of leases while the silence is noticed. */
    for (uint64_t until = sim->now_ns + 2 * LEASE_NS; sim->now_ns < until; pass(20 * MS))
        assert_true(get(0, "replicated", key).took_ns < SECOND / 10);
    stop();
}

static void a_drive_that_hangs_holds_writes_up_for_some_seconds_only(void **state)
{
    (void)state;
    start(false);
    uint8_t key = key_of("durable", 1);
    put(0, "durable", key, 1);
    struct dev_sim_faults stuck = {.stuck_ppm = 1000000};
    dev_sim_set_faults(sim->nodes[4].drives[0].dev, &stuck);
    assert_in_range(put(0, "durable", key, 2).took_ns, SLOW_NS, SLOW_NS + 2 * SECOND);
    assert_true(put(1, "durable", key, 3).took_ns < SECOND / 10);
    /* It comes back by itself, with what it missed. */
    dev_sim_set_faults(sim->nodes[4].drives[0].dev, &(struct dev_sim_faults){0});
    dev_sim_unstick(sim->nodes[4].drives[0].dev);
    pass(2 * SLOW_NS);
    assert_true(sim_until(sim, cluster_is_settled, sim->now_ns + 10 * SECOND));
    assert_int_equal(get(2, "durable", key).value, 3);
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_member_that_is_cut_off_answers_nothing_that_has_changed),
        cmocka_unit_test(without_leases_or_without_holding_back_it_would_be),
        cmocka_unit_test(readers_hardly_notice_that_a_member_is_gone),
        cmocka_unit_test(a_drive_that_hangs_holds_writes_up_for_some_seconds_only),
    };
    return cmocka_run_group_tests_name("lease", tests, NULL, NULL);
}
