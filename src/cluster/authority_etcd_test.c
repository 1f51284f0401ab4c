/* SPDX-License-Identifier: Apache-2.0 */
/* Three nodes that could be the authority, over an imitated etcd, on virtual time. */
#include "cluster/test_authority_etcd.h"

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

static void foreign_body(struct rig *rig)
{
    enroll_all(rig);
    struct host *old = wait_leader(rig);
    uint64_t epoch = stored_epoch(rig);
    /* An administrator puts a map there by hand. */
    struct test_etcd_way way = {.etcd = &rig->store};
    struct cluster_map *map = stored(rig);
    map->epoch += 10;
    char *bytes = malloc(cluster_map_encoded_size(map));
    const struct etcd_txn txn = {
        .put_key = "shoal/test/map", .put_bytes = bytes,
        .put_len = cluster_map_encode(map, bytes, cluster_map_encoded_size(map))};
    struct etcd_answer answer;
    CHECK(test_etcd_txn(&way, &txn, &answer) == 0);
    etcd_answer_free(&answer);
    cluster_map_free(map);
    free(bytes);
    CHECK(!change(old, "a") && stored_epoch(rig) == epoch + 10);
    fiber_sleep(20 * SECOND);
    CHECK(change(wait_leader(rig), "a") && stored_epoch(rig) == epoch + 11);
}

static void a_map_that_somebody_else_put_is_not_overwritten(void **state)
{
    (void)state;
    run(foreign_body, true);
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

    /* For whoever answers it a new leader begins to count when it begins to lead. */
    victim->silent = victim->way.cut = true;
    fiber_sleep(SILENCE_NS - SECOND * 3 / 4);
    stop_host(first);
    struct host *second = wait_leader(rig);
    CHECK(second != victim);
    fiber_sleep(SILENCE_NS - SECOND * 3 / 4);
    CHECK(stored_up(rig, index));
    fiber_sleep(SILENCE_NS);
    CHECK(!stored_up(rig, index));
    victim->way.cut = false;
    start_host(rig, (unsigned)(first - rig->hosts));
    fiber_sleep(SECOND);
    CHECK(leader(rig) == second);
}

static void a_silent_node_is_down_after_its_time(void **state)
{
    (void)state;
    run(silence_body, true);
    run_with((struct rig){.body = silence_body, .configure = with_leases});
}

static void together_body(struct rig *rig)
{
    enroll_all(rig);
    struct host *first = wait_leader(rig);
    fiber_sleep(10 * SECOND);
    uint64_t epoch = stored_epoch(rig);
    for (unsigned i = 0; i < NODES; i++)
        rig->hosts[i].silent = &rig->hosts[i] != first;
    fiber_sleep(10 * SECOND);
    CHECK(leader(rig) == first && stored_epoch(rig) == epoch + 1);
    for (unsigned i = 0; i < NODES; i++)
        CHECK(stored_up(rig, i) == (&rig->hosts[i] == first));
}

static void nodes_that_fell_silent_together_are_down_in_one_epoch(void **state)
{
    (void)state;
    run(together_body, true);
}

static void elected_body(struct rig *rig)
{
    enroll_all(rig);
    struct host *first = wait_leader(rig);
    unsigned index = (unsigned)(first - rig->hosts);
    fiber_sleep(10 * SECOND);
    uint64_t epoch = stored_epoch(rig);
    first->dead = first->silent = first->way.cut = true;
    fiber_sleep(SILENCE_NS - SECOND / 2);
    CHECK(stored_epoch(rig) == epoch);
    fiber_sleep(SECOND + SECOND / 2);
    CHECK(stored_epoch(rig) == epoch + 1 && !stored_up(rig, index));
    fiber_sleep(20 * SECOND);
    CHECK(leader(rig) != NULL && leader(rig) != first && stored_epoch(rig) == epoch + 1);
}

static void the_elected_node_is_down_when_its_lease_ends_as_any_other(void **state)
{
    (void)state;
    run_with((struct rig){.body = elected_body, .configure = with_leases});
}

static void stalled_body(struct rig *rig)
{
    enroll_all(rig);
    struct host *first = wait_leader(rig);
    struct host *other = &rig->hosts[(first - rig->hosts + 1) % NODES];
    fiber_sleep(10 * SECOND);
    uint64_t epoch = stored_epoch(rig);
    other->silent = other->way.cut = true;
    fiber_sleep(SECOND);
    rig->stall_ns = SILENCE_NS * 9 / 10;
    stop_host(first);
    CHECK(wait_leader(rig) != other && rig->stall_ns == 0);
    other->silent = other->way.cut = false;
    start_host(rig, (unsigned)(first - rig->hosts));
    fiber_sleep(10 * SECOND);
    CHECK(stored_epoch(rig) == epoch);
}

static void who_stood_still_while_it_asked_declares_nobody_dead(void **state)
{
    (void)state;
    run_with((struct rig){.body = stalled_body, .configure = with_leases});
}

static void stall_body(struct rig *rig)
{
    enroll_all(rig);
    wait_leader(rig);
    uint64_t epoch = stored_epoch(rig);
    /* This process stood still; the others did not hear from it, nor it from them. */
    for (unsigned i = 0; i < 20; i++) {
        rig->clock.now_ns += 60 * SECOND;
        fiber_sleep(SECOND / 7);
    }
    CHECK(stored_epoch(rig) == epoch);
    fiber_sleep(20 * SECOND);
    struct host *leads = wait_leader(rig);
    CHECK(stored_epoch(rig) == epoch);
    /* Longer than silence may last, but etcd holds on to the office; and nobody is heard at once. */
    for (unsigned i = 0; i < NODES; i++)
        rig->hosts[i].silent = true;
    for (unsigned i = 0; i < TEST_ETCD_LEASES; i++)
        rig->store.leases[i].until_ns += SILENCE_NS;
    rig->clock.now_ns += SILENCE_NS + SECOND / 2;
    fiber_sleep(1); /* the time of this poll is that of before */
    fiber_sleep(SECOND);
    for (unsigned i = 0; i < NODES; i++)
        rig->hosts[i].silent = false;
    fiber_sleep(10 * SECOND);
    CHECK(leader(rig) == leads && stored_epoch(rig) == epoch);
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
        cmocka_unit_test(a_map_that_somebody_else_put_is_not_overwritten),
        cmocka_unit_test(an_enrolment_whose_answer_was_lost_is_made_once),
        cmocka_unit_test(an_etcd_frozen_for_an_hour_costs_nobody_anything),
        cmocka_unit_test(an_older_etcd_is_refused_until_it_has_the_newest_map),
        cmocka_unit_test(a_leader_sees_that_an_older_etcd_was_put_in_place),
        cmocka_unit_test(a_node_that_knows_nothing_does_not_lead_with_an_old_map),
        cmocka_unit_test(an_emptied_etcd_is_refused),
        cmocka_unit_test(a_silent_node_is_down_after_its_time),
        cmocka_unit_test(a_leader_that_stood_still_declares_nobody_dead),
        cmocka_unit_test(nodes_that_fell_silent_together_are_down_in_one_epoch),
        cmocka_unit_test(the_elected_node_is_down_when_its_lease_ends_as_any_other),
        cmocka_unit_test(who_stood_still_while_it_asked_declares_nobody_dead),
    };
    return cmocka_run_group_tests_name("authority_etcd", tests, NULL, NULL);
}
