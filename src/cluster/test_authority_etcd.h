/* SPDX-License-Identifier: Apache-2.0 */
/* Three nodes that could be the authority, over an imitated etcd, on virtual time: for tests. */
#ifndef SHOAL_CLUSTER_TEST_AUTHORITY_ETCD_H
#define SHOAL_CLUSTER_TEST_AUTHORITY_ETCD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/log.h"
#include "cluster/cluster.h"
#include "cluster/test_etcd.h"
#include "cluster/test_map.h"
#include "core/test_reactor.h"
#include "net/net.h"

#define NODES 3u
#define SECOND 1000000000ull
#define LEASE_MS 3000u
#define SILENCE_NS (LEASE_MS * 1000000ull * 2 / 3)

struct rig;

/*
 * What stands for a node: knows an epoch, says that it lives, and has asked the others for leases then.
 * @silent: says nothing; asked, it answers as one that has not enrolled. @dead: does not even answer
 */
struct host {
    struct rig *rig;
    char name[8], address[16];
    struct net *net;
    struct net_listener *listener;
    struct test_etcd_way way;
    struct authority_etcd *etcd;
    uint64_t epoch, mark, said_ns;
    uint32_t incarnation;
    bool silent, dead;
};

/*
 * struct rig
 * @unfounded: etcd has no map of the cluster to begin with
 * @stall_ns: for so long all stand still when a node is asked next
 * @configure: alters what a host's authority is created with
 */
struct rig {
    struct test_clock clock;
    struct reactor *reactor;
    struct fiber_pool *fibers;
    struct net_sim_world *world;
    struct test_etcd store;
    struct host hosts[NODES];
    bool keeps_marks, unfounded, stopping, done;
    uint64_t stall_ns;
    struct fiber_group group;
    void (*configure)(struct host *host, struct authority_etcd_config *config);
    void (*body)(struct rig *rig);
};

static inline uint64_t known_epoch(void *ctx)
{
    return ((struct host *)ctx)->epoch;
}

static inline int mark_load(void *ctx, uint64_t *mark)
{
    *mark = ((struct host *)ctx)->mark;
    return *mark == 0 ? SHOAL_E_NOT_FOUND : 0;
}

static inline int mark_save(void *ctx, uint64_t mark)
{
    CHECK(mark > ((struct host *)ctx)->mark);
    ((struct host *)ctx)->mark = mark;
    return 0;
}

/* ---- the stand-in of a node ---- */

struct asked {
    struct host *host;
    struct net_request *request;
};

static inline void answer(void *arg)
{
    struct asked *asked = arg;
    size_t len;
    const void *bytes = net_request_header(asked->request, &len);
    struct decoder in = decoder_init(bytes, len);
    struct wire_head head;
    uint8_t header[256];
    wire_head_decode(&in, &head);
    struct wire_map_push push;
    if (head.type == WIRE_map_push && wire_map_push_decode(&in, &push) == 0 &&
        push.epoch > asked->host->epoch)
        asked->host->epoch = push.epoch;
    struct wire_map_get_reply reply = {.epoch = asked->host->epoch,
                                       .incarnation = asked->host->silent
                                                          ? 0 : asked->host->incarnation};
    head.status = 0;
    len = wire_map_get_reply_encode(header, sizeof header, &head, &reply);
    net_reply(asked->request, header, len, NULL, 0);
    free(asked);
}

static inline void request(void *ctx, struct net_request *request)
{
    struct host *host = ctx;
    host->rig->clock.now_ns += host->rig->stall_ns;
    host->rig->stall_ns = 0;
    if (host->dead) {
        net_refuse(request, SHOAL_E_SHUTDOWN);
        return;
    }
    struct asked *asked = malloc(sizeof *asked);
    CHECK(asked != NULL);
    *asked = (struct asked){host, request};
    CHECK(fiber_spawn(host->rig->fibers, answer, asked) == 0);
}

static inline int enroll(struct host *host, uint64_t process, uint32_t *incarnation)
{
    struct authority_door door = authority_etcd_door(host->etcd);
    struct wire_enroll ask = {.node_len = 2, .process = process, .have_epoch = host->epoch,
                              .targets_count = 1};
    struct wire_enroll_reply reply;
    memcpy(ask.node, host->name, 2);
    ask.targets[0].target = (uint32_t)(host - host->rig->hosts);
    int error = door.ops->enroll(door.ctx, &ask, &reply);
    if (error == 0 && reply.epoch > host->epoch)
        host->epoch = reply.epoch;
    if (error == 0)
        *incarnation = reply.incarnation;
    return error;
}

static inline void beat(void *arg)
{
    struct host *host = arg;
    struct rig *rig = host->rig;
    fiber_sleep((uint64_t)(host - rig->hosts) * SECOND / 5); /* not all at once */
    while (!rig->stopping) {
        struct wire_heartbeat ask = {.node_len = 2, .incarnation = host->incarnation,
                                     .epoch = host->epoch};
        struct wire_heartbeat_reply reply;
        memcpy(ask.node, host->name, 2);
        if (host->incarnation != 0 && !host->silent)
            host->said_ns = reactor_now_ns(rig->reactor);
        if (host->incarnation != 0 && !host->silent && host->etcd != NULL) {
            struct authority_door door = authority_etcd_door(host->etcd);
            if (door.ops->heartbeat(door.ctx, &ask, &reply) == 0 && reply.epoch > host->epoch)
                host->epoch = reply.epoch;
        }
        fiber_sleep(SECOND / 2);
    }
    fiber_group_done(&rig->group);
}

/* struct authority_etcd_config.heard */
static inline uint64_t heard(void *ctx, uint32_t node)
{
    return ((struct host *)ctx)->rig->hosts[node].said_ns;
}

static inline void with_leases(struct host *host, struct authority_etcd_config *config)
{
    (void)host;
    config->heard = heard;
}

/* ---- the rig ---- */

static inline void start_host(struct rig *rig, unsigned i)
{
    struct host *host = &rig->hosts[i];
    host->way = (struct test_etcd_way){.etcd = &rig->store};
    struct authority_etcd_config config = {
        .reactor = rig->reactor, .net = host->net, .etcd = test_etcd_door(&host->way),
        .name = host->name, .address = host->address, .prefix = "shoal/test",
        .known_epoch = known_epoch, .mark_load = rig->keeps_marks ? mark_load : NULL,
        .mark_save = rig->keeps_marks ? mark_save : NULL, .ctx = host};
    if (rig->configure != NULL)
        rig->configure(host, &config);
    CHECK(authority_etcd_create(&config, &host->etcd) == 0);
}

static inline void stop_host(struct host *host)
{
    authority_etcd_stop(host->etcd);
    authority_etcd_destroy(host->etcd);
    host->etcd = NULL;
}

/* The first map of the cluster. */
static inline int found_cluster(struct rig *rig, const char *prefix, unsigned partition_bits)
{
    struct cluster_map *map = test_map(NODES, 1, partition_bits);
    map->lease_ms = LEASE_MS;
    struct test_etcd_way way = {.etcd = &rig->store};
    int error = authority_etcd_found(test_etcd_door(&way), prefix, map);
    cluster_map_free(map);
    return error;
}

static inline void run_body(void *arg)
{
    struct rig *rig = arg;
    if (!rig->unfounded)
        CHECK(found_cluster(rig, "shoal/test", 4) == 0);
    for (unsigned i = 0; i < NODES; i++) {
        struct host *host = &rig->hosts[i];
        struct net_identity identity = {.role = NET_ROLE_NODE, .cluster = "c"};
        char address[16];
        host->rig = rig;
        snprintf(host->name, sizeof host->name, "n%u", i);
        snprintf(host->address, sizeof host->address, "n%u:authority", i);
        snprintf(address, sizeof address, "n%u:data", i);
        snprintf(identity.name, sizeof identity.name, "n%u", i);
        struct net_service service = {.request = request, .ctx = host};
        CHECK(net_sim_create(rig->world, rig->reactor, host->name, &identity, &host->net) == 0);
        CHECK(net_listen(host->net, address, &service, &host->listener) == 0);
        start_host(rig, i);
        fiber_group_add(&rig->group);
        CHECK(fiber_spawn(rig->fibers, beat, host) == 0);
    }
    rig->body(rig);
    rig->stopping = true;
    fiber_group_wait(&rig->group);
    for (unsigned i = 0; i < NODES; i++) {
        stop_host(&rig->hosts[i]);
        net_listener_close(rig->hosts[i].listener);
    }
    for (unsigned i = 0; i < NODES; i++)
        net_destroy(rig->hosts[i].net);
    rig->done = true;
}

static inline void run_with(struct rig rig)
{
    struct net_sim_faults faults = {.delay_ns = 1000};
    rig.reactor = test_reactor_virtual(&rig.clock, 7);
    assert_int_equal(fiber_pool_create(rig.reactor, "test", 32, 0, &rig.fibers), 0);
    assert_int_equal(net_sim_world_create(&rig.clock.clock, 7, &faults, &rig.world), 0);
    test_etcd_init(&rig.store, rig.reactor);
    fiber_group_init(&rig.group);
    assert_int_equal(fiber_spawn(rig.fibers, run_body, &rig), 0);
    while (!rig.done) {
        while (reactor_poll_once(rig.reactor) > 0)
            ;
        uint64_t next = reactor_next_timer_ns(rig.reactor);
        uint64_t message = net_sim_next_event_ns(rig.world);
        next = message < next ? message : next;
        assert_true(rig.done || next != UINT64_MAX);
        if (!rig.done && next > rig.clock.now_ns)
            rig.clock.now_ns = next;
    }
    while (fiber_pool_in_use(rig.fibers) > 0)
        reactor_poll_once(rig.reactor);
    net_sim_world_destroy(rig.world);
    fiber_pool_destroy(rig.fibers);
    reactor_destroy(rig.reactor);
    test_etcd_clear(&rig.store.now);
}

static inline void run(void (*body)(struct rig *rig), bool keeps_marks)
{
    run_with((struct rig){.body = body, .keeps_marks = keeps_marks});
}

/* ---- looking ---- */

static inline struct host *leader(struct rig *rig)
{
    struct host *found = NULL;
    for (unsigned i = 0; i < NODES; i++)
        if (rig->hosts[i].etcd != NULL && authority_etcd_leads(rig->hosts[i].etcd) != NULL) {
            CHECK(found == NULL);
            found = &rig->hosts[i];
        }
    return found;
}

static inline struct host *wait_leader(struct rig *rig)
{
    for (unsigned tries = 0; tries < 600; tries++) {
        if (leader(rig) != NULL)
            return leader(rig);
        fiber_sleep(SECOND / 10);
    }
    CHECK_MSG(false, "nobody leads%s", "");
    return NULL;
}

/* What etcd holds. */
static inline struct cluster_map *stored(struct rig *rig)
{
    struct cluster_map *map;
    const struct etcd_value *value = &test_etcd_key(&rig->store, "shoal/test/map")->value;
    CHECK(value->created != 0 && cluster_map_decode(value->bytes, value->len, &map) == 0);
    return map;
}

static inline uint64_t stored_epoch(struct rig *rig)
{
    struct cluster_map *map = stored(rig);
    uint64_t epoch = map->epoch;
    cluster_map_free(map);
    return epoch;
}

static inline bool stored_up(struct rig *rig, unsigned i)
{
    struct cluster_map *map = stored(rig);
    bool up = map->nodes[i].up;
    cluster_map_free(map);
    return up;
}

static inline void enroll_soon(struct host *host, uint64_t process)
{
    unsigned tries = 0;
    while (enroll(host, process, &host->incarnation) != 0) {
        CHECK(++tries < 200);
        fiber_sleep(SECOND / 2);
    }
}

static inline void enroll_all(struct rig *rig)
{
    for (unsigned i = 0; i < NODES; i++)
        enroll_soon(&rig->hosts[i], 100 + i);
}

static inline bool change(struct host *host, const char *name)
{
    char wish[128], *answer = NULL;
    CHECK(authority_etcd_leads(host->etcd) != NULL);
    snprintf(wish, sizeof wish, "{\"wish\":\"pool_create\",\"name\":\"%s\",\"k\":1,\"m\":1}", name);
    authority_wish(authority_etcd_leads(host->etcd), wish, &answer);
    bool ok = strstr(answer, "\"ok\":true") != NULL;
    free(answer);
    return ok;
}

#endif
