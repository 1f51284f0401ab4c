/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cluster map, from disk and from strangers: any bytes are decoded or refused; what is decoded
 * encodes to the same bytes, can be placed, and every set of it can be asked for.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/codec.h"
#include "base/crc32c.h"
#include "cluster/cluster.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEAD_BYTES 24u /* magic, format, length, CRC, spare */

/* Larger tables only take longer. */
static void use(struct cluster_map *map)
{
    if (map->partition_bits > 4 || map->targets_count > 64 || cluster_map_place(map, NULL) != 0)
        return;
    for (uint32_t i = 0; i < map->pools_count; i++)
        for (uint32_t p = 0; p >> map->partition_bits == 0; p++) {
            struct target_set set;
            cluster_map_partition_set(map, &map->pools[i], p, &set);
            CHECK(set.width <= map_pool_width(&map->pools[i]));
            CHECK((set.present & ~set.clean) == 0 && (set.clean & set.learners) == 0);
        }
    struct cluster_map *next = cluster_map_copy(map);
    CHECK(next != NULL);
    (void)map_change_publish(next);
    cluster_map_free(next);
}

static void try(const uint8_t *data, size_t size)
{
    struct cluster_map *map = NULL;
    if (cluster_map_decode(data, size, &map) != 0)
        return;
    size_t room = cluster_map_encoded_size(map);
    uint8_t *again = malloc(room);
    CHECK(again != NULL);
    CHECK(cluster_map_encode(map, again, room) == size);
    CHECK(memcmp(again + HEAD_BYTES, data + HEAD_BYTES, size - HEAD_BYTES) == 0);
    free(again);
    use(map);
    cluster_map_free(map);
}

/* Of a map that this build made: a format of old would be refused before anything is looked at. */
static const uint8_t *magic_and_format(void)
{
    static uint8_t bytes[4096];
    if (bytes[0] == 0) {
        struct cluster_map *map = cluster_map_create();
        CHECK(map != NULL && cluster_map_encode(map, bytes, sizeof bytes) > 0);
        cluster_map_free(map);
    }
    return bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try(data, size);
    if (size <= HEAD_BYTES)
        return 0;
    /* With the head right, so that what lies behind it is reached too. */
    uint8_t *mended = malloc(size);
    CHECK(mended != NULL);
    memcpy(mended, data, size);
    memcpy(mended, magic_and_format(), 12);
    store_le32(mended + 12, (uint32_t)(size - HEAD_BYTES));
    store_le32(mended + 16, crc32c(0, mended + HEAD_BYTES, size - HEAD_BYTES));
    try(mended, size);
    free(mended);
    return 0;
}
