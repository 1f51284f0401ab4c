/* SPDX-License-Identifier: Apache-2.0 */
/* Wishes that make data move: node_drain, node_remove, node_weight, node_move (R41). */
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

static int apply_move(struct cluster_map *map, void *arg)
{
    return map_change_nodes_move(map, arg);
}

static bool read_move(const json_t *json, const char *names[MAP_MOVE_MAX], struct map_move *move)
{
    const json_t *list = json_object_get(json, "nodes"), *name;
    const json_t *rack = json_object_get(json, "rack"), *row = json_object_get(json, "row");
    size_t i;
    *move = (struct map_move){.nodes = names, .count = (unsigned)json_array_size(list),
                              .rack = json_string_value(rack), .row = json_string_value(row)};
    if (move->count == 0 || move->count > MAP_MOVE_MAX || (move->rack == NULL && move->row == NULL))
        return false;
    json_array_foreach(list, i, name) {
        names[i] = json_string_value(name);
        if (names[i] == NULL)
            return false;
    }
    return true;
}

static const char *unknown_of(const struct authority *a, const struct map_move *move)
{
    for (unsigned i = 0; i < move->count; i++) {
        const struct map_node *node = cluster_map_node_named(a->map, move->nodes[i]);
        if (node == NULL || node->removed)
            return move->nodes[i];
    }
    return "";
}

int authority_nodes_move(struct authority *a, const json_t *json, char *message, size_t size)
{
    const char *names[MAP_MOVE_MAX];
    struct map_move move;
    if (!read_move(json, names, &move)) {
        snprintf(message, size, "1 to %u nodes have to be named, and a rack or a row", MAP_MOVE_MAX);
        return SHOAL_E_INVALID;
    }
    int error = authority_apply(a, apply_move, &move, APPLY_AT_ONCE);
    if (error == SHOAL_E_NOT_FOUND)
        snprintf(message, size, "there is no node '%s'", unknown_of(a, &move));
    else if (error == SHOAL_E_INVALID)
        snprintf(message, size, "a name of a rack or row has 1 to %u characters and no blanks",
                 CLUSTER_NAME_MAX - 1);
    else if (error == SHOAL_E_CONDITION)
        snprintf(message, size, "a rack stands in one row: name all nodes of the rack, or another "
                                "rack; 'shoal map' shows who stands where");
    return error;
}

static void explain(const struct ask *ask, int error, const char *wish, char *message, size_t size)
{
    if (error == SHOAL_E_NOT_FOUND)
        snprintf(message, size, "there is no node '%s'", ask->node);
    else if (error == SHOAL_E_EXISTS)
        snprintf(message, size, "%s is %s already", ask->node,
                 ask->undo ? "not draining" : "draining");
    else if (error == SHOAL_E_CONDITION && strcmp(wish, "node_remove") == 0)
        snprintf(message, size, "%s still holds what is needed: 'shoal node drain %s' moves it off, and "
                                "'shoal status' shows when nothing moves any more", ask->node, ask->node);
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
