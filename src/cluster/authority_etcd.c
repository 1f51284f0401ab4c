/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The authority over etcd: which node is it, and how the others find it.
 *
 * Two keys: PREFIX/map holds the newest map; PREFIX/leader, bound to a lease, says who is the
 * authority. A leader changes the map by a transaction that compares the revision at which it knows
 * the map and its own election (creation and lease of the leader's key), so whatever somebody else
 * did since then makes it fail. After any failure that leaves a doubt the leader resigns, and
 * whoever is elected next reads what is true: nothing has to be known about a request that was lost.
 *
 * One fiber, the keeper, takes all decisions; another waits for news of the leader's key, and only
 * wakes the keeper, which looks by itself every few seconds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/macros.h"
#include "cluster/authority_private.h"
#include "cluster/cluster.h"
#include "cluster/etcd.h"
#include "core/reactor.h"

/* Less than members' leases, so that the elected one's death costs little more; the least that etcd grants. */
#define OFFICE_S UINT64_C(2)
#define MS 1000000ull
#define LEAD_LOOK_NS (700 * MS)
#define FOLLOW_LOOK_NS (5000 * MS)
#define RETRY_NS (500 * MS)
#define REFUSED_NS (30000 * MS)
#define JITTER_NS (200 * MS)
#define WATCH_NS (60000 * MS)
#define FIBERS (CLUSTER_NODES_MAX / 8)

enum { LEADER, MAP };

/* The way to one leader; closed by its last user. */
struct route {
    struct etcd_leader leader;
    struct authority_remote *remote;
    unsigned users;
};

/*
 * struct authority_etcd
 * @lease: under which this node stands for election; 0: none. @resign: one to be given back
 * @elected: revision at which the leader's key was made for @lease
 * @map_revision: at which this leader knows the map
 * @kept_ns: from when on etcd keeps @lease for its time
 * @seen_revision: of the store, at the last look
 * @doubt: what this leader knows may no longer be so: it resigns
 * @mark: see struct authority_etcd_config
 * @refused: this etcd is older than what the node knows; told once
 * @refused_revision, @refused_until_ns: of the map that nodes say is old, and when to ask them again
 * @silent_ns: of each node, when this one took office: see struct survey
 */
struct authority_etcd {
    struct authority_etcd_config config;
    char name[CLUSTER_NAME_MAX], leader_key[ETCD_KEY_MAX], map_key[ETCD_KEY_MAX];
    struct fiber_pool *fibers;
    struct fiber_group running;
    struct fiber_queue wake, looked;
    struct net_listener *listener;
    struct authority *authority;
    struct route *route;
    int64_t lease, resign, elected, map_revision, seen_revision, refused_revision;
    uint64_t mark, kept_ns, refused_until_ns;
    uint64_t silent_ns[CLUSTER_NODES_MAX];
    bool doubt, refused, unreachable, mapless, woken, stopping;
};

static uint64_t now_ns(const struct authority_etcd *e)
{
    return reactor_now_ns(e->config.reactor);
}

static void wake(struct authority_etcd *e)
{
    e->woken = true;
    fiber_queue_wake_all(&e->wake);
}

/* ---- the way to the leader ---- */

static void route_drop(struct route *route)
{
    if (route == NULL || --route->users > 0)
        return;
    authority_remote_destroy(route->remote);
    free(route);
}

static void forget_leader(struct authority_etcd *e)
{
    struct route *route = e->route;
    e->route = NULL;
    route_drop(route);
}

static void follow(struct authority_etcd *e, const struct etcd_leader *leader)
{
    if (e->route != NULL && strcmp(e->route->leader.name, leader->name) == 0 &&
        strcmp(e->route->leader.address, leader->address) == 0)
        return;
    forget_leader(e);
    struct route *route = calloc(1, sizeof *route);
    if (route == NULL)
        return;
    *route = (struct route){.leader = *leader, .users = 1};
    int error = authority_remote_create(e->config.reactor, e->config.net, leader->address,
                                        &route->remote);
    if (error != 0) {
        LOG_ERROR("the authority's address '%s' cannot be used: %s", leader->address,
                  shoal_error_text(error));
        free(route);
        return;
    }
    LOG_INFO("the authority is %s at %s", leader->name, leader->address);
    e->route = route;
}

#define DOOR_CALL(name, ...)                                                                       \
    struct authority_etcd *e = ctx;                                                                \
    struct route *route = e->route;                                                                \
    if (route == NULL)                                                                             \
        return e->refused ? SHOAL_E_STALE_EPOCH : SHOAL_E_UNAVAILABLE;                             \
    route->users++;                                                                                \
    struct authority_door door = authority_remote_door(route->remote);                             \
    int error = door.ops->name(door.ctx, __VA_ARGS__);                                             \
    route_drop(route);                                                                             \
    return error

static int door_enroll(void *ctx, const struct wire_enroll *ask, struct wire_enroll_reply *reply)
{
    DOOR_CALL(enroll, ask, reply);
}

static int door_caught_up(void *ctx, const struct wire_caught_up *ask,
                          struct wire_caught_up_reply *reply)
{
    DOOR_CALL(caught_up, ask, reply);
}

static int door_heartbeat(void *ctx, const struct wire_heartbeat *ask,
                          struct wire_heartbeat_reply *reply)
{
    DOOR_CALL(heartbeat, ask, reply);
}

static int door_moved(void *ctx, const struct wire_moved *ask, struct wire_moved_reply *reply)
{
    DOOR_CALL(moved, ask, reply);
}

static int door_fetch(void *ctx, uint64_t have_epoch, void *buffer, size_t size, size_t *len)
{
    DOOR_CALL(fetch, have_epoch, buffer, size, len);
}

static const struct authority_ops door_ops = {
    .enroll = door_enroll,
    .caught_up = door_caught_up,
    .heartbeat = door_heartbeat,
    .moved = door_moved,
    .fetch = door_fetch,
};

struct authority_door authority_etcd_door(struct authority_etcd *e)
{
    return (struct authority_door){&door_ops, e};
}

/* ---- an etcd that is older than it was ---- */

static void refuse(struct authority_etcd *e, const char *what, uint64_t has, uint64_t knows)
{
    if (!e->refused)
        LOG_ERROR("etcd is older than this cluster: it is at %s %llu, and %s knows of %llu. Was it "
                  "restored from a backup? Nothing is changed until it has the newest map: see "
                  "docs/decisions/etcd.md", what, (unsigned long long)has, e->name,
                  (unsigned long long)knows);
    e->refused = true;
    e->doubt = true;
    forget_leader(e);
}

static void refuse_map(struct authority_etcd *e, const struct etcd_value *map, uint64_t epoch,
                       uint64_t knows)
{
    refuse(e, "epoch", epoch, knows);
    e->refused_revision = map->modified;
    e->refused_until_ns = now_ns(e) + REFUSED_NS;
}

static uint64_t known_epoch(const struct authority_etcd *e)
{
    return e->config.known_epoch == NULL ? 0 : e->config.known_epoch(e->config.ctx);
}

static void mark_seen(struct authority_etcd *e, uint64_t revision)
{
    if (revision <= e->mark || e->config.mark_save == NULL)
        return;
    int error = e->config.mark_save(e->config.ctx, revision);
    if (error != 0)
        LOG_ERROR("cannot keep how new etcd is: %s", shoal_error_text(error));
    else
        e->mark = revision;
}

/*
 * The mark is the revision of the map alone, not that of the store: elections raise that, and would
 * soon make an old store look new.
 */
static bool is_newest(struct authority_etcd *e, const struct etcd_answer *answer)
{
    uint64_t revision = (uint64_t)answer->values[MAP].modified;
    if (revision == 0 && e->mark == 0 && known_epoch(e) == 0) {
        if (!e->mapless)
            LOG_ERROR("etcd has no map of a cluster at %s: 'shoal cluster elect' puts it there",
                      e->map_key);
        e->mapless = true;
        return false;
    }
    e->mapless = false;
    if (revision < e->mark)
        refuse(e, "revision", revision, e->mark);
    else if (revision == 0)
        refuse(e, "epoch", 0, known_epoch(e));
    else
        mark_seen(e, revision);
    return revision != 0 && revision >= e->mark;
}

/* ---- leading ---- */

static bool still_elected(const struct authority_etcd *e, const struct etcd_value *leader)
{
    return leader->created == e->elected && leader->lease == e->lease;
}

/* The authority's: runs on its publisher. */
static int save(void *ctx, const void *map, size_t len)
{
    struct authority_etcd *e = ctx;
    const struct etcd_txn txn = {
        .compares = {{e->leader_key, ETCD_CREATED, e->elected},
                     {e->leader_key, ETCD_LEASE, e->lease},
                     {e->map_key, ETCD_MODIFIED, e->map_revision}},
        .compares_count = 3,
        .put_key = e->map_key,
        .put_bytes = map,
        .put_len = len,
        .reads = {[LEADER] = {e->leader_key, true}, [MAP] = {e->map_key, false}},
        .reads_count = 2,
    };
    if (e->doubt)
        return SHOAL_E_NOT_SERVING;
    struct etcd_answer answer;
    int error = e->config.etcd.ops->txn(e->config.etcd.ctx, &txn, &answer);
    const struct etcd_value *now = &answer.values[MAP];
    if (error == 0 && answer.succeeded)
        e->map_revision = answer.revision;
    else if (error == 0 && still_elected(e, &answer.values[LEADER]) && now->len == len &&
             memcmp(now->bytes, map, len) == 0)
        e->map_revision = now->modified; /* an earlier try of this very request arrived */
    else if (error != SHOAL_E_TOO_LARGE && error != SHOAL_E_INVALID) {
        LOG_WARN("authority: the new map is not known to be in etcd (%s): resigning",
                 error != 0 ? shoal_error_text(error) : "somebody else has changed it");
        e->doubt = true;
        wake(e);
        error = SHOAL_E_UNAVAILABLE;
    }
    etcd_answer_free(&answer);
    if (error == 0)
        mark_seen(e, (uint64_t)e->map_revision);
    return error;
}

static void outdated(void *ctx, uint64_t epoch)
{
    (void)epoch;
    struct authority_etcd *e = ctx;
    e->doubt = true;
    wake(e);
}

static bool is_ours(const struct authority_etcd *e, const struct cluster_map *map)
{
    static const uint8_t none[16];
    return memcmp(e->config.cluster, none, sizeof none) == 0 ||
           memcmp(e->config.cluster, map->cluster, sizeof map->cluster) == 0;
}

static uint64_t silent_ns(void *ctx, uint32_t node)
{
    const struct authority_etcd *e = ctx;
    return e->silent_ns[node];
}

static int take_office(struct authority_etcd *e, const struct etcd_value *value)
{
    struct cluster_map *map = NULL;
    int error = cluster_map_decode(value->bytes, value->len, &map);
    if (error != 0) {
        LOG_ERROR("the map in etcd at %s cannot be read: %s", e->map_key, shoal_error_text(error));
        return error;
    }
    struct survey survey = {.reactor = e->config.reactor, .net = e->config.net,
                            .fibers = e->fibers, .self = e->name, .heard = e->config.heard,
                            .ctx = e->config.ctx, .silent_ns = e->silent_ns};
    authority_survey(&survey, map);
    /* That took some of its time, and the table takes more; the next look sees whether it is still ours. */
    uint64_t asked_ns = now_ns(e);
    if (e->config.etcd.ops->keep_alive(e->config.etcd.ctx, e->lease) == 0)
        e->kept_ns = asked_ns;
    uint64_t newest = MAX(survey.newest, known_epoch(e));
    if (!is_ours(e, map)) {
        LOG_ERROR("the map in etcd at %s is another cluster's", e->map_key);
        error = SHOAL_E_INVALID;
    } else if (newest > map->epoch) {
        refuse_map(e, value, map->epoch, newest);
        error = SHOAL_E_STALE_EPOCH;
    }
    struct authority_config config = {
        .reactor = e->config.reactor, .net = e->config.net, .map = map, .save = save,
        .outdated = outdated, .silent_ns = silent_ns, .ctx = e};
    e->map_revision = value->modified;
    /* A map from where somebody saw processes end: here nobody does, so the next epoch brings leases. */
    if (map->lease_ms == 0)
        map->lease_ms = CLUSTER_LEASE_MS;
    if (error == 0)
        error = authority_create(&config, &e->authority);
    if (error != 0)
        cluster_map_free(map);
    else
        LOG_INFO("%s is the authority, at epoch %llu", e->name, (unsigned long long)map->epoch);
    return error;
}

static void leave_office(struct authority_etcd *e)
{
    struct authority *authority = e->authority;
    if (e->lease != 0)
        e->resign = e->lease;
    e->lease = e->elected = 0;
    e->doubt = true; /* for a save under way */
    if (authority != NULL) {
        LOG_INFO("%s is no longer the authority", e->name);
        e->authority = NULL;
        authority_stop(authority);
        authority_destroy(authority);
    }
    e->doubt = false;
}

/* The leader's key is ours: read the map, which nobody else changes from here on. */
static void lead(struct authority_etcd *e)
{
    const struct etcd_txn txn = {
        .compares = {{e->leader_key, ETCD_CREATED, e->elected},
                     {e->leader_key, ETCD_LEASE, e->lease}},
        .compares_count = 2,
        .reads = {[LEADER] = {e->leader_key, false}, [MAP] = {e->map_key, false}},
        .reads_count = 2,
    };
    struct etcd_answer answer;
    struct etcd_leader self;
    e->doubt = false;
    int error = e->config.etcd.ops->txn(e->config.etcd.ctx, &txn, &answer);
    if (error == 0 && (!answer.succeeded || !is_newest(e, &answer)))
        error = SHOAL_E_NOT_SERVING;
    if (error == 0)
        error = etcd_leader_parse(answer.values[LEADER].bytes, answer.values[LEADER].len, &self);
    if (error == 0)
        error = take_office(e, &answer.values[MAP]);
    if (error == 0)
        follow(e, &self);
    else
        leave_office(e);
    e->refused &= error != 0;
    etcd_answer_free(&answer);
}

static void stand_for_election(struct authority_etcd *e)
{
    struct etcd_leader self;
    snprintf(self.name, sizeof self.name, "%s", e->name);
    snprintf(self.address, sizeof self.address, "%s", net_listener_address(e->listener));
    e->lease = (int64_t)(prng_next(reactor_prng(e->config.reactor)) >> 1 | 1);
    e->elected = 0;
    e->kept_ns = now_ns(e);
    char *value = etcd_leader_json(&self);
    if (value == NULL ||
        e->config.etcd.ops->grant(e->config.etcd.ctx, e->lease, OFFICE_S) != 0) {
        free(value);
        leave_office(e);
        return;
    }
    const struct etcd_txn txn = {
        .compares = {{e->leader_key, ETCD_CREATED, 0}},
        .compares_count = 1,
        .put_key = e->leader_key,
        .put_bytes = value,
        .put_len = strlen(value),
        .put_lease = e->lease,
        .reads = {{e->leader_key, true}},
        .reads_count = 1,
    };
    struct etcd_answer answer;
    int error = e->config.etcd.ops->txn(e->config.etcd.ctx, &txn, &answer);
    if (error == 0 && answer.succeeded)
        e->elected = answer.revision;
    else if (error == 0 && answer.values[0].lease == e->lease)
        e->elected = answer.values[0].created;
    free(value);
    etcd_answer_free(&answer);
    if (e->elected != 0)
        lead(e);
    else
        leave_office(e);
}

/* ---- the keeper ---- */

static int look(struct authority_etcd *e, bool with_map, struct etcd_answer *answer)
{
    const struct etcd_txn txn = {
        .reads = {[LEADER] = {e->leader_key, false}, [MAP] = {e->map_key, !with_map}},
        .reads_count = 2,
    };
    int error = e->config.etcd.ops->txn(e->config.etcd.ctx, &txn, answer);
    if (error != 0 && !e->unreachable)
        LOG_WARN("etcd does not answer (%s): the cluster works on, and changes wait",
                 shoal_error_text(error));
    else if (error == 0 && e->unreachable)
        LOG_INFO("etcd answers again");
    e->unreachable = error != 0;
    if (error == 0) {
        e->seen_revision = answer->revision;
        fiber_queue_wake_all(&e->looked);
    }
    return error;
}

/* Leases that ended by themselves are well. */
static bool give_back(struct authority_etcd *e)
{
    if (e->resign == 0)
        return true;
    int error = e->config.etcd.ops->revoke(e->config.etcd.ctx, e->resign);
    if (error == 0 || error == SHOAL_E_NOT_FOUND)
        e->resign = 0;
    return e->resign == 0;
}

static void pause_for(struct authority_etcd *e, uint64_t ns)
{
    uint64_t until = now_ns(e) + ns;
    while (!e->stopping && !e->woken && fiber_queue_wait_until(&e->wake, until))
        ;
    e->woken = false;
}

/* Rather than be elected and find out then. */
static bool has_old_map(struct authority_etcd *e, const struct etcd_value *value)
{
    struct cluster_map *map = NULL;
    if (cluster_map_decode(value->bytes, value->len, &map) != 0)
        return false;
    uint64_t epoch = map->epoch;
    cluster_map_free(map);
    if (epoch < known_epoch(e))
        refuse_map(e, value, epoch, known_epoch(e));
    return epoch < known_epoch(e);
}

/* Everybody sees at once that nobody leads; not everybody has to try at once. */
static bool nobody_else_tried(struct authority_etcd *e)
{
    struct etcd_answer answer;
    fiber_sleep(prng_below(reactor_prng(e->config.reactor), JITTER_NS));
    bool nobody = look(e, true, &answer) == 0 && answer.values[LEADER].created == 0 &&
                  is_newest(e, &answer);
    if (nobody && has_old_map(e, &answer.values[MAP]))
        nobody = false;
    etcd_answer_free(&answer);
    return nobody && !e->stopping;
}

/* Whom the nodes told that this very map is an old one does not ask them again at once. */
static bool may_lead(const struct authority_etcd *e, const struct etcd_answer *answer)
{
    return answer->values[MAP].modified != e->refused_revision || now_ns(e) > e->refused_until_ns;
}

/* Without news of its lease a leader must think that another was elected. */
static bool may_be_over(const struct authority_etcd *e)
{
    return now_ns(e) > e->kept_ns + OFFICE_S * 1000 * MS;
}

static void keep_lease(struct authority_etcd *e)
{
    uint64_t asked = now_ns(e);
    int error = e->config.etcd.ops->keep_alive(e->config.etcd.ctx, e->lease);
    if (error == 0)
        e->kept_ns = asked;
    else if (error == SHOAL_E_NOT_FOUND || may_be_over(e))
        leave_office(e);
}

/* Return: how long until it should look again. */
static uint64_t step(struct authority_etcd *e)
{
    struct etcd_answer answer;
    struct etcd_leader leader;
    if (e->doubt)
        leave_office(e);
    if (!give_back(e))
        return RETRY_NS;
    if (e->lease != 0)
        keep_lease(e);
    uint64_t pause = FOLLOW_LOOK_NS;
    if (look(e, false, &answer) != 0) {
        if (e->lease != 0 && may_be_over(e))
            leave_office(e);
        pause = RETRY_NS;
    } else if (!is_newest(e, &answer)) {
        leave_office(e);
    } else if (e->authority != NULL && !still_elected(e, &answer.values[LEADER])) {
        leave_office(e);
        pause = 0;
    } else if (e->authority == NULL && answer.values[LEADER].created == 0) {
        forget_leader(e);
        if (may_lead(e, &answer) && nobody_else_tried(e))
            stand_for_election(e);
        pause = e->authority != NULL ? LEAD_LOOK_NS : e->refused ? FOLLOW_LOOK_NS : RETRY_NS;
    } else if (e->authority != NULL) {
        pause = LEAD_LOOK_NS;
    } else if (etcd_leader_parse(answer.values[LEADER].bytes, answer.values[LEADER].len,
                                 &leader) != 0) {
        LOG_ERROR("who leads cannot be read from etcd at %s", e->leader_key);
    } else if (strcmp(leader.name, e->name) == 0) {
        e->resign = answer.values[LEADER].lease; /* an earlier life of this node */
        pause = 0;
    } else {
        follow(e, &leader);
        e->refused &= answer.values[MAP].modified == e->refused_revision;
    }
    etcd_answer_free(&answer);
    return pause;
}

static void keeper(void *arg)
{
    struct authority_etcd *e = arg;
    while (!e->stopping) {
        uint64_t pause = step(e);
        if (!e->stopping)
            pause_for(e, pause);
    }
    leave_office(e);
    forget_leader(e);
    (void)give_back(e);
    fiber_group_done(&e->running);
}

/* After each look of the keeper: tells it of what happens to the leader's key after that. */
static void watcher(void *arg)
{
    struct authority_etcd *e = arg;
    const struct etcd_door *etcd = &e->config.etcd;
    while (!e->stopping) {
        fiber_queue_wait(&e->looked);
        if (!e->stopping && etcd->ops->watch(etcd->ctx, e->leader_key, e->seen_revision,
                                             now_ns(e) + WATCH_NS) == 0)
            wake(e);
    }
    fiber_group_done(&e->running);
}

/* ---- what is asked of this node as authority ---- */

struct job {
    struct authority_etcd *etcd;
    struct net_request *request;
};

/* Somebody else is it, or nobody: an administrator is told where to ask. */
static void not_leading(void *arg)
{
    struct job job = *(struct job *)arg;
    struct authority_etcd *e = job.etcd;
    free(arg);
    size_t len;
    const void *asked = net_request_header(job.request, &len);
    struct decoder in = decoder_init(asked, len);
    struct wire_head head;
    wire_head_decode(&in, &head);
    if (!decoder_ok(&in))
        head = (struct wire_head){0};
    uint8_t header[512];
    char text[320];
    struct iovec payload = {text, 0};
    if (head.type == WIRE_admin &&
        net_request_identity(job.request)->role == NET_ROLE_ADMIN) {
        struct wire_admin_reply reply = {0};
        const char *address = authority_etcd_leader(e);
        /* Both are from a parsed JSON string; one that would need escapes is no address. */
        bool named = address[0] != 0 && strpbrk(address, "\"\\") == NULL;
        payload.iov_len = (size_t)snprintf(
            text, sizeof text, "{\"ok\":false,\"error\":\"UNAVAILABLE\",\"message\":\"%s%s\","
            "\"authority\":\"%s\"}", named ? "the authority is at " :
            e->refused ? "etcd is older than this cluster: was it restored from a backup?"
                       : "no authority is elected: does etcd answer?",
            named ? address : "", named ? address : "");
        head.status = 0;
        len = wire_admin_reply_encode(header, sizeof header, &head, &reply);
    } else {
        head.status = (uint16_t)-SHOAL_E_NOT_SERVING;
        len = wire_status_encode(header, sizeof header, &head);
    }
    net_reply(job.request, header, len, &payload, payload.iov_len > 0);
    fiber_group_done(&e->running);
}

static void on_request(void *ctx, struct net_request *request)
{
    struct authority_etcd *e = ctx;
    if (authority_etcd_leads(e) != NULL) {
        authority_request(e->authority, request);
        return;
    }
    struct job *job = malloc(sizeof *job);
    if (job == NULL) {
        net_refuse(request, SHOAL_E_BUSY);
        return;
    }
    *job = (struct job){e, request};
    fiber_group_add(&e->running);
    if (fiber_spawn(e->fibers, not_leading, job) != 0) {
        fiber_group_done(&e->running);
        free(job);
        net_refuse(request, SHOAL_E_BUSY);
    }
}

/* ---- start and end ---- */

static int load_mark(struct authority_etcd *e)
{
    if (e->config.mark_load == NULL)
        return 0;
    int error = e->config.mark_load(e->config.ctx, &e->mark);
    if (error == SHOAL_E_NOT_FOUND) {
        e->mark = 0;
        error = 0;
    }
    return error;
}

static bool make_keys(const char *prefix, char *leader_key, char *map_key)
{
    int len = snprintf(leader_key, ETCD_KEY_MAX, "%s/leader", prefix);
    snprintf(map_key, ETCD_KEY_MAX, "%s/map", prefix);
    return len < (int)ETCD_KEY_MAX;
}

int authority_etcd_create(const struct authority_etcd_config *config, struct authority_etcd **out)
{
    struct authority_etcd *e = calloc(1, sizeof *e);
    if (e == NULL)
        return SHOAL_E_NO_MEMORY;
    e->config = *config;
    snprintf(e->name, sizeof e->name, "%s", config->name);
    fiber_group_init(&e->running);
    fiber_queue_init(&e->wake);
    fiber_queue_init(&e->looked);
    struct net_service service = {.request = on_request, .ctx = e};
    int error = make_keys(config->prefix, e->leader_key, e->map_key) ? 0 : SHOAL_E_CONFIG;
    if (error == 0)
        error = load_mark(e);
    if (error == 0)
        error = fiber_pool_create(config->reactor, "authority_etcd", FIBERS, 0, &e->fibers);
    if (error == 0)
        error = net_listen(config->net, config->address, &service, &e->listener);
    if (error != 0) {
        if (e->fibers != NULL)
            fiber_pool_destroy(e->fibers);
        free(e);
        return error;
    }
    fiber_group_add(&e->running);
    CHECK(fiber_spawn(e->fibers, keeper, e) == 0);
    fiber_group_add(&e->running);
    CHECK(fiber_spawn(e->fibers, watcher, e) == 0);
    *out = e;
    return 0;
}

void authority_etcd_stop(struct authority_etcd *e)
{
    e->stopping = true;
    fiber_queue_wake_all(&e->wake);
    fiber_queue_wake_all(&e->looked);
    e->config.etcd.ops->unwatch(e->config.etcd.ctx);
    net_listener_close(e->listener);
    fiber_group_wait(&e->running);
    while (fiber_pool_in_use(e->fibers) > 0)
        fiber_yield();
}

void authority_etcd_destroy(struct authority_etcd *e)
{
    CHECK(e->stopping && e->route == NULL);
    fiber_pool_destroy(e->fibers);
    free(e);
}

struct authority *authority_etcd_leads(struct authority_etcd *e)
{
    return e->doubt ? NULL : e->authority;
}

const char *authority_etcd_leader(const struct authority_etcd *e)
{
    return e->route == NULL ? "" : e->route->leader.address;
}

int authority_etcd_found(struct etcd_door etcd, const char *prefix, const struct cluster_map *map)
{
    char leader_key[ETCD_KEY_MAX], map_key[ETCD_KEY_MAX];
    size_t room = cluster_map_encoded_size(map);
    if (!make_keys(prefix, leader_key, map_key))
        return SHOAL_E_CONFIG;
    void *bytes = malloc(room);
    if (bytes == NULL)
        return SHOAL_E_NO_MEMORY;
    const struct etcd_txn txn = {
        .compares = {{map_key, ETCD_CREATED, 0}},
        .compares_count = 1,
        .put_key = map_key,
        .put_bytes = bytes,
        .put_len = cluster_map_encode(map, bytes, room),
        .reads = {{map_key, false}},
        .reads_count = 1,
    };
    struct etcd_answer answer;
    int error = etcd.ops->txn(etcd.ctx, &txn, &answer);
    const struct etcd_value *now = &answer.values[0];
    bool ours = answer.succeeded || (now->len == txn.put_len && txn.put_len > 0 &&
                                     memcmp(now->bytes, bytes, txn.put_len) == 0);
    if (error == 0 && !ours)
        error = SHOAL_E_EXISTS;
    etcd_answer_free(&answer);
    free(bytes);
    return error;
}
