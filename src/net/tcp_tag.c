/* SPDX-License-Identifier: Apache-2.0 */
#include "net/tcp_tag.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/codec.h"
#include "base/hash.h"

#define KEY_BYTES 16u
#define NONCE_BYTES 12u

struct tcp_tag {
    EVP_CIPHER_CTX *ctx; /* keyed once; each tag sets only the nonce */
    uint8_t salt[NONCE_BYTES];
};

struct tcp_tag *tcp_tag_create(const uint8_t key[TCP_TAG_KEY_BYTES])
{
    struct tcp_tag *tag = calloc(1, sizeof *tag);
    if (tag == NULL)
        return NULL;
    tag->ctx = EVP_CIPHER_CTX_new();
    if (tag->ctx == NULL || EVP_EncryptInit_ex(tag->ctx, EVP_aes_128_gcm(), NULL, key, NULL) != 1) {
        tcp_tag_destroy(tag);
        return NULL;
    }
    memcpy(tag->salt, key + KEY_BYTES, NONCE_BYTES);
    return tag;
}

void tcp_tag_destroy(struct tcp_tag *tag)
{
    if (tag == NULL)
        return;
    EVP_CIPHER_CTX_free(tag->ctx);
    free(tag);
}

void tcp_tag_make(struct tcp_tag *tag, uint64_t sequence, const void *frame, const void *header,
                  size_t header_len, uint8_t out[TCP_TAG_BYTES])
{
    uint8_t nonce[NONCE_BYTES];
    memcpy(nonce, tag->salt, sizeof nonce);
    store_le64(nonce + 4, load_le64(nonce + 4) ^ sequence);
    int ignored = 0;
    uint8_t nothing[16];
    bool ok = EVP_EncryptInit_ex(tag->ctx, NULL, NULL, NULL, nonce) == 1 &&
              EVP_EncryptUpdate(tag->ctx, NULL, &ignored, frame, TCP_FRAME_BYTES) == 1;
    if (ok && header_len > 0)
        ok = EVP_EncryptUpdate(tag->ctx, NULL, &ignored, header, (int)header_len) == 1;
    ok = ok && EVP_EncryptFinal_ex(tag->ctx, nothing, &ignored) == 1 &&
         EVP_CIPHER_CTX_ctrl(tag->ctx, EVP_CTRL_AEAD_GET_TAG, TCP_TAG_BYTES, out) == 1;
    CHECK(ok);
}

bool tcp_tag_right(struct tcp_tag *tag, uint64_t sequence, const void *frame, const void *header,
                   size_t header_len, const uint8_t expected[TCP_TAG_BYTES])
{
    uint8_t made[TCP_TAG_BYTES];
    tcp_tag_make(tag, sequence, frame, header, header_len, made);
    return hash_equal_secret(made, expected, sizeof made) != 0;
}
