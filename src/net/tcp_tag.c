/* SPDX-License-Identifier: Apache-2.0 */
#include "net/tcp_tag.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/hash.h"

struct tcp_tag {
    EVP_MAC_CTX *ctx; /* keyed once, and begun anew for each frame */
};

struct tcp_tag *tcp_tag_create(const uint8_t key[TCP_TAG_KEY_BYTES])
{
    char cipher[] = "AES-128-CBC";
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_CIPHER, cipher, 0),
                                 OSSL_PARAM_construct_end()};
    struct tcp_tag *tag = calloc(1, sizeof *tag);
    if (tag == NULL)
        return NULL;
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "CMAC", NULL);
    tag->ctx = mac != NULL ? EVP_MAC_CTX_new(mac) : NULL;
    EVP_MAC_free(mac); /* the context holds it */
    if (tag->ctx == NULL || EVP_MAC_init(tag->ctx, key, TCP_TAG_KEY_BYTES, params) != 1) {
        tcp_tag_destroy(tag);
        return NULL;
    }
    return tag;
}

void tcp_tag_destroy(struct tcp_tag *tag)
{
    if (tag == NULL)
        return;
    EVP_MAC_CTX_free(tag->ctx);
    free(tag);
}

void tcp_tag_make(struct tcp_tag *tag, const void *frame, const void *header, size_t header_len,
                  uint8_t out[TCP_TAG_BYTES])
{
    size_t len = 0;
    bool ok = EVP_MAC_init(tag->ctx, NULL, 0, NULL) == 1 &&
              EVP_MAC_update(tag->ctx, frame, TCP_FRAME_BYTES) == 1;
    if (ok && header_len > 0)
        ok = EVP_MAC_update(tag->ctx, header, header_len) == 1;
    ok = ok && EVP_MAC_final(tag->ctx, out, &len, TCP_TAG_BYTES) == 1 && len == TCP_TAG_BYTES;
    CHECK(ok);
}

bool tcp_tag_right(struct tcp_tag *tag, const void *frame, const void *header, size_t header_len,
                   const uint8_t expected[TCP_TAG_BYTES])
{
    uint8_t made[TCP_TAG_BYTES];
    tcp_tag_make(tag, frame, header, header_len, made);
    return hash_equal_secret(made, expected, sizeof made) != 0;
}
