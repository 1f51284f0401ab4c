/* SPDX-License-Identifier: Apache-2.0 */
/* Superblocks: any block is decoded or refused; what is decoded encodes to the same meaning. */
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "base/codec.h"
#include "base/crc32c.h"
#include "engine/engine.h"
#include "engine/superblock.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_block(const uint8_t *block)
{
    struct superblock sb, again;
    uint32_t version;
    if (superblock_decode(block, &sb, &version) != 0)
        return;
    struct layout layout;
    if (sb.blocks < UINT64_MAX / LAYOUT_BLOCK &&
        layout_compute(sb.blocks * LAYOUT_BLOCK, &layout) == 0) {
        CHECK(layout.extent_start + layout.extent_blocks < layout.blocks);
        CHECK(layout.extent_blocks > 0 && layout.journal_blocks >= 64);
    }
    uint8_t encoded[LAYOUT_BLOCK];
    superblock_encode(encoded, &sb);
    CHECK(superblock_decode(encoded, &again, &version) == 0);
    CHECK(again.sequence == sb.sequence && again.generation == sb.generation &&
          again.blocks == sb.blocks && again.stale == sb.stale && again.secret == sb.secret);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t block[LAYOUT_BLOCK] = {0};
    memcpy(block, data, MIN(size, sizeof block));
    try_block(block);
    memcpy(block, "SHOALSB1", 8);
    store_le32(block + LAYOUT_BLOCK - 4, crc32c(0, block, LAYOUT_BLOCK - 4));
    try_block(block);
    return 0;
}
