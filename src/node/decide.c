/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forward or back: what settling decides of a version that is prepared and not known to be committed
 * (R23, R25, R26), and how it is carried out.
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/macros.h"
#include "node/settle.h"
#include "shoal/error.h"

/* ---- testimonies ---- */

static void testify_here(struct settling *s, struct object_testimony *o)
{
    struct engine_entry committed = {0}, prepared = {0};
    int own = members_place(&o->set, s->target->id);
    if (own < 0 || own >= (int)BLOB_SET_MAX)
        return;
    (void)engine_find(s->target->engine, &o->id, &committed, &prepared);
    o->from[own] = (struct wire_item_testimony){
        .committed = committed.version,
        .committed_form = (uint8_t)committed.form,
        .committed_flags = committed.hollow ? WIRE_ENTRY_HOLLOW : 0,
        .prepared = prepared.version,
        .prepared_form = (uint8_t)prepared.form,
        .prepared_flags = (uint8_t)((prepared.hollow ? WIRE_ENTRY_HOLLOW : 0) |
                                    (prepared.torn ? WIRE_ENTRY_TORN : 0)),
        .depends = prepared.depends,
    };
    o->heard |= (uint16_t)(1u << own);
}

/* One batch of objects to one member. */
static int find_call(struct settling *s, const struct member *to, struct object_testimony **objects,
                     unsigned count)
{
    struct node *node = s->target->node;
    uint8_t header[WIRE_MESSAGE_MAX];
    struct wire_find *ask = calloc(1, sizeof *ask);
    struct wire_find_reply *reply = calloc(1, sizeof *reply);
    int error = ask == NULL || reply == NULL ? SHOAL_E_NO_MEMORY : 0;
    struct blob_request_id none = {0, 0};
    struct wire_head head = node_head(node, WIRE_find, to->target, none);
    if (error == 0 && head.epoch != s->epoch)
        error = SHOAL_E_STALE_EPOCH;
    if (error == 0) {
        for (unsigned i = 0; i < count; i++)
            ask->objects[ask->objects_count++].id = objects[i]->id;
        struct member_call call = {
            .header = header,
            .header_room = sizeof header,
            .header_len = wire_find_encode(header, sizeof header, &head, ask),
            .deadline_ns = node_now(node) + node->config.call_ns,
        };
        error = node_call(node, to, &call);
        if (error == 0)
            error = wire_find_reply_decode(&call.in, reply);
        if (error == 0 && reply->found_count != count)
            error = SHOAL_E_INVALID;
    }
    for (unsigned i = 0; error == 0 && i < count; i++) {
        int position = members_place(&objects[i]->set, to->target);
        CHECK(position >= 0 && position < (int)BLOB_SET_MAX);
        objects[i]->from[position] = reply->found[i];
        objects[i]->heard |= (uint16_t)(1u << position);
    }
    free(ask);
    free(reply);
    return error;
}

/* All claimed objects of which this member is a clean one, or one that learns its own position anew. */
static int find_from(struct settling *s, const struct member *to)
{
    struct object_testimony *batch[NODE_BATCH];
    unsigned count = 0;
    int error = 0;
    for (unsigned i = 0; error == 0 && i <= s->testimonies_count; i++) {
        bool last = i == s->testimonies_count;
        if (!last) {
            struct object_testimony *o = &s->testimonies[i];
            int position = members_place(&o->set, to->target);
            if (position >= 0 && position < (int)BLOB_SET_MAX &&
                ((o->set.present | o->set.learners) >> position & 1) != 0)
                batch[count++] = o;
        }
        if (count == NODE_BATCH || (last && count > 0)) {
            error = find_call(s, to, batch, count);
            count = 0;
        }
    }
    return error;
}

int settling_testimonies(struct settling *s)
{
    s->testimonies = calloc(s->claims_count + 1u, sizeof *s->testimonies);
    if (s->testimonies == NULL)
        return SHOAL_E_NO_MEMORY;
    for (unsigned i = 0; i < s->claims_count; i++) {
        struct claim *c = &s->claims[i];
        if (!c->asked)
            continue;
        if (s->testimonies_count == 0 ||
            !blob_id_equal(&s->testimonies[s->testimonies_count - 1].id, &c->id)) {
            struct object_testimony *o = &s->testimonies[s->testimonies_count++];
            o->id = c->id;
            if (!node_members_of(s->target->node, &c->id, &o->set))
                return SHOAL_E_NO_POOL;
            testify_here(s, o);
        }
        c->object = s->testimonies_count - 1;
    }
    for (unsigned i = 0; i < s->witnesses_count; i++)
        if (s->witnesses[i].error == 0)
            s->witnesses[i].error = find_from(s, &s->witnesses[i].member);
    return settling_is_current(s) ? 0 : SHOAL_E_STALE_EPOCH;
}

/* ---- judging ---- */

static int order(const struct blob_version *a, const struct blob_version *b)
{
    return blob_version_compare(a, b);
}

/*
 * This member never had v, or something newer that is prepared replaced it: had v been committed by
 * then, that prepare would have named it as its base, and v would be committed here (R16, R25).
 */
static bool denies(const struct wire_item_testimony *from, const struct blob_version *v)
{
    return order(&from->committed, v) < 0 && order(&from->prepared, v) != 0;
}

static bool has_good_bytes(const struct wire_item_testimony *from, const struct blob_version *v)
{
    if (order(&from->committed, v) == 0)
        return from->committed_form == BLOB_BYTES && from->committed_flags == 0;
    return order(&from->prepared, v) == 0 && from->prepared_form == BLOB_BYTES &&
           (from->prepared_flags & WIRE_ENTRY_HOLLOW) == 0;
}

/*
 * R26a: this member's write of v was cut short, so it never said that v is durable. Its drive cannot swear to
 * it, though, so this counts only where there are too few pieces, and no more to come.
 */
static bool is_torn(const struct wire_item_testimony *from, const struct blob_version *v)
{
    return order(&from->prepared, v) == 0 && (from->prepared_flags & WIRE_ENTRY_TORN) != 0;
}

/* How many pieces make the stripe: from any description of it. 0: none could be read. */
static unsigned pieces_needed(struct settling *s, const struct claim *c)
{
    struct engine_entry entry = {.id = c->id, .version = c->version, .prepared = true};
    struct blob_desc desc;
    struct engine_entry committed = {0}, prepared = {0};
    (void)engine_find(s->target->engine, &c->id, &committed, &prepared);
    /* Not ours to read: let the description come from the others. */
    entry.hollow = order(&prepared.version, &c->version) != 0 || prepared.hollow;
    if (describe_object(s->target, &entry, &desc) != 0)
        return 0;
    return desc.k == 0 ? 1 : desc.k;
}

/*
 * Good pieces that do not count now and may later: a learner's that kept its memory, as far as this primary
 * helps it to become clean with what it has (R27), and those of who was clean when v was sent, and is away
 * with nobody to take over from it.
 */
static unsigned pieces_to_come(const struct settling *s, const struct claim *c)
{
    const struct object_testimony *o = &s->testimonies[c->object];
    int own = members_place(&o->set, s->target->id);
    unsigned n = 0;
    if (own < 0 || order(&o->from[own].prepared, &c->version) != 0)
        return 0;
    for (unsigned i = 0; i < o->set.width; i++) {
        if ((o->set.clean >> i & 1) != 0 || o->set.at[i].lost)
            continue;
        if ((o->set.learners >> i & 1) != 0)
            n += has_good_bytes(&o->from[i], &c->version);
        else
            n += (c->depends >> i & 1) != 0 &&
                 ((o->set.learners & ~o->set.leaving) >> (BLOB_SET_MAX + i) & 1) == 0;
    }
    return n;
}

static enum fate judge(struct settling *s, const struct claim *c)
{
    const struct object_testimony *o = &s->testimonies[c->object];
    bool newer = false, torn = false;
    unsigned pieces = 0;
    for (unsigned i = 0; i < o->set.width; i++) {
        bool clean = (o->set.clean >> i & 1) != 0;
        if ((clean || (o->set.learners >> i & 1) != 0) && (o->heard >> i & 1) == 0)
            return FATE_UNKNOWN;
        if (!clean)
            continue;
        if (order(&o->from[i].committed, &c->version) == 0)
            return FATE_FORWARD;
        newer |= order(&o->from[i].committed, &c->version) > 0;
        pieces += has_good_bytes(&o->from[i], &c->version);
        torn |= (c->depends >> i & 1) != 0 && is_torn(&o->from[i], &c->version);
    }
    if (newer)
        return FATE_OBSOLETE;
    for (unsigned i = 0; i < o->set.width; i++)
        if ((o->set.clean >> i & 1) != 0 && (c->depends >> i & 1) != 0 &&
            denies(&o->from[i], &c->version))
            return FATE_BACK;
    if (c->form == BLOB_TOMBSTONE)
        return FATE_FORWARD;
    unsigned needed = pieces_needed(s, c);
    if (needed > 0 && pieces >= needed)
        return FATE_FORWARD;
    if (needed == 0 && pieces > 0)
        return FATE_UNKNOWN; /* a description will be readable later */
    torn = torn && pieces + pieces_to_come(s, c) < MAX(needed, 1u); /* no description: all are torn */
    return s->pool.cache || torn ? FATE_BACK : FATE_UNDECIDED;
}

/* ---- acting ---- */

static int repair_call(struct settling *s, const struct member *to, const struct claim *c)
{
    struct node *node = s->target->node;
    uint8_t header[512];
    struct wire_repair ask = {.id = c->id, .version = c->version};
    struct blob_request_id none = {0, 0};
    struct wire_head head = node_head(node, WIRE_repair, to->target, none);
    struct member_call call = {
        .header = header,
        .header_room = sizeof header,
        .header_len = wire_repair_encode(header, sizeof header, &head, &ask),
        .deadline_ns = node_now(node) + node->config.call_ns,
    };
    return node_call(node, to, &call);
}

/* Its request id is still known: a retry of it gets this answer (R8). */
static int commit_here(struct target *t, const struct claim *c)
{
    struct engine_entry prepared = {0};
    (void)engine_find(t->engine, &c->id, NULL, &prepared);
    int error = engine_commit(t->engine, &c->id, &c->version);
    if (error == 0 && order(&prepared.version, &c->version) == 0)
        window_note(&t->window, &prepared.request, &c->id, &c->version, node_now(t->node));
    return error;
}

/* Every clean member ends up with it; those that have it prepared hear of the commit. */
static int forward(struct settling *s, const struct claim *c)
{
    struct target *t = s->target;
    const struct object_testimony *o = &s->testimonies[c->object];
    for (unsigned i = 0; i < o->set.width; i++) {
        const struct wire_item_testimony *from = &o->from[i];
        bool own = o->set.at[i].target == t->id;
        if ((o->set.clean >> i & 1) == 0)
            continue;
        bool lacks = denies(from, &c->version);
        int error = 0;
        if (lacks)
            error = own ? install_piece(t, &c->id, &c->version, NULL)
                        : repair_call(s, &o->set.at[i], c);
        else if (own && order(&from->prepared, &c->version) == 0)
            error = commit_here(t, c);
        if (error != 0)
            return error;
        if (own && order(&from->prepared, &c->version) == 0 && from->prepared_flags != 0)
            install_later(t, &c->id, &c->version);
    }
    commit_queue_add(t, &o->set, &c->id, &c->version);
    counter_add(t->node->settled_forward, 1);
    return 0;
}

static int back(struct settling *s, const struct claim *c)
{
    struct target *t = s->target;
    const struct object_testimony *o = &s->testimonies[c->object];
    struct commit_entry entry = {c->id, c->version};
    /* First, not when all have answered: a settle that starts over finds nothing prepared any more. */
    int error = abort_here(t, &c->id, &c->version);
    for (unsigned i = 0; error == 0 && i < MEMBERS_MAX; i++)
        if ((o->set.taking >> i & 1) != 0 && o->set.at[i].target != t->id)
            error = abort_call(t, &o->set.at[i], &entry, 1,
                               node_now(t->node) + t->node->config.call_ns);
    counter_add(t->node->settled_back, error == 0);
    return error;
}

/*
 * Something newer was committed, so this version was decided before; only who was down then has it
 * still, and is a learner now. Its request id keeps whatever answer it had.
 */
static int obsolete(struct settling *s, const struct claim *c)
{
    struct target *t = s->target;
    const struct object_testimony *o = &s->testimonies[c->object];
    struct commit_entry entry = {c->id, c->version};
    int error = 0;
    for (unsigned i = 0; error == 0 && i < MEMBERS_MAX; i++)
        if ((o->set.learners >> i & 1) != 0 && o->set.at[i].target != t->id)
            error = abort_call(t, &o->set.at[i], &entry, 1,
                               node_now(t->node) + t->node->config.call_ns);
    return error;
}

static int act(struct settling *s, const struct claim *c, enum fate fate)
{
    switch (fate) {
    case FATE_FORWARD:
        return forward(s, c);
    case FATE_BACK:
        return back(s, c);
    case FATE_OBSOLETE:
        return obsolete(s, c);
    case FATE_UNDECIDED:
        return object_set_undecided(s->target, &c->id, &c->version);
    case FATE_UNKNOWN:
        break;
    }
    return SHOAL_E_UNAVAILABLE;
}

static void log_fate(const struct settling *s, const struct claim *c, enum fate fate)
{
    static const char *const names[] = {"unknown", "forward", "back", "obsolete", "undecided"};
    const struct object_testimony *o = &s->testimonies[c->object];
    LOG_DEBUG("settling: %02x%02x.. version (%llu, %u, %llu) form %d depends %x heard %x: %s",
              c->id.key.bytes[0], c->id.key.bytes[1], (unsigned long long)c->version.epoch,
              c->version.incarnation, (unsigned long long)c->version.counter, (int)c->form,
              c->depends, o->heard, names[fate]);
    for (unsigned i = 0; i < o->set.width; i++)
        LOG_DEBUG("settling: target %u has (%llu, %llu) committed, (%llu, %llu) prepared",
                  o->set.at[i].target, (unsigned long long)o->from[i].committed.epoch,
                  (unsigned long long)o->from[i].committed.counter,
                  (unsigned long long)o->from[i].prepared.epoch,
                  (unsigned long long)o->from[i].prepared.counter);
}

void settling_decide(struct settling *s)
{
    const struct claim *newer = NULL;
    for (unsigned i = 0; i < s->claims_count; i++) {
        struct claim *c = &s->claims[i];
        if (!c->asked)
            continue;
        if (newer != NULL && !blob_id_equal(&newer->id, &c->id))
            newer = NULL;
        /* What happens to an older version of the same object follows from the newer one's fate. */
        enum fate fate = newer == NULL || newer->fate == FATE_BACK ? judge(s, c)
                         : newer->fate == FATE_FORWARD             ? FATE_OBSOLETE
                                                                   : newer->fate;
        newer = c;
        if (!settling_is_current(s))
            return;
        log_fate(s, c, fate);
        int error = act(s, c, fate);
        if (!settling_is_current(s))
            return;
        if (error == 0)
            c->fate = fate;
        else
            LOG_DEBUG("settling: a version waits: %s", shoal_error_text(error));
    }
}
