/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/test_authority.h"

static void enroll_body(struct rig *rig)
{
    struct wire_enroll_reply reply = {0};
    struct authority_door door = authority_remote_door(rig->remote);
    CHECK(rig_enroll(rig, "n0", 0, 0, &reply) == 0);
    CHECK(reply.incarnation == 1 && reply.epoch == 1 && rig->saves == 1);
    CHECK(rig_enroll(rig, "n1", 1, 0, &reply) == SHOAL_E_DENIED);
    CHECK(rig_enroll(rig, "n0", 3, 0, &reply) == SHOAL_E_INVALID);
    CHECK(rig_enroll(rig, "n0", 0, 99, &reply) == SHOAL_E_STALE_EPOCH);
    CHECK(rig->saves == 1);

    struct wire_heartbeat beat = {.node_len = 2, .node = "n0", .incarnation = 1};
    struct wire_heartbeat_reply beat_reply;
    CHECK(door.ops->heartbeat(door.ctx, &beat, &beat_reply) == 0 && beat_reply.epoch == 1);

    static uint8_t bytes[65536];
    size_t len = 0;
    struct cluster_map *map = NULL;
    CHECK(door.ops->fetch(door.ctx, 0, bytes, sizeof bytes, &len) == 0);
    CHECK(cluster_map_decode(bytes, len, &map) == 0 && map->epoch == 1 && map->nodes[0].up);
    cluster_map_free(map);
    CHECK(door.ops->fetch(door.ctx, 1, bytes, sizeof bytes, &len) == 0 && len == 0);
}

static void a_node_enrols_for_itself_only(void **state)
{
    (void)state;
    rig_run(enroll_body);
}

static void wish_body(struct rig *rig)
{
    char *answer;
    authority_wish(rig->authority,
                   "{\"wish\":\"pool_create\",\"name\":\"d\",\"erasure\":true,\"k\":4,\"m\":2}",
                   &answer);
    CHECK_MSG(strstr(answer, "\"ok\":true") != NULL, "%s", answer);
    free(answer);
    CHECK(cluster_map_pool_named(authority_map(rig->authority), "d")->k == 4);
    const char *const refused[] = {
        "nonsense",
        "{}",
        "{\"wish\":\"fly\"}",
        "{\"wish\":\"pool_create\",\"name\":\"d\",\"k\":1,\"m\":0}",
        "{\"wish\":\"pool_create\",\"name\":\"e\",\"k\":8,\"m\":2}",
        "{\"wish\":\"pool_create\",\"name\":\"e\",\"k\":\"x\",\"m\":2}",
        "{\"wish\":\"pool_set\",\"name\":\"d\",\"k\":3}",
        "{\"wish\":\"pool_remove\",\"name\":\"none\"}",
        "{\"wish\":\"node_down\",\"node\":\"none\"}",
        "{\"wish\":\"target_replaced\",\"target\":77}",
    };
    uint64_t epoch = authority_map(rig->authority)->epoch;
    for (unsigned i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        authority_wish(rig->authority, refused[i], &answer);
        CHECK_MSG(strstr(answer, "\"ok\":false") != NULL, "%s", answer);
        free(answer);
    }
    CHECK(authority_map(rig->authority)->epoch == epoch);
    authority_wish(rig->authority, "{\"wish\":\"map\"}", &answer);
    CHECK(strstr(answer, "\"pools\"") != NULL);
    free(answer);
    authority_wish(rig->authority, "{\"wish\":\"pool_remove\",\"name\":\"d\"}", &answer);
    CHECK(strstr(answer, "\"ok\":true") != NULL);
    free(answer);
    CHECK(authority_map(rig->authority)->pools_count == 0);
}

static void wishes_are_granted_or_explained(void **state)
{
    (void)state;
    rig_run(wish_body);
}

static char *add_node(struct rig *rig, const char *node, const char *data, const char *weights)
{
    char wish[512], *answer;
    snprintf(wish, sizeof wish,
             "{\"wish\":\"node_add\",\"node\":\"%s\",\"data\":\"%s\",\"replication\":\"r:1\","
             "\"management\":\"\",\"rack\":\"r3\",\"weights\":%s}", node, data, weights);
    authority_wish(rig->authority, wish, &answer);
    return answer;
}

static void add_body(struct rig *rig)
{
    static const char *const refused[][3] = {{"", "d:1", "[1]"},    {"n9", "d:1", "[]"},
                                             {"n9", "d:1", "[0]"},  {"n9", "d:1", "3"},
                                             {"n9", "d:1", "[\"\"]"}};
    struct wire_enroll_reply reply;
    const struct map_node *node;
    char *answer;
    uint32_t targets = authority_map(rig->authority)->targets_count;
    for (unsigned i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        answer = add_node(rig, refused[i][0], refused[i][1], refused[i][2]);
        CHECK_MSG(strstr(answer, "is missing or impossible") != NULL, "%s", answer);
        free(answer);
    }
    answer = add_node(rig, "n9", "d:1", "[5,7]");
    CHECK_MSG(strstr(answer, "\"ok\":true") != NULL && strstr(answer, "partition_bits") != NULL,
              "%s", answer);
    free(answer);
    /* Nobody has started it yet, so the same again is the same; its addresses may be others. */
    answer = add_node(rig, "n9", "d:2", "[5,7]");
    CHECK_MSG(strstr(answer, "\"ok\":true") != NULL, "%s", answer);
    free(answer);
    const struct cluster_map *map = authority_map(rig->authority);
    node = cluster_map_node_named(map, "n9");
    CHECK(map->targets_count == targets + 2 && map->targets[targets + 1].weight == 7);
    CHECK(strcmp(node->data, "d:2") == 0 && strcmp(cluster_map_rack(map, node), "r3") == 0 && !node->up);
    answer = add_node(rig, "n9", "d:2", "[5]");
    CHECK_MSG(strstr(answer, "another number of devices") != NULL, "%s", answer);
    free(answer);
    CHECK(rig_enroll(rig, "n0", 0, 0, &reply) == 0);
    answer = add_node(rig, "n0", "d:2", "[1]");
    CHECK_MSG(strstr(answer, "has been started") != NULL, "%s", answer);
    free(answer);
}

static void a_node_is_added_once(void **state)
{
    (void)state;
    rig_run(add_body);
}

static void save_body(struct rig *rig)
{
    struct wire_enroll_reply reply;
    rig->save_result = SHOAL_E_FULL;
    CHECK(rig_enroll(rig, "n0", 0, 0, &reply) == SHOAL_E_FULL);
    CHECK(authority_map(rig->authority)->epoch == 0);
    rig->save_result = 0;
    CHECK(rig_enroll(rig, "n0", 0, 0, &reply) == 0 && reply.epoch == 1);
}

static void an_epoch_that_cannot_be_saved_never_was(void **state)
{
    (void)state;
    rig_run(save_body);
}

struct death {
    struct authority *authority;
    const char *node;
    struct fiber_group *group;
};

static void die(void *arg)
{
    struct death *death = arg;
    CHECK(authority_node_died(death->authority, death->node) == 0);
    fiber_group_done(death->group);
}

static void deaths_body(struct rig *rig)
{
    char *answer;
    struct wire_enroll_reply reply;
    authority_wish(rig->authority,
                   "{\"wish\":\"pool_create\",\"name\":\"d\",\"erasure\":true,\"k\":4,\"m\":2}",
                   &answer);
    free(answer);
    CHECK(rig_enroll(rig, "n0", 0, 0, &reply) == 0);
    uint64_t epoch = authority_map(rig->authority)->epoch;
    struct fiber_group group;
    struct death deaths[3];
    const char *const names[] = {"n0", "n1", "n2"};
    fiber_group_init(&group);
    for (unsigned i = 0; i < 3; i++) {
        deaths[i] = (struct death){rig->authority, names[i], &group};
        fiber_group_add(&group);
        CHECK(fiber_spawn(rig->fibers, die, &deaths[i]) == 0);
    }
    fiber_group_wait(&group);
    const struct cluster_map *map = authority_map(rig->authority);
    CHECK(map->epoch == epoch + 1);
    CHECK(!map->nodes[0].up && map->targets[0].state == TARGET_CLEAN);
}

static void deaths_at_the_same_time_are_one_epoch(void **state)
{
    (void)state;
    rig_run(deaths_body);
}

static int make_fresh(struct cluster_map *map, void *arg)
{
    (void)arg;
    map->targets[0].fresh = true;
    return 0;
}

static void beat(struct rig *rig)
{
    struct authority_door door = authority_remote_door(rig->remote);
    struct wire_heartbeat ask = {.node_len = 2, .node = "n0", .incarnation = 1,
                                 .epoch = authority_map(rig->authority)->epoch};
    struct wire_heartbeat_reply reply;
    CHECK(door.ops->heartbeat(door.ctx, &ask, &reply) == 0);
}

/* R46: what is heard while an epoch is being kept is of the one before. */
static void confirm_body(struct rig *rig)
{
    const uint64_t second = 1000000000;
    struct wire_enroll_reply reply;
    CHECK(rig_enroll(rig, "n0", 0, 0, &reply) == 0);
    CHECK(authority_change(rig->authority, make_fresh, NULL) == 0);
    rig->saving = beat;
    CHECK(authority_change(rig->authority, make_fresh, NULL) == 0);
    rig->saving = NULL;
    uint64_t epoch = authority_map(rig->authority)->epoch;
    fiber_sleep(second);
    CHECK(authority_map(rig->authority)->epoch == epoch);
    CHECK(authority_map(rig->authority)->targets[0].fresh);
    beat(rig);
    fiber_sleep(second);
    CHECK(authority_map(rig->authority)->epoch == epoch + 1);
    CHECK(!authority_map(rig->authority)->targets[0].fresh);
}

static void an_epoch_is_confirmed_when_everybody_knows_it(void **state)
{
    (void)state;
    rig_run_with((struct rig){.body = confirm_body, .lease_ms = 60000});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_enrols_for_itself_only),
        cmocka_unit_test(wishes_are_granted_or_explained),
        cmocka_unit_test(a_node_is_added_once),
        cmocka_unit_test(an_epoch_that_cannot_be_saved_never_was),
        cmocka_unit_test(deaths_at_the_same_time_are_one_epoch),
        cmocka_unit_test(an_epoch_is_confirmed_when_everybody_knows_it),
    };
    return cmocka_run_group_tests_name("authority", tests, NULL, NULL);
}
