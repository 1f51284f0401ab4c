/* SPDX-License-Identifier: Apache-2.0 */
/* An authority on a simulated network, with a node and an administrator, for its tests. */
#ifndef SHOAL_CLUSTER_TEST_AUTHORITY_H
#define SHOAL_CLUSTER_TEST_AUTHORITY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cluster/cluster.h"
#include "cluster/test_map.h"
#include "core/test_reactor.h"
#include "net/net.h"
#include "shoal/error.h"

/*
 * struct rig
 * @save_result: what saving a map ends with
 * @saving: called while a map is saved
 * @wish: as of struct authority_config
 * @stopped: called when the authority has stopped and is still there
 */
struct rig {
    struct test_clock clock;
    struct reactor *reactor;
    struct fiber_pool *fibers;
    struct net_sim_world *world;
    struct net *authority_net, *node_net, *admin_net;
    struct authority *authority;
    struct authority_remote *remote;
    unsigned saves;
    int save_result;
    void (*saving)(struct rig *rig);
    uint32_t lease_ms;
    int (*wish)(void *ctx, const char *wish, char **answer);
    void (*body)(struct rig *rig);
    void (*stopped)(struct rig *rig);
    bool done;
};

static inline int rig_save(void *ctx, const void *map, size_t len)
{
    struct rig *rig = ctx;
    struct cluster_map *saved = NULL;
    int error = cluster_map_decode(map, len, &saved);
    CHECK(error == 0 || error == SHOAL_E_NO_MEMORY);
    if (error != 0)
        return error;
    cluster_map_free(saved);
    rig->saves++;
    if (rig->saving != NULL)
        rig->saving(rig);
    return rig->save_result;
}

static inline void rig_fiber(void *arg)
{
    struct rig *rig = arg;
    rig->body(rig);
    authority_remote_destroy(rig->remote);
    authority_stop(rig->authority);
    if (rig->stopped != NULL)
        rig->stopped(rig);
    net_destroy(rig->authority_net);
    net_destroy(rig->node_net);
    net_destroy(rig->admin_net);
    rig->done = true;
}

static inline struct net *rig_net(struct rig *rig, const char *host, enum net_role role,
                                  const char *name)
{
    struct net_identity identity = {.role = role, .cluster = "c"};
    struct net *net;
    snprintf(identity.name, sizeof identity.name, "%s", name);
    assert_int_equal(net_sim_create(rig->world, rig->reactor, host, &identity, &net), 0);
    return net;
}

/* Run @rig's body in a fiber, with an authority of six nodes and no pool, until all is over. */
static inline void rig_run_with(struct rig rig)
{
    struct net_sim_faults faults = {.delay_ns = 1000};
    rig.reactor = test_reactor_virtual(&rig.clock, 7);
    assert_int_equal(fiber_pool_create(rig.reactor, "test", 8, 0, &rig.fibers), 0);
    assert_int_equal(net_sim_world_create(&rig.clock.clock, 7, &faults, &rig.world), 0);
    rig.authority_net = rig_net(&rig, "authority", NET_ROLE_AUTHORITY, "authority");
    rig.node_net = rig_net(&rig, "n0", NET_ROLE_NODE, "n0");
    rig.admin_net = rig_net(&rig, "admin", NET_ROLE_ADMIN, "admin");
    struct authority_config config = {.reactor = rig.reactor,
                                      .net = rig.authority_net,
                                      .map = test_map(6, 1, 4),
                                      .save = rig_save,
                                      .wish = rig.wish,
                                      .ctx = &rig};
    config.map->lease_ms = rig.lease_ms;
    assert_int_equal(authority_create(&config, &rig.authority), 0);
    assert_int_equal(authority_listen(rig.authority, "authority:1"), 0);
    assert_int_equal(
        authority_remote_create(rig.reactor, rig.node_net, "authority:1", &rig.remote), 0);
    assert_int_equal(fiber_spawn(rig.fibers, rig_fiber, &rig), 0);
    while (!rig.done) {
        while (reactor_poll_once(rig.reactor) > 0)
            ;
        uint64_t next = reactor_next_timer_ns(rig.reactor);
        uint64_t message = net_sim_next_event_ns(rig.world);
        next = message < next ? message : next;
        if (rig.done)
            break;
        assert_true(next != UINT64_MAX);
        if (next > rig.clock.now_ns)
            rig.clock.now_ns = next;
    }
    while (fiber_pool_in_use(rig.fibers) > 0)
        reactor_poll_once(rig.reactor);
    authority_destroy(rig.authority);
    net_sim_world_destroy(rig.world);
    fiber_pool_destroy(rig.fibers);
    reactor_destroy(rig.reactor);
}

static inline void rig_run(void (*body)(struct rig *rig))
{
    rig_run_with((struct rig){.body = body});
}

/* As the node that has the certificate of n0. */
static inline int rig_enroll(struct rig *rig, const char *name, uint32_t target, uint64_t have,
                             struct wire_enroll_reply *reply)
{
    struct authority_door door = authority_remote_door(rig->remote);
    struct wire_enroll ask = {.node_len = (uint16_t)strlen(name), .have_epoch = have};
    memcpy(ask.node, name, ask.node_len);
    ask.targets_count = 1;
    ask.targets[0].target = target;
    return door.ops->enroll(door.ctx, &ask, reply);
}

#endif
