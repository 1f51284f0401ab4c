/* SPDX-License-Identifier: Apache-2.0 */
/* A map of N nodes with T targets each, for the tests of this room and of those above. */
#ifndef SHOAL_CLUSTER_TEST_MAP_H
#define SHOAL_CLUSTER_TEST_MAP_H

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "cluster/cluster.h"

static inline struct cluster_map *test_map(unsigned nodes, unsigned targets_per_node,
                                           unsigned partition_bits)
{
    struct cluster_map *map = cluster_map_create();
    CHECK(map != NULL);
    memcpy(map->cluster, "test-cluster-16b", 16);
    map->partition_bits = partition_bits;
    for (unsigned i = 0; i < nodes; i++) {
        struct map_node node = {.rack = 0};
        snprintf(node.name, sizeof node.name, "n%u", i);
        snprintf(node.data, sizeof node.data, "n%u:data", i);
        snprintf(node.replication, sizeof node.replication, "n%u:data", i);
        CHECK(map_change_node_add(map, &node) == 0);
        for (unsigned t = 0; t < targets_per_node; t++)
            CHECK(map_change_target_add(map, i * targets_per_node + t, node.name, 100) == 0);
    }
    return map;
}

static inline struct map_pool test_pool(const char *name, uint8_t k, uint8_t m)
{
    struct map_pool pool = {.k = k,
                            .m = m,
                            .erasure = k > 1,
                            .stripe_size = 64u << 10,
                            .copies_below = 8192};
    snprintf(pool.name, sizeof pool.name, "%s", name);
    return pool;
}

#endif
