/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The superblock: whose device this is, and in which life of its journal. Two copies, at the first
 * and the last block, written in turn with a flush between, so that one is always whole; the one
 * with the higher sequence number counts.
 */
#ifndef ENGINE_SUPERBLOCK_H
#define ENGINE_SUPERBLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "dev/dev.h"
#include "engine/layout.h"

#define SUPERBLOCK_VERSION 1u

struct superblock {
    uint64_t sequence;
    uint8_t cluster[16];
    uint32_t target;
    uint32_t partition_bits;
    uint64_t device;      /* random at format; each structure of this format carries it */
    uint64_t secret;      /* keys the hashes of the index */
    uint64_t generation;  /* of the journal; grows with each recovery */
    uint64_t blocks;      /* the device's size at format */
    bool stale;           /* memory was lost, and nobody has said yet that it was made good */
    unsigned replaceable; /* in memory only: the copy to write first, as the other one is whole */
};

void superblock_encode(void *block, const struct superblock *sb);

/* Return: 0, SHOAL_E_FORMAT (not ours; *version is 0, or the newer one found), SHOAL_E_CORRUPT. */
int superblock_decode(const void *block, struct superblock *sb, uint32_t *version) NODISCARD;

struct superblock_found {
    int result[2];       /* of each copy: 0 or an error */
    uint32_t version[2]; /* of each copy, when it is newer than ours */
    struct superblock copy[2];
};

/*
 * superblock_load() - [fiber] Read both copies and choose. @block: a DMA block to work in.
 * Return: 0 and *sb, SHOAL_E_FORMAT, SHOAL_E_CORRUPT (neither is whole), SHOAL_E_IO.
 */
int superblock_load(struct dev *dev, void *block, struct superblock *sb,
                    struct superblock_found *found) NODISCARD;

/*
 * superblock_store() - [fiber] Both copies, under the next sequence number. The first one written
 * is never the only one that is whole: a crash may have damaged the other. @in_turn: the rule.
 */
int superblock_store(struct dev *dev, void *block, struct superblock *sb, bool in_turn) NODISCARD;

#endif
