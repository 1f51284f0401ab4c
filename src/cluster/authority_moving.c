/* SPDX-License-Identifier: Apache-2.0 */
/* Wishes that make data move: node_drain, node_remove, node_weight (R41). */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cluster/authority_private.h"
#include "shoal/error.h"

struct ask {
    char node[CLUSTER_NAME_MAX];
    uint32_t weight;
    bool undo;
};

static int apply_drain(struct cluster_map *map, void *arg)
{
    const struct ask *ask = arg;
    return map_change_node_drain(map, ask->node, !ask->undo);
}

static int apply_remove(struct cluster_map *map, void *arg)
{
    return map_change_node_remove(map, ((const struct ask *)arg)->node);
}

static int apply_weight(struct cluster_map *map, void *arg)
{
    const struct ask *ask = arg;
    return map_change_node_weight(map, ask->node, ask->weight);
}

static void explain(const struct ask *ask, int error, const char *wish, char *message, size_t size)
{
    if (error == SHOAL_E_NOT_FOUND)
        snprintf(message, size, "there is no node '%s'", ask->node);
    else if (error == SHOAL_E_EXISTS)
        snprintf(message, size, "%s is %s already", ask->node,
                 ask->undo ? "not draining" : "draining");
    else if (error == SHOAL_E_CONDITION && strcmp(wish, "node_remove") == 0)
        snprintf(message, size, "%s still holds what is needed: drain it, and wait until 'shoal map' "
                                "shows that it serves nothing", ask->node);
    else if (error == SHOAL_E_CONDITION)
        snprintf(message, size, "without %s a pool would have too few targets", ask->node);
}

int authority_node_moving(struct authority *a, const char *wish, const json_t *json, char *message,
                          size_t size)
{
    struct ask ask = {.undo = json_is_true(json_object_get(json, "undo"))};
    const char *node = json_string_value(json_object_get(json, "node"));
    json_int_t weight = json_integer_value(json_object_get(json, "weight"));
    if (node == NULL || strlen(node) >= sizeof ask.node) {
        snprintf(message, size, "a node has to be named");
        return SHOAL_E_INVALID;
    }
    memcpy(ask.node, node, strlen(node) + 1);
    bool weighs = strcmp(wish, "node_weight") == 0;
    if (weighs && (weight < 1 || weight > UINT32_MAX)) {
        snprintf(message, size, "a weight is a number from 1 to %u; a node of none is drained",
                 UINT32_MAX);
        return SHOAL_E_INVALID;
    }
    ask.weight = (uint32_t)weight;
    int error = authority_apply(a, weighs                                ? apply_weight
                                   : strcmp(wish, "node_drain") == 0 ? apply_drain
                                                                         : apply_remove,
                                &ask, APPLY_AT_ONCE);
    explain(&ask, error, wish, message, size);
    return error;
}
