/* SPDX-License-Identifier: Apache-2.0 */
/* The hash is taken in line, of a length known here: called through the library it is most of what
 * a lookup costs. The value is that of hash64(), as the tests check. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/hash.h"
#include "place/place.h"

uint32_t place_partition(uint32_t pool, const uint8_t key[PLACE_KEY_BYTES], unsigned bits)
{
    const uint64_t hash = XXH3_64bits_withSeed(key, PLACE_KEY_BYTES, hash_mix64(pool));

    return (uint32_t)(hash >> 32 >> (32 - bits));
}
