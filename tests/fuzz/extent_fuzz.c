/* SPDX-License-Identifier: Apache-2.0 */
/* Headers of extents: decoded or refused, and never a unit beyond what is there. */
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "base/codec.h"
#include "base/crc32c.h"
#include "engine/extent.h"
#include "shoal/error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_block(const uint8_t *block, size_t size)
{
    static uint8_t unit[ENGINE_UNIT_BYTES];
    static struct extent_header header, again;
    static uint8_t encoded[EXTENT_HEADER_MAX];
    if (extent_header_decode(block, size, &header) != 0)
        return;
    uint32_t units[EXTENT_UNITS_MAX], count = extent_unit_count(header.desc.shard_len);
    for (uint32_t i = 0; i < count; i++) {
        units[i] = load_le32(header.units + (size_t)i * 4);
        int rc = extent_unit_check(&header, i, unit);
        CHECK(rc == 0 || rc == SHOAL_E_CORRUPT);
    }
    struct extent_shape shape = extent_shape_of(header.desc.shard_len, header.shared);
    CHECK(shape.blocks <= 2 + ENGINE_PAYLOAD_MAX / LAYOUT_BLOCK);
    (void)extent_header_encode(encoded, sizeof encoded, &header.owner, &header.place, &header.desc,
                               header.shared, units);
    CHECK(extent_header_decode(encoded, sizeof encoded, &again) == 0);
    CHECK(again.header_bytes == header.header_bytes && again.place.block == header.place.block);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t block[EXTENT_HEADER_MAX] = {0};
    size_t used = MIN(size, sizeof block);
    memcpy(block, data, used);
    try_block(block, LAYOUT_BLOCK);
    try_block(block, sizeof block);
    if (used < EXTENT_HEADER_FIXED)
        return 0;
    memcpy(block, "SHXT", 4);
    store_le32(block + 8, (uint32_t)used);
    store_le32(block + 4, crc32c(0, block + 8, used - 8));
    try_block(block, sizeof block);
    return 0;
}
