/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Request ids and the versions they made, so that a retry gets its old answer (R8). A ring bounds it;
 * each member keeps its own from the prepares it sees, so it survives a change of primary.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/planted.h"
#include "node/node_private.h"
#include "shoal/error.h"

#define RETRY_NS (35 * NODE_S) /* a client stops trying 30 s after its first try */

int window_create(struct window *w, uint32_t count, uint64_t seed)
{
    w->count = count;
    w->ring = calloc(count, sizeof *w->ring);
    w->by_key = table_create(count, offsetof(struct window_entry, key), sizeof(struct window_key),
                             seed);
    return w->ring == NULL || w->by_key == NULL ? SHOAL_E_NO_MEMORY : 0;
}

void window_destroy(struct window *w)
{
    table_destroy(w->by_key);
    free(w->ring);
}

static struct window_key key_of(const struct blob_request_id *request, const struct blob_id *id)
{
    return (struct window_key){request->hi, request->lo, blob_id_hash(id, 0)};
}

static bool is_none(const struct blob_request_id *request)
{
    return request->hi == 0 && request->lo == 0;
}

const struct window_entry *window_find(const struct window *w,
                                       const struct blob_request_id *request,
                                       const struct blob_id *id)
{
    struct window_key key = key_of(request, id);
    return is_none(request) ? NULL : table_find(w->by_key, &key);
}

/* An entry that was taken out of the table stays in the ring. */
static bool is_listed(const struct window_entry *entry)
{
    return !blob_version_is_none(&entry->version) || entry->refusal != 0;
}

static void note(struct window *w, const struct window_entry *new)
{
    struct window_entry *entry = table_find(w->by_key, &new->key);
    if (entry != NULL) {
        *entry = *new;
        return;
    }
    entry = &w->ring[w->next];
    w->next = (w->next + 1) % w->count;
    if (is_listed(entry)) {
        table_remove(w->by_key, &entry->key);
        if (new->at_ns - entry->at_ns < RETRY_NS)
            w->forgot_ns = new->at_ns;
    }
    *entry = *new;
    CHECK(table_insert(w->by_key, entry) == 0);
}

void window_note(struct window *w, const struct blob_request_id *request, const struct blob_id *id,
                 const struct blob_version *version, uint64_t now_ns)
{
    struct window_entry entry = {.key = key_of(request, id), .version = *version, .at_ns = now_ns};
    if (!is_none(request))
        note(w, &entry);
}

void window_note_refusal(struct window *w, const struct blob_request_id *request,
                         const struct blob_id *id, int refusal, uint64_t epoch, uint64_t now_ns)
{
    struct window_entry entry = {
        .key = key_of(request, id), .at_ns = now_ns, .refusal = refusal, .epoch = epoch};
    if (!is_none(request))
        note(w, &entry);
}

void window_clear(struct window *w, uint64_t epoch)
{
    for (uint32_t i = 0; i < w->count; i++) {
        if (is_listed(&w->ring[i]))
            table_remove(w->by_key, &w->ring[i].key);
        w->ring[i] = (struct window_entry){0};
    }
    w->since_epoch = epoch;
}

/* May a retry that was first sent under @first_epoch be unknown here though it was executed? */
bool window_is_uncertain(const struct window *w, uint64_t first_epoch, uint64_t now_ns)
{
    if (PLANTED(trusted_window))
        return false;
    return first_epoch < w->since_epoch || (w->forgot_ns != 0 && now_ns - w->forgot_ns < RETRY_NS);
}

/*
 * What is above @committed, up to @version, was taken back: a retry is to be done anew. That may be more
 * than one: a put that an epoch change gave a new version left its first one here. But not what is @prepared
 * still: a settling that takes the newer of the two back may yet commit the older.
 */
void window_forget(struct window *w, const struct blob_id *id,
                   const struct blob_version *committed, const struct blob_version *prepared,
                   const struct blob_version *version)
{
    uint64_t object = blob_id_hash(id, 0);
    if (PLANTED(unforgotten_request))
        return;
    for (uint32_t i = 0; i < w->count; i++) {
        struct window_entry *entry = &w->ring[(w->next + w->count - 1 - i) % w->count];
        if (entry->at_ns == 0)
            break;
        if (entry->key.object != object || blob_version_compare(&entry->version, committed) <= 0 ||
            blob_version_compare(&entry->version, version) > 0 ||
            blob_version_compare(&entry->version, prepared) == 0)
            continue;
        table_remove(w->by_key, &entry->key);
        entry->version = (struct blob_version){0};
    }
}
