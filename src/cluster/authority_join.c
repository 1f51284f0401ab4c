/* SPDX-License-Identifier: Apache-2.0 */
/* The wish node_add: a node and its targets come into the map, before the node is started. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/macros.h"
#include "cluster/authority_private.h"
#include "shoal/error.h"

#define TARGETS_MAX ARRAY_LEN(((struct wire_enroll *)0)->targets)

struct addition {
    struct map_node node;
    char rack[CLUSTER_NAME_MAX], row[CLUSTER_NAME_MAX]; /* "": none, or that of the rack */
    uint32_t weights[TARGETS_MAX];
    uint32_t targets[TARGETS_MAX];
    unsigned count;
};

static bool read_text(const json_t *json, const char *name, char *out, size_t size)
{
    const char *text = json_string_value(json_object_get(json, name));
    return text != NULL && (size_t)snprintf(out, size, "%s", text) < size;
}

static bool read_name(const json_t *json, const char *name, char *out, size_t size)
{
    const json_t *value = json_object_get(json, name);
    return value == NULL || (read_text(json, name, out, size) &&
                             (out[0] == 0 || map_name_is_valid(out)));
}

static int read_addition(const json_t *json, struct addition *add, char *message, size_t size)
{
    const json_t *weights = json_object_get(json, "weights"), *weight;
    size_t i;
    const char *wrong =
        !read_text(json, "node", add->node.name, sizeof add->node.name) || add->node.name[0] == 0
            ? "node"
        : !read_text(json, "data", add->node.data, sizeof add->node.data) ? "data"
        : !read_text(json, "replication", add->node.replication, sizeof add->node.replication)
            ? "replication"
        : !read_text(json, "management", add->node.management, sizeof add->node.management)
            ? "management"
        : json_array_size(weights) == 0 || json_array_size(weights) > ARRAY_LEN(add->weights)
            ? "weights"
        : !read_name(json, "rack", add->rack, sizeof add->rack) ? "rack"
        : !read_name(json, "row", add->row, sizeof add->row)    ? "row"
                                                                : NULL;
    json_array_foreach(weights, i, weight) {
        json_int_t value = json_integer_value(weight);
        if (wrong == NULL && (value < 1 || value > UINT32_MAX))
            wrong = "weights";
        if (wrong == NULL)
            add->weights[add->count++] = (uint32_t)value;
    }
    if (wrong == NULL)
        return 0;
    snprintf(message, size, "'%s' of a node to be added is missing or impossible", wrong);
    return SHOAL_E_INVALID;
}

static int stand(struct cluster_map *map, const struct addition *add)
{
    const char *name = add->node.name;
    const struct map_move move = {.nodes = &name, .count = 1, .rack = add->rack,
                                  .row = add->row[0] != 0 ? add->row : NULL};
    return map_change_nodes_move(map, &move);
}

/* Before anything is changed: is the rack known, and in another row than that? */
static bool rack_is_elsewhere(const struct cluster_map *map, const struct addition *add)
{
    for (uint32_t i = 0; i < map->nodes_count && add->rack[0] != 0 && add->row[0] != 0; i++) {
        const struct map_node *node = &map->nodes[i];
        if (!node->removed && strcmp(node->name, add->node.name) != 0 &&
            strcmp(cluster_map_rack(map, node), add->rack) == 0 &&
            strcmp(cluster_map_row(map, node), add->row) != 0)
            return true;
    }
    return false;
}

/* One that was added and never started may be added again: the answer may have been lost. */
static int again(struct cluster_map *map, const struct map_node *node, struct addition *add)
{
    unsigned count = 0;
    if (node->incarnation != 0)
        return SHOAL_E_EXISTS;
    for (uint32_t i = 0; i < map->targets_count; i++) {
        if (&map->nodes[map->targets[i].node] != node)
            continue;
        if (count < add->count)
            add->targets[count] = map->targets[i].id;
        count++;
    }
    if (count != add->count)
        return SHOAL_E_TOO_LARGE;
    int error = map_change_node_addresses(map, &add->node);
    return error != 0 ? error : stand(map, add);
}

static int apply_addition(struct cluster_map *map, void *arg)
{
    struct addition *add = arg;
    const struct map_node *known = cluster_map_node_named(map, add->node.name);
    if (rack_is_elsewhere(map, add))
        return SHOAL_E_CONDITION;
    if (known != NULL && !known->removed)
        return again(map, known, add);
    int error = map_change_node_add(map, &add->node);
    for (unsigned i = 0; i < add->count && error == 0; i++) {
        uint32_t last = map->targets_count > 0 ? map->targets[map->targets_count - 1].id : 0;
        add->targets[i] = last + 1;
        error = map_change_target_add(map, last + 1, add->node.name, add->weights[i]);
    }
    return error != 0 ? error : stand(map, add);
}

static void explain(const struct addition *add, int error, char *message, size_t size)
{
    if (error == SHOAL_E_EXISTS)
        snprintf(message, size, "there is a node '%s' already, and it has been started",
                 add->node.name);
    else if (error == SHOAL_E_CONDITION)
        snprintf(message, size, "rack %s does not stand in row %s", add->rack, add->row);
    else if (error == SHOAL_E_TOO_LARGE)
        snprintf(message, size, "'%s' was added before with another number of devices than %u",
                 add->node.name, add->count);
}

int authority_node_add(struct authority *a, const json_t *json, json_t **answer, char *message,
                       size_t size)
{
    struct addition add = {.count = 0};
    int error = read_addition(json, &add, message, size);
    if (error != 0)
        return error;
    error = authority_apply(a, apply_addition, &add, APPLY_AT_ONCE);
    if (error != 0) {
        explain(&add, error, message, size);
        return error;
    }
    json_t *targets = json_array();
    for (unsigned i = 0; i < add.count; i++)
        json_array_append_new(targets, json_integer(add.targets[i]));
    *answer = json_pack("{s:b, s:I, s:o, s:i}", "ok", 1, "epoch", (json_int_t)a->map->epoch,
                        "targets", targets, "partition_bits", (int)a->map->partition_bits);
    return *answer == NULL ? SHOAL_E_NO_MEMORY : 0;
}
