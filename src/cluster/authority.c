/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/cluster.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "cluster/authority_private.h"
#include "core/reactor.h"

/* Save first, so that no epoch is ever given twice after a crash of the authority. */
static int publish(struct authority *a, struct cluster_map *next)
{
    size_t room = cluster_map_encoded_size(next);
    void *bytes = malloc(room);
    if (bytes == NULL)
        return SHOAL_E_NO_MEMORY;
    size_t len = cluster_map_encode(next, bytes, room);
    CHECK(len > 0);
    int error = a->config.save == NULL ? 0 : a->config.save(a->config.ctx, bytes, len);
    free(bytes);
    if (error != 0)
        LOG_ERROR("authority: epoch %llu could not be saved (%s); nothing is changed",
                  (unsigned long long)next->epoch, shoal_error_text(error));
    return error;
}

struct push {
    struct authority *authority;
    uint32_t node;
};

static struct net_peer *peer_of(struct authority *a, uint32_t index)
{
    const struct map_node *node = &a->map->nodes[index];
    struct net_peer *old = a->peers[index];
    if (a->stopping)
        return NULL;
    if (old != NULL && strcmp(a->peer_address[index], node->replication) == 0)
        return old;
    if (old != NULL) {
        a->peers[index] = NULL;
        net_peer_close(old);
    }
    if (a->peers[index] == NULL &&
        net_peer_open(a->config.net, node->replication, node->name, 4, &a->peers[index]) != 0)
        return NULL;
    memcpy(a->peer_address[index], node->replication, CLUSTER_ADDRESS_MAX);
    return a->peers[index];
}

/* One try: a node that misses it learns of the epoch by its next heartbeat. */
static void push_fiber(void *arg)
{
    struct push push = *(struct push *)arg;
    struct authority *a = push.authority;
    free(arg);
    struct net_peer *peer = peer_of(a, push.node);
    size_t room = cluster_map_encoded_size(a->map);
    void *bytes = malloc(room);
    if (peer != NULL && bytes != NULL) {
        struct wire_head head = {.type = WIRE_map_push, .epoch = a->map->epoch,
                                 .target = WIRE_NO_TARGET};
        struct wire_map_push ask = {.epoch = a->map->epoch};
        uint8_t header[256], reply[256];
        size_t len = cluster_map_encode(a->map, bytes, room);
        struct iovec payload = {bytes, len};
        struct net_call call = {
            .header = header,
            .header_len = wire_map_push_encode(header, sizeof header, &head, &ask),
            .payload = &payload,
            .payload_count = 1,
            .deadline_ns = reactor_now_ns(a->config.reactor) + AUTHORITY_PUSH_NS,
            .reply_header = reply,
            .reply_header_len = sizeof reply,
        };
        int error = net_call(peer, &call);
        if (error != 0)
            LOG_DEBUG("authority: a map could not be pushed: %s", shoal_error_text(error));
    }
    free(bytes);
    fiber_group_done(&a->running);
}

static void push_all(struct authority *a)
{
    for (uint32_t i = 0; i < a->map->nodes_count && a->config.net != NULL; i++) {
        if (!a->map->nodes[i].up || a->map->nodes[i].replication[0] == 0)
            continue;
        struct push *push = malloc(sizeof *push);
        if (push == NULL)
            return;
        *push = (struct push){a, i};
        fiber_group_add(&a->running);
        if (fiber_spawn(a->fibers, push_fiber, push) != 0) {
            fiber_group_done(&a->running);
            free(push);
        }
    }
}

/* Applies what is queued to one copy; each change is told what came of it. */
static void run_batch(struct authority *a)
{
    struct list batch;
    list_init(&batch);
    list_splice_back(&batch, &a->changes);
    a->changes_count = 0;
    struct cluster_map *next = cluster_map_copy(a->map);
    int error = a->outdated ? SHOAL_E_STALE_EPOCH : next == NULL ? SHOAL_E_NO_MEMORY : 0;
    bool confirms = error == 0 && a->all_know && map_change_confirm(next, next->epoch) == 0;
    unsigned applied = confirms;
    a->all_know = false;
    if (applied > 0)
        a->moved_ns = reactor_now_ns(a->config.reactor);
    list_for_each(&batch, struct change, node, change) {
        change->result = error != 0 ? error : change->apply(next, change->arg);
        if (change->result == 0)
            applied++;
        if (change->result == 0 && change->patient)
            a->moved_ns = reactor_now_ns(a->config.reactor);
    }
    if (applied > 0) {
        error = map_change_publish(next);
        if (error == 0)
            error = publish(a, next);
    }
    if (applied > 0 && error == 0) {
        LOG_INFO("authority: epoch %llu", (unsigned long long)next->epoch);
        cluster_map_free(a->map);
        a->map = next;
        a->all_know = false; /* what was heard while it was kept was of the one before */
        a->unconfirmed = cluster_map_unconfirmed(next);
        push_all(a);
    } else {
        cluster_map_free(next);
    }
    list_for_each(&batch, struct change, node, change) {
        if (change->result == 0)
            change->result = error;
        list_remove(&change->node);
        completion_signal(&change->done, 0);
    }
}

static bool is_urgent(const struct change *change)
{
    return change->urgent;
}

static bool is_impatient(const struct change *change)
{
    return !change->patient;
}

static bool has_change(const struct authority *a, bool (*is)(const struct change *change))
{
    list_for_each(&a->changes, struct change, node, change)
        if (is(change))
            return true;
    return false;
}

/* Return: false when the work is not to be waited for any longer. */
static bool wait_for_company(struct authority *a, uint64_t began)
{
    uint64_t until = began + a->config.gather_ns;
    if (a->stopping || has_change(a, is_urgent))
        return false;
    if (!has_change(a, is_impatient) && until < a->moved_ns + a->config.move_ns)
        until = a->moved_ns + a->config.move_ns;
    return fiber_queue_wait_until(&a->work, until);
}

static void publisher(void *arg)
{
    struct authority *a = arg;
    while (!a->stopping) {
        if (list_empty(&a->changes) && !a->all_know) {
            fiber_queue_wait(&a->work);
            continue;
        }
        uint64_t began = reactor_now_ns(a->config.reactor);
        while (wait_for_company(a, began))
            ;
        run_batch(a);
    }
    run_batch(a);
    fiber_group_done(&a->running);
}

int authority_apply(struct authority *a, int (*apply)(struct cluster_map *map, void *arg),
                    void *arg, enum apply_when when)
{
    if (a->stopping)
        return SHOAL_E_SHUTDOWN;
    if (a->outdated)
        return SHOAL_E_STALE_EPOCH;
    if (a->changes_count == AUTHORITY_CHANGES_MAX)
        return SHOAL_E_BUSY;
    a->changes_count++;
    struct change change = {.apply = apply,
                            .arg = arg,
                            .urgent = when == APPLY_AT_ONCE,
                            .patient = when == APPLY_WITH_MOVES};
    list_push_back(&a->changes, &change.node);
    fiber_queue_wake_one(&a->work);
    completion_wait(&change.done);
    return change.result;
}

bool authority_knows(const struct authority *a, uint32_t node)
{
    return a->seen_epoch[node] == a->map->epoch &&
           a->seen_incarnation[node] == a->map->nodes[node].incarnation;
}

/*
 * R46: whoever is up has to know. With leases, whoever is clean too, for it may be alive, and answer readers
 * by the map that it has.
 */
static bool all_know(const struct authority *a)
{
    for (uint32_t i = 0; i < a->map->nodes_count; i++)
        if (a->map->nodes[i].up && !authority_knows(a, i))
            return false;
    for (uint32_t i = 0; i < a->map->targets_count && a->map->lease_ms != 0; i++) {
        const struct map_target *target = &a->map->targets[i];
        if (target->state == TARGET_CLEAN && !a->map->nodes[target->node].removed &&
            a->map->nodes[target->node].incarnation != 0 && !authority_knows(a, target->node))
            return false;
    }
    return true;
}

void authority_saw(struct authority *a, uint32_t node, uint32_t incarnation, uint64_t epoch)
{
    a->seen_epoch[node] = epoch;
    a->seen_incarnation[node] = incarnation;
    if (!a->unconfirmed || a->all_know || epoch != a->map->epoch || !all_know(a))
        return;
    a->all_know = true;
    fiber_queue_wake_one(&a->work);
}

int authority_change(struct authority *a, int (*change)(struct cluster_map *map, void *arg),
                     void *arg)
{
    return authority_apply(a, change, arg, APPLY_AT_ONCE);
}

static int apply_died(struct cluster_map *map, void *arg)
{
    return map_change_node_down(map, arg);
}

int authority_node_died(struct authority *a, const char *node)
{
    char name[CLUSTER_NAME_MAX];
    if (strlen(node) >= sizeof name)
        return SHOAL_E_NOT_FOUND;
    memcpy(name, node, strlen(node) + 1);
    return authority_apply(a, apply_died, name, APPLY_GATHERED);
}

void authority_outdated(struct authority *a, uint64_t epoch)
{
    LOG_ERROR("authority: a node knows epoch %llu and this authority only %llu: is its map an old one?",
              (unsigned long long)epoch, (unsigned long long)a->map->epoch);
    if (a->config.outdated == NULL || a->outdated)
        return;
    a->outdated = true;
    a->config.outdated(a->config.ctx, epoch);
}

int authority_create(const struct authority_config *config, struct authority **out)
{
    struct authority *a = calloc(1, sizeof *a);
    if (a == NULL)
        return SHOAL_E_NO_MEMORY;
    a->config = *config;
    if (a->config.gather_ns == 0)
        a->config.gather_ns = 300000000;
    if (a->config.move_ns == 0)
        a->config.move_ns = 1000000000;
    a->map = config->map;
    /* So early that nobody runs out of leases before (docs/decisions/leases.md). */
    a->silence_ns = a->config.fence != NULL ? a->config.fence_ns
                                            : a->map->lease_ms * 1000000ull * 2 / 3;
    a->unconfirmed = cluster_map_unconfirmed(a->map);
    list_init(&a->changes);
    fiber_queue_init(&a->work);
    fiber_queue_init(&a->end);
    fiber_group_init(&a->running);
    int error = a->map->table != NULL ? 0 : cluster_map_place(a->map, NULL);
    if (error == 0)
        error = fiber_pool_create(config->reactor, "authority", AUTHORITY_FIBERS, 0, &a->fibers);
    if (error != 0) {
        free(a);
        return error;
    }
    fiber_group_add(&a->running);
    CHECK(fiber_spawn(a->fibers, publisher, a) == 0);
    if (a->silence_ns != 0) {
        fiber_group_add(&a->running);
        CHECK(fiber_spawn(a->fibers, authority_silence, a) == 0);
    }
    fiber_group_add(&a->running);
    CHECK(fiber_spawn(a->fibers, authority_outs, a) == 0);
    *out = a;
    return 0;
}

int authority_listen(struct authority *a, const char *address)
{
    struct net_service service = {.request = authority_request, .ctx = a};
    return net_listen(a->config.net, address, &service, &a->listener);
}

const char *authority_address(const struct authority *a)
{
    return net_listener_address(a->listener);
}

const struct cluster_map *authority_map(const struct authority *a)
{
    return a->map;
}

void authority_stop(struct authority *a)
{
    a->stopping = true;
    fiber_queue_wake_all(&a->work);
    fiber_queue_wake_all(&a->end);
    if (a->listener != NULL)
        net_listener_close(a->listener);
    for (uint32_t i = 0; i < CLUSTER_NODES_MAX; i++)
        if (a->peers[i] != NULL)
            net_peer_close(a->peers[i]);
    fiber_group_wait(&a->running);
    while (fiber_pool_in_use(a->fibers) > 0)
        fiber_yield();
}

void authority_destroy(struct authority *a)
{
    CHECK(a->stopping);
    fiber_pool_destroy(a->fibers);
    cluster_map_free(a->map);
    free(a->absences);
    free(a);
}
