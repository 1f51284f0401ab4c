/* SPDX-License-Identifier: Apache-2.0 */
/* What the authority answers to nodes, clients and administrators. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/macros.h"
#include "cluster/authority_private.h"
#include "cluster/cluster.h"
#include "core/reactor.h"

#define HEADER_BYTES 512u

static void answer(struct authority *a, struct net_request *request, const struct wire_head *asked,
                   int error)
{
    uint8_t header[HEADER_BYTES];
    struct wire_head head = *asked;
    head.status = (uint16_t)-error;
    head.epoch = a->map->epoch;
    net_reply(request, header, wire_status_encode(header, sizeof header, &head), NULL, 0);
}

static struct wire_head reply_head(const struct authority *a, const struct wire_head *asked)
{
    struct wire_head head = *asked;
    head.status = 0;
    head.epoch = a->map->epoch;
    return head;
}

static void serve_map_get(struct authority *a, struct net_request *request,
                          const struct wire_head *head, struct decoder *in)
{
    struct wire_map_get ask;
    int error = wire_map_get_decode(in, &ask);
    size_t room = cluster_map_encoded_size(a->map);
    void *bytes = error == 0 ? malloc(room) : NULL;
    if (error == 0 && bytes == NULL)
        error = SHOAL_E_NO_MEMORY;
    if (error != 0) {
        answer(a, request, head, error);
        return;
    }
    uint8_t header[HEADER_BYTES];
    struct wire_head out = reply_head(a, head);
    struct wire_map_get_reply reply = {.epoch = a->map->epoch};
    struct iovec payload = {bytes, 0};
    if (a->map->epoch > ask.have_epoch)
        payload.iov_len = cluster_map_encode(a->map, bytes, room);
    size_t len = wire_map_get_reply_encode(header, sizeof header, &out, &reply);
    net_reply(request, header, len, &payload, payload.iov_len > 0);
    free(bytes);
}

/* A node speaks for itself only. */
static bool is_node(const struct net_request *request, const char *name, size_t len)
{
    const struct net_identity *identity = net_request_identity(request);
    return identity->role == NET_ROLE_NODE && strlen(identity->name) == len &&
           memcmp(identity->name, name, len) == 0;
}

struct enroll {
    const struct wire_enroll *ask;
    char name[CLUSTER_NAME_MAX];
    uint32_t incarnation;
};

static int apply_enroll(struct cluster_map *map, void *arg)
{
    struct enroll *enroll = arg;
    return map_change_node_up(map, enroll->name, enroll->ask->process, &enroll->incarnation,
                              enroll->ask->targets, enroll->ask->targets_count);
}

static void serve_enroll(struct authority *a, struct net_request *request,
                         const struct wire_head *head, struct decoder *in)
{
    struct wire_enroll ask;
    struct enroll enroll = {.ask = &ask};
    int error = wire_enroll_decode(in, &ask);
    if (error == 0 && !is_node(request, ask.node, ask.node_len))
        error = SHOAL_E_DENIED;
    if (error == 0 && (ask.node_len == 0 || ask.node_len >= sizeof enroll.name))
        error = SHOAL_E_INVALID;
    if (error == 0 && ask.have_epoch > a->map->epoch) {
        authority_outdated(a, ask.have_epoch);
        error = SHOAL_E_STALE_EPOCH;
    }
    if (error == 0) {
        memcpy(enroll.name, ask.node, ask.node_len);
        error = authority_apply(a, apply_enroll, &enroll, APPLY_GATHERED);
        if (error == SHOAL_E_EXISTS)
            error = 0;
    }
    if (error != 0) {
        answer(a, request, head, error);
        return;
    }
    uint8_t header[HEADER_BYTES];
    struct wire_head out = reply_head(a, head);
    struct wire_enroll_reply reply = {.incarnation = enroll.incarnation, .epoch = a->map->epoch};
    size_t len = wire_enroll_reply_encode(header, sizeof header, &out, &reply);
    net_reply(request, header, len, NULL, 0);
}

/* Is this the target's own node? */
static bool owns_target(const struct authority *a, const struct net_request *request, uint32_t id)
{
    const struct map_target *target = cluster_map_target(a->map, id);
    if (target == NULL)
        return false;
    const char *name = a->map->nodes[target->node].name;
    return is_node(request, name, strlen(name));
}

static int apply_clean(struct cluster_map *map, void *arg)
{
    const struct wire_caught_up *ask = arg;
    return map_change_target_clean(map, ask->target, ask->incarnation, ask->epoch);
}

static void serve_caught_up(struct authority *a, struct net_request *request,
                            const struct wire_head *head, struct decoder *in)
{
    struct wire_caught_up ask;
    int error = wire_caught_up_decode(in, &ask);
    if (error == 0 && !owns_target(a, request, ask.target))
        error = SHOAL_E_DENIED;
    if (error == 0)
        error = authority_apply(a, apply_clean, &ask, APPLY_GATHERED);
    if (error != 0 && error != SHOAL_E_EXISTS) {
        answer(a, request, head, error);
        return;
    }
    uint8_t header[HEADER_BYTES];
    struct wire_head out = reply_head(a, head);
    struct wire_caught_up_reply reply = {.epoch = a->map->epoch};
    size_t len = wire_caught_up_reply_encode(header, sizeof header, &out, &reply);
    net_reply(request, header, len, NULL, 0);
}

static int apply_moved(struct cluster_map *map, void *arg)
{
    const struct wire_moved *ask = arg;
    uint32_t rows[ARRAY_LEN(ask->rows)];
    for (unsigned i = 0; i < ask->rows_count; i++)
        rows[i] = ask->rows[i].row;
    return map_change_rows_moved(map, ask->target, ask->incarnation, ask->epoch, rows,
                                 ask->rows_count);
}

static void serve_moved(struct authority *a, struct net_request *request,
                        const struct wire_head *head, struct decoder *in)
{
    struct wire_moved *ask = malloc(sizeof *ask);
    int error = ask == NULL ? SHOAL_E_NO_MEMORY : wire_moved_decode(in, ask);
    if (error == 0 && !owns_target(a, request, ask->target))
        error = SHOAL_E_DENIED;
    if (error == 0)
        error = authority_apply(a, apply_moved, ask, APPLY_WITH_MOVES);
    free(ask);
    if (error != 0 && error != SHOAL_E_EXISTS) {
        answer(a, request, head, error);
        return;
    }
    uint8_t header[HEADER_BYTES];
    struct wire_head out = reply_head(a, head);
    struct wire_moved_reply reply = {.epoch = a->map->epoch};
    size_t len = wire_moved_reply_encode(header, sizeof header, &out, &reply);
    net_reply(request, header, len, NULL, 0);
}

struct failed {
    uint32_t target, incarnation;
};

static int apply_failed(struct cluster_map *map, void *arg)
{
    const struct failed *failed = arg;
    return map_change_target_failed(map, failed->target, failed->incarnation);
}

static void serve_heartbeat(struct authority *a, struct net_request *request,
                            const struct wire_head *head, struct decoder *in)
{
    struct wire_heartbeat ask;
    int error = wire_heartbeat_decode(in, &ask);
    if (error == 0 && !is_node(request, ask.node, ask.node_len))
        error = SHOAL_E_DENIED;
    if (error == 0 && ask.epoch > a->map->epoch) {
        authority_outdated(a, ask.epoch);
        error = SHOAL_E_STALE_EPOCH;
    }
    if (error == 0)
        authority_heard(a, ask.node, ask.node_len, ask.incarnation, ask.epoch);
    for (unsigned i = 0; error == 0 && i < ask.failed_count; i++) {
        const struct map_target *target = cluster_map_target(a->map, ask.failed[i].target);
        if (target == NULL || !target->up || !owns_target(a, request, target->id))
            continue;
        struct failed failed = {target->id, ask.incarnation};
        error = authority_apply(a, apply_failed, &failed, APPLY_GATHERED);
    }
    if (error != 0) {
        answer(a, request, head, error);
        return;
    }
    for (uint32_t i = 0; i < a->map->nodes_count; i++)
        if (is_node(request, a->map->nodes[i].name, strlen(a->map->nodes[i].name)))
            authority_saw(a, i, ask.incarnation, ask.epoch);
    uint8_t header[HEADER_BYTES];
    struct wire_head out = reply_head(a, head);
    struct wire_heartbeat_reply reply = {.epoch = a->map->epoch};
    size_t len = wire_heartbeat_reply_encode(header, sizeof header, &out, &reply);
    net_reply(request, header, len, NULL, 0);
}

static void serve_admin(struct authority *a, struct net_request *request,
                        const struct wire_head *head, struct decoder *in)
{
    struct wire_admin ask;
    char wish[sizeof ask.wish + 1];
    char *text = NULL;
    int error = wire_admin_decode(in, &ask);
    if (error == 0) {
        memcpy(wish, ask.wish, ask.wish_len);
        wish[ask.wish_len] = 0;
        authority_wish(a, wish, &text);
        error = text == NULL ? SHOAL_E_NO_MEMORY : 0;
    }
    if (error != 0) {
        answer(a, request, head, error);
        return;
    }
    uint8_t header[HEADER_BYTES];
    struct wire_head out = reply_head(a, head);
    struct wire_admin_reply reply = {0};
    struct iovec payload = {text, strlen(text)};
    size_t len = wire_admin_reply_encode(header, sizeof header, &out, &reply);
    net_reply(request, header, len, &payload, 1);
    free(text);
}

struct job {
    struct authority *authority;
    struct net_request *request;
};

static void serve(void *arg)
{
    struct job job = *(struct job *)arg;
    free(arg);
    struct authority *a = job.authority;
    size_t len;
    const void *header = net_request_header(job.request, &len);
    struct decoder in = decoder_init(header, len);
    struct wire_head head;
    wire_head_decode(&in, &head);
    enum net_role role = net_request_identity(job.request)->role;
    if (!decoder_ok(&in))
        answer(a, job.request, &head, SHOAL_E_INVALID);
    else if (head.type == WIRE_map_get)
        serve_map_get(a, job.request, &head, &in);
    else if (head.type == WIRE_enroll)
        serve_enroll(a, job.request, &head, &in);
    else if (head.type == WIRE_caught_up)
        serve_caught_up(a, job.request, &head, &in);
    else if (head.type == WIRE_moved)
        serve_moved(a, job.request, &head, &in);
    else if (head.type == WIRE_heartbeat)
        serve_heartbeat(a, job.request, &head, &in);
    else if (head.type == WIRE_admin && role == NET_ROLE_ADMIN)
        serve_admin(a, job.request, &head, &in);
    else
        answer(a, job.request, &head,
               head.type == WIRE_admin ? SHOAL_E_DENIED : SHOAL_E_UNSUPPORTED);
    fiber_group_done(&a->running);
}

void authority_request(void *ctx, struct net_request *request)
{
    struct authority *a = ctx;
    struct job *job = malloc(sizeof *job);
    if (job == NULL) {
        net_refuse(request, SHOAL_E_BUSY);
        return;
    }
    *job = (struct job){a, request};
    fiber_group_add(&a->running);
    if (fiber_spawn(a->fibers, serve, job) != 0) {
        fiber_group_done(&a->running);
        free(job);
        net_refuse(request, SHOAL_E_BUSY);
    }
}
