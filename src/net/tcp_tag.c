/* SPDX-License-Identifier: Apache-2.0 */
#include "net/tcp_tag.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "net/net.h"

#define BLOCK 16u
#define MESSAGE_MAX (TCP_FRAME_BYTES + NET_HEADER_MAX)

/*
 * CMAC is the last block of a CBC encryption, with a subkey added to the last block of the message.
 * It is put together here from OpenSSL's AES-128-CBC: OpenSSL's own CMAC takes three times as long
 * for messages of this size, because it goes the whole way into the library for each block.
 */
struct tcp_tag {
    EVP_CIPHER_CTX *cbc;
    uint8_t chain[BLOCK];  /* the last block it gave, which it will add to the next one */
    uint8_t whole[BLOCK];  /* subkey for a message of whole blocks */
    uint8_t padded[BLOCK]; /* for one that had to be padded */
    uint8_t message[MESSAGE_MAX + BLOCK];
};

static void add_block(uint8_t *to, const uint8_t *block)
{
    for (unsigned i = 0; i < BLOCK; i++)
        to[i] ^= block[i];
}

/* CBC of the first @len bytes of tag->message, whole blocks, as if from an initial vector of 0. */
static bool encrypt(struct tcp_tag *tag, size_t len)
{
    int done = 0;
    add_block(tag->message, tag->chain);
    bool ok = EVP_EncryptUpdate(tag->cbc, tag->message, &done, tag->message, (int)len) == 1 &&
              done == (int)len;
    memcpy(tag->chain, tag->message + len - BLOCK, BLOCK);
    return ok;
}

/* Twice @block in GF(2^128), as RFC 4493 derives its subkeys. */
static void double_block(const uint8_t *block, uint8_t *twice)
{
    for (unsigned i = 0; i < BLOCK; i++)
        twice[i] = (uint8_t)(block[i] << 1 | (i + 1 < BLOCK ? block[i + 1] >> 7 : 0));
    if ((block[0] & 0x80) != 0)
        twice[BLOCK - 1] ^= 0x87;
}

struct tcp_tag *tcp_tag_create(const uint8_t key[TCP_TAG_KEY_BYTES])
{
    const uint8_t zero[BLOCK] = {0};
    struct tcp_tag *tag = calloc(1, sizeof *tag);
    if (tag == NULL)
        return NULL;
    tag->cbc = EVP_CIPHER_CTX_new();
    if (tag->cbc == NULL ||
        EVP_EncryptInit_ex(tag->cbc, EVP_aes_128_cbc(), NULL, key, zero) != 1 ||
        EVP_CIPHER_CTX_set_padding(tag->cbc, 0) != 1 || !encrypt(tag, BLOCK)) {
        tcp_tag_destroy(tag);
        return NULL;
    }
    double_block(tag->chain, tag->whole);
    double_block(tag->whole, tag->padded);
    return tag;
}

void tcp_tag_destroy(struct tcp_tag *tag)
{
    if (tag == NULL)
        return;
    EVP_CIPHER_CTX_free(tag->cbc);
    OPENSSL_cleanse(tag, sizeof *tag);
    free(tag);
}

void tcp_tag_make(struct tcp_tag *tag, const void *frame, const void *header, size_t header_len,
                  uint8_t out[TCP_TAG_BYTES])
{
    CHECK(header_len <= NET_HEADER_MAX);
    size_t len = TCP_FRAME_BYTES + header_len;
    memcpy(tag->message, frame, TCP_FRAME_BYTES);
    if (header_len > 0)
        memcpy(tag->message + TCP_FRAME_BYTES, header, header_len);
    const uint8_t *subkey = tag->whole;
    if (len % BLOCK != 0) {
        memset(tag->message + len, 0, BLOCK);
        tag->message[len] = 0x80;
        len += BLOCK - len % BLOCK;
        subkey = tag->padded;
    }
    add_block(tag->message + len - BLOCK, subkey);
    CHECK(encrypt(tag, len));
    memcpy(out, tag->chain, TCP_TAG_BYTES);
}

bool tcp_tag_right(struct tcp_tag *tag, const void *frame, const void *header, size_t header_len,
                   const uint8_t expected[TCP_TAG_BYTES])
{
    uint8_t made[TCP_TAG_BYTES];
    tcp_tag_make(tag, frame, header, header_len, made);
    return hash_equal_secret(made, expected, sizeof made) != 0;
}
