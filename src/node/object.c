/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is under way, by object. At the primary: the lock that makes writes one at a time (R7) and
 * the version that readers wait for (R22). At a member: low water and what was aborted (R14, R15),
 * and the pieces being installed (R28).
 */
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/planted.h"
#include "node/node_private.h"
#include "shoal/error.h"

/* ---- the primary's lock ---- */

static struct object *object_new(struct target *t, const struct blob_id *id)
{
    struct object *object = pool_get(t->object_pool);
    if (object == NULL)
        return NULL;
    *object = (struct object){.id = *id, .target = t};
    list_node_init(&object->node);
    list_node_init(&object->orphan);
    fiber_queue_init(&object->waiters);
    fiber_queue_init(&object->readers);
    CHECK(table_insert(t->objects, object) == 0);
    return object;
}

static void object_free_unused(struct object *object)
{
    struct target *t = object->target;
    if (object->users > 0 || object->undecided)
        return;
    CHECK(!list_linked(&object->node) && fiber_queue_empty(&object->readers));
    table_remove(t->objects, &object->id);
    pool_put(t->object_pool, object);
}

int object_lock(struct target *t, const struct blob_id *id, uint64_t deadline_ns,
                struct object **out)
{
    struct object *object = table_find(t->objects, id);
    if (object == NULL)
        object = object_new(t, id);
    if (object == NULL)
        return SHOAL_E_BUSY;
    object->users++;
    while (object->held) {
        if (!fiber_queue_wait_until(&object->waiters, deadline_ns) && object->held) {
            object->users--;
            return SHOAL_E_BUSY;
        }
    }
    if (object->undecided) {
        object->users--;
        return SHOAL_E_UNAVAILABLE;
    }
    object->held = true;
    *out = object;
    return 0;
}

struct object *object_try_lock(struct target *t, const struct blob_id *id)
{
    if (table_find(t->objects, id) != NULL)
        return NULL;
    struct object *object = object_new(t, id);
    if (object != NULL) {
        object->users = 1;
        object->held = true;
    }
    return object;
}

void object_decided(struct object *object)
{
    object->version = (struct blob_version){0};
    object->superseded_count = 0;
    object->lost = false;
    if (!object->undecided)
        list_remove(&object->node);
    fiber_queue_wake_all(&object->readers);
}

void object_unlock(struct object *object)
{
    CHECK(object->held && object->users > 0);
    if (!blob_version_is_none(&object->version))
        object_decided(object);
    object->held = false;
    object->users--;
    if (!fiber_queue_wake_one(&object->waiters))
        object_free_unused(object);
}

struct blob_version object_take_version(struct object *object)
{
    struct target *t = object->target;
    if (!blob_version_is_none(&object->version)) {
        CHECK(!object_is_restless(object));
        object->superseded[object->superseded_count++] = object->version;
    }
    object->version = (struct blob_version){
        .epoch = PLANTED(reused_version) ? 1 : t->node->map->epoch,
        .incarnation = PLANTED(reused_version) ? 1 : t->node->incarnation,
        .counter = ++t->counter,
    };
    CHECK(!object->undecided);
    if (!list_linked(&object->node))
        list_push_back(&t->versioned, &object->node);
    return object->version;
}

static bool is_decided(const struct object *object)
{
    return object == NULL || object->lost ||
           (blob_version_is_none(&object->version) && !object->undecided);
}

int object_wait_decided(struct target *t, const struct blob_id *id, uint64_t deadline_ns)
{
    for (;;) {
        struct object *object = table_find(t->objects, id);
        if (is_decided(object))
            return 0;
        if (object->undecided)
            return SHOAL_E_UNAVAILABLE;
        /* The object may be gone when this fiber runs again: it is looked up anew. */
        if (!fiber_queue_wait_until(&object->readers, deadline_ns))
            return is_decided(table_find(t->objects, id)) ? 0 : SHOAL_E_BUSY;
    }
}

int object_set_undecided(struct target *t, const struct blob_id *id,
                         const struct blob_version *version)
{
    struct object *object = table_find(t->objects, id);
    if (object == NULL)
        object = object_new(t, id);
    if (object == NULL)
        return SHOAL_E_BUSY;
    LOG_WARN("the fate of version (%llu, %u, %llu) cannot be decided yet",
             (unsigned long long)version->epoch, version->incarnation,
             (unsigned long long)version->counter);
    object->undecided = true;
    if (!list_linked(&object->node))
        list_push_back(&t->versioned, &object->node);
    return 0;
}

/* R6: in slots that were lost, or are to be settled anew, nothing under way is ours to end. */
void objects_slot_lost(struct target *t)
{
    list_for_each(&t->versioned, struct object, node, object) {
        if (!t->node->stopping && target_primary_check(t, &object->id) == 0)
            continue;
        if (object->undecided) {
            object->undecided = false;
            if (blob_version_is_none(&object->version))
                list_remove(&object->node);
        }
        if (!blob_version_is_none(&object->version))
            object->lost = true;
        fiber_queue_wake_all(&object->readers);
        object_free_unused(object);
    }
}

static bool has_piece(const struct target *t, const struct blob_id *id)
{
    struct engine_entry prepared = {0};
    (void)engine_find(t->engine, id, NULL, &prepared);
    return !blob_version_is_none(&prepared.version);
}

bool objects_older_in_slot(const struct target *t, uint32_t pool, uint32_t partition,
                           uint64_t epoch, bool remembers)
{
    list_for_each(&t->versioned, struct object, node, object) {
        bool in_slot = (object->id.pool & ~BLOB_POOL_UPLOADS) == pool &&
                       node_partition(t->node, &object->id) == partition;
        if (in_slot && !PLANTED(forgotten_write) &&
            ((object->undecided && !(remembers && has_piece(t, &object->id))) ||
             (!blob_version_is_none(&object->version) && object->version.epoch < epoch)))
            return true;
    }
    return false;
}

struct blob_version target_low_water(const struct target *t)
{
    struct blob_version low = {
        .epoch = t->node->map->epoch,
        .incarnation = t->node->incarnation,
        .counter = t->counter + 1,
    };
    list_for_each(&t->versioned, struct object, node, object)
        if (!blob_version_is_none(&object->version) &&
            blob_version_compare(&object->version, &low) < 0)
            low = object->version;
    return low;
}

/* ---- a member's memory of primaries ---- */

static struct blob_version *low_water_of(const struct target *t, uint32_t primary)
{
    const struct cluster_map *map = t->node->map;
    const struct map_target *target = cluster_map_target(map, primary);
    if (target == NULL || (uint32_t)(target - map->targets) >= t->low_water_count)
        return NULL;
    return &t->low_water[target - map->targets];
}

static void aborted_free(struct target *t, struct aborted *aborted)
{
    list_remove(&aborted->node);
    table_remove(t->aborted, &aborted->id);
    pool_put(t->aborted_pool, aborted);
}

void member_low_water(struct target *t, uint32_t primary, const struct blob_version *low)
{
    struct blob_version *mine = low_water_of(t, primary);
    if (mine == NULL || blob_version_compare(low, mine) <= 0)
        return;
    *mine = *low;
    list_for_each(&t->aborted_list, struct aborted, node, aborted)
        if (aborted->primary == primary && blob_version_compare(&aborted->version, low) < 0)
            aborted_free(t, aborted);
}

bool member_below_low_water(const struct target *t, uint32_t primary,
                            const struct blob_version *version)
{
    const struct blob_version *low = low_water_of(t, primary);
    return low != NULL && blob_version_compare(version, low) < 0;
}

int member_note_aborted(struct target *t, const struct blob_id *id,
                        const struct blob_version *version, uint32_t primary)
{
    struct aborted *aborted = table_find(t->aborted, id);
    if (aborted == NULL) {
        aborted = pool_get(t->aborted_pool);
        if (aborted == NULL)
            return SHOAL_E_BUSY;
        *aborted = (struct aborted){.id = *id, .version = *version, .primary = primary};
        list_push_back(&t->aborted_list, &aborted->node);
        CHECK(table_insert(t->aborted, aborted) == 0);
    } else if (blob_version_compare(&aborted->version, version) < 0) {
        aborted->version = *version;
        aborted->primary = primary;
    }
    return 0;
}

const struct aborted *member_find_aborted(const struct target *t, const struct blob_id *id)
{
    return list_empty(&t->aborted_list) ? NULL : table_find(t->aborted, id);
}

void member_forget_aborted(struct target *t, uint32_t primary, uint32_t pool, uint32_t first,
                           uint32_t count)
{
    list_for_each(&t->aborted_list, struct aborted, node, aborted) {
        struct members set;
        uint32_t partition = node_partition(t->node, &aborted->id);
        if ((aborted->id.pool & ~BLOB_POOL_UPLOADS) == pool && partition >= first &&
            partition - first < count && node_members_of(t->node, &aborted->id, &set) &&
            set.primary >= 0 && set.at[set.primary].target == primary)
            aborted_free(t, aborted);
    }
}

/* ---- installing ---- */

int install_lock(struct target *t, const struct blob_id *id, struct install **out)
{
    install_wait(t, id);
    struct install *install = pool_get(t->install_pool);
    if (install == NULL)
        return SHOAL_E_BUSY;
    install->id = *id;
    fiber_queue_init(&install->waiters);
    CHECK(table_insert(t->installs, install) == 0);
    *out = install;
    return 0;
}

void install_unlock(struct target *t, struct install *install)
{
    table_remove(t->installs, &install->id);
    fiber_queue_wake_all(&install->waiters);
    learn_note_stored(t, &install->id);
    pool_put(t->install_pool, install);
}

void install_wait(struct target *t, const struct blob_id *id)
{
    struct install *install;
    while ((install = table_find(t->installs, id)) != NULL)
        fiber_queue_wait(&install->waiters);
}

/* ---- storing ---- */

void storing_begin(struct target *t, struct storing *storing, const struct blob_id *id)
{
    storing->id = *id;
    storing->epoch = t->node->map->epoch;
    list_push_back(&t->storing, &storing->node);
}

void storing_end(struct target *t, struct storing *storing)
{
    list_remove(&storing->node);
    learn_note_stored(t, &storing->id);
    fiber_queue_wake_all(&t->stored);
}

static bool is_storing_object(const struct target *t, const struct blob_id *id)
{
    list_for_each(&t->storing, struct storing, node, storing)
        if (blob_id_equal(&storing->id, id))
            return true;
    return false;
}

static bool is_storing_older(const struct target *t, uint64_t epoch)
{
    list_for_each(&t->storing, struct storing, node, storing)
        if (storing->epoch < epoch)
            return true;
    return false;
}

void storing_wait_object(struct target *t, const struct blob_id *id)
{
    while (is_storing_object(t, id))
        fiber_queue_wait(&t->stored);
}

void storing_wait_older(struct target *t, uint64_t epoch)
{
    while (is_storing_older(t, epoch))
        fiber_queue_wait(&t->stored);
}
