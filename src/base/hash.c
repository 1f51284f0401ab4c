/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdlib.h>
#include <xxhash.h>

#include "base/check.h"
#include "shoal/error.h"

uint64_t hash64(const void *data, size_t length, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, length, seed);
}

struct hash128 hash128(const void *data, size_t length, uint64_t seed)
{
    XXH128_hash_t hash = XXH3_128bits_withSeed(data, length, seed);
    return (struct hash128){.lo = hash.low64, .hi = hash.high64};
}

void sha256(const void *data, size_t length, uint8_t out[SHA256_SIZE])
{
    unsigned size = 0;
    CHECK(EVP_Digest(data, length, out, &size, EVP_sha256(), NULL) == 1);
    CHECK(size == SHA256_SIZE);
}

struct sha256 {
    EVP_MD *kind;
    EVP_MD_CTX *context;
};

struct sha256 *sha256_create(void)
{
    struct sha256 *sha = malloc(sizeof *sha);
    if (sha == NULL)
        return NULL;
    /* Fetched once: EVP_sha256() would be looked up anew at each begin. */
    sha->kind = EVP_MD_fetch(NULL, "SHA256", NULL);
    sha->context = EVP_MD_CTX_new();
    if (sha->kind == NULL || sha->context == NULL) {
        sha256_destroy(sha);
        return NULL;
    }
    sha256_begin(sha);
    return sha;
}

void sha256_destroy(struct sha256 *sha)
{
    if (sha == NULL)
        return;
    EVP_MD_CTX_free(sha->context);
    EVP_MD_free(sha->kind);
    free(sha);
}

void sha256_begin(struct sha256 *sha)
{
    CHECK(EVP_DigestInit_ex(sha->context, sha->kind, NULL) == 1);
}

void sha256_update(struct sha256 *sha, const void *data, size_t length)
{
    CHECK(EVP_DigestUpdate(sha->context, data, length) == 1);
}

void sha256_finish(struct sha256 *sha, uint8_t out[SHA256_SIZE])
{
    unsigned size = 0;
    CHECK(EVP_DigestFinal_ex(sha->context, out, &size) == 1);
    CHECK(size == SHA256_SIZE);
}

struct hmac {
    EVP_MAC *kind;
    EVP_MAC_CTX *context;
};

struct hmac *hmac_create(const void *key, size_t length)
{
    struct hmac *hmac = malloc(sizeof *hmac);
    if (hmac == NULL)
        return NULL;
    hmac->kind = EVP_MAC_fetch(NULL, "HMAC", NULL);
    hmac->context = hmac->kind != NULL ? EVP_MAC_CTX_new(hmac->kind) : NULL;
    char digest[] = "SHA256";
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    /* A NULL key means "the old key" to OpenSSL; an empty key is a key. */
    const void *bytes = length > 0 ? key : "";
    if (hmac->context == NULL || EVP_MAC_init(hmac->context, bytes, length, parameters) != 1) {
        hmac_destroy(hmac);
        return NULL;
    }
    return hmac;
}

void hmac_destroy(struct hmac *hmac)
{
    if (hmac == NULL)
        return;
    EVP_MAC_CTX_free(hmac->context);
    EVP_MAC_free(hmac->kind);
    free(hmac);
}

void hmac_begin(struct hmac *hmac)
{
    CHECK(EVP_MAC_init(hmac->context, NULL, 0, NULL) == 1);
}

void hmac_update(struct hmac *hmac, const void *data, size_t length)
{
    CHECK(EVP_MAC_update(hmac->context, data, length) == 1);
}

void hmac_finish(struct hmac *hmac, uint8_t out[SHA256_SIZE])
{
    size_t size = 0;
    CHECK(EVP_MAC_final(hmac->context, out, &size, SHA256_SIZE) == 1);
    CHECK(size == SHA256_SIZE);
}

int hash_equal_secret(const void *a, const void *b, size_t length)
{
    return CRYPTO_memcmp(a, b, length) == 0;
}

void hex_encode(const void *data, size_t length, char *out)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *at = data;
    for (size_t i = 0; i < length; i++) {
        out[2 * i] = digits[at[i] >> 4];
        out[2 * i + 1] = digits[at[i] & 15];
    }
    out[2 * length] = '\0';
}

static int hex_digit(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    if (digit >= 'A' && digit <= 'F')
        return digit - 'A' + 10;
    return -1;
}

int hex_decode(const char *text, size_t text_length, void *out, size_t length)
{
    uint8_t *at = out;
    if (text_length != 2 * length)
        return SHOAL_E_INVALID;
    for (size_t i = 0; i < length; i++) {
        int high = hex_digit(text[2 * i]);
        int low = hex_digit(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return SHOAL_E_INVALID;
        at[i] = (uint8_t)(high << 4 | low);
    }
    return 0;
}
