/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading one stripe: from one holder of a copy, or from the k data shards at once.
 *
 * Every member asked is a *part*, a fiber of its own. Parts that came back are worth something only
 * if they carry the same version (R21); what is missing, late or damaged is made good from the
 * other members; what is in doubt is asked of the primary, which knows (R22).
 */
#include <string.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "base/planted.h"
#include "client/client_private.h"

#define PARTS_MAX (2 * BLOB_SET_MAX)
#define PART_IOV_MAX (CLIENT_IOV_MAX + 1)
#define LAYOUT_ROUNDS 4

/* What an attempt says beside 0 and errors. */
enum { ATTEMPT_LAYOUT = 1, ATTEMPT_PRIMARY = 2 };

enum part_state { PART_PENDING, PART_OK, PART_ABSENT, PART_PREPARED, PART_MISSING, PART_STALE };

struct part {
    struct task task;
    struct attempt *attempt;
    const struct map_target *target;
    unsigned position;
    uint32_t offset, len;  /* of the member's piece */
    uint32_t stripe_offset;
    struct iovec iov[PART_IOV_MAX];
    unsigned iov_count;
    struct exchange exchange;
    enum part_state state;
    int rc;
    struct stripe_desc desc;
};

struct attempt {
    struct operation *op;
    struct stripe_read *read;
    struct view *view;
    struct target_set set;
    struct ec_layout layout;
    size_t len; /* of the range */
    struct fiber_group group;
    struct fiber_queue moved; /* a part ended */
    struct part parts[PARTS_MAX];
    unsigned count;
    uint32_t tried; /* positions asked for recovery or as copies */
};

void stripe_desc_of(const struct blob_desc *desc, struct stripe_desc *out)
{
    *out = (struct stripe_desc){
        .version = desc->version, .form = (uint8_t)desc->form, .k = desc->k, .m = desc->m,
        .stripe_len = desc->stripe_len, .stripe_crc = desc->stripe_crc,
        .stripe_size = desc->stripe_size, .stripe_count = desc->stripe_count,
        .blob_len = desc->blob_len, .upload = desc->upload,
        .created_s = desc->created_s, .expires_s = desc->expires_s,
    };
}

int stripe_stat(struct operation *op, const struct blob_id *id, struct stripe_desc *desc)
{
    struct wire_stat question = {.id = *id};
    struct wire_stat_reply answer;
    struct exchange exchange = {.verb = &verb_stat, .message = &question, .reply = &answer};
    int rc = ask_primary(op, id, &exchange);
    if (rc == 0 && answer.desc.form == BLOB_TOMBSTONE)
        rc = SHOAL_E_NOT_FOUND;
    if (rc == 0)
        stripe_desc_of(&answer.desc, desc);
    return rc;
}

/* ---- parts ---- */

static enum part_state judge(struct attempt *attempt, struct part *part)
{
    switch (part->rc) {
    case 0:
        return part->desc.form == BLOB_TOMBSTONE ? PART_ABSENT : PART_OK;
    case SHOAL_E_NOT_FOUND:
    case SHOAL_E_CHANGED:
        return PART_ABSENT;
    case SHOAL_E_PREPARED:
        return PART_PREPARED;
    case SHOAL_E_STALE_EPOCH:
        return PART_STALE;
    default:
        LOG_DEBUG("client: position %u gave %s", part->position, shoal_error_name(part->rc));
        (void)attempt;
        return PART_MISSING;
    }
}

/* Kept out of part_run() so that the big reply is off the stack before anything else happens. */
static int part_ask(struct part *part)
{
    struct attempt *attempt = part->attempt;
    struct wire_get question = {.id = attempt->read->id, .want = attempt->read->want,
                                .offset = part->offset, .len = part->len};
    struct wire_get_reply answer;
    part->exchange.verb = &verb_get;
    part->exchange.message = &question;
    part->exchange.reply = &answer;
    part->exchange.into = part->iov;
    part->exchange.into_count = part->iov_count;
    int rc = exchange_with_target(attempt->op, attempt->view, part->target, &part->exchange);
    if (rc == 0)
        stripe_desc_of(&answer.desc, &part->desc);
    return rc;
}

static void part_run(struct task *task)
{
    struct part *part = container_of(task, struct part, task);
    part->rc = part_ask(part);
    part->state = judge(part->attempt, part);
    fiber_queue_wake_all(&part->attempt->moved);
}

static bool usable(const struct attempt *attempt, unsigned position)
{
    uint32_t readable = attempt->set.present;
    if (PLANTED(answering_learner))
        readable |= attempt->set.learners;
    return position < attempt->set.width && (readable >> position & 1) != 0;
}

static struct part *part_new(struct attempt *attempt, unsigned position, uint32_t offset,
                             uint32_t len)
{
    CHECK(attempt->count < PARTS_MAX);
    struct part *part = &attempt->parts[attempt->count++];
    memset(part, 0, sizeof *part);
    part->attempt = attempt;
    part->position = position;
    part->target = attempt->set.targets[position];
    part->offset = offset;
    part->len = len;
    return part;
}

static void part_start(struct attempt *attempt, struct part *part)
{
    if (!usable(attempt, part->position)) {
        part->rc = SHOAL_E_CONNECTION;
        part->state = PART_MISSING;
        return;
    }
    part->task.run = part_run;
    task_start(attempt->op->client, &attempt->group, &part->task);
}

static void parts_cancel(struct attempt *attempt)
{
    for (unsigned i = 0; i < attempt->count; i++)
        if (attempt->parts[i].state == PART_PENDING)
            exchange_cancel(&attempt->parts[i].exchange);
    fiber_group_wait(&attempt->group);
}

static unsigned parts_in(const struct attempt *attempt, unsigned first, enum part_state state)
{
    unsigned n = 0;
    for (unsigned i = first; i < attempt->count; i++)
        n += attempt->parts[i].state == state;
    return n;
}

/* Wait until no part from @first on is pending. false: @until passed first. */
static bool parts_wait(struct attempt *attempt, unsigned first, uint64_t until)
{
    while (parts_in(attempt, first, PART_PENDING) > 0)
        if (!fiber_queue_wait_until(&attempt->moved, until))
            return false;
    return true;
}

/* ---- what the parts say together ---- */

/* How many bytes a part should have brought, given the true layout. */
static size_t part_expected(const struct part *part, const struct ec_layout *layout)
{
    uint32_t piece = ec_layout_member_len(layout, part->position);
    return part->offset >= piece ? 0 : MIN(part->len, piece - part->offset);
}

/*
 * Does what came fit the layout that was asked for? For copies and shards of equal length a stripe
 * that is shorter than supposed still lands in the right place.
 */
static bool same_shape(const struct ec_layout *a, const struct ec_layout *b)
{
    return a->k == b->k && (!ec_layout_is_coded(a) || a->shard_len == b->shard_len);
}

/* Take over what @desc teaches; the next attempt asks for the right pieces, of that version. */
static int learn(struct attempt *attempt, const struct stripe_desc *desc)
{
    attempt->read->desc = *desc;
    attempt->read->layout_known = true;
    attempt->read->want = desc->version;
    return ATTEMPT_LAYOUT;
}

/*
 * Return: 0 (the parts that are OK agree, the others are merely missing), ATTEMPT_*, or an error.
 */
static int parts_agree(struct attempt *attempt)
{
    struct stripe_read *read = attempt->read;
    bool wanted = !blob_version_is_none(&read->want);
    const struct part *first = NULL;
    unsigned absent = parts_in(attempt, 0, PART_ABSENT);
    unsigned prepared = parts_in(attempt, 0, PART_PREPARED);
    if (parts_in(attempt, 0, PART_STALE) > 0)
        return SHOAL_E_STALE_EPOCH;
    const struct part *told = NULL; /* of its layout: a marker may know its version alone */
    for (unsigned i = 0; i < attempt->count; i++) {
        const struct part *part = &attempt->parts[i];
        if (part->state != PART_OK)
            continue;
        if (first == NULL)
            first = part;
        else if (blob_version_compare(&first->desc.version, &part->desc.version) != 0)
            return ATTEMPT_PRIMARY;
        if (told == NULL && part->desc.k > 0)
            told = part;
    }
    if (first != NULL && told == NULL) {
        bool others = parts_in(attempt, 0, PART_PENDING) > 0;
        return (wanted && read->layout_known) || others ? 0 : ATTEMPT_PRIMARY;
    }
    first = told;
    if (first == NULL) {
        if (absent > 0 && wanted)
            return SHOAL_E_CHANGED;
        if (absent >= attempt->op->pool.k && prepared == 0)
            return SHOAL_E_NOT_FOUND;
        return absent + prepared > 0 ? ATTEMPT_PRIMARY : 0;
    }
    struct ec_layout actual;
    if (ec_layout_init(&actual, first->desc.k, first->desc.m, first->desc.stripe_len) != 0)
        return SHOAL_E_CORRUPT;
    if (!same_shape(&attempt->layout, &actual))
        return learn(attempt, &first->desc);
    /* A committed answer with none newer prepared is the newest; the others are only later to hear. */
    if (prepared > 0 && !wanted)
        return learn(attempt, &first->desc);
    if (absent > 0 && !wanted)
        return ATTEMPT_PRIMARY;
    attempt->layout = actual;
    return 0;
}

/* An OK part that brought less than its piece has, or a marker where bytes belong, is missing. */
static void parts_measure(struct attempt *attempt)
{
    for (unsigned i = 0; i < attempt->count; i++) {
        struct part *part = &attempt->parts[i];
        if (part->state == PART_OK && (part->desc.form != BLOB_BYTES ||
                                       part->exchange.got != part_expected(part, &attempt->layout)))
            part->state = PART_MISSING;
    }
}

/*
 * @crc: of the bytes read when the transport has told it, piece by piece; NULL: worked out here,
 * because a part of them was reconstructed
 */
static int finish(struct attempt *attempt, const struct stripe_desc *desc, const uint32_t *crc)
{
    struct stripe_read *read = attempt->read;
    read->desc = *desc;
    size_t end = MIN((size_t)read->offset + attempt->len, (size_t)desc->stripe_len);
    read->bytes = end > read->offset ? end - read->offset : 0;
    if (read->offset > 0 || read->bytes < desc->stripe_len)
        return 0;
    struct iovec whole[CLIENT_IOV_MAX];
    int n = iov_slice(read->iov, read->iov_count, 0, read->bytes, whole, CLIENT_IOV_MAX);
    CHECK(n >= 0);
    uint32_t sum = crc != NULL ? *crc : iov_crc32c(whole, (unsigned)n);
    return sum == desc->stripe_crc ? 0 : SHOAL_E_CORRUPT;
}

/* ---- copies ---- */

static int next_copy(struct attempt *attempt)
{
    int primary = attempt->set.primary;
    if (primary >= 0 && primary < attempt->layout.holders && usable(attempt, (unsigned)primary) &&
        (attempt->tried >> primary & 1) == 0)
        return primary;
    for (unsigned i = 0; i < attempt->layout.holders; i++)
        if ((attempt->tried >> i & 1) == 0 && usable(attempt, i))
            return (int)i;
    return -1;
}

/* Into the caller's memory, or into @scratch while another part may still write there. */
static struct part *copy_start(struct attempt *attempt, int position, uint8_t *scratch)
{
    struct stripe_read *read = attempt->read;
    struct part *part = part_new(attempt, (unsigned)position, read->offset, (uint32_t)attempt->len);
    if (scratch != NULL) {
        part->iov[0] = (struct iovec){scratch, attempt->len};
        part->iov_count = attempt->len > 0;
    } else {
        int n = iov_slice(read->iov, read->iov_count, 0, attempt->len, part->iov, PART_IOV_MAX);
        CHECK(n >= 0);
        part->iov_count = (unsigned)n;
    }
    attempt->tried |= 1u << position;
    part_start(attempt, part);
    return part;
}

static int read_copies(struct attempt *attempt)
{
    struct client *client = attempt->op->client;
    struct stripe_read *read = attempt->read;
    uint8_t *scratch = NULL;
    struct part *hedge = NULL, *winner = NULL;
    int rc = SHOAL_E_UNAVAILABLE;
    for (;;) {
        bool idle = parts_in(attempt, 0, PART_PENDING) == 0;
        int position = next_copy(attempt);
        if (idle && position < 0)
            break;
        if (idle)
            (void)copy_start(attempt, position, NULL);
        else if (position >= 0 && scratch == NULL && (scratch = scratch_try(client)) != NULL)
            hedge = copy_start(attempt, position, scratch);
        uint64_t until = hedge != NULL || position < 0
                             ? attempt->op->deadline_ns
                             : reactor_now_ns(client->reactor) + client->config.hedge_ns;
        while (parts_in(attempt, 0, PART_PENDING) > 0 && winner == NULL) {
            if (!fiber_queue_wait_until(&attempt->moved, until))
                break;
            for (unsigned i = 0; i < attempt->count; i++)
                if (attempt->parts[i].state == PART_OK || attempt->parts[i].state == PART_STALE)
                    winner = &attempt->parts[i];
        }
        for (unsigned i = 0; i < attempt->count && winner == NULL; i++)
            if (attempt->parts[i].state != PART_PENDING && attempt->parts[i].state != PART_MISSING)
                winner = &attempt->parts[i];
        if (winner != NULL) {
            parts_cancel(attempt);
            rc = parts_agree(attempt);
            if (rc != 0)
                break;
            parts_measure(attempt);
            if (winner->state == PART_OK) {
                if (winner == hedge)
                    iov_copy_in(read->iov, read->iov_count, 0, scratch, winner->exchange.got);
                rc = finish(attempt, &winner->desc, &winner->exchange.got_crc);
                break;
            }
            winner = NULL;
            rc = SHOAL_E_UNAVAILABLE;
        }
    }
    parts_cancel(attempt);
    if (scratch != NULL)
        scratch_put(client, scratch);
    return rc;
}

/* ---- shards ---- */

/* The range of shard offsets that the missing parts cover together. */
static void missing_range(const struct attempt *attempt, unsigned slices, uint32_t *low,
                          uint32_t *high, uint32_t *want)
{
    *low = UINT32_MAX, *high = 0, *want = 0;
    for (unsigned i = 0; i < slices; i++) {
        const struct part *part = &attempt->parts[i];
        if (part->state == PART_OK)
            continue;
        *low = MIN(*low, part->offset);
        *high = MAX(*high, part->offset + part->len);
        *want |= 1u << part->position;
    }
}

/* Fetch [low, high) of a further member into scratch. false: there is none left to ask. */
static bool recover_one(struct attempt *attempt, uint8_t *shards[], uint32_t low, uint32_t high,
                        uint32_t avoid)
{
    unsigned width = (unsigned)attempt->layout.k + attempt->layout.m;
    for (unsigned i = 0; i < width; i++) {
        if ((attempt->tried >> i & 1) || (avoid >> i & 1) || !usable(attempt, i) ||
            attempt->count == PARTS_MAX)
            continue;
        attempt->tried |= 1u << i;
        uint32_t piece = ec_layout_member_len(&attempt->layout, i);
        memset(shards[i], 0, high - low); /* beyond a short last slice it counts as zeros */
        uint32_t len = piece > low ? MIN(piece, high) - low : 0;
        struct part *part = part_new(attempt, i, low, len);
        part->iov[0] = (struct iovec){shards[i], len};
        part->iov_count = len > 0;
        part_start(attempt, part);
        return true;
    }
    return false;
}

/* A data shard that has arrived whole for the range need not be fetched again. */
static uint32_t reuse_arrived(struct attempt *attempt, unsigned slices, uint8_t *shards[],
                              uint32_t low, uint32_t high)
{
    uint32_t present = 0;
    struct stripe_read *read = attempt->read;
    for (unsigned i = 0; i < slices; i++) {
        struct part *part = &attempt->parts[i];
        uint32_t piece = ec_layout_member_len(&attempt->layout, part->position);
        uint32_t end = MIN(high, piece);
        if (part->state != PART_OK || part->offset > low || part->offset + part->len < end)
            continue;
        memset(shards[part->position], 0, high - low);
        if (end > low)
            iov_copy_out(read->iov, read->iov_count,
                         part->stripe_offset - read->offset + (low - part->offset),
                         shards[part->position], end - low);
        present |= 1u << part->position;
    }
    return present;
}

static uint32_t recovered(const struct attempt *attempt, unsigned first)
{
    uint32_t present = 0;
    for (unsigned i = first; i < attempt->count; i++)
        if (attempt->parts[i].state == PART_OK)
            present |= 1u << attempt->parts[i].position;
    return present;
}

/* The data parts came after all, while others were fetched in their place. */
static bool slices_complete(const struct attempt *attempt, unsigned slices)
{
    for (unsigned i = 0; i < slices; i++)
        if (attempt->parts[i].state != PART_OK)
            return false;
    return true;
}

static int recover_into(struct attempt *attempt, unsigned slices, uint8_t *scratch)
{
    struct client *client = attempt->op->client;
    struct stripe_read *read = attempt->read;
    unsigned k = attempt->layout.k, m = attempt->layout.m;
    uint32_t low, high, want;
    missing_range(attempt, slices, &low, &high, &want);
    size_t room = round_up_u64(high - low, 64);
    uint8_t *shards[BLOB_SET_MAX];
    if (room * (k + m) > client->scratch_bytes)
        return SHOAL_E_TOO_LARGE;
    for (unsigned i = 0; i < k + m; i++)
        shards[i] = scratch + i * room;
    uint32_t reused = reuse_arrived(attempt, slices, shards, low, high);
    attempt->tried = reused;
    for (;;) {
        unsigned have = (unsigned)__builtin_popcount(reused | recovered(attempt, slices));
        unsigned under_way = parts_in(attempt, slices, PART_PENDING);
        if (have >= k)
            break;
        bool more = true;
        while (have + under_way < k && (more = recover_one(attempt, shards, low, high, want)))
            under_way = parts_in(attempt, slices, PART_PENDING);
        if (under_way == 0 && !more)
            return slices_complete(attempt, slices) ? 0 : SHOAL_E_UNAVAILABLE;
        if (parts_in(attempt, 0, PART_PENDING) > 0 &&
            !fiber_queue_wait_until(&attempt->moved, attempt->op->deadline_ns))
            return SHOAL_E_TIMEOUT;
        int rc = parts_agree(attempt);
        if (rc != 0)
            return rc;
        parts_measure(attempt);
        if (slices_complete(attempt, slices))
            return 0;
    }
    /* From here on no late part may write into the caller's memory. */
    parts_cancel(attempt);
    const struct ec_code *code = client_code(client, k, m);
    if (code == NULL ||
        ec_reconstruct(code, high - low, shards, reused | recovered(attempt, slices), want) != 0)
        return SHOAL_E_UNAVAILABLE;
    for (unsigned i = 0; i < slices; i++) {
        const struct part *part = &attempt->parts[i];
        if (part->state != PART_OK || (want >> part->position & 1))
            iov_copy_in(read->iov, read->iov_count, part->stripe_offset - read->offset,
                        shards[part->position] + (part->offset - low),
                        part_expected(part, &attempt->layout));
    }
    return 0;
}

/* The version that all agreed on: of any part that is OK. */
static const struct stripe_desc *agreed(const struct attempt *attempt)
{
    for (unsigned i = 0; i < attempt->count; i++)
        if (attempt->parts[i].state == PART_OK)
            return &attempt->parts[i].desc;
    return NULL;
}

static int recover(struct attempt *attempt, unsigned slices)
{
    struct client *client = attempt->op->client;
    uint8_t *scratch = scratch_get(client, attempt->op->deadline_ns);
    if (scratch == NULL)
        return SHOAL_E_BUSY;
    int rc = recover_into(attempt, slices, scratch);
    parts_cancel(attempt);
    scratch_put(client, scratch);
    return rc;
}

static int read_shards(struct attempt *attempt)
{
    struct client *client = attempt->op->client;
    struct stripe_read *read = attempt->read;
    struct ec_slice slices[EC_DATA_MAX];
    int count = ec_layout_range(&attempt->layout, read->offset, attempt->len, slices);
    if (count < 0)
        return SHOAL_E_INVALID;
    for (int i = 0; i < count; i++) {
        struct part *part =
            part_new(attempt, slices[i].member, slices[i].shard_offset, slices[i].len);
        part->stripe_offset = slices[i].stripe_offset;
        int n = iov_slice(read->iov, read->iov_count, slices[i].stripe_offset - read->offset,
                          slices[i].len, part->iov, PART_IOV_MAX);
        CHECK(n >= 0);
        part->iov_count = (unsigned)n;
    }
    for (int i = 0; i < count; i++)
        part_start(attempt, &attempt->parts[i]);
    uint64_t hedge = reactor_now_ns(client->reactor) + client->config.hedge_ns;
    (void)parts_wait(attempt, 0, hedge);

    bool recovering = false;
    int rc = parts_agree(attempt);
    if (rc == 0) {
        parts_measure(attempt);
        recovering = !slices_complete(attempt, (unsigned)count);
        if (recovering)
            rc = recover(attempt, (unsigned)count);
    }
    parts_cancel(attempt);
    if (rc != 0)
        return rc;
    const struct stripe_desc *desc = agreed(attempt);
    if (desc == NULL)
        return SHOAL_E_UNAVAILABLE;
    uint32_t crc = 0;
    for (int i = 0; i < count; i++)
        crc = crc32c_combine(crc, attempt->parts[i].exchange.got_crc,
                             attempt->parts[i].exchange.got);
    return finish(attempt, desc, recovering ? NULL : &crc);
}

/* ---- attempts ---- */

static int attempt_layout(struct attempt *attempt)
{
    struct stripe_read *read = attempt->read;
    const struct map_pool *pool = &attempt->op->pool;
    size_t room = iov_len(read->iov, read->iov_count);
    int rc;
    if (read->layout_known) {
        rc = ec_layout_init(&attempt->layout, read->desc.k, read->desc.m, read->desc.stripe_len);
    } else {
        rc = ec_layout_plan(&attempt->layout, pool->k, pool->m, read->guess_len,
                            pool->copies_below);
    }
    if (rc != 0)
        return rc;
    uint32_t stripe_len = attempt->layout.stripe_len;
    attempt->len = stripe_len > read->offset ? MIN(room, (size_t)(stripe_len - read->offset)) : 0;
    return 0;
}

static int attempt_run(struct operation *op, struct stripe_read *read)
{
    struct attempt attempt;
    attempt.op = op;
    attempt.read = read;
    attempt.count = 0;
    attempt.tried = 0;
    fiber_group_init(&attempt.group);
    fiber_queue_init(&attempt.moved);
    int rc = attempt_layout(&attempt);
    if (rc != 0)
        return rc;
    attempt.view = view_hold(op->client);
    const struct map_pool *pool = cluster_map_pool(attempt.view->map, read->id.pool);
    if (pool == NULL) {
        rc = SHOAL_E_NO_POOL;
    } else {
        cluster_map_set(attempt.view->map, pool, &read->id, &attempt.set);
        rc = ec_layout_is_coded(&attempt.layout) ? read_shards(&attempt) : read_copies(&attempt);
    }
    view_release(op->client, attempt.view);
    return rc;
}

/* The primary's word: which version to read, and how long it is. */
static int consult_primary(struct operation *op, struct stripe_read *read)
{
    int rc = stripe_stat(op, &read->id, &read->desc);
    if (rc != 0)
        return rc;
    read->want = read->desc.version;
    read->layout_known = true;
    return 0;
}

int stripe_read(struct operation *op, struct stripe_read *read)
{
    bool pinned = !blob_version_is_none(&read->want);
    unsigned rounds = 0, corrupt = 0;
    for (;;) {
        int rc = attempt_run(op, read);
        if (rc == ATTEMPT_LAYOUT && ++rounds < LAYOUT_ROUNDS)
            continue;
        if (rc == ATTEMPT_LAYOUT || (rc == ATTEMPT_PRIMARY && pinned))
            rc = SHOAL_E_CHANGED;
        if (rc == 0 || rc == SHOAL_E_NOT_FOUND || (rc == SHOAL_E_CHANGED && pinned))
            return rc;
        if (rc == SHOAL_E_CORRUPT && ++corrupt < 3) {
            LOG_WARN("client: a stripe did not match its checksum, reading again");
            continue;
        }
        if (rc != ATTEMPT_PRIMARY && !operation_again(op, rc))
            return operation_error(op, rc);
        rounds = 0;
        if (pinned)
            continue;
        read->want = (struct blob_version){0};
        /* What a member could not say, or what has changed meanwhile, the primary knows. */
        if (rc == ATTEMPT_PRIMARY || rc == SHOAL_E_CHANGED) {
            rc = consult_primary(op, read);
            if (rc != 0)
                return rc;
        }
    }
}
