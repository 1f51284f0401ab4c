/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An imitation of etcd on virtual time, for tests: keys with revisions, leases that lapse, watches;
 * and the ways in which it hurts: not reachable, answers that are lost, an older state restored.
 */
#ifndef SHOAL_CLUSTER_TEST_ETCD_H
#define SHOAL_CLUSTER_TEST_ETCD_H

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "cluster/etcd.h"
#include "core/fiber.h"
#include "core/reactor.h"
#include "shoal/error.h"

#define TEST_ETCD_KEYS 2u
#define TEST_ETCD_LEASES 64u
#define TEST_ETCD_TRY_NS 4000000000ull

struct test_etcd_key {
    char key[ETCD_KEY_MAX];
    struct etcd_value value; /* created 0: not there */
    int64_t changed;         /* also by being deleted */
};

struct test_etcd_state {
    int64_t revision;
    struct test_etcd_key keys[TEST_ETCD_KEYS];
};

struct test_etcd {
    struct reactor *reactor;
    struct test_etcd_state now;
    struct {
        int64_t lease;
        uint64_t ttl_ns, until_ns;
    } leases[TEST_ETCD_LEASES];
    bool frozen; /* leases do not lapse while it is, but at once when it thaws */
    struct fiber_queue watchers;
};

/*
 * One client's way to it.
 * @cut: nothing arrives. @deaf: so many puts are done, and their answers lost
 */
struct test_etcd_way {
    struct test_etcd *etcd;
    bool cut;
    unsigned deaf;
    bool unwatch;
};

static inline struct test_etcd_key *test_etcd_key(struct test_etcd *etcd, const char *name)
{
    for (unsigned i = 0; i < TEST_ETCD_KEYS; i++) {
        struct test_etcd_key *key = &etcd->now.keys[i];
        if (key->key[0] == 0)
            strcpy(key->key, name);
        if (strcmp(key->key, name) == 0)
            return key;
    }
    CHECK_MSG(false, "no room for key %s", name);
    return NULL;
}

static inline void test_etcd_delete(struct test_etcd *etcd, struct test_etcd_key *key)
{
    free(key->value.bytes);
    key->value = (struct etcd_value){0};
    key->changed = ++etcd->now.revision;
    fiber_queue_wake_all(&etcd->watchers);
}

static inline void test_etcd_end_lease(struct test_etcd *etcd, unsigned i)
{
    for (unsigned k = 0; k < TEST_ETCD_KEYS; k++)
        if (etcd->now.keys[k].value.created != 0 &&
            etcd->now.keys[k].value.lease == etcd->leases[i].lease)
            test_etcd_delete(etcd, &etcd->now.keys[k]);
    etcd->leases[i].lease = 0;
}

static inline void test_etcd_lapse(struct test_etcd *etcd)
{
    for (unsigned i = 0; i < TEST_ETCD_LEASES; i++)
        if (etcd->leases[i].lease != 0 && reactor_now_ns(etcd->reactor) > etcd->leases[i].until_ns)
            test_etcd_end_lease(etcd, i);
}

/* Each way in: takes a moment, and time out as etcd.c would. */
static inline int test_etcd_enter(struct test_etcd_way *way)
{
    fiber_sleep(1000000);
    uint64_t until = reactor_now_ns(way->etcd->reactor) + TEST_ETCD_TRY_NS;
    while (way->cut || way->etcd->frozen) {
        if (reactor_now_ns(way->etcd->reactor) >= until)
            return SHOAL_E_TIMEOUT;
        fiber_sleep(50000000);
    }
    test_etcd_lapse(way->etcd);
    return 0;
}

static inline int test_etcd_leave(struct test_etcd_way *way)
{
    if (way->deaf == 0)
        return 0;
    way->deaf--;
    fiber_sleep(TEST_ETCD_TRY_NS);
    return SHOAL_E_TIMEOUT;
}

static inline int64_t test_etcd_field(const struct etcd_value *value, enum etcd_field field)
{
    return field == ETCD_CREATED    ? value->created
           : field == ETCD_MODIFIED ? value->modified
                                    : value->lease;
}

static inline char *test_etcd_bytes(const void *bytes, size_t len)
{
    char *copy = malloc(len + 1);
    CHECK(copy != NULL);
    memcpy(copy, bytes, len);
    copy[len] = 0;
    return copy;
}

static inline unsigned test_etcd_lease(const struct test_etcd *etcd, int64_t lease)
{
    unsigned i = 0;
    while (i < TEST_ETCD_LEASES && etcd->leases[i].lease != lease)
        i++;
    return i;
}

static inline int test_etcd_txn(void *ctx, const struct etcd_txn *txn, struct etcd_answer *answer)
{
    struct test_etcd_way *way = ctx;
    struct test_etcd *etcd = way->etcd;
    *answer = (struct etcd_answer){0};
    int error = test_etcd_enter(way);
    if (error != 0)
        return error;
    bool holds = true;
    for (unsigned i = 0; i < txn->compares_count; i++)
        holds &= test_etcd_field(&test_etcd_key(etcd, txn->compares[i].key)->value,
                                 txn->compares[i].field) == txn->compares[i].value;
    if (holds && txn->put_key != NULL) {
        struct test_etcd_key *key = test_etcd_key(etcd, txn->put_key);
        if (txn->put_lease != 0 && test_etcd_lease(etcd, txn->put_lease) == TEST_ETCD_LEASES)
            return SHOAL_E_NOT_FOUND;
        free(key->value.bytes);
        key->changed = ++etcd->now.revision;
        key->value = (struct etcd_value){
            .created = key->value.created != 0 ? key->value.created : etcd->now.revision,
            .modified = etcd->now.revision, .lease = txn->put_lease,
            .bytes = test_etcd_bytes(txn->put_bytes, txn->put_len), .len = txn->put_len};
        fiber_queue_wake_all(&etcd->watchers);
    }
    for (unsigned i = 0; i < txn->reads_count && (!holds || txn->put_key == NULL); i++) {
        const struct etcd_value *value = &test_etcd_key(etcd, txn->reads[i].key)->value;
        answer->values[i] = *value;
        answer->values[i].bytes = value->created == 0 || txn->reads[i].stamps_only
                                      ? NULL : test_etcd_bytes(value->bytes, value->len);
        if (answer->values[i].bytes == NULL)
            answer->values[i].len = 0;
    }
    answer->succeeded = holds;
    answer->revision = etcd->now.revision;
    error = txn->put_key == NULL ? 0 : test_etcd_leave(way);
    if (error != 0)
        etcd_answer_free(answer);
    return error;
}

static inline int test_etcd_grant(void *ctx, int64_t lease, unsigned ttl_s)
{
    struct test_etcd_way *way = ctx;
    struct test_etcd *etcd = way->etcd;
    int error = test_etcd_enter(way);
    if (error != 0)
        return error;
    unsigned i = test_etcd_lease(etcd, 0);
    CHECK(i < TEST_ETCD_LEASES);
    etcd->leases[i].lease = lease;
    etcd->leases[i].ttl_ns = ttl_s * 1000000000ull;
    etcd->leases[i].until_ns = reactor_now_ns(etcd->reactor) + etcd->leases[i].ttl_ns;
    return 0;
}

static inline int test_etcd_keep_alive(void *ctx, int64_t lease)
{
    struct test_etcd_way *way = ctx;
    struct test_etcd *etcd = way->etcd;
    int error = test_etcd_enter(way);
    if (error != 0)
        return error;
    unsigned i = test_etcd_lease(etcd, lease);
    if (i == TEST_ETCD_LEASES)
        return SHOAL_E_NOT_FOUND;
    etcd->leases[i].until_ns = reactor_now_ns(etcd->reactor) + etcd->leases[i].ttl_ns;
    return 0;
}

static inline int test_etcd_revoke(void *ctx, int64_t lease)
{
    struct test_etcd_way *way = ctx;
    int error = test_etcd_enter(way);
    if (error != 0)
        return error;
    unsigned i = test_etcd_lease(way->etcd, lease);
    if (i == TEST_ETCD_LEASES)
        return SHOAL_E_NOT_FOUND;
    test_etcd_end_lease(way->etcd, i);
    return 0;
}

static inline int test_etcd_watch(void *ctx, const char *key, int64_t after, uint64_t deadline_ns)
{
    struct test_etcd_way *way = ctx;
    struct test_etcd *etcd = way->etcd;
    while (way->cut || etcd->frozen || test_etcd_key(etcd, key)->changed <= after) {
        uint64_t now = reactor_now_ns(etcd->reactor);
        if (way->unwatch || now >= deadline_ns)
            return SHOAL_E_TIMEOUT;
        /* Leases lapse though nobody asks. */
        fiber_queue_wait_until(&etcd->watchers,
                               deadline_ns < now + 500000000 ? deadline_ns : now + 500000000);
        if (!etcd->frozen)
            test_etcd_lapse(etcd);
    }
    return 0;
}

static inline void test_etcd_unwatch(void *ctx)
{
    struct test_etcd_way *way = ctx;
    way->unwatch = true;
    fiber_queue_wake_all(&way->etcd->watchers);
}

static const struct etcd_ops test_etcd_ops = {
    .txn = test_etcd_txn,
    .grant = test_etcd_grant,
    .keep_alive = test_etcd_keep_alive,
    .revoke = test_etcd_revoke,
    .watch = test_etcd_watch,
    .unwatch = test_etcd_unwatch,
};

static inline struct etcd_door test_etcd_door(struct test_etcd_way *way)
{
    return (struct etcd_door){&test_etcd_ops, way};
}

static inline void test_etcd_init(struct test_etcd *etcd, struct reactor *reactor)
{
    *etcd = (struct test_etcd){.reactor = reactor, .now.revision = 1};
    fiber_queue_init(&etcd->watchers);
}

static inline void test_etcd_clear(struct test_etcd_state *state)
{
    for (unsigned i = 0; i < TEST_ETCD_KEYS; i++)
        free(state->keys[i].value.bytes);
}

/* A backup, and its restoration: all leases are gone with what hung on them. */
static inline void test_etcd_save(const struct test_etcd *etcd, struct test_etcd_state *state)
{
    *state = etcd->now;
    for (unsigned i = 0; i < TEST_ETCD_KEYS; i++)
        if (state->keys[i].value.created != 0)
            state->keys[i].value.bytes =
                test_etcd_bytes(state->keys[i].value.bytes, state->keys[i].value.len);
}

static inline void test_etcd_restore(struct test_etcd *etcd, struct test_etcd_state *state)
{
    test_etcd_clear(&etcd->now);
    etcd->now = *state;
    for (unsigned i = 0; i < TEST_ETCD_KEYS; i++)
        if (etcd->now.keys[i].value.lease != 0)
            test_etcd_delete(etcd, &etcd->now.keys[i]);
    memset(etcd->leases, 0, sizeof etcd->leases);
    fiber_queue_wake_all(&etcd->watchers);
}

#endif
