/* SPDX-License-Identifier: Apache-2.0 */
/* Three nodes that could be the authority, over an imitated etcd, on virtual time. */
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
#define SILENCE_NS (3500 * 1000000ull)

struct rig;

/* What stands for a node: knows an epoch, says that it lives. */
struct host {
    struct rig *rig;
    char name[8], address[16];
    struct net *net;
    struct net_listener *listener;
    struct test_etcd_way way;
    struct authority_etcd *etcd;
    uint64_t epoch, mark;
    uint32_t incarnation;
    bool silent;
};

struct rig {
    struct test_clock clock;
    struct reactor *reactor;
    struct fiber_pool *fibers;
    struct net_sim_world *world;
    struct test_etcd store;
    struct host hosts[NODES];
    bool keeps_marks, stopping, done;
    struct fiber_group group;
    void (*body)(struct rig *rig);
};

static uint64_t known_epoch(void *ctx)
{
    return ((struct host *)ctx)->epoch;
}

static int mark_load(void *ctx, uint64_t *mark)
{
    *mark = ((struct host *)ctx)->mark;
    return *mark == 0 ? SHOAL_E_NOT_FOUND : 0;
}

static int mark_save(void *ctx, uint64_t mark)
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

static void answer(void *arg)
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

static void request(void *ctx, struct net_request *request)
{
    struct host *host = ctx;
    struct asked *asked = malloc(sizeof *asked);
    CHECK(asked != NULL);
    *asked = (struct asked){host, request};
    CHECK(fiber_spawn(host->rig->fibers, answer, asked) == 0);
}

static int enroll(struct host *host, uint64_t process, uint32_t *incarnation)
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

static void beat(void *arg)
{
    struct host *host = arg;
    struct rig *rig = host->rig;
    while (!rig->stopping) {
        struct wire_heartbeat ask = {.node_len = 2, .incarnation = host->incarnation,
                                     .epoch = host->epoch};
        struct wire_heartbeat_reply reply;
        memcpy(ask.node, host->name, 2);
        if (host->incarnation != 0 && !host->silent && host->etcd != NULL) {
            struct authority_door door = authority_etcd_door(host->etcd);
            (void)door.ops->heartbeat(door.ctx, &ask, &reply);
        }
        fiber_sleep(SECOND / 2);
    }
    fiber_group_done(&rig->group);
}

/* ---- the rig ---- */

static void start_host(struct rig *rig, unsigned i)
{
    struct host *host = &rig->hosts[i];
    host->way = (struct test_etcd_way){.etcd = &rig->store};
    struct authority_etcd_config config = {
        .reactor = rig->reactor, .net = host->net, .etcd = test_etcd_door(&host->way),
        .name = host->name, .address = host->address, .prefix = "shoal/test",
        .known_epoch = known_epoch, .mark_load = rig->keeps_marks ? mark_load : NULL,
        .mark_save = rig->keeps_marks ? mark_save : NULL, .ctx = host, .silence_ns = SILENCE_NS};
    CHECK(authority_etcd_create(&config, &host->etcd) == 0);
}

static void stop_host(struct host *host)
{
    authority_etcd_stop(host->etcd);
    authority_etcd_destroy(host->etcd);
    host->etcd = NULL;
}

static void run_body(void *arg)
{
    struct rig *rig = arg;
    struct cluster_map *map = test_map(NODES, 1, 4);
    struct test_etcd_way way = {.etcd = &rig->store};
    CHECK(authority_etcd_found(test_etcd_door(&way), "shoal/test", map) == 0);
    cluster_map_free(map);
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

static void run(void (*body)(struct rig *rig), bool keeps_marks)
{
    struct rig rig = {.body = body, .keeps_marks = keeps_marks};
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

/* ---- looking ---- */

static struct host *leader(struct rig *rig)
{
    struct host *found = NULL;
    for (unsigned i = 0; i < NODES; i++)
        if (rig->hosts[i].etcd != NULL && authority_etcd_leads(rig->hosts[i].etcd) != NULL) {
            CHECK(found == NULL);
            found = &rig->hosts[i];
        }
    return found;
}

static struct host *wait_leader(struct rig *rig)
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
static struct cluster_map *stored(struct rig *rig)
{
    struct cluster_map *map;
    const struct etcd_value *value = &test_etcd_key(&rig->store, "shoal/test/map")->value;
    CHECK(value->created != 0 && cluster_map_decode(value->bytes, value->len, &map) == 0);
    return map;
}

static uint64_t stored_epoch(struct rig *rig)
{
    struct cluster_map *map = stored(rig);
    uint64_t epoch = map->epoch;
    cluster_map_free(map);
    return epoch;
}

static bool stored_up(struct rig *rig, unsigned i)
{
    struct cluster_map *map = stored(rig);
    bool up = map->nodes[i].up;
    cluster_map_free(map);
    return up;
}

static void enroll_soon(struct host *host, uint64_t process)
{
    unsigned tries = 0;
    while (enroll(host, process, &host->incarnation) != 0) {
        CHECK(++tries < 200);
        fiber_sleep(SECOND / 2);
    }
}

static void enroll_all(struct rig *rig)
{
    for (unsigned i = 0; i < NODES; i++)
        enroll_soon(&rig->hosts[i], 100 + i);
}

static bool change(struct host *host, const char *name)
{
    char wish[128], *answer = NULL;
    CHECK(authority_etcd_leads(host->etcd) != NULL);
    snprintf(wish, sizeof wish, "{\"wish\":\"pool_create\",\"name\":\"%s\",\"k\":1,\"m\":1}", name);
    authority_wish(authority_etcd_leads(host->etcd), wish, &answer);
    bool ok = strstr(answer, "\"ok\":true") != NULL;
    free(answer);
    return ok;
}

/* ---- tests ---- */

static void elect_body(struct rig *rig)
{
    fiber_sleep(2 * SECOND);
    struct host *first = leader(rig);
    CHECK(first != NULL);
    for (unsigned i = 0; i < NODES; i++)
        CHECK(strcmp(authority_etcd_leader(rig->hosts[i].etcd), first->address) == 0);
    enroll_all(rig);
    CHECK(stored_epoch(rig) == NODES && stored_up(rig, 0) && stored_up(rig, 2));
    CHECK(change(first, "a") && stored_epoch(rig) == NODES + 1);
    /* Nobody stands for election while there is a leader. */
    fiber_sleep(600 * SECOND);
    CHECK(leader(rig) == first && stored_epoch(rig) == NODES + 1);
}

static void one_of_three_is_elected_and_serves_all(void **state)
{
    (void)state;
    run(elect_body, true);
}

static void resign_body(struct rig *rig)
{
    enroll_all(rig);
    struct host *first = wait_leader(rig);
    stop_host(first);
    fiber_sleep(SECOND);
    CHECK(leader(rig) != NULL); /* at once: a leader that stops gives its lease back */
    CHECK(change(leader(rig), "a"));
    start_host(rig, (unsigned)(first - rig->hosts));
    fiber_sleep(10 * SECOND);
    CHECK(leader(rig) != first && strcmp(authority_etcd_leader(first->etcd),
                                         leader(rig)->address) == 0);
}

static void a_leader_that_stops_is_succeeded_at_once(void **state)
{
    (void)state;
    run(resign_body, true);
}

static void deposed_body(struct rig *rig)
{
    enroll_all(rig);
    struct host *old = wait_leader(rig);
    uint64_t epoch = stored_epoch(rig);
    old->way.cut = true;
    CHECK(!change(old, "b") && authority_etcd_leads(old->etcd) == NULL);
    fiber_sleep(20 * SECOND);
    struct host *next = leader(rig);
    CHECK(next != NULL && next != old);
    CHECK(change(next, "a") && stored_epoch(rig) == epoch + 1);
    /* Its node does not know who leads, and is asked. */
    fiber_sleep(60 * SECOND);
    CHECK(stored_epoch(rig) == epoch + 1 && stored_up(rig, (unsigned)(old - rig->hosts)));
    old->way.cut = false;
    fiber_sleep(20 * SECOND);
    CHECK(leader(rig) == next && stored_epoch(rig) == epoch + 1);
    CHECK(strcmp(authority_etcd_leader(old->etcd), next->address) == 0);
}

static void a_deposed_leader_changes_nothing(void **state)
{
    (void)state;
    run(deposed_body, true);
}

static void late_body(struct rig *rig)
{
    enroll_all(rig);
    struct host *old = wait_leader(rig);
    uint64_t epoch = stored_epoch(rig);
    /* Deposed, and does not know it. */
    unsigned i = 0;
    while (rig->store.leases[i].lease == 0)
        i++;
    test_etcd_end_lease(&rig->store, i);
    CHECK(!change(old, "b") && stored_epoch(rig) == epoch);
    CHECK(authority_etcd_leads(old->etcd) == NULL);
    fiber_sleep(20 * SECOND);
    CHECK(leader(rig) != NULL && change(leader(rig), "c"));
}

static void a_leader_that_was_deposed_unawares_changes_nothing(void **state)
{
    (void)state;
    run(late_body, true);
}

static void lost_body(struct rig *rig)
{
    enroll_all(rig);
    struct host *old = wait_leader(rig);
    uint64_t epoch = stored_epoch(rig);
    struct host *node = &rig->hosts[(old - rig->hosts + 1) % NODES];
    uint32_t first = 0, second = 0;
    old->way.deaf = 1;
    CHECK(enroll(node, 555, &first) != 0);
    CHECK(stored_epoch(rig) == epoch + 1); /* it was done all the same */
    CHECK(authority_etcd_leads(old->etcd) == NULL);
    wait_leader(rig);
    enroll_soon(node, 555);
    CHECK(stored_epoch(rig) == epoch + 1);
    struct cluster_map *map = stored(rig);
    CHECK(node->incarnation == map->nodes[node - rig->hosts].incarnation);
    cluster_map_free(map);
    CHECK(enroll(node, 555, &second) == 0 && second == node->incarnation);
    CHECK(change(wait_leader(rig), "a") && stored_epoch(rig) == epoch + 2);
}

static void an_enrolment_whose_answer_was_lost_is_made_once(void **state)
{
    (void)state;
    run(lost_body, true);
}

static void frozen_body(struct rig *rig)
{
    enroll_all(rig);
    uint64_t epoch = stored_epoch(rig);
    rig->store.frozen = true;
    fiber_sleep(3600 * SECOND);
    CHECK(leader(rig) == NULL); /* another could have been elected for all it knows */
    rig->store.frozen = false;
    fiber_sleep(30 * SECOND);
    CHECK(leader(rig) != NULL && stored_epoch(rig) == epoch);
    CHECK(change(leader(rig), "a"));

    /* The same, but something was to be changed meanwhile. */
    epoch = stored_epoch(rig);
    rig->store.frozen = true;
    CHECK(!change(leader(rig), "b") && leader(rig) == NULL);
    fiber_sleep(3600 * SECOND);
    rig->store.frozen = false;
    fiber_sleep(30 * SECOND);
    CHECK(leader(rig) != NULL && stored_epoch(rig) == epoch);
    CHECK(change(leader(rig), "b") && stored_epoch(rig) == epoch + 1);
    for (unsigned i = 0; i < NODES; i++)
        CHECK(stored_up(rig, i));
}

static void an_etcd_frozen_for_an_hour_costs_nobody_anything(void **state)
{
    (void)state;
    run(frozen_body, true);
}

static void older_body(struct rig *rig)
{
    enroll_all(rig);
    struct test_etcd_state backup, newest;
    test_etcd_save(&rig->store, &backup);
    CHECK(change(wait_leader(rig), "a") && change(wait_leader(rig), "b"));
    fiber_sleep(SECOND);
    uint64_t epoch = stored_epoch(rig);
    for (unsigned i = 0; i < NODES; i++)
        CHECK(rig->hosts[i].epoch == epoch);
    test_etcd_save(&rig->store, &newest);
    test_etcd_restore(&rig->store, &backup);
    fiber_sleep(60 * SECOND);
    CHECK(leader(rig) == NULL && stored_epoch(rig) == epoch - 2);
    uint32_t incarnation;
    CHECK(enroll(&rig->hosts[0], 9, &incarnation) != 0);
    /* With the newest map all goes on. */
    test_etcd_restore(&rig->store, &newest);
    fiber_sleep(60 * SECOND);
    CHECK(leader(rig) != NULL && change(leader(rig), "c"));
    CHECK(stored_epoch(rig) == epoch + 1);
}

static void an_older_etcd_is_refused_until_it_has_the_newest_map(void **state)
{
    (void)state;
    run(older_body, true);  /* each node has seen a newer one */
    run(older_body, false); /* none remembers, but they know newer maps */
}

static void unnoticed_body(struct rig *rig)
{
    enroll_all(rig);
    struct host *old = wait_leader(rig);
    fiber_sleep(10 * SECOND);
    struct test_etcd_state backup;
    test_etcd_save(&rig->store, &backup);
    CHECK(change(old, "a"));
    /* With all leases as they were: nobody has to be elected, and the leader looks only now and then. */
    test_etcd_clear(&rig->store.now);
    rig->store.now = backup;
    fiber_sleep(2 * SECOND);
    CHECK(authority_etcd_leads(old->etcd) == NULL);
    uint64_t epoch = stored_epoch(rig);
    fiber_sleep(60 * SECOND);
    CHECK(leader(rig) == NULL && stored_epoch(rig) == epoch);
}

static void a_leader_sees_that_an_older_etcd_was_put_in_place(void **state)
{
    (void)state;
    run(unnoticed_body, true);
}

static void stranger_body(struct rig *rig)
{
    enroll_all(rig);
    struct test_etcd_state backup;
    test_etcd_save(&rig->store, &backup);
    CHECK(change(wait_leader(rig), "a"));
    fiber_sleep(SECOND);
    uint64_t epoch = stored_epoch(rig);
    /* One that knows nothing could lead with the old map; the others tell it. */
    rig->hosts[1].epoch = rig->hosts[1].mark = 0;
    stop_host(&rig->hosts[1]);
    test_etcd_restore(&rig->store, &backup);
    start_host(rig, 1);
    fiber_sleep(60 * SECOND);
    CHECK(leader(rig) == NULL && stored_epoch(rig) == epoch - 1);
}

static void a_node_that_knows_nothing_does_not_lead_with_an_old_map(void **state)
{
    (void)state;
    run(stranger_body, true);
    run(stranger_body, false);
}

static void empty_body(struct rig *rig)
{
    enroll_all(rig);
    struct test_etcd_state empty = {.revision = 1};
    test_etcd_restore(&rig->store, &empty);
    fiber_sleep(60 * SECOND);
    CHECK(leader(rig) == NULL);
}

static void an_emptied_etcd_is_refused(void **state)
{
    (void)state;
    run(empty_body, true);
    run(empty_body, false);
}

static void silence_body(struct rig *rig)
{
    enroll_all(rig);
    struct host *first = wait_leader(rig);
    struct host *victim = &rig->hosts[(first - rig->hosts + 1) % NODES];
    unsigned index = (unsigned)(victim - rig->hosts);
    victim->silent = true;
    fiber_sleep(SILENCE_NS - SECOND / 2 - SECOND / 10);
    CHECK(stored_up(rig, index));
    fiber_sleep(SECOND + SECOND / 2);
    CHECK(!stored_up(rig, index) && stored_up(rig, (unsigned)(first - rig->hosts)));
    victim->silent = false;
    enroll_soon(victim, 777);
    CHECK(stored_up(rig, index));

    /* A new leader begins to count when it begins to lead. */
    victim->silent = true;
    fiber_sleep(SILENCE_NS - SECOND);
    stop_host(first);
    struct host *second = wait_leader(rig);
    fiber_sleep(SILENCE_NS / 2);
    CHECK(stored_up(rig, index));
    fiber_sleep(SILENCE_NS);
    CHECK(!stored_up(rig, index));
    start_host(rig, (unsigned)(first - rig->hosts));
    fiber_sleep(SECOND);
    CHECK(leader(rig) == second);
}

static void a_silent_node_is_down_after_its_time(void **state)
{
    (void)state;
    run(silence_body, true);
}

static void stall_body(struct rig *rig)
{
    enroll_all(rig);
    struct host *first = wait_leader(rig);
    uint64_t epoch = stored_epoch(rig);
    /* This process stood still; the others did not hear from it, nor it from them. */
    for (unsigned i = 0; i < 20; i++) {
        rig->clock.now_ns += 60 * SECOND;
        fiber_sleep(SECOND / 7);
    }
    CHECK(stored_epoch(rig) == epoch);
    fiber_sleep(20 * SECOND);
    CHECK(wait_leader(rig) != NULL && stored_epoch(rig) == epoch);
    (void)first;
}

static void a_leader_that_stood_still_declares_nobody_dead(void **state)
{
    (void)state;
    run(stall_body, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_of_three_is_elected_and_serves_all),
        cmocka_unit_test(a_leader_that_stops_is_succeeded_at_once),
        cmocka_unit_test(a_deposed_leader_changes_nothing),
        cmocka_unit_test(a_leader_that_was_deposed_unawares_changes_nothing),
        cmocka_unit_test(an_enrolment_whose_answer_was_lost_is_made_once),
        cmocka_unit_test(an_etcd_frozen_for_an_hour_costs_nobody_anything),
        cmocka_unit_test(an_older_etcd_is_refused_until_it_has_the_newest_map),
        cmocka_unit_test(a_leader_sees_that_an_older_etcd_was_put_in_place),
        cmocka_unit_test(a_node_that_knows_nothing_does_not_lead_with_an_old_map),
        cmocka_unit_test(an_emptied_etcd_is_refused),
        cmocka_unit_test(a_silent_node_is_down_after_its_time),
        cmocka_unit_test(a_leader_that_stood_still_declares_nobody_dead),
    };
    return cmocka_run_group_tests_name("authority_etcd", tests, NULL, NULL);
}
