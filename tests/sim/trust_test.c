/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may say what, and when: a client, and a node that is none of the cluster's, tell nodes and authority
 * everything they must not be believed, and a try of a request comes after its retry. A cluster of the
 * simulator listens, without faults.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "node/node_private.h"
#include "shoal/error.h"
#include "sim.h"

static struct sim *sim;
static struct sim_host *liar; /* it has the place of a client */
static void (*story)(void);
static bool told;
static unsigned unexpected;

static bool is_told(struct sim *of)
{
    (void)of;
    return told;
}

static void tell(void *arg)
{
    (void)arg;
    story();
    told = true;
}

static void run(void (*what)(void *), void *arg, struct sim_host *host)
{
    told = false;
    CHECK(fiber_spawn(host->fibers, what, arg) == 0);
    CHECK(sim_until(sim, is_told, sim->now_ns + 120 * SECOND));
}

/* A cluster, and @name that tells it @what. */
static void with_liar(const char *name, enum net_role role, void (*what)(void))
{
    sim = calloc(1, sizeof *sim);
    CHECK(sim != NULL);
    sim_begin(sim, &(struct sim_options){.seed = 7});
    CHECK(sim_until(sim, cluster_is_settled, sim->now_ns + 60 * SECOND));
    liar = &sim->clients[0].host;
    host_create(sim, liar, name, role, 1);
    story = what;
    unexpected = 0;
    run(tell, NULL, liar);
    host_destroy(liar);
    sim_end(sim);
    free(sim);
    assert_int_equal(unexpected, 0);
}

static uint64_t epoch_now(void)
{
    return authority_map(sim->authority.authority)->epoch;
}

/* @return what the net or the other side says. */
static int say(const char *address, uint8_t *header, size_t len, size_t payload_len)
{
    static uint8_t zeros[65536];
    uint8_t reply[WIRE_MESSAGE_MAX];
    struct net_peer *peer;
    struct iovec payload = {zeros, payload_len}, room = {zeros, sizeof zeros};
    CHECK(len > 0 && net_peer_open(liar->net, address, NULL, 4, &peer) == 0);
    struct net_call call = {
        .header = header, .header_len = len,
        .payload = &payload, .payload_count = payload_len > 0,
        .reply_payload = &room, .reply_payload_count = 1,
        .deadline_ns = reactor_now_ns(liar->reactor) + 10 * SECOND,
        .reply_header = reply, .reply_header_len = sizeof reply,
    };
    int error = net_call(peer, &call);
    net_peer_close(peer);
    if (error != 0)
        return error;
    struct wire_head head;
    struct decoder in = decoder_init(reply, call.reply_header_len);
    wire_head_decode(&in, &head);
    return decoder_ok(&in) ? -(int)head.status : SHOAL_E_INVALID;
}

static void expect(const char *what, int error, int wanted)
{
    if (error == wanted)
        return;
    fprintf(stderr, "%s: %s, not %s\n", what, shoal_error_name(error), shoal_error_name(wanted));
    unexpected++;
}

/* Say @name with these fields to @to_target of its node, or to the authority. */
#define SAY(name, address, to_target, at_epoch, ...)                                               \
    SAY_AS(2, name, address, to_target, at_epoch, __VA_ARGS__)
#define SAY_AS(request_, name, address, to_target, at_epoch, ...)                                  \
    ({                                                                                             \
        uint8_t header_[WIRE_MESSAGE_MAX];                                                         \
        struct wire_head head_ = {.type = WIRE_##name,                                             \
                                  .epoch = (at_epoch),                                             \
                                  .target = (to_target),                                           \
                                  .request = {1, (request_)}};                                     \
        static struct wire_##name message_;                                                        \
        message_ = (struct wire_##name){__VA_ARGS__};                                              \
        size_t len_ = wire_##name##_encode(header_, sizeof header_, &head_, &message_);            \
        say((address), header_, len_, 0);                                                          \
    })
#define TO_NODE(name, ...) SAY(name, "node1:1", 1, epoch_now(), __VA_ARGS__)
#define TO_AUTHORITY(name, ...) SAY(name, "authority:1", WIRE_NO_TARGET, 0, __VA_ARGS__)

static const struct blob_id some_id = {.pool = 1, .key = {{7}}};
static const struct blob_version some_version = {1, 1, 1};

static struct blob_desc some_desc(void)
{
    return (struct blob_desc){.id = some_id, .version = some_version, .kind = BLOB_HEAD,
                              .form = BLOB_MARKER, .k = 1, .stripe_count = 1};
}

/* ---- a client ---- */

static void say_what_members_say(void)
{
    struct wire_item_object object = {some_id, some_version};
    expect("prepare", TO_NODE(prepare, .desc = some_desc()), SHOAL_E_DENIED);
    expect("commit", TO_NODE(commit, .objects_count = 1, .objects = {object}), SHOAL_E_DENIED);
    expect("abort", TO_NODE(abort, .objects_count = 1, .objects = {object}), SHOAL_E_DENIED);
    expect("drop", TO_NODE(drop, .objects_count = 1, .objects = {object}), SHOAL_E_DENIED);
    expect("settle", TO_NODE(settle, .pool = 1, .partitions = 16), SHOAL_E_DENIED);
    expect("find", TO_NODE(find, .objects_count = 1, .objects = {object}), SHOAL_E_DENIED);
    expect("digest", TO_NODE(digest, .pool = 1), SHOAL_E_DENIED);
    expect("versions", TO_NODE(versions, .pool = 1), SHOAL_E_DENIED);
    expect("fetch", TO_NODE(fetch, .id = some_id), SHOAL_E_DENIED);
    expect("map_push", TO_NODE(map_push, .epoch = 1000), SHOAL_E_DENIED);
    expect("upload_stat", TO_NODE(upload_stat, .head = some_id), SHOAL_E_DENIED);
    expect("repair", TO_NODE(repair, .id = some_id), SHOAL_E_DENIED);
    expect("enroll", TO_AUTHORITY(enroll, .node = "node1", .node_len = 5), SHOAL_E_DENIED);
    expect("heartbeat", TO_AUTHORITY(heartbeat, .node = "node1", .node_len = 5), SHOAL_E_DENIED);
    expect("caught_up", TO_AUTHORITY(caught_up, .target = 1), SHOAL_E_DENIED);
    expect("admin", TO_AUTHORITY(admin, .wish = "{}", .wish_len = 2), SHOAL_E_DENIED);
}

static void a_client_is_not_heard_as_a_node_or_an_administrator(void **state)
{
    (void)state;
    with_liar("mallory", NET_ROLE_CLIENT, say_what_members_say);
}

static void make_an_epoch_up(void)
{
    expect("stat", SAY(stat, "node1:1", 1, UINT64_C(1) << 60, .id = some_id),
           SHOAL_E_NEWER_EPOCH);
    fiber_sleep(5 * SECOND);
    if (sim->nodes[1].node->wanted_epoch > epoch_now())
        unexpected++;
}

static void an_epoch_that_a_client_made_up_is_soon_forgotten(void **state)
{
    (void)state;
    with_liar("mallory", NET_ROLE_CLIENT, make_an_epoch_up);
}

static void wish_for_users(void *arg)
{
    char *answer = NULL;
    (void)arg;
    authority_wish(sim->authority.authority,
                   "{\"wish\":\"pool_set\",\"name\":\"durable\",\"users\":[\"alice\"]}", &answer);
    if (answer == NULL || strstr(answer, "\"ok\":true") == NULL)
        unexpected++;
    free(answer);
}

static void use_the_pool_of_another(void)
{
    CHECK(fiber_spawn(sim->authority.host.fibers, wish_for_users, NULL) == 0);
    fiber_sleep(10 * SECOND);
    struct wire_item_key_item key = {some_id.key};
    expect("put", TO_NODE(put, .id = some_id, .kind = BLOB_HEAD, .stripe_count = 1),
           SHOAL_E_DENIED);
    expect("get", TO_NODE(get, .id = some_id), SHOAL_E_DENIED);
    expect("stat", TO_NODE(stat, .id = some_id), SHOAL_E_DENIED);
    expect("remove", TO_NODE(remove, .id = some_id), SHOAL_E_DENIED);
    expect("exists", TO_NODE(exists, .pool = 1, .keys_count = 1, .keys = {key}), SHOAL_E_DENIED);
    expect("list", TO_NODE(list, .pool = 1), SHOAL_E_DENIED);
    expect("upload_open", TO_NODE(upload_open, .head = some_id), SHOAL_E_DENIED);
    expect("upload_touch", TO_NODE(upload_touch, .head = some_id), SHOAL_E_DENIED);
}

static void a_pool_is_closed_to_clients_that_are_not_its_users(void **state)
{
    (void)state;
    with_liar("mallory", NET_ROLE_CLIENT, use_the_pool_of_another);
}

/* The space of upload records is no pool of clients, and partitions end somewhere. */
static void ask_for_what_cannot_be(void)
{
    struct blob_id record = some_id;
    record.pool |= BLOB_POOL_UPLOADS;
    expect("get", TO_NODE(get, .id = record), SHOAL_E_INVALID);
    expect("stat", TO_NODE(stat, .id = record), SHOAL_E_INVALID);
    expect("put", TO_NODE(put, .id = record, .kind = BLOB_HEAD, .stripe_count = 1),
           SHOAL_E_INVALID);
    expect("remove", TO_NODE(remove, .id = record), SHOAL_E_INVALID);
    expect("upload_open", TO_NODE(upload_open, .head = record), SHOAL_E_INVALID);
    expect("list", TO_NODE(list, .pool = 1, .partition = UINT32_MAX), SHOAL_E_INVALID);
    expect("no pool", TO_NODE(stat, .id = {.pool = 99}), SHOAL_E_NO_POOL);
    expect("no target", SAY(stat, "node1:1", WIRE_NO_TARGET, epoch_now(), .id = some_id),
           SHOAL_E_INVALID);
    expect("another's target", SAY(stat, "node1:1", 2, epoch_now(), .id = some_id),
           SHOAL_E_NOT_SERVING);
    expect("kind", TO_NODE(put, .id = some_id, .kind = 77, .stripe_count = 1), SHOAL_E_INVALID);
    expect("upload", TO_NODE(put, .id = some_id, .kind = BLOB_UPLOAD, .stripe_count = 1),
           SHOAL_E_INVALID);
    expect("no stripes", TO_NODE(put, .id = some_id, .kind = BLOB_HEAD), SHOAL_E_INVALID);
    expect("more than was sent",
           TO_NODE(put, .id = some_id, .kind = BLOB_HEAD, .stripe_count = 1, .stripe_len = 100,
                   .blob_len = 100),
           SHOAL_E_INVALID);
}

static void a_request_for_what_cannot_be_is_refused(void **state)
{
    (void)state;
    with_liar("alice", NET_ROLE_CLIENT, ask_for_what_cannot_be);
}

#define TO_PRIMARY(request, name, ...)                                                             \
    SAY_AS(request, name, address, primary->id, epoch_now(), .id = some_id, ##__VA_ARGS__)

/* R8: of each request the first try comes last, as from a connection that was given up. */
static void have_first_tries_come_last(void)
{
    const struct cluster_map *map = authority_map(sim->authority.authority);
    struct target_set set;
    char address[16];
    cluster_map_set(map, cluster_map_pool(map, some_id.pool), &some_id, &set);
    const struct map_target *primary = set.targets[set.primary];
    snprintf(address, sizeof address, "node%u:1", primary->node);

    expect("remove, retried",
           TO_PRIMARY(2, remove, .retry = true, .first_epoch = epoch_now()), SHOAL_E_NOT_FOUND);
    expect("put", TO_PRIMARY(3, put, .kind = BLOB_HEAD, .stripe_count = 1), 0);
    expect("remove, late", TO_PRIMARY(2, remove, .retry = false), SHOAL_E_NOT_FOUND);
    expect("it is there", TO_PRIMARY(4, stat), 0);

    expect("put if absent, retried",
           TO_PRIMARY(5, put, .kind = BLOB_HEAD, .stripe_count = 1, .condition = WIRE_IF_ABSENT,
                      .retry = true, .first_epoch = epoch_now()),
           SHOAL_E_EXISTS);
    expect("content that is there, retried",
           TO_PRIMARY(6, put, .kind = BLOB_HEAD, .stripe_count = 1, .content = true, .retry = true,
                      .first_epoch = epoch_now()),
           0);
    expect("remove", TO_PRIMARY(7, remove, .retry = false), 0);
    expect("put if absent, late",
           TO_PRIMARY(5, put, .kind = BLOB_HEAD, .stripe_count = 1, .condition = WIRE_IF_ABSENT),
           SHOAL_E_EXISTS);
    expect("content, late",
           TO_PRIMARY(6, put, .kind = BLOB_HEAD, .stripe_count = 1, .content = true), 0);
    expect("it is gone", TO_PRIMARY(8, stat), SHOAL_E_NOT_FOUND);
}

static void a_late_first_try_changes_nothing(void **state)
{
    (void)state;
    with_liar("alice", NET_ROLE_CLIENT, have_first_tries_come_last);
}

/* ---- a node ---- */

static void speak_for_another_node(void)
{
    struct wire_item_object object = {some_id, some_version};
    expect("prepare", TO_NODE(prepare, .desc = some_desc(), .primary = 0), SHOAL_E_DENIED);
    expect("commit", TO_NODE(commit, .objects_count = 1, .objects = {object}), SHOAL_E_DENIED);
    expect("abort", TO_NODE(abort, .objects_count = 1, .objects = {object}), SHOAL_E_DENIED);
    expect("drop", TO_NODE(drop, .objects_count = 1, .objects = {object}), SHOAL_E_DENIED);
    expect("settle", TO_NODE(settle, .pool = 1, .partitions = 16), SHOAL_E_DENIED);
    expect("find", TO_NODE(find, .sync = true, .objects_count = 1, .objects = {object}),
           SHOAL_E_DENIED);
    expect("repair", TO_NODE(repair, .id = some_id, .version = some_version), SHOAL_E_DENIED);
    expect("repair of no target",
           SAY(repair, "node1:1", WIRE_NO_TARGET, epoch_now(), .id = some_id), SHOAL_E_INVALID);
    expect("enroll", TO_AUTHORITY(enroll, .node = "node1", .node_len = 5), SHOAL_E_DENIED);
    expect("heartbeat", TO_AUTHORITY(heartbeat, .node = "node1", .node_len = 5), SHOAL_E_DENIED);
    expect("caught_up", TO_AUTHORITY(caught_up, .target = 1), SHOAL_E_DENIED);
    expect("admin", TO_AUTHORITY(admin, .wish = "{}", .wish_len = 2), SHOAL_E_DENIED);
}

static void a_node_speaks_for_itself_only(void **state)
{
    (void)state;
    with_liar("node9", NET_ROLE_NODE, speak_for_another_node);
}

/* ---- an administrator ---- */

static void wish_for_nonsense(void)
{
    static struct wire_admin ask;
    uint8_t header[WIRE_MESSAGE_MAX];
    struct wire_head head = {.type = WIRE_admin, .target = WIRE_NO_TARGET};
    ask.wish_len = sizeof ask.wish;
    for (unsigned i = 0; i < 3; i++) {
        memset(ask.wish, "[{\""[i], sizeof ask.wish);
        expect("nonsense",
               say("authority:1", header, wire_admin_encode(header, sizeof header, &head, &ask), 0),
               0);
    }
}

static void an_administrators_nonsense_is_answered(void **state)
{
    (void)state;
    with_liar("root", NET_ROLE_ADMIN, wish_for_nonsense);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_is_not_heard_as_a_node_or_an_administrator),
        cmocka_unit_test(an_epoch_that_a_client_made_up_is_soon_forgotten),
        cmocka_unit_test(a_pool_is_closed_to_clients_that_are_not_its_users),
        cmocka_unit_test(a_request_for_what_cannot_be_is_refused),
        cmocka_unit_test(a_late_first_try_changes_nothing),
        cmocka_unit_test(a_node_speaks_for_itself_only),
        cmocka_unit_test(an_administrators_nonsense_is_answered),
    };
    return cmocka_run_group_tests_name("trust", tests, NULL, NULL);
}
