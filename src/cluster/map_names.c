/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Racks and rows by name. Placement knows them by number (place/place.h), and numbers decide where data
 * lies; so a name keeps its number for ever, and only a number that no node has is given to another.
 */
#include <stdlib.h>
#include <string.h>

#include "cluster/map_private.h"
#include "shoal/error.h"

static const char *name_of(const struct map_names *names, uint32_t number)
{
    return number == 0 || number > names->count ? "" : names->list[number - 1];
}

const char *cluster_map_rack(const struct cluster_map *map, const struct map_node *node)
{
    return name_of(&map->racks, node->rack);
}

const char *cluster_map_row(const struct cluster_map *map, const struct map_node *node)
{
    return name_of(&map->rows, node->row);
}

bool map_name_is_valid(const char *name)
{
    size_t len = strnlen(name, CLUSTER_NAME_MAX);
    if (len == 0 || len == CLUSTER_NAME_MAX)
        return false;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)name[i] <= ' ' || name[i] == 0x7f || name[i] == '"' || name[i] == '\\')
            return false;
    return true;
}

static bool is_used(const struct cluster_map *map, const struct map_names *names, uint32_t number)
{
    for (uint32_t i = 0; i < map->nodes_count; i++)
        if (!map->nodes[i].removed &&
            (names == &map->racks ? map->nodes[i].rack : map->nodes[i].row) == number)
            return true;
    return false;
}

/* The number of a name, which it gets now if it has none yet; "" is 0. */
static int number_for(struct cluster_map *map, struct map_names *names, const char *name,
                      uint32_t *number)
{
    *number = 0;
    if (name[0] == 0)
        return 0;
    if (!map_name_is_valid(name))
        return SHOAL_E_INVALID;
    for (uint32_t i = 0; i < names->count; i++)
        if (strcmp(names->list[i], name) == 0) {
            *number = i + 1;
            return 0;
        }
    uint32_t free_number = 1;
    while (is_used(map, names, free_number))
        free_number++;
    if (free_number > names->count) {
        char(*list)[CLUSTER_NAME_MAX] = realloc(names->list, free_number * sizeof *list);
        if (list == NULL)
            return SHOAL_E_NO_MEMORY;
        memset(list[names->count], 0, (free_number - names->count) * sizeof *list);
        names->list = list;
        names->count = free_number;
    }
    memset(names->list[free_number - 1], 0, CLUSTER_NAME_MAX);
    memcpy(names->list[free_number - 1], name, strlen(name));
    *number = free_number;
    return 0;
}

/* Is another node of its rack in another row? */
static bool is_split(const struct cluster_map *map, const struct map_node *node)
{
    for (uint32_t i = 0; i < map->nodes_count; i++)
        if (!map->nodes[i].removed && node->rack != 0 && map->nodes[i].rack == node->rack &&
            map->nodes[i].row != node->row)
            return true;
    return false;
}

/* Where the rest of the rack stands, if that is known. */
static void adopt_row(const struct cluster_map *map, const struct map_move *move,
                      struct map_node *node)
{
    for (uint32_t i = 0; i < map->nodes_count; i++) {
        const struct map_node *other = &map->nodes[i];
        bool moves = false;
        for (unsigned j = 0; j < move->count; j++)
            moves |= strcmp(other->name, move->nodes[j]) == 0;
        if (!moves && !other->removed && node->rack != 0 && other->rack == node->rack)
            node->row = other->row;
    }
}

static struct map_node *node_at(struct cluster_map *map, const struct map_move *move, unsigned i)
{
    return (struct map_node *)(uintptr_t)cluster_map_node_named(map, move->nodes[i]);
}

static int move_all(struct cluster_map *map, const struct map_move *move)
{
    uint32_t rack = 0, row = 0;
    int error = 0;
    if (move->rack != NULL)
        error = number_for(map, &map->racks, move->rack, &rack);
    if (error == 0 && move->row != NULL)
        error = number_for(map, &map->rows, move->row, &row);
    for (unsigned i = 0; i < move->count && error == 0; i++) {
        struct map_node *node = node_at(map, move, i);
        if (move->rack != NULL)
            node->rack = rack;
        if (move->row != NULL)
            node->row = row;
        else if (move->rack != NULL)
            adopt_row(map, move, node);
    }
    for (unsigned i = 0; i < move->count && error == 0; i++)
        if (is_split(map, node_at(map, move, i)))
            error = SHOAL_E_CONDITION;
    return error;
}

int map_change_nodes_move(struct cluster_map *map, const struct map_move *move)
{
    struct map_node before[MAP_MOVE_MAX];
    if (move->count > MAP_MOVE_MAX)
        return SHOAL_E_TOO_LARGE;
    for (unsigned i = 0; i < move->count; i++) {
        const struct map_node *node = node_at(map, move, i);
        if (node == NULL || node->removed)
            return SHOAL_E_NOT_FOUND;
        before[i] = *node;
    }
    int error = move_all(map, move);
    for (unsigned i = 0; i < move->count && error != 0; i++)
        *node_at(map, move, i) = before[i];
    return error;
}
