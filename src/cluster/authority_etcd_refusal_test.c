/* SPDX-License-Identifier: Apache-2.0 */
/* An etcd that holds nonsense, nodes that lead nobody, and memory that is not there. */
#include "cluster/test_authority_etcd.h"

#include "base/macros.h"
#include "base/pool.h"
#include "base/test_memory.h"

static struct etcd_value *value_of(struct rig *rig, const char *name)
{
    return &test_etcd_key(&rig->store, name)->value;
}

/* As if somebody had written it by hand. */
static void write_by_hand(struct rig *rig, const char *name, const char *bytes)
{
    struct test_etcd_key *key = test_etcd_key(&rig->store, name);
    free(key->value.bytes);
    key->changed = ++rig->store.now.revision;
    key->value = (struct etcd_value){.created = key->changed, .modified = key->changed,
                                     .bytes = test_etcd_bytes(bytes, strlen(bytes)),
                                     .len = strlen(bytes)};
    fiber_queue_wake_all(&rig->store.watchers);
}

static void nobody_leads(struct rig *rig)
{
    for (unsigned i = 0; i < 60; i++) {
        CHECK(leader(rig) == NULL);
        fiber_sleep(SECOND / 2);
    }
}

/* ---- what etcd holds ---- */

static void unfounded_body(struct rig *rig)
{
    nobody_leads(rig);
    CHECK(found_cluster(rig, "shoal/test", 4) == 0);
    CHECK(found_cluster(rig, "shoal/test", 4) == 0); /* the same again: the answer was lost */
    CHECK(found_cluster(rig, "shoal/test", 5) == SHOAL_E_EXISTS);
    wait_leader(rig);
    enroll_all(rig);
}

static void without_a_map_nobody_leads_and_with_one_somebody_does(void **state)
{
    (void)state;
    run_with((struct rig){.body = unfounded_body, .unfounded = true, .keeps_marks = true});
}

static void no_map_body(struct rig *rig)
{
    write_by_hand(rig, "shoal/test/map", "this is no map");
    nobody_leads(rig);
}

static void with_a_map_that_cannot_be_read_nobody_leads(void **state)
{
    (void)state;
    run_with((struct rig){.body = no_map_body, .unfounded = true});
}

static void of_cluster_7(struct host *host, struct authority_etcd_config *config)
{
    (void)host;
    config->cluster[0] = 7;
}

static void of_the_test(struct host *host, struct authority_etcd_config *config)
{
    (void)host;
    memcpy(config->cluster, "test-cluster-16b", 16);
    config->known_epoch = NULL;
}

static void lead_body(struct rig *rig)
{
    wait_leader(rig);
    enroll_all(rig);
}

static void the_map_of_another_cluster_is_not_led(void **state)
{
    (void)state;
    run_with((struct rig){.body = nobody_leads, .configure = of_cluster_7});
    run_with((struct rig){.body = lead_body, .configure = of_the_test});
}

static void nonsense_body(struct rig *rig)
{
    enroll_all(rig);
    struct host *old = wait_leader(rig);
    write_by_hand(rig, "shoal/test/leader", "{}");
    fiber_sleep(SECOND);
    nobody_leads(rig);
    CHECK(authority_etcd_leads(old->etcd) == NULL);
    test_etcd_delete(&rig->store, test_etcd_key(&rig->store, "shoal/test/leader"));
    CHECK(wait_leader(rig) != NULL && change(leader(rig), "a"));
}

static void who_leads_is_not_guessed_from_nonsense(void **state)
{
    (void)state;
    run(nonsense_body, true);
}

static void earlier_body(struct rig *rig)
{
    struct test_etcd_way way = {.etcd = &rig->store};
    wait_leader(rig);
    for (unsigned i = 0; i < NODES; i++)
        stop_host(&rig->hosts[i]);
    /* A life of n1 that ended without a word holds the office. */
    CHECK(test_etcd_grant(&way, 4711, 3600) == 0);
    write_by_hand(rig, "shoal/test/leader", "{\"name\":\"n1\",\"address\":\"n1:authority\"}");
    value_of(rig, "shoal/test/leader")->lease = 4711;
    start_host(rig, 0);
    fiber_sleep(20 * SECOND);
    CHECK(leader(rig) == NULL);
    start_host(rig, 1);
    start_host(rig, 2);
    fiber_sleep(5 * SECOND);
    CHECK(leader(rig) != NULL);
}

static void what_an_earlier_life_holds_is_given_back(void **state)
{
    (void)state;
    run(earlier_body, true);
}

/* ---- marks ---- */

static int no_mark(void *ctx, uint64_t mark)
{
    (void)ctx, (void)mark;
    return SHOAL_E_FULL;
}

static void cannot_keep(struct host *host, struct authority_etcd_config *config)
{
    (void)host;
    config->mark_save = no_mark;
}

static void a_mark_that_cannot_be_kept_stops_nobody(void **state)
{
    (void)state;
    run_with((struct rig){.body = lead_body, .configure = cannot_keep, .keeps_marks = true});
}

/* ---- asking who does not lead ---- */

static int ask(struct rig *rig, struct net *from, const char *address, const void *header,
               size_t len, char *text, size_t size)
{
    struct net_peer *peer;
    uint8_t reply[512];
    struct iovec payload = {text, size - 1};
    struct net_call call = {.header = header,
                            .header_len = len,
                            .reply_payload = &payload,
                            .reply_payload_count = 1,
                            .deadline_ns = reactor_now_ns(rig->reactor) + SECOND,
                            .reply_header = reply,
                            .reply_header_len = sizeof reply};
    CHECK(net_peer_open(from, address, NULL, 4, &peer) == 0);
    int error = net_call(peer, &call);
    net_peer_close(peer);
    if (error != 0)
        return error;
    text[call.reply_payload_len] = 0;
    struct wire_head head;
    struct decoder in = decoder_init(reply, call.reply_header_len);
    wire_head_decode(&in, &head);
    return -(int)head.status;
}

static void asking_body(struct rig *rig)
{
    char text[512];
    uint8_t header[64];
    struct net *admin;
    struct net_identity identity = {.role = NET_ROLE_ADMIN, .name = "root", .cluster = "c"};
    CHECK(net_sim_create(rig->world, rig->reactor, "desk", &identity, &admin) == 0);
    struct wire_head head = {.type = WIRE_admin, .target = WIRE_NO_TARGET};
    size_t len = wire_status_encode(header, sizeof header, &head);

    enroll_all(rig);
    struct host *first = wait_leader(rig);
    struct host *other = &rig->hosts[(first - rig->hosts + 1) % NODES];
    CHECK(ask(rig, admin, other->address, header, len, text, sizeof text) == 0);
    CHECK(strstr(text, first->address) != NULL);
    /* A node, and what is no message, are only told that they ask in vain. */
    CHECK(ask(rig, first->net, other->address, header, len, text, sizeof text) ==
          SHOAL_E_NOT_SERVING);
    CHECK(ask(rig, admin, other->address, "abc", 3, text, sizeof text) == SHOAL_E_NOT_SERVING);
    pool_fail_after(1);
    CHECK(ask(rig, admin, other->address, header, len, text, sizeof text) == SHOAL_E_BUSY);
    CHECK(pool_fail_fired());

    rig->store.frozen = true;
    fiber_sleep(60 * SECOND);
    CHECK(ask(rig, admin, first->address, header, len, text, sizeof text) == 0);
    CHECK(strstr(text, "UNAVAILABLE") != NULL);
    rig->store.frozen = false;
    wait_leader(rig);
    struct test_etcd_state backup;
    test_etcd_save(&rig->store, &backup);
    CHECK(change(leader(rig), "a"));
    fiber_sleep(SECOND);
    test_etcd_restore(&rig->store, &backup);
    fiber_sleep(60 * SECOND);
    unsigned refusing = 0; /* who stood for election, and was told that the map is old */
    for (unsigned i = 0; i < NODES; i++) {
        CHECK(ask(rig, admin, rig->hosts[i].address, header, len, text, sizeof text) == 0);
        refusing += strstr(text, "restored from a backup") != NULL;
    }
    CHECK(refusing > 0);
    net_destroy(admin);
}

static void an_administrator_is_told_where_to_ask(void **state)
{
    (void)state;
    run(asking_body, true);
}

static void door_body(struct rig *rig)
{
    struct authority_door door = authority_etcd_door(rig->hosts[0].etcd);
    static uint8_t bytes[65536];
    size_t len = 0;
    struct wire_caught_up caught_up = {.target = 77};
    struct wire_caught_up_reply reply;
    CHECK(door.ops->fetch(door.ctx, 0, bytes, sizeof bytes, &len) == SHOAL_E_UNAVAILABLE);
    CHECK(door.ops->caught_up(door.ctx, &caught_up, &reply) == SHOAL_E_UNAVAILABLE);
    enroll_all(rig);
    fiber_sleep(SECOND);
    CHECK(door.ops->fetch(door.ctx, 0, bytes, sizeof bytes, &len) == 0 && len > 0);
    CHECK(door.ops->caught_up(door.ctx, &caught_up, &reply) == SHOAL_E_DENIED);
}

static void the_door_leads_to_who_was_elected(void **state)
{
    (void)state;
    run(door_body, true);
}

/* ---- creating ---- */

static int broken_mark(void *ctx, uint64_t *mark)
{
    (void)ctx, (void)mark;
    return SHOAL_E_IO;
}

static void create_body(struct rig *rig)
{
    char endless[ETCD_KEY_MAX + 1];
    memset(endless, 'x', ETCD_KEY_MAX);
    endless[ETCD_KEY_MAX] = 0;
    struct host *host = &rig->hosts[0];
    struct authority_etcd *etcd;
    struct authority_etcd_config config = {
        .reactor = rig->reactor, .net = host->net, .etcd = test_etcd_door(&host->way),
        .name = "n0", .address = "n0:other", .prefix = endless, .ctx = host};
    CHECK(authority_etcd_create(&config, &etcd) == SHOAL_E_CONFIG);
    CHECK(found_cluster(rig, endless, 4) == SHOAL_E_CONFIG);
    config.prefix = "shoal/test";
    config.mark_load = broken_mark;
    CHECK(authority_etcd_create(&config, &etcd) == SHOAL_E_IO);
    config.mark_load = NULL;
    config.address = host->address; /* taken */
    CHECK(authority_etcd_create(&config, &etcd) != 0);
    config.address = "n0:other";
    uint64_t nth = 0;
    for (;;) {
        memory_fail_after(++nth);
        int error = authority_etcd_create(&config, &etcd);
        if (!memory_fail_fired()) {
            CHECK(error == 0);
            break;
        }
        CHECK(error == SHOAL_E_NO_MEMORY);
    }
    CHECK(nth > 3);
    authority_etcd_stop(etcd);
    authority_etcd_destroy(etcd);
    host->way.unwatch = false; /* it was the same way */
}

static void what_cannot_be_created_leaves_nothing(void **state)
{
    (void)state;
    run(create_body, true);
}

static int quiet(void **state)
{
    (void)state;
    log_set_level(LOG_LEVEL_ERROR);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_map_nobody_leads_and_with_one_somebody_does),
        cmocka_unit_test(with_a_map_that_cannot_be_read_nobody_leads),
        cmocka_unit_test(the_map_of_another_cluster_is_not_led),
        cmocka_unit_test(who_leads_is_not_guessed_from_nonsense),
        cmocka_unit_test(what_an_earlier_life_holds_is_given_back),
        cmocka_unit_test(a_mark_that_cannot_be_kept_stops_nobody),
        cmocka_unit_test(an_administrator_is_told_where_to_ask),
        cmocka_unit_test(the_door_leads_to_who_was_elected),
        cmocka_unit_test(what_cannot_be_created_leaves_nothing),
    };
    return cmocka_run_group_tests_name("authority_etcd refusal", tests, quiet, NULL);
}
