/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fetching one piece from the others and installing it here: what a learner lacks, what a drive
 * damaged, what settling found missing (R28). Markers and tombstones need no bytes; a copy is one
 * read; a shard is computed from any k others.
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "base/macros.h"
#include "base/planted.h"
#include "node/node_private.h"
#include "shoal/error.h"

struct damaged {
    struct list_node node;
    struct blob_id id;
    struct blob_version version;
    unsigned tries;
};

#define DAMAGED_MAX 4096u

static int fetch_call(struct target *t, const struct member *to, const struct blob_id *id,
                      const struct blob_version *version, uint32_t len, void *buffer,
                      struct blob_desc *desc)
{
    struct node *node = t->node;
    uint8_t header[2048];
    struct wire_fetch ask = {.id = *id, .version = *version, .len = len};
    struct wire_fetch_reply reply;
    struct blob_request_id none = {0, 0};
    struct wire_head head = node_head(node, WIRE_fetch, to->target, none);
    struct member_call call = {
        .header = header,
        .header_room = sizeof header,
        .header_len = wire_fetch_encode(header, sizeof header, &head, &ask),
        .reply_payload = {buffer, len},
        .deadline_ns = node_now(node) + node->config.call_ns,
    };
    int error = node_call(node, to, &call);
    if (error == 0)
        error = wire_fetch_reply_decode(&call.in, &reply);
    if (error != 0)
        return error;
    if (!blob_id_equal(&reply.desc.id, id) ||
        blob_version_compare(&reply.desc.version, version) != 0 ||
        (len > 0 && call.reply_payload.iov_len != MIN(len, reply.desc.shard_len)))
        return SHOAL_E_CORRUPT;
    *desc = reply.desc;
    return 0;
}

/* What is to be said of several members that could not help: gone, damaged, or not to be had now. */
static int worse(int worst, int error)
{
    if (error == SHOAL_E_CHANGED || (error == SHOAL_E_HOLLOW && worst != SHOAL_E_CHANGED))
        return error;
    return worst;
}

/*
 * Any description of this version but a marker's, which knows no layout: all but position, form and
 * shard_len is the same everywhere.
 */
static int fetch_desc(struct target *t, const struct members *set, const struct blob_id *id,
                      const struct blob_version *version, struct blob_desc *desc)
{
    int worst = SHOAL_E_UNAVAILABLE;
    for (unsigned i = 0; i < set->width; i++) {
        if ((set->present >> i & 1) == 0 || set->at[i].target == t->id)
            continue;
        int error = fetch_call(t, &set->at[i], id, version, 0, NULL, desc);
        if (error == 0 && desc->form != BLOB_MARKER)
            return 0;
        worst = worse(worst, error);
    }
    return worst;
}

/* A copy: from the first member that holds one. */
static int fetch_copy(struct target *t, const struct members *set, const struct blob_desc *desc,
                      void *buffer)
{
    int worst = SHOAL_E_UNAVAILABLE;
    for (unsigned i = 0; i <= desc->m && i < set->width; i++) {
        struct blob_desc theirs;
        if ((set->present >> i & 1) == 0 || set->at[i].target == t->id)
            continue;
        int error = fetch_call(t, &set->at[i], &desc->id, &desc->version, desc->stripe_len, buffer,
                               &theirs);
        /* A copy is the whole stripe, so it can be checked; a single shard cannot. */
        if (error == 0 && theirs.form == BLOB_BYTES && theirs.shard_len == desc->stripe_len &&
            crc32c(0, buffer, desc->stripe_len) == desc->stripe_crc)
            return 0;
        worst = worse(worst, error);
    }
    return worst;
}

/* A shard of which another serves the position: it is just what that one has. */
static int fetch_same(struct target *t, const struct members *set, const struct blob_desc *desc,
                      unsigned position, uint32_t len, uint8_t *shard)
{
    struct blob_desc theirs;
    if ((set->present >> position & 1) == 0 || set->at[position].target == t->id)
        return SHOAL_E_UNAVAILABLE;
    int error = fetch_call(t, &set->at[position], &desc->id, &desc->version, len, shard, &theirs);
    if (error == 0 && (theirs.form != BLOB_BYTES || theirs.position != position ||
                       theirs.shard_len != len))
        error = SHOAL_E_CORRUPT;
    return error;
}

/* One of the k others of which a shard is computed. */
struct source {
    struct target *target;
    const struct member *from;
    const struct blob_desc *desc;
    struct fiber_group *group;
    unsigned position;
    uint32_t len, full; /* parity is as long as the longest; the others count with zeros behind */
    uint8_t *shard;
    int error;
};

static void source_fetch(void *arg)
{
    struct source *source = arg;
    struct blob_desc theirs;
    int error = fetch_call(source->target, source->from, &source->desc->id,
                           &source->desc->version, source->len, source->shard, &theirs);
    if (error == 0 && (theirs.form != BLOB_BYTES || theirs.position != source->position ||
                       theirs.shard_len != source->len))
        error = SHOAL_E_CORRUPT;
    memset(source->shard + source->len, 0, source->full - source->len);
    source->error = error;
    fiber_group_done(source->group);
}

/* Those of @sources that have no shard yet, all at once. */
static void fetch_sources(struct target *t, struct source *sources, unsigned count)
{
    struct fiber_group group;
    fiber_group_init(&group);
    for (unsigned i = 0; i < count; i++) {
        if (sources[i].error == 0)
            continue;
        sources[i].group = &group;
        fiber_group_add(&group);
        node_run_call(t->node, source_fetch, &sources[i]);
    }
    fiber_group_wait(&group);
}

/*
 * A shard: from the one that has it, else from k others, by the code; what fails is asked of those that are
 * left. @buffer has room for k + 1 shards, of which the first becomes this one.
 */
static int fetch_shard(struct target *t, const struct members *set, const struct blob_desc *desc,
                       const struct ec_layout *layout, unsigned position, uint8_t *buffer)
{
    struct source sources[EC_DATA_MAX];
    uint8_t *shards[EC_MEMBERS_MAX] = {[0] = NULL};
    uint32_t full = ec_layout_member_len(layout, layout->k), untried = 0, present = 0;
    int worst = SHOAL_E_UNAVAILABLE;
    if (fetch_same(t, set, desc, position, ec_layout_member_len(layout, position), buffer) == 0)
        return 0;
    for (unsigned i = 0; i < layout->holders; i++)
        untried |= i != position ? set->present & 1u << i : 0;
    for (unsigned i = 0; i < layout->k; i++)
        sources[i].error = worst;
    for (;;) {
        unsigned missing = 0;
        for (unsigned i = 0; i < layout->k; i++) {
            struct source *source = &sources[i];
            if (source->error == 0)
                continue;
            missing++;
            if (untried == 0)
                return worst;
            unsigned from = (unsigned)__builtin_ctz(untried);
            untried &= untried - 1;
            *source = (struct source){.target = t,
                                      .from = &set->at[from],
                                      .desc = desc,
                                      .position = from,
                                      .len = ec_layout_member_len(layout, from),
                                      .full = full,
                                      .shard = buffer + (size_t)(i + 1) * layout->shard_len,
                                      .error = SHOAL_E_UNAVAILABLE};
        }
        if (missing == 0)
            break;
        fetch_sources(t, sources, layout->k);
        for (unsigned i = 0; i < layout->k; i++)
            worst = worse(worst, sources[i].error);
    }
    shards[position] = buffer;
    for (unsigned i = 0; i < layout->k; i++) {
        present |= 1u << sources[i].position;
        shards[sources[i].position] = sources[i].shard;
    }
    return ec_reconstruct(node_code(t->node, layout->k, layout->m), full, shards, present,
                          1u << position);
}

/*
 * Is the piece of @position wanted here still? What this target kept of another position, from a time
 * when it had that, is none (R40). Return: 1 no, it is here or newer is; 0 yes; or an error.
 */
static int is_here(struct target *t, const struct blob_id *id, const struct blob_version *version,
                   unsigned position)
{
    struct engine_entry committed = {0}, prepared = {0};
    (void)engine_find(t->engine, id, &committed, &prepared);
    int order = blob_version_compare(&committed.version, version);
    if (order > 0)
        return 1;
    if (order == 0 && committed.position != position && !PLANTED(kept_position))
        return engine_drop(t->engine, id, version);
    if (order == 0 && !committed.hollow)
        return 1;
    if (blob_version_compare(&prepared.version, version) != 0)
        return 0;
    if (prepared.position != position)
        return engine_abort(t->engine, id, version);
    return !prepared.hollow && engine_commit(t->engine, id, version) == 0 ? 1 : 0;
}

static int install(struct target *t, const struct members *set, const struct blob_id *id,
                   const struct blob_version *version, unsigned position, uint64_t *bytes)
{
    struct node *node = t->node;
    struct blob_desc desc;
    struct ec_layout layout;
    int error = fetch_desc(t, set, id, version, &desc);
    if (error == 0)
        error = ec_layout_init(&layout, desc.k == 0 ? 1 : desc.k, desc.m, desc.stripe_len);
    if (error != 0)
        return error;
    bool holds = desc.form != BLOB_TOMBSTONE && position < layout.holders;
    desc.position = (uint8_t)position;
    desc.form = desc.form == BLOB_TOMBSTONE ? BLOB_TOMBSTONE : holds ? BLOB_BYTES : BLOB_MARKER;
    desc.shard_len = holds ? ec_layout_member_len(&layout, position) : 0;
    uint8_t *buffer = NULL;
    if (desc.shard_len > 0) {
        bool coded = ec_layout_is_coded(&layout);
        size_t room = coded ? (size_t)(layout.k + 1u) * layout.shard_len
                            : round_up_u64(desc.stripe_len, DEV_BLOCK_BYTES);
        if (coded && layout.holders > set->width)
            return SHOAL_E_CORRUPT;
        buffer = pace_buffer_get(node, room);
        if (buffer == NULL)
            return SHOAL_E_BUSY;
        error = coded ? fetch_shard(t, set, &desc, &layout, position, buffer)
                      : fetch_copy(t, set, &desc, buffer);
    }
    struct iovec iov = {buffer, desc.shard_len};
    int here = error == 0 ? is_here(t, id, version, position) : error;
    error = MIN(here, 0);
    if (here == 0)
        error = engine_repair(t->engine, &desc, &iov, desc.shard_len > 0, NULL);
    if (buffer != NULL)
        pace_buffer_put(node, buffer);
    if (bytes != NULL)
        *bytes += desc.shard_len;
    return error;
}

int install_piece(struct target *t, const struct blob_id *id, const struct blob_version *version,
                  uint64_t *bytes)
{
    struct members set;
    struct install *lock;
    int error = install_lock(t, id, &lock);
    if (error != 0)
        return error;
    int place = node_members_of(t->node, id, &set) ? members_place(&set, t->id) : -1;
    unsigned position = place < 0 ? 0 : place_position((unsigned)place);
    int here = place < 0 ? SHOAL_E_NOT_SERVING : is_here(t, id, version, position);
    error = MIN(here, 0);
    uint64_t before = bytes == NULL ? 0 : *bytes;
    if (here == 0)
        error = install(t, &set, id, version, position, bytes);
    if (here == 0 && error == 0 && bytes != NULL)
        headway_piece(t, *bytes - before);
    install_unlock(t, lock);
    return error == SHOAL_E_LOW_WATER ? 0 : error;
}

/* ---- damage, mended in the background ---- */

void install_later(struct target *t, const struct blob_id *id, const struct blob_version *version)
{
    if (t->damaged_count == DAMAGED_MAX)
        return; /* the scrubber comes by again */
    list_for_each(&t->damaged, struct damaged, node, known)
        if (blob_id_equal(&known->id, id))
            return;
    struct damaged *damaged = malloc(sizeof *damaged);
    if (damaged == NULL)
        return;
    *damaged = (struct damaged){.id = *id, .version = *version};
    list_push_back(&t->damaged, &damaged->node);
    t->damaged_count++;
    fiber_queue_wake_one(&t->repair_wake);
}

/* Only what is still committed and damaged here; the rest was replaced meanwhile. */
static bool is_still_damaged(struct target *t, const struct damaged *damaged)
{
    struct engine_entry committed = {0};
    (void)engine_find(t->engine, &damaged->id, &committed, NULL);
    return committed.hollow && blob_version_compare(&committed.version, &damaged->version) == 0;
}

static void repair_next(struct target *t)
{
    struct node *node = t->node;
    struct damaged *damaged = list_entry(list_pop_front(&t->damaged), struct damaged, node);
    int error = 0;
    if (is_still_damaged(t, damaged)) {
        error = t->serving ? install_piece(t, &damaged->id, &damaged->version, NULL)
                           : SHOAL_E_NOT_SERVING;
        if (error == 0) {
            counter_add(node->repaired, 1);
            t->repaired++;
            LOG_INFO("target %u: a damaged piece was rebuilt from the others", t->id);
        }
    }
    if (error != 0 && ++damaged->tries < 64 && !node->stopping) {
        list_push_back(&t->damaged, &damaged->node);
        node_pause(node, 100 * NODE_MS);
        return;
    }
    t->damaged_count--;
    free(damaged);
}

void node_repairer(void *arg)
{
    struct target *t = arg;
    struct node *node = t->node;
    while (!node->stopping) {
        if (list_empty(&t->damaged))
            fiber_queue_wait(&t->repair_wake);
        else
            repair_next(t);
    }
    list_for_each(&t->damaged, struct damaged, node, damaged) {
        list_remove(&damaged->node);
        free(damaged);
    }
    fiber_group_done(&node->running);
}
