/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hashes, each for its purpose.
 *
 * hash64 and hash128 (XXH3) are fast and place or find things; a person who chooses the input can
 * make them collide unless the seed is secret. SHA-256 names content. HMAC-SHA256 proves origin.
 * The values of hash64 and hash128 decide placement, so they are part of the format and are the
 * same on every machine.
 */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

#define SHA256_SIZE 32

struct hash128 {
    uint64_t lo;
    uint64_t hi;
};

uint64_t hash64(const void *data, size_t length, uint64_t seed);
struct hash128 hash128(const void *data, size_t length, uint64_t seed);

/* A strong mix of one number: neighbours in, strangers out; a bijection. */
static inline uint64_t hash_mix64(uint64_t value)
{
    value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
    return value ^ (value >> 31);
}

void sha256(const void *data, size_t length, uint8_t out[SHA256_SIZE]);

/*
 * SHA-256 in pieces: begin, update..., finish; begin again for the next. Memory is taken by
 * sha256_create() only. One thread at a time.
 */
struct sha256;
struct sha256 *sha256_create(void); /* NULL: out of memory */
void sha256_destroy(struct sha256 *sha);
void sha256_begin(struct sha256 *sha);
void sha256_update(struct sha256 *sha, const void *data, size_t length);
void sha256_finish(struct sha256 *sha, uint8_t out[SHA256_SIZE]);

/* HMAC-SHA256 under one key, in pieces as above. One thread at a time. */
struct hmac;
struct hmac *hmac_create(const void *key, size_t length); /* NULL: out of memory */
void hmac_destroy(struct hmac *hmac);
void hmac_begin(struct hmac *hmac);
void hmac_update(struct hmac *hmac, const void *data, size_t length);
void hmac_finish(struct hmac *hmac, uint8_t out[SHA256_SIZE]);

/* Compares secrets in a time that does not depend on them; nonzero when equal. */
int hash_equal_secret(const void *a, const void *b, size_t length);

/* Lower-case hex. @out has 2 * length + 1 bytes. */
void hex_encode(const void *data, size_t length, char *out);

/* Exactly 2 * length hex digits, either case; 0 or SHOAL_E_INVALID. */
int hex_decode(const char *text, size_t text_length, void *out, size_t length) NODISCARD;

#endif
