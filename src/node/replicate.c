/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One write on all members of its set: prepare everywhere, and when everybody who takes writes in
 * the current epoch has it durable, it is committed (R10 to R17). The sends run beside the own write.
 */
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/planted.h"
#include "node/node_private.h"
#include "shoal/error.h"

/* One round of prepares to those that have not said "durable" yet. */
struct round {
    struct replica_op *op;
    struct members set;
    struct blob_version low_water;
    struct fiber_group group;
    int results[MEMBERS_MAX];
};

struct send {
    struct round *round;
    unsigned place;
};

static void fill_desc(const struct replica_op *op, unsigned position, struct blob_desc *desc)
{
    const struct shard *shard = &op->shards[position];
    bool holds = (op->holders >> position & 1) != 0;
    *desc = op->desc;
    desc->position = (uint8_t)position;
    desc->form = op->form == BLOB_TOMBSTONE ? BLOB_TOMBSTONE : holds ? BLOB_BYTES : BLOB_MARKER;
    desc->shard_len = desc->form == BLOB_BYTES ? shard->len : 0;
}

static void send_prepare(void *arg)
{
    struct send send = *(struct send *)arg;
    struct round *round = send.round;
    struct replica_op *op = round->op;
    struct node *node = op->target->node;
    const struct member *to = &round->set.at[send.place];
    const struct shard *shard = &op->shards[place_position(send.place)];
    uint8_t header[2048];
    struct wire_prepare ask = {
        .base = op->base,
        .primary = op->target->id,
        .low_water = round->low_water,
        .shard_crc = shard->crc,
    };
    fill_desc(op, place_position(send.place), &ask.desc);
    struct wire_head head = node_head(node, WIRE_prepare, to->target, op->desc.request);
    struct iovec payload = {(void *)(uintptr_t)shard->data, ask.desc.shard_len};
    uint64_t deadline = node_now(node) + node->config.call_ns;
    struct member_call call = {
        .header = header,
        .header_room = sizeof header,
        .header_len = wire_prepare_encode(header, sizeof header, &head, &ask),
        .payload = &payload,
        .payload_count = ask.desc.shard_len > 0,
        .payload_sums = shard->units,
        .deadline_ns = MIN(deadline, op->deadline_ns),
    };
    round->results[send.place] = head.epoch == round->set.epoch ? node_call(node, to, &call)
                                                                : SHOAL_E_STALE_EPOCH;
    fiber_group_done(&round->group);
}

static int prepare_here(struct replica_op *op, unsigned position, uint64_t epoch)
{
    struct target *t = op->target;
    if (op->object->lost || t->node->map->epoch != epoch)
        return SHOAL_E_STALE_EPOCH;
    if (object_is_held(t, &op->desc.id))
        return SHOAL_E_BUSY; /* R45 */
    const struct shard *shard = &op->shards[position];
    struct blob_desc desc;
    fill_desc(op, position, &desc);
    struct iovec payload = {(void *)(uintptr_t)shard->data, desc.shard_len};
    struct storing storing;
    storing_begin(t, &storing, &desc.id);
    int error = engine_prepare(t->engine, &desc, &payload, desc.shard_len > 0, shard->units);
    if (error == 0)
        window_note(&t->window, &desc.request, &desc.id, &desc.version, node_now(t->node));
    storing_end(t, &storing);
    return error != 0 && engine_stopped(t->engine) ? SHOAL_E_NOT_SERVING : error;
}

/* Sends to all of @missing, writes here, and waits for everybody. */
static void run_round(struct round *round, uint32_t missing)
{
    struct replica_op *op = round->op;
    struct node *node = op->target->node;
    struct send sends[MEMBERS_MAX];
    int own = members_place(&round->set, op->target->id);
    round->low_water = target_low_water(op->target);
    fiber_group_init(&round->group);
    for (unsigned i = 0; i < MEMBERS_MAX; i++) {
        if ((missing >> i & 1) == 0 || (int)i == own)
            continue;
        sends[i] = (struct send){round, i};
        fiber_group_add(&round->group);
        node_run_call(node, send_prepare, &sends[i]);
    }
    if (own >= 0 && (missing >> own & 1) != 0)
        round->results[own] = prepare_here(op, place_position((unsigned)own), round->set.epoch);
    fiber_group_wait(&round->group);
}

/* What may work later, or with a newer map. Everything else is a refusal (R18). */
static bool may_pass(int error)
{
    switch (error) {
    case SHOAL_E_CONNECTION:
    case SHOAL_E_TIMEOUT:
    case SHOAL_E_CANCELLED:
    case SHOAL_E_BUSY:
    case SHOAL_E_CORRUPT:
    case SHOAL_E_SHUTDOWN:
    case SHOAL_E_STALE_EPOCH:
    case SHOAL_E_NEWER_EPOCH:
    case SHOAL_E_NOT_SERVING:
    case SHOAL_E_NOT_PRIMARY:
    case SHOAL_E_NO_MEMORY:
        return true;
    default:
        return false;
    }
}

/*
 * R17: everybody who takes writes now was asked, in this incarnation, to hold its piece of this version.
 * The two of a position may have changed places meanwhile. @durable: places of @asked, made those of
 * @now.
 */
static bool all_were_asked(const struct members *now, const struct members *asked,
                           uint32_t *durable)
{
    uint32_t still = 0;
    for (unsigned i = 0; i < MEMBERS_MAX; i++) {
        if ((now->taking >> i & 1) == 0)
            continue;
        int was = members_place(asked, now->at[i].target);
        if (was < 0 || (asked->taking >> was & 1) == 0 ||
            place_position((unsigned)was) != place_position(i) ||
            asked->at[was].incarnation != now->at[i].incarnation)
            return false;
        still |= (*durable >> was & 1) << i;
    }
    *durable = still;
    return true;
}

/*
 * R45: who was left out may still answer readers, so everybody is asked again whether it may not: who
 * said "durable" under an epoch before promised nothing for this one.
 */
static bool somebody_was_left_out(const struct members *now, const struct members *asked)
{
    for (unsigned i = 0; i < MEMBERS_MAX; i++) {
        if ((asked->taking >> i & 1) == 0)
            continue;
        int place = members_place(now, asked->at[i].target);
        if (place < 0 || (now->taking >> place & 1) == 0)
            return true;
    }
    return false;
}

/*
 * Whether what the caller judged under the lock still holds. It may have waited since, for a payload or
 * for an epoch, and somebody else may have been the primary meanwhile.
 */
static int still_as_judged(const struct replica_op *op)
{
    struct engine_entry committed = {0};
    if (op->object->undecided)
        return SHOAL_E_UNAVAILABLE;
    (void)engine_find(op->target->engine, &op->desc.id, &committed, NULL);
    return blob_version_compare(&committed.version, &op->base) == 0 ? 0 : SHOAL_E_BUSY;
}

static void take_version(struct replica_op *op, const struct members *set)
{
    op->desc.version = object_take_version(op->object);
    op->desc.depends = places_positions(set->taking);
}

static void commit(struct replica_op *op, const struct members *set)
{
    struct target *t = op->target;
    int error;
    /* Readers would see the older version here, were it answered before it is marked. */
    while ((error = engine_commit(t->engine, &op->desc.id, &op->desc.version)) == SHOAL_E_BUSY &&
           node_pause(t->node, NODE_MS))
        ;
    if (error != 0)
        LOG_WARN("a committed version could not be marked here: %s", shoal_error_text(error));
    commit_queue_add(t, set, &op->desc.id, &op->desc.version);
    object_decided(op->object);
}

/* Notes who has it. Return: 0, SHOAL_E_BUSY when some may have it later, or a refusal. */
static int judge_round(struct round *round, uint32_t missing, uint32_t *durable)
{
    int pending = 0, refusal = 0;
    for (unsigned i = 0; i < MEMBERS_MAX; i++) {
        if ((missing >> i & 1) == 0)
            continue;
        int result = round->results[i];
        if (result == 0)
            *durable |= 1u << i;
        else if (may_pass(result))
            pending = SHOAL_E_BUSY;
        else if (refusal == 0)
            refusal = result;
    }
    return refusal != 0 ? refusal : pending;
}

/* True once the write may be acknowledged under the map as it is now (R12, R17). */
static bool may_commit(const struct node *node, const struct round *round, uint32_t durable,
                       int error)
{
    if (PLANTED(early_ack) && error == SHOAL_E_BUSY &&
        __builtin_popcount((unsigned)(round->set.taking & ~durable)) == 1)
        return true;
    return error == 0 && (node->map->epoch == round->set.epoch || PLANTED(forgotten_write));
}

static int refuse(struct replica_op *op, int refusal, bool *unlocked)
{
    struct node *node = op->target->node;
    LOG_DEBUG("a write was refused: %s", shoal_error_text(refusal));
    uint64_t until = node_now(node) + node->config.call_ns;
    int error = abort_operation(op->object, until, unlocked);
    return error != 0 ? error : refusal == SHOAL_E_LOW_WATER ? SHOAL_E_BUSY : refusal;
}

int replicate(struct replica_op *op, bool *unlocked)
{
    struct target *t = op->target;
    struct node *node = t->node;
    struct members asked = {0};
    struct round round = {.op = op};
    uint32_t durable = 0;
    *unlocked = false;
    for (;;) {
        bool begun = !blob_version_is_none(&op->object->version);
        int error = node->stopping ? SHOAL_E_SHUTDOWN : target_primary_check(t, &op->desc.id);
        if (error == 0 && !begun)
            error = still_as_judged(op);
        if (op->object->lost || error != 0)
            return begun ? SHOAL_E_TIMEOUT : error;
        bool late = node_now(node) >= op->deadline_ns;
        if (late && begun) {
            abort_later(op->object);
            *unlocked = true;
            return SHOAL_E_TIMEOUT;
        }
        if (!node_members_of(node, &op->desc.id, &round.set))
            return begun ? SHOAL_E_TIMEOUT : SHOAL_E_NO_POOL;
        if (!round.set.writable) {
            if (late)
                return SHOAL_E_UNAVAILABLE;
            node_wait_epoch(node, round.set.epoch + 1, op->deadline_ns);
            continue;
        }
        if (!begun || !all_were_asked(&round.set, &asked, &durable)) {
            if (object_is_restless(op->object)) {
                abort_later(op->object);
                *unlocked = true;
                return SHOAL_E_TIMEOUT;
            }
            take_version(op, &round.set);
            durable = 0;
        } else if (somebody_was_left_out(&round.set, &asked)) {
            durable = 0;
        }
        asked = round.set;
        uint32_t missing = round.set.taking & ~durable;
        run_round(&round, missing);
        if (op->object->lost)
            continue;
        error = judge_round(&round, missing, &durable);
        if (may_commit(node, &round, durable, error)) {
            commit(op, &round.set);
            return 0;
        }
        if (error != 0 && error != SHOAL_E_BUSY)
            return refuse(op, error, unlocked);
        if (error == SHOAL_E_BUSY && node->map->epoch == round.set.epoch)
            node_pause(node, NODE_RETRY_NS);
    }
}
