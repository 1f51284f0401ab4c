/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settling: before a new primary serves a slot, everybody who takes writes in it says what is prepared
 * and not committed, and each such version is rolled forward or back (R23 to R26). decide.c judges;
 * here is who is asked, and what is done about a slot.
 */
#include "node/settle.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "shoal/error.h"

/* ---- claims ---- */

int settling_add(struct settling *s, const struct blob_id *id, const struct blob_version *version,
                 uint16_t depends, enum blob_form form)
{
    for (unsigned i = s->claims_count; i > 0; i--) {
        struct claim *c = &s->claims[i - 1];
        if (blob_version_compare(&c->version, version) == 0 && blob_id_equal(&c->id, id)) {
            c->depends &= depends;
            return 0;
        }
        if (s->claims_count - i > 64)
            break; /* sorted and merged later */
    }
    if (s->claims_count == s->claims_room) {
        unsigned room = s->claims_room == 0 ? 64 : 2 * s->claims_room;
        struct claim *claims = realloc(s->claims, room * sizeof *claims);
        if (claims == NULL)
            return SHOAL_E_NO_MEMORY;
        s->claims = claims;
        s->claims_room = room;
    }
    s->claims[s->claims_count++] =
        (struct claim){.id = *id, .version = *version, .depends = depends, .form = form};
    return 0;
}

/* By object, newest first. */
static int claim_order(const void *a, const void *b)
{
    const struct claim *x = a, *y = b;
    if (x->id.pool != y->id.pool)
        return x->id.pool < y->id.pool ? -1 : 1;
    int order = memcmp(x->id.key.bytes, y->id.key.bytes, BLOB_KEY_BYTES);
    return order != 0 ? order : blob_version_compare(&y->version, &x->version);
}

static void claims_merge(struct settling *s)
{
    unsigned kept = 0;
    if (s->claims_count > 1)
        qsort(s->claims, s->claims_count, sizeof *s->claims, claim_order);
    for (unsigned i = 0; i < s->claims_count; i++) {
        if (kept > 0 && claim_order(&s->claims[kept - 1], &s->claims[i]) == 0)
            s->claims[kept - 1].depends &= s->claims[i].depends;
        else
            s->claims[kept++] = s->claims[i];
    }
    s->claims_count = kept;
}

/* ---- asking everybody ---- */

static int decode_entries(struct settling *s, const void *bytes, size_t len, uint32_t count)
{
    struct decoder in = decoder_init(bytes, len);
    for (uint32_t i = 0; i < count; i++) {
        struct wire_item_entry item;
        wire_item_entry_decode(&in, &item);
        if (!decoder_ok(&in))
            return SHOAL_E_INVALID;
        int error = settling_add(s, &item.id, &item.version, item.depends,
                                 (enum blob_form)item.form);
        if (error != 0)
            return error;
    }
    return decoder_done(&in) ? 0 : SHOAL_E_INVALID;
}

#define SETTLE_ROOM ((size_t)8192 * 80)

static int settle_call(struct settling *s, const struct member *to, uint32_t first,
                       uint32_t partitions, void *bytes)
{
    struct node *node = s->target->node;
    uint8_t header[512];
    struct wire_settle ask = {
        .primary = s->target->id, .pool = s->pool.id, .first = first, .partitions = partitions};
    struct wire_settle_reply reply;
    struct blob_request_id none = {0, 0};
    struct wire_head head = node_head(node, WIRE_settle, to->target, none);
    struct member_call call = {
        .header = header,
        .header_room = sizeof header,
        .header_len = wire_settle_encode(header, sizeof header, &head, &ask),
        .reply_payload = {bytes, SETTLE_ROOM},
        .deadline_ns = node_now(node) + node->config.call_ns,
    };
    int error = head.epoch != s->epoch ? SHOAL_E_STALE_EPOCH : node_call(node, to, &call);
    if (error == 0)
        error = wire_settle_reply_decode(&call.in, &reply);
    if (error != 0)
        return error;
    if (!reply.more)
        return decode_entries(s, bytes, call.reply_payload.iov_len, reply.count);
    if (partitions <= 1)
        return SHOAL_E_TOO_LARGE;
    uint32_t half = partitions / 2;
    error = settle_call(s, to, first, half, bytes);
    return error != 0 ? error : settle_call(s, to, first + half, partitions - half, bytes);
}

struct ask {
    struct settling *settling;
    struct witness *witness;
    struct fiber_group *group;
};

static void ask_witness(void *arg)
{
    struct ask *ask = arg;
    void *bytes = malloc(SETTLE_ROOM);
    ask->witness->error =
        bytes == NULL ? SHOAL_E_NO_MEMORY
                      : settle_call(ask->settling, &ask->witness->member, 0,
                                    1u << ask->settling->target->node->map->partition_bits, bytes);
    free(bytes);
    if (ask->witness->error != 0)
        LOG_DEBUG("settling: target %u did not answer: %s", ask->witness->member.target,
                  shoal_error_text(ask->witness->error));
    fiber_group_done(ask->group);
}

/* Our own, without a message. */
static int ask_self(struct settling *s)
{
    struct target *t = s->target;
    unsigned room = 256, count;
    struct engine_entry *entries = NULL;
    storing_wait_older(t, s->epoch);
    member_forget_aborted(t, t->id, s->pool.id, 0, 1u << t->node->map->partition_bits);
    for (;;) {
        free(entries);
        entries = malloc(room * sizeof *entries);
        if (entries == NULL)
            return SHOAL_E_NO_MEMORY;
        count = engine_list_prepared(t->engine, entries, room);
        if (count <= room)
            break;
        room = count + 64;
    }
    int error = 0;
    for (unsigned i = 0; error == 0 && i < count; i++) {
        const struct blob_id *id = &entries[i].id;
        const uint8_t *slot = target_slot(t, id->pool, node_partition(t->node, id));
        if ((id->pool & ~BLOB_POOL_UPLOADS) == s->pool.id && slot != NULL &&
            (*slot & SLOT_MINE) != 0)
            error = settling_add(s, id, &entries[i].version, entries[i].depends, entries[i].form);
    }
    free(entries);
    return error;
}

struct witness *settling_witness(struct settling *s, uint32_t target)
{
    for (unsigned i = 0; i < s->witnesses_count; i++)
        if (s->witnesses[i].member.target == target)
            return &s->witnesses[i];
    return NULL;
}

static bool wants_settling(const struct settling *s, uint32_t partition, struct members *set)
{
    const uint8_t *slot = target_slot(s->target, s->pool.id, partition);
    return slot != NULL && (*slot & (SLOT_MINE | SLOT_SETTLED)) == SLOT_MINE &&
           node_members(s->target->node, s->pool.id, partition, set) && set->writable &&
           !slot_is_held(s->target, s->pool.id, partition);
}

/* Everybody who takes writes in a slot that is to be settled. */
static int find_witnesses(struct settling *s)
{
    uint32_t partitions = 1u << s->target->node->map->partition_bits;
    s->witnesses = calloc(s->target->node->map->targets_count + 1u, sizeof *s->witnesses);
    if (s->witnesses == NULL)
        return SHOAL_E_NO_MEMORY;
    for (uint32_t p = 0; p < partitions; p++) {
        struct members set;
        if (!wants_settling(s, p, &set))
            continue;
        s->slots++;
        for (unsigned i = 0; i < MEMBERS_MAX; i++)
            if ((set.taking >> i & 1) != 0 && set.at[i].target != s->target->id &&
                settling_witness(s, set.at[i].target) == NULL)
                s->witnesses[s->witnesses_count++].member = set.at[i];
    }
    return 0;
}

static int ask_everybody(struct settling *s)
{
    struct node *node = s->target->node;
    struct fiber_group group;
    struct ask *asks = calloc(s->witnesses_count + 1u, sizeof *asks);
    if (asks == NULL)
        return SHOAL_E_NO_MEMORY;
    fiber_group_init(&group);
    for (unsigned i = 0; i < s->witnesses_count; i++) {
        asks[i] = (struct ask){s, &s->witnesses[i], &group};
        fiber_group_add(&group);
        node_run_call(node, ask_witness, &asks[i]);
    }
    int error = ask_self(s);
    fiber_group_wait(&group);
    free(asks);
    claims_merge(s);
    return error;
}

/* ---- a pool's slots ---- */

static bool slot_is_unresolved(const struct settling *s, uint32_t partition)
{
    for (unsigned i = 0; i < s->claims_count; i++)
        if (s->claims[i].fate == FATE_UNKNOWN &&
            node_partition(s->target->node, &s->claims[i].id) == partition)
            return true;
    return false;
}

static bool everybody_answered(struct settling *s, const struct members *set)
{
    for (unsigned i = 0; i < MEMBERS_MAX; i++) {
        const struct witness *w = settling_witness(s, set->at[i].target);
        if ((set->taking >> i & 1) != 0 && set->at[i].target != s->target->id &&
            (w == NULL || w->error != 0 || w->member.incarnation != set->at[i].incarnation))
            return false;
    }
    return true;
}

static void mark_settled(struct settling *s)
{
    struct target *t = s->target;
    uint32_t partitions = 1u << t->node->map->partition_bits;
    for (uint32_t p = 0; p < partitions; p++) {
        struct members set;
        if (!wants_settling(s, p, &set) || !everybody_answered(s, &set) ||
            slot_is_unresolved(s, p))
            continue;
        *target_slot(t, s->pool.id, p) |= SLOT_SETTLED;
        t->unsettled--;
        s->settled++;
    }
}

/* Claims of slots whose members did not all answer are left alone. */
static void judge_claims(struct settling *s)
{
    for (unsigned i = 0; i < s->claims_count; i++) {
        struct members set;
        struct claim *c = &s->claims[i];
        c->fate = FATE_UNKNOWN;
        c->asked = wants_settling(s, node_partition(s->target->node, &c->id), &set) &&
                   everybody_answered(s, &set);
    }
    if (settling_testimonies(s) == 0)
        settling_decide(s);
}

static void settle_pool(struct target *t, uint32_t pool)
{
    struct node *node = t->node;
    struct settling s = {.target = t, .epoch = node->map->epoch};
    if (!node_pool_view(node, pool, &s.pool))
        return;
    int error = find_witnesses(&s);
    if (error == 0 && s.slots > 0)
        error = ask_everybody(&s);
    if (error == 0 && s.slots > 0 && settling_is_current(&s))
        judge_claims(&s);
    if (error == 0 && s.slots > 0 && settling_is_current(&s))
        mark_settled(&s);
    if (s.settled > 0)
        LOG_INFO("target %u: %u slots of pool %u settled, %u prepared versions found", t->id,
                 s.settled, pool, s.claims_count);
    free(s.claims);
    free(s.witnesses);
    free(s.testimonies);
}

bool settling_is_current(const struct settling *s)
{
    return s->target->node->map->epoch == s->epoch && s->target->serving &&
           !s->target->node->stopping;
}

static void settle_all(struct target *t)
{
    uint32_t pools[CLUSTER_POOLS_MAX];
    unsigned count = 0;
    uint64_t epoch = t->node->map->epoch;
    for (unsigned i = 0; i < t->slots_count; i++)
        pools[count++] = t->slots[i].pool;
    for (unsigned i = 0; i < count && t->node->map->epoch == epoch && t->unsettled > 0; i++)
        settle_pool(t, pools[i]);
}

void node_settler(void *arg)
{
    struct target *t = arg;
    struct node *node = t->node;
    while (!node->stopping) {
        if (!t->serving || t->unsettled == 0) {
            fiber_queue_wait(&t->settle_wake);
            continue;
        }
        uint64_t epoch = node->map->epoch;
        settle_all(t);
        if (t->unsettled > 0 && node->map->epoch == epoch && !node->stopping)
            fiber_queue_wait_until(&t->settle_wake, node_now(node) + 2 * NODE_RETRY_NS);
    }
    fiber_group_done(&node->running);
}
