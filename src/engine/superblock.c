/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/superblock.h"

#include <string.h>

#include "base/blob.h"
#include "base/codec.h"
#include "base/crc32c.h"
#include "engine/engine.h"
#include "shoal/error.h"

#define MAGIC UINT64_C(0x3142534c414f4853) /* "SHOALSB1" */
#define CRC_AT (LAYOUT_BLOCK - 4)
#define FLAG_STALE 1u

void superblock_encode(void *block, const struct superblock *sb)
{
    memset(block, 0, LAYOUT_BLOCK);
    struct encoder out = encoder_init(block, LAYOUT_BLOCK);
    encode_u64(&out, MAGIC);
    encode_u32(&out, SUPERBLOCK_VERSION);
    encode_u32(&out, sb->stale ? FLAG_STALE : 0);
    encode_u64(&out, sb->sequence);
    encode_bytes(&out, sb->cluster, sizeof sb->cluster);
    encode_u32(&out, sb->target);
    encode_u32(&out, sb->partition_bits);
    encode_u64(&out, sb->device);
    encode_u64(&out, sb->secret);
    encode_u64(&out, sb->generation);
    encode_u64(&out, sb->blocks);
    store_le32((uint8_t *)block + CRC_AT, crc32c(0, block, CRC_AT));
}

int superblock_decode(const void *block, struct superblock *sb, uint32_t *version)
{
    struct decoder in = decoder_init(block, LAYOUT_BLOCK);
    *sb = (struct superblock){0};
    *version = 0;
    if (decode_u64(&in) != MAGIC)
        return SHOAL_E_FORMAT;
    if (load_le32((const uint8_t *)block + CRC_AT) != crc32c(0, block, CRC_AT))
        return SHOAL_E_CORRUPT;
    uint32_t found = decode_u32(&in);
    if (found != SUPERBLOCK_VERSION) {
        *version = found;
        return SHOAL_E_FORMAT;
    }
    sb->stale = decode_u32(&in) & FLAG_STALE;
    sb->sequence = decode_u64(&in);
    decode_bytes(&in, sb->cluster, sizeof sb->cluster);
    sb->target = decode_u32(&in);
    sb->partition_bits = decode_u32(&in);
    sb->device = decode_u64(&in);
    sb->secret = decode_u64(&in);
    sb->generation = decode_u64(&in);
    sb->blocks = decode_u64(&in);
    if (sb->partition_bits > BLOB_PARTITION_BITS_MAX ||
        sb->blocks < ENGINE_DEVICE_MIN / LAYOUT_BLOCK)
        return SHOAL_E_CORRUPT;
    return 0;
}

static void read_copy(struct dev *dev, uint64_t at, void *block, struct superblock_found *found,
                      unsigned which)
{
    int rc = dev_read(dev, at * LAYOUT_BLOCK, block, LAYOUT_BLOCK);
    if (rc == 0)
        rc = superblock_decode(block, &found->copy[which], &found->version[which]);
    found->result[which] = rc;
}

/*
 * The second copy lies at the end the device had when it was formatted: that of a device which grew
 * since is found through the first copy.
 */
int superblock_load(struct dev *dev, void *block, struct superblock *sb,
                    struct superblock_found *found)
{
    uint64_t blocks = dev->size_bytes / LAYOUT_BLOCK;
    *found = (struct superblock_found){0};
    read_copy(dev, 0, block, found, 0);
    uint64_t last = blocks - 1;
    if (found->result[0] == 0 && found->copy[0].blocks <= blocks)
        last = found->copy[0].blocks - 1;
    read_copy(dev, last, block, found, 1);

    const struct superblock *a = &found->copy[0], *b = &found->copy[1];
    bool a_ok = found->result[0] == 0, b_ok = found->result[1] == 0;
    if (a_ok && b_ok && a->device != b->device) {
        found->result[1] = SHOAL_E_CORRUPT;
        b_ok = false;
    }
    if (!a_ok && !b_ok) {
        for (unsigned i = 0; i < 2; i++)
            if (found->version[i] != 0)
                return SHOAL_E_FORMAT;
        if (found->result[0] == SHOAL_E_FORMAT && found->result[1] == SHOAL_E_FORMAT)
            return SHOAL_E_FORMAT;
        if (found->result[0] == SHOAL_E_IO || found->result[1] == SHOAL_E_IO)
            return SHOAL_E_IO;
        return SHOAL_E_CORRUPT;
    }
    bool first = !b_ok || (a_ok && a->sequence >= b->sequence);
    *sb = first ? *a : *b;
    sb->replaceable = first ? 1 : 0;
    return 0;
}

static int write_copy(struct dev *dev, uint64_t at, const void *block)
{
    return dev_write(dev, at * LAYOUT_BLOCK, block, LAYOUT_BLOCK);
}

int superblock_store(struct dev *dev, void *block, struct superblock *sb, bool in_turn)
{
    const uint64_t at[2] = {0, sb->blocks - 1};
    unsigned first = sb->replaceable, second = 1 - first;
    sb->sequence++;
    superblock_encode(block, sb);
    int rc = write_copy(dev, at[first], block);
    if (rc == 0 && in_turn)
        rc = dev_flush(dev);
    if (rc != 0)
        return rc;
    sb->replaceable = second;
    rc = write_copy(dev, at[second], block);
    return rc == 0 ? dev_flush(dev) : rc;
}
