/* SPDX-License-Identifier: Apache-2.0 */
/* What the authority refuses, and what it does when memory, fibers or nodes are not there. */
#include "cluster/test_authority.h"

#include <jansson.h>

#include "base/macros.h"
#include "base/pool.h"
#include "base/test_memory.h"

/* ---- messages ---- */

/* Sends these bytes to @address. Return: what the call ended with, or the status of the reply. */
static int send(struct rig *rig, struct net *from, const void *header, size_t len, char *text,
                size_t text_size)
{
    struct net_peer *peer;
    uint8_t reply[512];
    struct iovec payload = {text, text_size};
    struct net_call call = {.header = header,
                            .header_len = len,
                            .reply_payload = text == NULL ? NULL : &payload,
                            .reply_payload_count = text != NULL,
                            .deadline_ns = reactor_now_ns(rig->reactor) + 1000000000,
                            .reply_header = reply,
                            .reply_header_len = sizeof reply};
    CHECK(net_peer_open(from, "authority:1", NULL, 4, &peer) == 0);
    int error = net_call(peer, &call);
    net_peer_close(peer);
    if (error != 0)
        return error;
    if (text != NULL)
        text[call.reply_payload_len] = 0;
    struct wire_head head;
    struct decoder in = decoder_init(reply, call.reply_header_len);
    wire_head_decode(&in, &head);
    CHECK(decoder_ok(&in));
    return -(int)head.status;
}

/* A message without its fields. */
static int send_bare(struct rig *rig, struct net *from, enum wire_type type)
{
    uint8_t header[64];
    struct wire_head head = {.type = (uint16_t)type, .target = WIRE_NO_TARGET};
    return send(rig, from, header, wire_status_encode(header, sizeof header, &head), NULL, 0);
}

static void messages_body(struct rig *rig)
{
    CHECK(send(rig, rig->node_net, "abc", 3, NULL, 0) == SHOAL_E_INVALID);
    CHECK(send_bare(rig, rig->node_net, WIRE_put) == SHOAL_E_UNSUPPORTED);
    CHECK(send_bare(rig, rig->node_net, WIRE_admin) == SHOAL_E_DENIED);
    CHECK(send_bare(rig, rig->admin_net, WIRE_admin) == SHOAL_E_INVALID);
    static const enum wire_type types[] = {WIRE_map_get, WIRE_enroll, WIRE_caught_up,
                                           WIRE_heartbeat};
    for (unsigned i = 0; i < ARRAY_LEN(types); i++)
        CHECK(send_bare(rig, rig->node_net, types[i]) == SHOAL_E_INVALID);
}

static void a_message_that_is_none_is_answered_so(void **state)
{
    (void)state;
    rig_run(messages_body);
}

static void admin_body(struct rig *rig)
{
    static char text[65536];
    uint8_t header[WIRE_MESSAGE_MAX];
    struct wire_head head = {.type = WIRE_admin, .target = WIRE_NO_TARGET};
    static struct wire_admin ask = {.wish = "{\"wish\":\"map\"}"};
    ask.wish_len = (uint16_t)strlen("{\"wish\":\"map\"}");
    size_t len = wire_admin_encode(header, sizeof header, &head, &ask);
    CHECK(send(rig, rig->node_net, header, len, text, sizeof text) == SHOAL_E_DENIED);
    CHECK(send(rig, rig->admin_net, header, len, text, sizeof text) == 0);
    CHECK(strstr(text, "\"ok\":true") != NULL && strstr(text, "\"n5\"") != NULL);
}

static void only_an_administrator_has_wishes(void **state)
{
    (void)state;
    rig_run(admin_body);
}

static void busy_body(struct rig *rig)
{
    pool_fail_after(1); /* the fiber that would answer */
    CHECK(send_bare(rig, rig->node_net, WIRE_put) == SHOAL_E_BUSY && pool_fail_fired());
    CHECK(send_bare(rig, rig->node_net, WIRE_put) == SHOAL_E_UNSUPPORTED);
}

static void without_a_fiber_the_authority_is_busy(void **state)
{
    (void)state;
    rig_run(busy_body);
}

/* ---- nodes ---- */

static int beat(struct rig *rig, const char *name, uint32_t incarnation, uint32_t failed)
{
    struct authority_door door = authority_remote_door(rig->remote);
    struct wire_heartbeat ask = {.node_len = (uint16_t)strlen(name), .incarnation = incarnation,
                                 .failed_count = failed != WIRE_NO_TARGET};
    struct wire_heartbeat_reply reply;
    memcpy(ask.node, name, ask.node_len);
    ask.failed[0].target = failed;
    return door.ops->heartbeat(door.ctx, &ask, &reply);
}

static void failed_body(struct rig *rig)
{
    struct wire_enroll_reply reply;
    CHECK(beat(rig, "n0", 0, 0) == 0); /* is not up */
    CHECK(rig_enroll(rig, "n0", 0, 0, &reply) == 0);
    uint64_t epoch = authority_map(rig->authority)->epoch;
    CHECK(beat(rig, "n1", 1, WIRE_NO_TARGET) == SHOAL_E_DENIED);
    CHECK(beat(rig, "", 1, WIRE_NO_TARGET) == SHOAL_E_DENIED);
    CHECK(beat(rig, "n0", reply.incarnation, 77) == 0); /* is nobody's */
    CHECK(beat(rig, "n0", reply.incarnation, 1) == 0);  /* is another's */
    CHECK(beat(rig, "n0", reply.incarnation + 1, 0) == SHOAL_E_STALE_EPOCH);
    CHECK(authority_map(rig->authority)->epoch == epoch);
    CHECK(beat(rig, "n0", reply.incarnation, 0) == 0);
    CHECK(authority_map(rig->authority)->epoch == epoch + 1);
    CHECK(!authority_map(rig->authority)->targets[0].up);
}

static void a_node_reports_the_failure_of_its_own_targets_only(void **state)
{
    (void)state;
    rig_run(failed_body);
}

static int replace(struct cluster_map *map, void *arg)
{
    (void)arg;
    return map_change_target_replaced(map, 0);
}

static int caught_up(struct rig *rig, uint32_t target, uint32_t incarnation)
{
    struct authority_door door = authority_remote_door(rig->remote);
    struct wire_caught_up ask = {target, incarnation, authority_map(rig->authority)->epoch};
    struct wire_caught_up_reply reply;
    return door.ops->caught_up(door.ctx, &ask, &reply);
}

static void caught_up_body(struct rig *rig)
{
    struct wire_enroll_reply reply;
    CHECK(rig_enroll(rig, "n0", 0, 0, &reply) == 0);
    CHECK(caught_up(rig, 77, reply.incarnation) == SHOAL_E_DENIED);
    CHECK(caught_up(rig, 1, reply.incarnation) == SHOAL_E_DENIED);
    CHECK(caught_up(rig, 0, reply.incarnation) == 0); /* it was clean before */
    CHECK(authority_change(rig->authority, replace, NULL) == 0);
    CHECK(caught_up(rig, 0, reply.incarnation + 1) == SHOAL_E_STALE_EPOCH);
    CHECK(authority_map(rig->authority)->targets[0].state == TARGET_LEARNER);
    CHECK(caught_up(rig, 0, reply.incarnation) == 0);
    CHECK(authority_map(rig->authority)->targets[0].state == TARGET_CLEAN);
}

static void a_learner_becomes_clean_by_the_word_of_its_own_node(void **state)
{
    (void)state;
    rig_run(caught_up_body);
}

static void twice_body(struct rig *rig)
{
    struct authority_door door = authority_remote_door(rig->remote);
    struct wire_enroll ask = {.node_len = 2, .node = "n0", .process = 5};
    struct wire_enroll_reply first, second;
    CHECK(door.ops->enroll(door.ctx, &ask, &first) == 0);
    CHECK(door.ops->enroll(door.ctx, &ask, &second) == 0);
    CHECK(first.incarnation == second.incarnation && first.epoch == second.epoch);
    ask.targets_count = ARRAY_LEN(ask.targets) + 1;
    CHECK(door.ops->enroll(door.ctx, &ask, &second) == SHOAL_E_TOO_LARGE);
}

static void an_enrolment_heard_twice_makes_one_epoch(void **state)
{
    (void)state;
    rig_run(twice_body);
}

/* ---- an authority that is none ---- */

struct impostor {
    struct fiber_pool *fibers;
    struct net_request *request;
    const uint8_t *reply;
    size_t reply_len;
};

static void impostor_fiber(void *arg)
{
    struct impostor *impostor = arg;
    net_reply(impostor->request, impostor->reply, impostor->reply_len, NULL, 0);
}

static void impostor_request(void *ctx, struct net_request *request)
{
    struct impostor *impostor = ctx;
    impostor->request = request;
    CHECK(fiber_spawn(impostor->fibers, impostor_fiber, impostor) == 0);
}

static void impostor_body(struct rig *rig)
{
    struct impostor impostor = {.fibers = rig->fibers};
    struct net_service service = {impostor_request, &impostor};
    struct net_listener *listener;
    struct authority_remote *remote;
    CHECK(net_listen(rig->admin_net, "admin:1", &service, &listener) == 0);
    CHECK(authority_remote_create(rig->reactor, rig->node_net, "admin:1", &remote) == 0);
    struct authority_door door = authority_remote_door(remote);

    uint8_t header[64];
    struct wire_head head = {.type = WIRE_heartbeat};
    struct wire_heartbeat ask = {.node_len = 2, .node = "n0"};
    struct wire_heartbeat_reply reply;
    struct wire_enroll enroll = {.node_len = 2, .node = "n0"};
    struct wire_enroll_reply enrolled;
    struct wire_caught_up done = {0};
    struct wire_caught_up_reply done_reply;
    impostor.reply = header;
    for (impostor.reply_len = 1; impostor.reply_len <= wire_status_encode(header, 64, &head);
         impostor.reply_len++) {
        CHECK(door.ops->heartbeat(door.ctx, &ask, &reply) == SHOAL_E_INVALID);
        CHECK(door.ops->enroll(door.ctx, &enroll, &enrolled) == SHOAL_E_INVALID);
        CHECK(door.ops->caught_up(door.ctx, &done, &done_reply) == SHOAL_E_INVALID);
    }
    net_listener_close(listener);
    CHECK(door.ops->heartbeat(door.ctx, &ask, &reply) != 0);
    authority_remote_destroy(remote);
    memory_fail_after(1);
    CHECK(authority_remote_create(rig->reactor, rig->node_net, "x:1", &remote) ==
          SHOAL_E_NO_MEMORY);
    memory_fail_after(2);
    CHECK(authority_remote_create(rig->reactor, rig->node_net, "x:1", &remote) ==
          SHOAL_E_NO_MEMORY);
    memory_fail_after(0);
}

static void a_reply_that_is_none_is_an_error(void **state)
{
    (void)state;
    rig_run(impostor_body);
}

/* ---- wishes ---- */

static int other_wish(void *ctx, const char *wish, char **answer)
{
    (void)ctx;
    if (strstr(wish, "dance") != NULL) {
        *answer = strdup("{\"ok\":true,\"steps\":3}");
        return *answer == NULL ? SHOAL_E_NO_MEMORY : 0;
    }
    return strstr(wish, "break") != NULL ? SHOAL_E_IO : SHOAL_E_UNSUPPORTED;
}

/* With ' for ", so that the tables read. The answer is good until the next one. */
static const char *wish(struct rig *rig, const char *text)
{
    static char answer[65536];
    char json[512], *got;
    snprintf(json, sizeof json, "%s", text);
    for (char *at = json; *at != 0; at++)
        if (*at == '\'')
            *at = '"';
    authority_wish(rig->authority, json, &got);
    snprintf(answer, sizeof answer, "%s", got == NULL ? "none" : got);
    free(got);
    return answer;
}

/* What the answer must contain. */
static const struct {
    const char *wish, *answer;
} wishes[] = {
    {"", "a wish is one JSON object"},
    {"[[[[[[[[[1]]]]]]]]]", "nested too deeply"},
    {"{'wish':'x','a':[[[[[[[[1]]]]]]]]}", "nested too deeply"},
    {"{'wish':'[[[[[[[[[[[[','a':[[1],[2],[3],[4],[5],[6],[7],[8],[9]]}", "nobody here knows how"},
    {"]]}}", "a wish is one JSON object"},
    {"{'wish':'a\\'[[[[[[[[['}", "nobody here knows how"},
    {"'\\", "a wish is one JSON object"},
    {"{'wish':'dance'}", "'steps':3"},
    {"{'wish':'break'}", "'ok':false"},
    {"{'wish':'pool_create','name':'p','k':1,'m':2,'users':['alice','bob']}", "'ok':true"},
    {"{'wish':'pool_create','name':'p','k':1,'m':2}", "there is a pool 'p' already"},
    {"{'wish':'pool_create','k':1}", "name must be"},
    {"{'wish':'pool_create','name':'q','k':4,'m':4}", "needs 8 distinct targets"},
    {"{'wish':'map'}", "'users':['alice','bob']"},
    {"{'wish':'pool_set'}", "there is no pool ''"},
    {"{'wish':'pool_set','name':'none'}", "there is no pool 'none'"},
    {"{'wish':'pool_set','name':'p','ttl_s':-1}", "ttl_s must be"},
    {"{'wish':'pool_set','name':'p','m':1}", "redundancy cannot be changed"},
    {"{'wish':'pool_set','name':'p','quota_bytes':77}", "'ok':true"},
    {"{'wish':'map'}", "'quota_bytes':77"},
    {"{'wish':'pool_remove'}", "there is no pool ''"},
    {"{'wish':'pool_remove','name':'p'}", "'ok':true"},
    {"{'wish':'node_down'}", "'ok':false"},
    {"{'wish':'node_down','node':'a-name-that-is-longer-than-the-sixty-three-bytes-of-any-of-them-all'}",
     "there is no node 'a-name"},
    {"{'wish':'node_down','node':'n1'}", "'ok':true"},
    {"{'wish':'node_drain'}", "a node has to be named"},
    {"{'wish':'node_drain','node':'none'}", "there is no node 'none'"},
    {"{'wish':'node_drain','node':'n3'}", "'ok':true"},
    {"{'wish':'node_drain','node':'n3'}", "n3 is draining already"},
    {"{'wish':'node_drain','node':'n3','undo':true}", "'ok':true"},
    {"{'wish':'node_drain','node':'n3','undo':true}", "n3 is not draining already"},
    {"{'wish':'node_weight','node':'n3'}", "a weight is a number"},
    {"{'wish':'node_weight','node':'n3','weight':4294967296}", "a weight is a number"},
    {"{'wish':'node_weight','node':'n3','weight':7}", "'ok':true"},
    {"{'wish':'node_remove','node':'none'}", "there is no node 'none'"},
    {"{'wish':'target_replaced','target':'two'}", "there is no such target"},
    {"{'wish':'target_replaced','target':2}", "'ok':true"},
    {"{'wish':'map'}", "'state':'down','up':false,'lost':true"},
    {"{'wish':'target_accept','target':2}", "'ok':true"},
};

/* With @ for the planes' addresses. */
static const struct {
    const char *fields, *answer;
} additions[] = {
    {"'node':'x',@,'weights':[1,2]", "'targets':[6,7]"},
    {"'node':'x',@,'weights':[1,2]", "'targets':[6,7]"}, /* the answer was lost */
    {"'node':'x',@,'weights':[1]", "another number of devices"},
    {"'node':'x',@,'weights':[1,2,3]", "another number of devices"},
    {"'node':'n0',@,'weights':[1]", "has been started"},
    {"@,'weights':[1]", "'node' of a node"},
    {"'node':'',@,'weights':[1]", "'node' of a node"},
    {"'node':5,@,'weights':[1]", "'node' of a node"},
    {"'node':'a-name-that-is-longer-than-the-sixty-three-bytes-of-any-of-them-all',@,'weights':[1]",
     "'node' of a node"},
    {"'node':'y','weights':[1]", "'data' of a node"},
    {"'node':'y','data':'d:1','weights':[1]", "'replication' of a node"},
    {"'node':'y','data':'d:1','replication':'r:1','weights':[1]", "'management' of a node"},
    {"'node':'y',@", "'weights' of a node"},
    {"'node':'y',@,'weights':[]", "'weights' of a node"},
    {"'node':'y',@,'weights':[0]", "'weights' of a node"},
    {"'node':'y',@,'weights':['z']", "'weights' of a node"},
    {"'node':'y',@,'weights':[1,4294967296]", "'weights' of a node"},
    {"'node':'y',@,'weights':[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]",
     "'weights' of a node"},
};

static void additions_body(struct rig *rig)
{
    struct wire_enroll_reply reply;
    CHECK(rig_enroll(rig, "n0", 0, 0, &reply) == 0);
    for (unsigned i = 0; i < ARRAY_LEN(additions); i++) {
        char text[512], want[128];
        const char *fields = additions[i].fields, *at = strchr(fields, '@');
        int before = at == NULL ? (int)strlen(fields) : (int)(at - fields);
        snprintf(text, sizeof text, "{'wish':'node_add',%.*s%s%s}", before, fields,
                 at == NULL ? "" : "'data':'d:1','replication':'r:1','management':'m:1'",
                 at == NULL ? "" : at + 1);
        snprintf(want, sizeof want, "%s", additions[i].answer);
        const char *answer = wish(rig, text);
        bool done = strstr(want, "targets") != NULL;
        for (char *c = want; done && *c != 0; c++)
            *c = *c == '\'' ? '"' : *c;
        CHECK_MSG(strstr(answer, want) != NULL, "%s: %s", text, answer);
    }
    CHECK(authority_map(rig->authority)->nodes_count == 7);
}

static void a_node_is_added_as_it_was_wished_or_not_at_all(void **state)
{
    (void)state;
    rig_run(additions_body);
}

static void wishes_body(struct rig *rig)
{
    for (unsigned i = 0; i < ARRAY_LEN(wishes); i++) {
        char want[256];
        snprintf(want, sizeof want, "%s", wishes[i].answer);
        for (char *at = want; wishes[i].answer[0] == '\'' && *at != 0; at++)
            if (*at == '\'')
                *at = '"';
        const char *answer = wish(rig, wishes[i].wish);
        CHECK_MSG(strstr(answer, want) != NULL, "%s: %s", wishes[i].wish, answer);
    }
}

static void each_wish_has_its_answer(void **state)
{
    (void)state;
    rig_run_with((struct rig){.body = wishes_body, .wish = other_wish});
}

/* ---- memory ---- */

static int nothing(struct cluster_map *map, void *arg)
{
    (void)map, (void)arg;
    return 0;
}

static void no_memory_body(struct rig *rig)
{
    uint64_t epoch = authority_map(rig->authority)->epoch, nth = 0;
    for (bool fired = true; fired;) {
        memory_fail_after(++nth);
        int error = authority_change(rig->authority, nothing, NULL);
        fired = memory_fail_fired();
        CHECK(error == (fired ? SHOAL_E_NO_MEMORY : 0));
        CHECK(authority_map(rig->authority)->epoch == epoch + !fired);
    }
    CHECK(nth > 10);
}

static void a_change_without_memory_is_none(void **state)
{
    (void)state;
    rig_run(no_memory_body);
}

/* Want of memory is no answer that says yes and leaves out what was asked. */
static void answer_body(struct rig *rig)
{
    json_set_alloc_funcs(malloc, free);
    uint64_t nth = 0;
    unsigned refused = 0;
    for (bool fired = true; fired;) {
        memory_fail_after(++nth);
        const char *answer = wish(rig, "{'wish':'map'}");
        fired = memory_fail_fired();
        refused += strstr(answer, "\"ok\":false") != NULL;
        CHECK_MSG(strstr(answer, "\"ok\":true") == NULL || strstr(answer, "\"pools\"") != NULL,
                  "number %llu: %s", (unsigned long long)nth, answer);
    }
    CHECK(refused > 100);
}

static void an_answer_without_memory_does_not_say_yes(void **state)
{
    (void)state;
    rig_run(answer_body);
}

static void create_body(struct rig *rig)
{
    struct authority *other;
    uint64_t nth = 0;
    for (;;) {
        struct authority_config config = {.reactor = rig->reactor, .map = test_map(1, 1, 0),
                                          .gather_ns = 1};
        memory_fail_after(++nth);
        int error = authority_create(&config, &other);
        if (!memory_fail_fired()) {
            CHECK(error == 0);
            break;
        }
        CHECK(error == SHOAL_E_NO_MEMORY);
        cluster_map_free(config.map);
    }
    CHECK(nth > 3);
    CHECK(authority_change(other, nothing, NULL) == 0); /* with nowhere to save or push it */
    authority_stop(other);
    authority_destroy(other);
}

static void an_authority_without_memory_does_not_start(void **state)
{
    (void)state;
    rig_run(create_body);
}

/* ---- pushes ---- */

static void count_push(void *ctx, struct net_request *request)
{
    ++*(unsigned *)ctx;
    net_refuse(request, SHOAL_E_BUSY);
}

/* The node has another address from now on. */
static int move_n0(struct cluster_map *map, void *arg)
{
    struct map_node node = {.name = "n0"};
    snprintf(node.replication, sizeof node.replication, "%s", (const char *)arg);
    return map_change_node_addresses(map, &node);
}

static char *const addresses[] = {"n0:one", "n0:two"};

/* Publish with the node at this address, and wait until it may have heard. */
static int push(struct rig *rig, const char *address)
{
    int error = authority_change(rig->authority, move_n0, (void *)address);
    fiber_sleep(1000000);
    return error;
}

static void pushes_body(struct rig *rig)
{
    unsigned heard[2] = {0};
    struct net_listener *listeners[2];
    struct wire_enroll_reply reply;
    for (unsigned i = 0; i < 2; i++) {
        struct net_service service = {count_push, &heard[i]};
        CHECK(net_listen(rig->node_net, addresses[i], &service, &listeners[i]) == 0);
    }
    CHECK(push(rig, addresses[0]) == 0 && heard[0] == 0); /* it is not up */
    CHECK(rig_enroll(rig, "n0", 0, 0, &reply) == 0);
    fiber_sleep(1000000);
    CHECK(heard[0] == 1);
    CHECK(push(rig, addresses[0]) == 0 && heard[0] == 2);
    CHECK(push(rig, addresses[1]) == 0 && heard[0] == 2 && heard[1] == 1);
    CHECK(push(rig, "") == 0 && heard[0] == 2 && heard[1] == 1);

    /* Without memory for a push, or a fiber, the epoch is there all the same. */
    uint64_t nth = 0;
    for (unsigned i = 0, left_out = 0; left_out < 3; i ^= 1) {
        heard[0] = heard[1] = 0;
        memory_fail_after(++nth);
        int error = push(rig, addresses[i]);
        CHECK(memory_fail_fired());
        if (error == 0)
            left_out++;
        CHECK(heard[0] + heard[1] == 0);
    }
    pool_fail_after(1);
    CHECK(push(rig, addresses[0]) == 0 && pool_fail_fired() && heard[0] == 0);
    CHECK(push(rig, addresses[0]) == 0 && heard[0] == 1);
    net_listener_close(listeners[0]);
    net_listener_close(listeners[1]);
}

static void a_new_epoch_is_pushed_to_where_the_node_is_now(void **state)
{
    (void)state;
    rig_run(pushes_body);
}

static void stopped(struct rig *rig)
{
    CHECK(authority_change(rig->authority, nothing, NULL) == SHOAL_E_SHUTDOWN);
}

static void nothing_to_do(struct rig *rig)
{
    (void)rig;
}

static void a_stopped_authority_changes_nothing(void **state)
{
    (void)state;
    rig_run_with((struct rig){.body = nothing_to_do, .stopped = stopped});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_that_is_none_is_answered_so),
        cmocka_unit_test(only_an_administrator_has_wishes),
        cmocka_unit_test(without_a_fiber_the_authority_is_busy),
        cmocka_unit_test(a_node_reports_the_failure_of_its_own_targets_only),
        cmocka_unit_test(a_learner_becomes_clean_by_the_word_of_its_own_node),
        cmocka_unit_test(an_enrolment_heard_twice_makes_one_epoch),
        cmocka_unit_test(a_reply_that_is_none_is_an_error),
        cmocka_unit_test(each_wish_has_its_answer),
        cmocka_unit_test(a_node_is_added_as_it_was_wished_or_not_at_all),
        cmocka_unit_test(a_change_without_memory_is_none),
        cmocka_unit_test(an_answer_without_memory_does_not_say_yes),
        cmocka_unit_test(an_authority_without_memory_does_not_start),
        cmocka_unit_test(a_new_epoch_is_pushed_to_where_the_node_is_now),
        cmocka_unit_test(a_stopped_authority_changes_nothing),
    };
    return cmocka_run_group_tests_name("authority refusal", tests, NULL, NULL);
}
