/* SPDX-License-Identifier: Apache-2.0 */
#include "base/random.h"

#include <string.h>
#include <sys/random.h>

#include "base/check.h"
#include "base/hash.h"

void prng_seed(struct prng *prng, uint64_t seed)
{
    /* splitmix64 spreads a small seed over the state, which must not be all zero. */
    for (size_t i = 0; i < ARRAY_LEN(prng->state); i++) {
        seed += UINT64_C(0x9e3779b97f4a7c15);
        prng->state[i] = hash_mix64(seed);
    }
}

static inline uint64_t rotate_left(uint64_t value, int by)
{
    return value << by | value >> (64 - by);
}

uint64_t prng_next(struct prng *prng)
{
    uint64_t *state = prng->state;
    uint64_t result = rotate_left(state[1] * 5, 7) * 9;
    uint64_t shifted = state[1] << 17;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= shifted;
    state[3] = rotate_left(state[3], 45);
    return result;
}

uint64_t prng_below(struct prng *prng, uint64_t bound)
{
    CHECK(bound > 0);
    /* Throw away the first 2^64 mod bound values, which would make the low results likelier. */
    uint64_t threshold = (0 - bound) % bound;
    uint64_t value;
    do
        value = prng_next(prng);
    while (value < threshold);
    return value % bound;
}

uint64_t prng_between(struct prng *prng, uint64_t low, uint64_t high)
{
    CHECK(low <= high);
    uint64_t span = high - low;
    return span == UINT64_MAX ? prng_next(prng) : low + prng_below(prng, span + 1);
}

bool prng_chance(struct prng *prng, uint64_t numerator, uint64_t denominator)
{
    CHECK(denominator > 0);
    return prng_below(prng, denominator) < numerator;
}

void prng_bytes(struct prng *prng, void *out, size_t length)
{
    uint8_t *at = out;
    while (length > 0) {
        uint64_t value = prng_next(prng);
        size_t piece = MIN(length, sizeof value);
        memcpy(at, &value, piece);
        at += piece;
        length -= piece;
    }
}

void random_os_bytes(void *out, size_t length)
{
    uint8_t *at = out;
    while (length > 0) {
        ssize_t got = getrandom(at, MIN(length, (size_t)256), 0);
        CHECK_MSG(got > 0, "the kernel gives no random bytes");
        at += got;
        length -= (size_t)got;
    }
}

uint64_t random_os_u64(void)
{
    uint64_t value;
    random_os_bytes(&value, sizeof value);
    return value;
}
