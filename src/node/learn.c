/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Catching up (R27 to R29). A learner takes every write from its first epoch on; what was written
 * before, it learns from each slot's primary: what that lists and is not here is fetched, and what is
 * here from before and that does not list is dropped. When all slots are done it asks to be clean.
 * Taking over a position of another target is the same, slot by slot (R36 to R39).
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/macros.h"
#include "base/planted.h"
#include "node/node_private.h"
#include "shoal/error.h"

#define MOVED_NS NODE_S      /* between telling of what is learned */
#define SWEEP_NS (5 * NODE_S) /* between sweeps for what has moved away */

struct lesson {
    struct target *target;
    uint32_t pool, partition;
    unsigned position; /* that it learns */
    struct member primary;
    uint64_t since;
    struct fiber_group pieces; /* being fetched */
    int error;                 /* the first of them */
};

/* @buffer: WIRE_MESSAGE_MAX. */
static int ask_primary(struct lesson *l, uint8_t *buffer, size_t len, struct iovec payload,
                       struct member_call *call)
{
    struct node *node = l->target->node;
    *call = (struct member_call){
        .header = buffer,
        .header_room = WIRE_MESSAGE_MAX,
        .header_len = len,
        .reply_payload = payload,
        .deadline_ns = node_now(node) + node->config.call_ns,
    };
    return node_call(node, &l->primary, call);
}

static struct wire_head lesson_head(const struct lesson *l, uint16_t type)
{
    struct blob_request_id none = {0, 0};
    return node_head(l->target->node, type, l->primary.target, none);
}

static bool has_old_prepared(struct lesson *l)
{
    struct engine_entry entries[64];
    uint64_t cursor = 0;
    do {
        unsigned count = slot_list(l->target, l->pool, l->partition, &cursor, entries, 64);
        for (unsigned i = 0; i < count; i++)
            if (entries[i].prepared && entries[i].version.epoch < l->since)
                return true;
    } while (cursor != 0);
    return false;
}

/* Return: 1 the same, 0 different, or an error. */
static int compare_digests(struct lesson *l)
{
    uint8_t buffer[WIRE_MESSAGE_MAX];
    struct wire_digest ask = {.pool = l->pool, .partition = l->partition, .since = l->since};
    struct wire_digest_reply reply;
    struct wire_head head = lesson_head(l, WIRE_digest);
    struct iovec none = {0};
    struct member_call call;
    size_t len = wire_digest_encode(buffer, sizeof buffer, &head, &ask);
    int error = ask_primary(l, buffer, len, none, &call);
    if (error == 0)
        error = wire_digest_reply_decode(&call.in, &reply);
    if (error != 0)
        return error;
    uint64_t objects, hash;
    slot_digest(l->target, l->pool, l->partition, l->position, &objects, &hash);
    return objects == reply.objects && hash == reply.hash && !has_old_prepared(l);
}

struct learn_piece {
    struct lesson *lesson;
    struct blob_id id;
    struct blob_version version;
};

struct pool *learn_pieces_create(void)
{
    return pool_create("pieces", sizeof(struct learn_piece), NODE_LEARN_PIECES, 0);
}

static int learn_entry(struct lesson *l, const struct learn_piece *piece)
{
    struct pool_view pool;
    uint64_t bytes = 0;
    int error = install_piece(l->target, &piece->id, &piece->version, &bytes);
    /* Damaged where it was: for a cache that is a miss. */
    if (error == SHOAL_E_HOLLOW && node_pool_view(l->target->node, l->pool, &pool) && pool.cache)
        error = 0;
    /* Gone there: replaced since, and then the newer one came here too. */
    if (error == SHOAL_E_CHANGED)
        error = 0;
    if (error == 0)
        counter_add(l->target->node->caught_up_objects, 1);
    pace_give_way(l->target->node, bytes);
    return error;
}

static void learn_piece_run(void *arg)
{
    struct learn_piece *piece = arg;
    struct lesson *l = piece->lesson;
    struct target *t = l->target;
    int error = learn_entry(l, piece);
    if (error != 0 && l->error == 0)
        l->error = error;
    pool_put(t->learn_pieces, piece);
    fiber_queue_wake_one(&t->learn_piece_free);
    fiber_group_done(&l->pieces);
}

/* Several at once, of all the slots that are learned together. */
static void learn_piece_start(struct lesson *l, const struct wire_item_entry *item)
{
    struct target *t = l->target;
    struct learn_piece *piece;
    while ((piece = pool_get(t->learn_pieces)) == NULL) {
        if (pool_in_use(t->learn_pieces) == 0) {
            l->error = SHOAL_E_BUSY;
            return;
        }
        fiber_queue_wait(&t->learn_piece_free);
    }
    *piece = (struct learn_piece){.lesson = l, .id = item->id, .version = item->version};
    fiber_group_add(&l->pieces);
    if (fiber_spawn(t->node->learners, learn_piece_run, piece) != 0)
        learn_piece_run(piece);
}

#define PAGE_ROOM ((size_t)512 * 80)

static int learn_page(struct lesson *l, uint64_t *cursor, void *bytes)
{
    uint8_t buffer[WIRE_MESSAGE_MAX];
    struct wire_versions ask = {
        .pool = l->pool, .partition = l->partition, .since = l->since, .cursor = *cursor};
    struct wire_versions_reply reply;
    struct wire_head head = lesson_head(l, WIRE_versions);
    struct iovec room = {bytes, PAGE_ROOM};
    struct member_call call;
    size_t len = wire_versions_encode(buffer, sizeof buffer, &head, &ask);
    int error = ask_primary(l, buffer, len, room, &call);
    if (error == 0)
        error = wire_versions_reply_decode(&call.in, &reply);
    if (error != 0)
        return error;
    struct decoder in = decoder_init(bytes, call.reply_payload.iov_len);
    for (uint32_t i = 0; i < reply.count && l->error == 0; i++) {
        struct wire_item_entry item;
        wire_item_entry_decode(&in, &item);
        if (!decoder_ok(&in) || (item.id.pool & ~BLOB_POOL_UPLOADS) != l->pool)
            l->error = SHOAL_E_INVALID;
        else
            learn_piece_start(l, &item);
    }
    fiber_group_wait(&l->pieces);
    *cursor = reply.cursor;
    return l->error;
}

static int learn_all(struct lesson *l)
{
    uint64_t cursor = 0;
    void *bytes = malloc(PAGE_ROOM);
    if (bytes == NULL)
        return SHOAL_E_NO_MEMORY;
    int error;
    do
        error = learn_page(l, &cursor, bytes);
    while (error == 0 && cursor != 0);
    free(bytes);
    return error;
}

/* One of ours from before, at the version that the primary has, is kept; any other goes. */
static int forget_entry(struct lesson *l, const struct engine_entry *e,
                        const struct wire_item_testimony *there)
{
    struct target *t = l->target;
    bool listed = blob_version_compare(&there->committed, &e->version) == 0 &&
                  e->position == l->position;
    install_wait(t, &e->id);
    if (listed && e->prepared)
        return engine_commit(t->engine, &e->id, &e->version);
    /* The primary has it prepared: it is undecided, and this piece, committed or not, is evidence (R26). */
    if (listed || blob_version_compare(&there->prepared, &e->version) == 0)
        return 0;
    counter_add(t->node->caught_up_objects, 1);
    if (!e->prepared)
        return engine_drop(t->engine, &e->id, &e->version);
    int error = engine_abort(t->engine, &e->id, &e->version);
    return error == SHOAL_E_NOT_FOUND ? 0 : error;
}

static int forget_batch(struct lesson *l, const struct engine_entry *entries, unsigned count)
{
    uint8_t buffer[WIRE_MESSAGE_MAX];
    struct wire_find *ask = calloc(1, sizeof *ask);
    struct wire_find_reply *reply = calloc(1, sizeof *reply);
    struct wire_head head = lesson_head(l, WIRE_find);
    struct iovec none = {0};
    struct member_call call;
    int error = ask == NULL || reply == NULL ? SHOAL_E_NO_MEMORY : 0;
    if (error == 0) {
        for (unsigned i = 0; i < count; i++)
            ask->objects[ask->objects_count++] =
                (struct wire_item_object){entries[i].id, entries[i].version};
        size_t len = wire_find_encode(buffer, sizeof buffer, &head, ask);
        error = ask_primary(l, buffer, len, none, &call);
        if (error == 0)
            error = wire_find_reply_decode(&call.in, reply);
        if (error == 0 && reply->found_count != count)
            error = SHOAL_E_INVALID;
    }
    for (unsigned i = 0; error == 0 && i < count; i++)
        error = forget_entry(l, &entries[i], &reply->found[i]);
    free(ask);
    free(reply);
    return error == SHOAL_E_NOT_FOUND ? 0 : error;
}

/* R29: only what is from before this target became a learner. */
static int forget_rest(struct lesson *l)
{
    struct engine_entry *old = malloc(NODE_BATCH * sizeof *old);
    struct engine_entry page[32];
    uint64_t cursor = 0;
    unsigned count = 0;
    int error = old == NULL ? SHOAL_E_NO_MEMORY : 0;
    while (error == 0) {
        unsigned listed = slot_list(l->target, l->pool, l->partition, &cursor, page, 32);
        for (unsigned i = 0; i < listed; i++)
            if (page[i].version.epoch < l->since)
                old[count++] = page[i];
        if (count > 0 && (cursor == 0 || count > NODE_BATCH - 32)) {
            error = forget_batch(l, old, count);
            count = 0;
        }
        if (cursor == 0)
            break;
    }
    free(old);
    return error;
}

/* Return: 0 when the slot is learned. */
static int learn_slot(struct target *t, uint32_t pool, uint32_t partition)
{
    struct members set;
    if (!node_members(t->node, pool, partition, &set) || set.primary < 0)
        return SHOAL_E_UNAVAILABLE;
    int place = members_place(&set, t->id);
    if (place < 0)
        return SHOAL_E_STALE_EPOCH;
    struct lesson l = {.target = t,
                       .pool = pool,
                       .partition = partition,
                       .position = place_position((unsigned)place),
                       .primary = set.at[set.primary],
                       .since = t->learner_since};
    fiber_group_init(&l.pieces);
    int same = compare_digests(&l);
    if (same != 0)
        return same > 0 ? 0 : same;
    int error = learn_all(&l);
    return error != 0 ? error : forget_rest(&l);
}

/* What this target learns now: as a learner what it serves, and only then what it is to take over. */
bool learner_has(const struct target *t, uint32_t pool, uint32_t partition)
{
    struct members set;
    if (!node_members(t->node, pool, partition, &set))
        return false;
    int place = members_place(&set, t->id);
    if (place < 0 || ((set.learners & ~set.leaving) >> place & 1) == 0)
        return false;
    return (t->state == TARGET_LEARNER) == (place < (int)BLOB_SET_MAX);
}

static bool still_learning(const struct target *t, uint64_t since)
{
    return t->serving && t->learner_since == since && !t->node->stopping;
}

/* A row moves when every pool of its width has its slot learned. */
static bool row_is_learned(const struct target *t, unsigned width, uint32_t partition)
{
    bool any = false;
    for (uint32_t i = 0; i < t->node->map->pools_count; i++) {
        const struct map_pool *pool = &t->node->map->pools[i];
        const uint8_t *slot = target_slot(t, pool->id, partition);
        if (map_pool_width(pool) != width)
            continue;
        if (slot == NULL || (*slot & SLOT_MOVING) == 0 ||
            ((*slot & SLOT_LEARNED) == 0 && !PLANTED(lost_range)))
            return false;
        any = true;
    }
    return any;
}

static void collect_moved(const struct target *t, struct wire_moved *ask)
{
    uint32_t partitions = 1u << t->node->map->partition_bits;
    for (unsigned width = 1; width <= PLACE_WIDTH_MAX; width++)
        for (uint32_t p = 0; p < partitions && ask->rows_count < ARRAY_LEN(ask->rows); p++)
            if (row_is_learned(t, width, p))
                ask->rows[ask->rows_count++].row = map_row_key(width, p);
}

/* What is learned under this epoch, as far as it goes into one message, is to be ours (R38). */
static void say_moved(struct target *t)
{
    struct node *node = t->node;
    struct wire_moved *ask = calloc(1, sizeof *ask);
    struct wire_moved_reply reply;
    if (ask == NULL || node->map == NULL)
        return free(ask);
    ask->target = t->id;
    ask->incarnation = node->incarnation;
    ask->epoch = node->map->epoch;
    collect_moved(t, ask);
    int error = ask->rows_count == 0 ? SHOAL_E_NOT_FOUND : engine_sync(t->engine);
    if (error == 0)
        error = node->config.authority.ops->moved(node->config.authority.ctx, ask, &reply);
    if (error == 0) {
        LOG_INFO("target %u has learned %u rows that move to it", t->id, ask->rows_count);
        node_want_epoch(node, reply.epoch);
        node_wait_epoch(node, reply.epoch, node_now(node) + NODE_S);
    }
    free(ask);
}

/* One pass over the slots that are not learned yet; several fibers take the next of them in turn. */
struct pass {
    struct target *target;
    uint64_t since;
    unsigned pool_at; /* in target->slots */
    uint32_t partition;
    uint64_t done, left;
    struct fiber_group helpers;
};

static bool pass_next(struct pass *pass, uint32_t *pool, uint32_t *partition)
{
    struct target *t = pass->target;
    for (; still_learning(t, pass->since) && pass->pool_at < t->slots_count; pass->pool_at++) {
        *pool = t->slots[pass->pool_at].pool;
        while (pass->partition >> t->node->map->partition_bits == 0) {
            *partition = pass->partition++;
            if (learner_has(t, *pool, *partition))
                return true;
        }
        pass->partition = 0;
    }
    return false;
}

static void pass_slot(struct pass *pass, uint32_t pool, uint32_t partition)
{
    struct target *t = pass->target;
    uint8_t *slot = target_slot(t, pool, partition);
    if (slot == NULL)
        return; /* the pool is gone */
    uint64_t epoch = t->node->map->epoch;
    int error = (*slot & SLOT_LEARNED) != 0 ? 0 : learn_slot(t, pool, partition);
    if (error != 0)
        LOG_DEBUG("target %u: partition %u of pool %u is not learned: %s", t->id, partition, pool,
                  shoal_error_text(error));
    slot = target_slot(t, pool, partition);
    /* Under another epoch the primary may be another: then it is walked again (R29). */
    bool learned = error == 0 && t->node->map->epoch == epoch;
    if (learned && slot != NULL) {
        if ((*slot & SLOT_LEARNED) == 0)
            headway_slot(t);
        *slot |= SLOT_LEARNED;
    }
    pass->done += learned;
    pass->left += !learned;
    t->learn_done = pass->done;
    t->learn_total = MAX(t->learn_total, pass->done + pass->left);
}

static void pass_help(void *arg)
{
    struct pass *pass = arg;
    uint32_t pool, partition;
    while (pass_next(pass, &pool, &partition))
        pass_slot(pass, pool, partition);
    fiber_group_done(&pass->helpers);
}

/*
 * What moves is told of in between, for what others wait for need not wait for the rest.
 * Return: how many slots are left.
 */
static uint64_t learn_pass(struct target *t)
{
    struct node *node = t->node;
    struct pass pass = {.target = t, .since = t->learner_since};
    uint64_t told_ns = node_now(node);
    uint32_t pool, partition;
    fiber_group_init(&pass.helpers);
    for (unsigned i = 1; i < NODE_LEARN_SLOTS; i++) {
        fiber_group_add(&pass.helpers);
        if (fiber_spawn(node->learners, pass_help, &pass) != 0)
            fiber_group_done(&pass.helpers);
    }
    while (pass_next(&pass, &pool, &partition)) {
        pass_slot(&pass, pool, partition);
        if (t->state == TARGET_CLEAN && node_now(node) - told_ns >= MOVED_NS) {
            say_moved(t);
            told_ns = node_now(node);
        }
    }
    fiber_group_wait(&pass.helpers);
    t->learn_total = pass.done + pass.left;
    return pass.left;
}

static void say_caught_up(struct target *t)
{
    struct node *node = t->node;
    struct wire_caught_up ask = {
        .target = t->id, .incarnation = node->incarnation, .epoch = node->map->epoch};
    struct wire_caught_up_reply reply;
    int error = engine_sync(t->engine);
    if (error == 0)
        error = node->config.authority.ops->caught_up(node->config.authority.ctx, &ask, &reply);
    if (error == 0) {
        LOG_INFO("target %u has caught up", t->id);
        node_want_epoch(node, reply.epoch);
        node_wait_epoch(node, reply.epoch, node_now(node) + NODE_S);
    }
}

/* ---- what others have now ---- */

static bool is_foreign(const struct target *t, const struct blob_id *id)
{
    const uint8_t *slot = target_slot(t, id->pool, node_partition(t->node, id));
    return t->serving && slot != NULL && (*slot & SLOT_MEMBER) == 0;
}

/*
 * One at a time, each at just its version, and by the fiber that learns: should the slot come back to
 * this target meanwhile, then nothing that it learns there is dropped after it (R39).
 */
static unsigned drop_foreign_of(struct target *t, uint32_t partition)
{
    struct engine_entry entries[32];
    uint64_t cursor = 0;
    unsigned dropped = 0;
    do {
        unsigned count = engine_list(t->engine, partition, &cursor, entries, ARRAY_LEN(entries));
        for (unsigned i = 0; i < count; i++) {
            const struct engine_entry *e = &entries[i];
            if (!is_foreign(t, &e->id))
                continue;
            /* What became of it others know now, and a retry that comes here again asks them (R8). */
            int error = e->prepared ? abort_here(t, &e->id, &e->version)
                                    : engine_drop(t->engine, &e->id, &e->version);
            dropped += error == 0;
            t->foreign |= error != 0; /* the journal was full for a moment */
        }
    } while (cursor != 0 && t->serving);
    return dropped;
}

/* A write that was under way when the slot moved may come after the sweep that the move called for. */
void learn_note_stored(struct target *t, const struct blob_id *id)
{
    if (t->foreign || !is_foreign(t, id))
        return;
    t->foreign = true;
    fiber_queue_wake_all(&t->learn_wake);
}

/* Until a sweep finds nothing. */
static void drop_foreign(struct target *t)
{
    struct node *node = t->node;
    uint64_t dropped = 0;
    t->foreign = false;
    for (uint32_t p = 0; t->serving && p >> node->map->partition_bits == 0; p++) {
        bool foreign = false;
        for (unsigned i = 0; i < t->slots_count; i++)
            foreign |= (t->slots[i].flags[p] & SLOT_MEMBER) == 0;
        if (foreign)
            dropped += drop_foreign_of(t, p);
    }
    if (dropped > 0)
        LOG_INFO("target %u: %llu pieces dropped that others have now", t->id,
                 (unsigned long long)dropped);
    t->foreign |= dropped > 0 || !t->serving;
}

/* A map calls it clean: what its device once lost it has again, and need not say at each start. */
static void forget_stale(struct target *t)
{
    if (!t->device_stale || !t->serving || t->state != TARGET_CLEAN)
        return;
    int error = engine_clear_stale(t->engine);
    if (error == 0)
        t->device_stale = false;
    else
        LOG_WARN("target %u: cannot note that it is complete again: %s", t->id,
                 shoal_error_text(error));
}

void node_learner(void *arg)
{
    struct target *t = arg;
    struct node *node = t->node;
    uint64_t swept_ns = 0;
    while (!node->stopping) {
        if (t->serving && t->foreign && node_now(node) >= swept_ns + SWEEP_NS) {
            drop_foreign(t);
            swept_ns = node_now(node);
            continue; /* it took a while: who woke us meanwhile woke nobody */
        }
        if (!t->serving || t->learner_since == 0) {
            forget_stale(t);
            headway_count(t);
            if (node->stopping || (t->serving && t->learner_since != 0))
                continue; /* likewise */
            if (t->serving && t->foreign)
                fiber_queue_wait_until(&t->learn_wake, swept_ns + SWEEP_NS);
            else
                fiber_queue_wait(&t->learn_wake);
            continue;
        }
        uint64_t since = t->learner_since, epoch = node->map->epoch;
        headway_count(t);
        uint64_t left = learn_pass(t);
        if (t->state == TARGET_CLEAN)
            say_moved(t);
        else if (left == 0 && still_learning(t, since) && node->map->epoch == epoch)
            say_caught_up(t);
        if (still_learning(t, since))
            fiber_queue_wait_until(&t->learn_wake, node_now(node) + 5 * NODE_RETRY_NS);
    }
    fiber_group_done(&node->running);
}
