/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chains of lives: a random workload, a crash, opening what it left, the next workload, and so on;
 * with drives that fail, or are damaged, if wanted.
 */
#ifndef SHOAL_TESTS_CRASH_CHAIN_H
#define SHOAL_TESTS_CRASH_CHAIN_H

#include "life.h"

#define CHAIN_DEVICE_BYTES (4u << 20)

/*
 * struct chain - What kind.
 * @faults: an operation on the drive fails in half of the lives
 * @damage: a bit flips on the drive after some lives; the chain ends with the first
 * @damage_checkpoint: the newer of two whole checkpoints is damaged after some lives
 * @images: check also every image of one life in so many; 0: of none
 * @partition_bits: 0: a few
 * @break_rules: switched off in the engine
 */
struct chain {
    unsigned lives;
    bool faults;
    bool damage;
    bool damage_checkpoint;
    bool forgive_stale;
    unsigned images;
    unsigned partition_bits;
    uint32_t break_rules;
};

/*
 * chain_run() - Chains of seed @seed, @seed + 1, ... until one of them goes wrong.
 * Return: how many went right; if fewer than @count, @wrong says what happened in the next.
 */
unsigned chain_run(uint64_t seed, unsigned count, const struct chain *chain, char *wrong,
                   size_t wrong_size);

#endif
