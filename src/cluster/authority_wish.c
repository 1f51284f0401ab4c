/* SPDX-License-Identifier: Apache-2.0 */
/* What administrators ask of the authority, as JSON. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/authority_private.h"
#include "cluster/cluster.h"
#include "shoal/error.h"

struct outcome {
    int error;
    char message[512];
};

static char *render(json_t *json)
{
    char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
    json_decref(json);
    return text;
}

static char *render_outcome(const struct authority *a, const struct outcome *outcome)
{
    if (outcome->error == 0)
        return render(json_pack("{s:b,s:I}", "ok", 1, "epoch", (json_int_t)a->map->epoch));
    const char *message =
        outcome->message[0] != 0 ? outcome->message : shoal_error_text(outcome->error);
    return render(json_pack("{s:b,s:s,s:s}", "ok", 0, "error", shoal_error_name(outcome->error),
                            "message", message));
}

static int apply_pool_create(struct cluster_map *map, void *arg)
{
    return map_change_pool_create(map, arg);
}

static int apply_pool_set(struct cluster_map *map, void *arg)
{
    return map_change_pool_set(map, arg);
}

static int apply_pool_remove(struct cluster_map *map, void *arg)
{
    return map_change_pool_remove(map, arg);
}

static int apply_replaced(struct cluster_map *map, void *arg)
{
    return map_change_target_replaced(map, *(const uint32_t *)arg);
}

static int apply_accept(struct cluster_map *map, void *arg)
{
    return map_change_target_accept(map, *(const uint32_t *)arg);
}

static void wish_pool_create(struct authority *a, const json_t *json, struct outcome *out)
{
    struct map_pool pool = {0};
    out->error = map_pool_from_json(json, &pool, out->message);
    if (out->error == 0 && cluster_map_pool_named(a->map, pool.name) != NULL) {
        out->error = SHOAL_E_EXISTS;
        snprintf(out->message, sizeof out->message, "there is a pool '%s' already", pool.name);
    }
    if (out->error == 0)
        out->error = map_pool_check(a->map, &pool, out->message);
    if (out->error == 0)
        out->error = authority_apply(a, apply_pool_create, &pool, APPLY_AT_ONCE);
}

static void wish_pool_set(struct authority *a, const json_t *json, struct outcome *out)
{
    const char *name = json_string_value(json_object_get(json, "name"));
    const struct map_pool *old = name == NULL ? NULL : cluster_map_pool_named(a->map, name);
    if (old == NULL) {
        out->error = SHOAL_E_NO_POOL;
        snprintf(out->message, sizeof out->message, "there is no pool '%s'",
                 name == NULL ? "" : name);
        return;
    }
    struct map_pool pool = *old;
    out->error = map_pool_from_json(json, &pool, out->message);
    if (out->error == 0)
        out->error = authority_apply(a, apply_pool_set, &pool, APPLY_AT_ONCE);
    if (out->error == SHOAL_E_UNSUPPORTED)
        snprintf(out->message, sizeof out->message,
                 "a pool's redundancy cannot be changed; create another pool");
}

static void wish_pool_remove(struct authority *a, const json_t *json, struct outcome *out)
{
    const char *name = json_string_value(json_object_get(json, "name"));
    if (name == NULL || cluster_map_pool_named(a->map, name) == NULL) {
        out->error = SHOAL_E_NO_POOL;
        snprintf(out->message, sizeof out->message, "there is no pool '%s'",
                 name == NULL ? "" : name);
        return;
    }
    char copy[CLUSTER_NAME_MAX];
    snprintf(copy, sizeof copy, "%s", name);
    out->error = authority_apply(a, apply_pool_remove, copy, APPLY_AT_ONCE);
}

static void wish_node_down(struct authority *a, const json_t *json, struct outcome *out)
{
    const char *name = json_string_value(json_object_get(json, "node"));
    out->error = name == NULL ? SHOAL_E_INVALID : authority_node_died(a, name);
    if (out->error == SHOAL_E_NOT_FOUND)
        snprintf(out->message, sizeof out->message, "there is no node '%s'", name);
}

static void wish_target(struct authority *a, const json_t *json, struct outcome *out,
                        int (*apply)(struct cluster_map *map, void *arg))
{
    const json_t *field = json_object_get(json, "target");
    uint32_t target = (uint32_t)json_integer_value(field);
    if (!json_is_integer(field) || cluster_map_target(a->map, target) == NULL) {
        out->error = SHOAL_E_NOT_FOUND;
        snprintf(out->message, sizeof out->message, "there is no such target");
        return;
    }
    out->error = authority_apply(a, apply, &target, APPLY_AT_ONCE);
}

static bool wish_known(struct authority *a, const char *name, const json_t *json,
                       struct outcome *out)
{
    if (strcmp(name, "pool_create") == 0)
        wish_pool_create(a, json, out);
    else if (strcmp(name, "pool_set") == 0)
        wish_pool_set(a, json, out);
    else if (strcmp(name, "pool_remove") == 0)
        wish_pool_remove(a, json, out);
    else if (strcmp(name, "node_down") == 0)
        wish_node_down(a, json, out);
    else if (strcmp(name, "target_replaced") == 0)
        wish_target(a, json, out, apply_replaced);
    else if (strcmp(name, "target_accept") == 0)
        wish_target(a, json, out, apply_accept);
    else if (strcmp(name, "node_drain") == 0 || strcmp(name, "node_remove") == 0 ||
             strcmp(name, "node_weight") == 0)
        out->error = authority_node_moving(a, name, json, out->message, sizeof out->message);
    else if (strcmp(name, "node_move") == 0)
        out->error = authority_nodes_move(a, json, out->message, sizeof out->message);
    else
        return false;
    return true;
}

/* The parser calls itself for each level, two thousand deep, and a fiber's stack is small. */
#define NESTING_MAX 8u

static bool nests_too_deep(const char *text)
{
    unsigned depth = 0;
    bool quoted = false;
    for (; *text != 0; text++) {
        if (quoted && *text == '\\' && text[1] != 0)
            text++;
        else if (*text == '"')
            quoted = !quoted;
        else if (!quoted && (*text == '[' || *text == '{') && ++depth > NESTING_MAX)
            return true;
        else if (!quoted && (*text == ']' || *text == '}') && depth > 0)
            depth--;
    }
    return false;
}

void authority_wish(struct authority *a, const char *wish, char **answer)
{
    struct outcome out = {0};
    json_error_t where = {.text = "nested too deeply"};
    json_t *json = nests_too_deep(wish) ? NULL : json_loads(wish, 0, &where);
    const char *name = json_string_value(json_object_get(json, "wish"));
    *answer = NULL;
    if (name == NULL) {
        out.error = SHOAL_E_INVALID;
        snprintf(out.message, sizeof out.message, "a wish is one JSON object with a \"wish\"%s%s",
                 json == NULL ? ": " : "", json == NULL ? where.text : "");
    } else if (strcmp(name, "map") == 0) {
        json_t *map = cluster_map_to_json(a->map);
        *answer = render(json_pack("{s:b,s:o}", "ok", 1, "map", map));
        out.error = SHOAL_E_NO_MEMORY; /* if it is NULL */
    } else if (strcmp(name, "node_add") == 0) {
        json_t *added = NULL;
        out.error = authority_node_add(a, json, &added, out.message, sizeof out.message);
        if (out.error == 0 && (*answer = render(added)) == NULL)
            out.error = SHOAL_E_NO_MEMORY;
    } else if (!wish_known(a, name, json, &out)) {
        int error = a->config.wish == NULL ? SHOAL_E_UNSUPPORTED
                                           : a->config.wish(a->config.ctx, wish, answer);
        if (error != 0) {
            *answer = NULL;
            out.error = error;
            if (error == SHOAL_E_UNSUPPORTED)
                snprintf(out.message, sizeof out.message, "nobody here knows how to '%s'", name);
        }
    }
    if (*answer == NULL)
        *answer = render_outcome(a, &out);
    json_decref(json);
}
