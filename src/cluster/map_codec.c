/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The map as bytes: magic, format, length, CRC32C of the rest, then the fields. On disk at each
 * node, on the wire to everybody.
 */
#include <stdlib.h>
#include <string.h>

#include "base/codec.h"
#include "base/crc32c.h"
#include "cluster/cluster.h"
#include "shoal/error.h"

#define MAP_MAGIC 0x70616d4c414f4853u /* "SHOALmap" */
#define MAP_FORMAT 4u
#define MAP_HEAD_BYTES 24u
#define HOLD_BYTES 6u /* and of a fix */

static void node_encode(struct encoder *out, const struct map_node *node)
{
    encode_string(out, node->name);
    encode_string(out, node->data);
    encode_string(out, node->replication);
    encode_string(out, node->management);
    encode_u32(out, node->rack);
    encode_u32(out, node->row);
    encode_u32(out, node->incarnation);
    encode_u64(out, node->process);
    encode_bool(out, node->up);
    encode_bool(out, node->draining);
    encode_bool(out, node->removed);
}

static void node_decode(struct decoder *in, struct map_node *node)
{
    decode_string(in, node->name, sizeof node->name);
    decode_string(in, node->data, sizeof node->data);
    decode_string(in, node->replication, sizeof node->replication);
    decode_string(in, node->management, sizeof node->management);
    node->rack = decode_u32(in);
    node->row = decode_u32(in);
    node->incarnation = decode_u32(in);
    node->process = decode_u64(in);
    node->up = decode_bool(in);
    node->draining = decode_bool(in);
    node->removed = decode_bool(in);
}

static void target_encode(struct encoder *out, const struct map_target *target)
{
    encode_u32(out, target->id);
    encode_u32(out, target->node);
    encode_u32(out, target->weight);
    encode_u8(out, (uint8_t)target->state);
    encode_bool(out, target->up);
    encode_bool(out, target->lost);
    encode_bool(out, target->fresh);
    encode_u64(out, target->device);
}

static void target_decode(struct decoder *in, struct map_target *target, uint32_t nodes)
{
    target->id = decode_u32(in);
    target->node = decode_u32(in);
    target->weight = decode_u32(in);
    uint8_t state = decode_u8(in);
    target->state = (enum target_state)state;
    target->up = decode_bool(in);
    target->lost = decode_bool(in);
    target->fresh = decode_bool(in);
    target->device = decode_u64(in);
    if (target->node >= nodes || state > TARGET_CLEAN || target->id == WIRE_NO_TARGET)
        in->failed = true;
}

static void pool_encode(struct encoder *out, const struct map_pool *pool)
{
    encode_u32(out, pool->id);
    encode_string(out, pool->name);
    encode_bool(out, pool->erasure);
    encode_u8(out, pool->k);
    encode_u8(out, pool->m);
    encode_bool(out, pool->cache);
    encode_bool(out, pool->ack_memory);
    encode_u32(out, pool->ttl_s);
    encode_u64(out, pool->quota_bytes);
    encode_u32(out, pool->stripe_size);
    encode_u32(out, pool->copies_below);
    encode_u8(out, pool->users_count);
    for (unsigned i = 0; i < pool->users_count; i++)
        encode_string(out, pool->users[i]);
}

static void pool_decode(struct decoder *in, struct map_pool *pool)
{
    pool->id = decode_u32(in);
    decode_string(in, pool->name, sizeof pool->name);
    pool->erasure = decode_bool(in);
    pool->k = decode_u8(in);
    pool->m = decode_u8(in);
    pool->cache = decode_bool(in);
    pool->ack_memory = decode_bool(in);
    pool->ttl_s = decode_u32(in);
    pool->quota_bytes = decode_u64(in);
    pool->stripe_size = decode_u32(in);
    pool->copies_below = decode_u32(in);
    pool->users_count = decode_u8(in);
    char why[256];
    if (pool->users_count > CLUSTER_POOL_USERS_MAX || pool->id >= BLOB_POOL_UPLOADS)
        in->failed = true;
    for (unsigned i = 0; i < pool->users_count && !in->failed; i++)
        decode_string(in, pool->users[i], sizeof pool->users[i]);
    if (!in->failed && map_pool_check(NULL, pool, why) != 0)
        in->failed = true;
}

static void names_encode(struct encoder *out, const struct map_names *names)
{
    encode_u32(out, names->count);
    for (uint32_t i = 0; i < names->count; i++)
        encode_string(out, names->list[i]);
}

/* Each that there is once: a number is looked up by its name. */
static int names_decode(struct decoder *in, struct map_names *names)
{
    uint32_t count = decode_u32(in);
    if (!decoder_ok(in) || count > CLUSTER_NODES_MAX)
        return SHOAL_E_INVALID;
    names->list = calloc(count + 1u, sizeof *names->list);
    if (names->list == NULL)
        return SHOAL_E_NO_MEMORY;
    names->count = count;
    for (uint32_t i = 0; i < count && !in->failed; i++) {
        const char *name = names->list[i];
        decode_string(in, names->list[i], CLUSTER_NAME_MAX);
        if (name[0] != 0 && !map_name_is_valid(name))
            in->failed = true;
        for (uint32_t j = 0; j < i && name[0] != 0; j++)
            in->failed |= strcmp(name, names->list[j]) == 0;
    }
    return in->failed ? SHOAL_E_INVALID : 0;
}

static void fields_encode(struct encoder *out, const struct cluster_map *map)
{
    encode_bytes(out, map->cluster, sizeof map->cluster);
    encode_u64(out, map->epoch);
    encode_u8(out, (uint8_t)map->partition_bits);
    encode_u32(out, map->lease_ms);
    encode_u32(out, map->out_ms);
    encode_u32(out, map->next_incarnation);
    encode_u32(out, map->next_pool);
    encode_u32(out, map->nodes_count);
    encode_u32(out, map->targets_count);
    encode_u32(out, map->pools_count);
    for (uint32_t i = 0; i < map->nodes_count; i++)
        node_encode(out, &map->nodes[i]);
    for (uint32_t i = 0; i < map->targets_count; i++)
        target_encode(out, &map->targets[i]);
    for (uint32_t i = 0; i < map->pools_count; i++)
        pool_encode(out, &map->pools[i]);
    names_encode(out, &map->racks);
    names_encode(out, &map->rows);
    encode_u32(out, map->fixes_count);
    for (uint32_t i = 0; i < map->fixes_count; i++) {
        encode_u32(out, map->fixes[i].cell);
        encode_u16(out, map->fixes[i].target);
    }
    encode_u32(out, map->holds_count);
    for (uint32_t i = 0; i < map->holds_count; i++) {
        encode_u32(out, map->holds[i].key);
        encode_u16(out, map->holds[i].target);
    }
}

size_t cluster_map_encoded_size(const struct cluster_map *map)
{
    size_t names = CLUSTER_NAME_MAX + 2;
    size_t node = names + (size_t)3 * (CLUSTER_ADDRESS_MAX + 2) + 28;
    size_t pool = names + CLUSTER_POOL_USERS_MAX * names + 32;
    size_t target = 24;
    return MAP_HEAD_BYTES + 96 + map->nodes_count * node + map->targets_count * target +
           map->pools_count * pool + ((size_t)map->racks.count + map->rows.count) * names +
           ((size_t)map->fixes_count + map->holds_count) * HOLD_BYTES;
}

size_t cluster_map_encode(const struct cluster_map *map, void *buffer, size_t size)
{
    if (size < MAP_HEAD_BYTES)
        return 0;
    uint8_t *bytes = buffer;
    struct encoder out = encoder_init(bytes + MAP_HEAD_BYTES, size - MAP_HEAD_BYTES);
    fields_encode(&out, map);
    if (!encoder_ok(&out))
        return 0;
    size_t len = encoder_length(&out);
    struct encoder head = encoder_init(bytes, MAP_HEAD_BYTES);
    encode_u64(&head, MAP_MAGIC);
    encode_u32(&head, MAP_FORMAT);
    encode_u32(&head, (uint32_t)len);
    encode_u32(&head, crc32c(0, bytes + MAP_HEAD_BYTES, len));
    encode_u32(&head, 0);
    return MAP_HEAD_BYTES + len;
}

/* Whether they fit the table is seen when it is made. */
static int fixes_decode(struct decoder *in, struct cluster_map *map)
{
    uint32_t count = decode_u32(in);
    if (!decoder_ok(in) || count > CLUSTER_FIXES_MAX || count > decoder_left(in) / HOLD_BYTES)
        return SHOAL_E_INVALID;
    map->fixes = calloc(count + 1u, sizeof *map->fixes);
    if (map->fixes == NULL)
        return SHOAL_E_NO_MEMORY;
    map->fixes_count = count;
    for (uint32_t i = 0; i < count; i++) {
        map->fixes[i].cell = decode_u32(in);
        map->fixes[i].target = decode_u16(in);
    }
    return 0;
}

/* In order, each once; the rest as of fixes. */
static int holds_decode(struct decoder *in, struct cluster_map *map)
{
    uint32_t count = decode_u32(in);
    if (!decoder_ok(in) || count > CLUSTER_HOLDS_MAX || count > decoder_left(in) / HOLD_BYTES)
        return SHOAL_E_INVALID;
    map->holds = calloc(count + 1u, sizeof *map->holds);
    if (map->holds == NULL)
        return SHOAL_E_NO_MEMORY;
    map->holds_count = count;
    for (uint32_t i = 0; i < count; i++) {
        struct map_hold *hold = &map->holds[i];
        hold->key = decode_u32(in);
        hold->target = decode_u16(in);
        hold->placed = PLACE_NONE;
        if ((i > 0 && hold->key <= hold[-1].key) ||
            (hold->target != PLACE_NONE && hold->target >= map->targets_count))
            in->failed = true;
    }
    return 0;
}

/* The counts are bounded before anything is allocated by them. */
static int arrays_decode(struct decoder *in, struct cluster_map *map)
{
    map->nodes = calloc(map->nodes_count + 1u, sizeof *map->nodes);
    map->targets = calloc(map->targets_count + 1u, sizeof *map->targets);
    map->pools = calloc(map->pools_count + 1u, sizeof *map->pools);
    if (map->nodes == NULL || map->targets == NULL || map->pools == NULL)
        return SHOAL_E_NO_MEMORY;
    for (uint32_t i = 0; i < map->nodes_count && !in->failed; i++)
        node_decode(in, &map->nodes[i]);
    for (uint32_t i = 0; i < map->targets_count && !in->failed; i++)
        target_decode(in, &map->targets[i], map->nodes_count);
    for (uint32_t i = 0; i < map->pools_count && !in->failed; i++)
        pool_decode(in, &map->pools[i]);
    int error = in->failed ? SHOAL_E_INVALID : names_decode(in, &map->racks);
    if (error == 0)
        error = names_decode(in, &map->rows);
    if (error == 0)
        error = fixes_decode(in, map);
    if (error == 0)
        error = holds_decode(in, map);
    return error != 0 || decoder_done(in) ? error : SHOAL_E_INVALID;
}

static bool names_are_distinct(const struct cluster_map *map)
{
    for (uint32_t i = 0; i < map->pools_count; i++)
        for (uint32_t j = 0; j < i; j++)
            if (map->pools[i].id == map->pools[j].id ||
                strcmp(map->pools[i].name, map->pools[j].name) == 0)
                return false;
    for (uint32_t i = 0; i < map->nodes_count; i++)
        for (uint32_t j = 0; j < i; j++)
            if (strcmp(map->nodes[i].name, map->nodes[j].name) == 0)
                return false;
    for (uint32_t i = 1; i < map->targets_count; i++)
        if (map->targets[i].id <= map->targets[i - 1].id)
            return false;
    return true;
}

int cluster_map_decode(const void *buffer, size_t size, struct cluster_map **out)
{
    struct decoder in = decoder_init(buffer, size);
    uint64_t magic = decode_u64(&in);
    uint32_t format = decode_u32(&in);
    uint32_t len = decode_u32(&in);
    uint32_t crc = decode_u32(&in);
    decode_skip(&in, 4);
    if (!decoder_ok(&in) || magic != MAP_MAGIC)
        return SHOAL_E_INVALID;
    if (format != MAP_FORMAT)
        return SHOAL_E_FORMAT;
    if (len != decoder_left(&in) || crc != crc32c(0, in.at, len))
        return SHOAL_E_CORRUPT;

    struct cluster_map *map = cluster_map_create();
    if (map == NULL)
        return SHOAL_E_NO_MEMORY;
    decode_bytes(&in, map->cluster, sizeof map->cluster);
    map->epoch = decode_u64(&in);
    map->partition_bits = decode_u8(&in);
    map->lease_ms = decode_u32(&in);
    map->out_ms = decode_u32(&in);
    map->next_incarnation = decode_u32(&in);
    map->next_pool = decode_u32(&in);
    map->nodes_count = decode_u32(&in);
    map->targets_count = decode_u32(&in);
    map->pools_count = decode_u32(&in);
    int error = SHOAL_E_INVALID;
    if (decoder_ok(&in) && map->nodes_count <= CLUSTER_NODES_MAX &&
        map->targets_count <= CLUSTER_TARGETS_MAX && map->pools_count <= CLUSTER_POOLS_MAX &&
        map->partition_bits <= PLACE_BITS_MAX && map->lease_ms <= CLUSTER_LEASE_MS_MAX)
        error = arrays_decode(&in, map);
    else
        map->nodes_count = map->targets_count = map->pools_count = 0;
    if (error == 0 && !names_are_distinct(map))
        error = SHOAL_E_INVALID;
    if (error != 0) {
        cluster_map_free(map);
        return error;
    }
    *out = map;
    return 0;
}
