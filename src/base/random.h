/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random numbers: a seeded generator (xoshiro256**) that everything above core draws from, so that
 * one seed gives one run; and the operating system's, which is a door to be opened at start only
 * (keys, seeds, ids) and never inside the simulator. Not for secrets: prng. For secrets:
 * random_os_bytes.
 */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct prng {
    uint64_t state[4];
};

void prng_seed(struct prng *prng, uint64_t seed);
uint64_t prng_next(struct prng *prng);

/* Uniform in [0, bound), without bias; bound > 0. */
uint64_t prng_below(struct prng *prng, uint64_t bound);

/* Uniform in [low, high], both ends included. */
uint64_t prng_between(struct prng *prng, uint64_t low, uint64_t high);

/* True numerator times out of denominator. */
bool prng_chance(struct prng *prng, uint64_t numerator, uint64_t denominator);

void prng_bytes(struct prng *prng, void *out, size_t length);

/* From the kernel; cannot fail on a supported system, and stops the process if it does. */
void random_os_bytes(void *out, size_t length);
uint64_t random_os_u64(void);

#endif
