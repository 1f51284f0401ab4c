/* SPDX-License-Identifier: Apache-2.0 */
/* The key of content: SHA-256 of one piece, or of the hashes of many. */
#include <stdlib.h>
#include <string.h>

#include "base/codec.h"
#include "base/hash.h"
#include "client/client_private.h"

#define TREE_TAG "shoal-tree-1"
#define PIECES_FIRST 16u

/* The hashes of whole pieces are kept: 32 bytes for each 4 MiB. */
struct client_hash {
    struct sha256 *piece;
    uint64_t len;
    uint32_t in_piece;
    uint8_t (*done)[SHA256_SIZE];
    size_t done_count, done_room;
    bool failed;
};

struct client_hash *client_hash_create(void)
{
    struct client_hash *hash = calloc(1, sizeof *hash);
    if (hash == NULL)
        return NULL;
    hash->piece = sha256_create();
    if (hash->piece == NULL) {
        free(hash);
        return NULL;
    }
    return hash;
}

void client_hash_destroy(struct client_hash *hash)
{
    sha256_destroy(hash->piece);
    free(hash->done);
    free(hash);
}

void client_hash_begin(struct client_hash *hash)
{
    hash->len = 0;
    hash->in_piece = 0;
    hash->done_count = 0;
    hash->failed = false;
    sha256_begin(hash->piece);
}

static void piece_end(struct client_hash *hash)
{
    if (hash->done_count == hash->done_room) {
        size_t room = hash->done_room == 0 ? PIECES_FIRST : hash->done_room * 2;
        void *more = realloc(hash->done, room * sizeof *hash->done);
        if (more == NULL) {
            hash->failed = true;
            return;
        }
        hash->done = more;
        hash->done_room = room;
    }
    sha256_finish(hash->piece, hash->done[hash->done_count++]);
    sha256_begin(hash->piece);
    hash->in_piece = 0;
}

void client_hash_update(struct client_hash *hash, const void *data, size_t len)
{
    const uint8_t *at = data;
    hash->len += len;
    while (len > 0 && !hash->failed) {
        /* A full piece is ended only when more follows: one piece alone is hashed plainly. */
        if (hash->in_piece == CLIENT_CONTENT_PIECE)
            piece_end(hash);
        size_t here = MIN(len, (size_t)(CLIENT_CONTENT_PIECE - hash->in_piece));
        sha256_update(hash->piece, at, here);
        hash->in_piece += (uint32_t)here;
        at += here;
        len -= here;
    }
}

int client_hash_finish(struct client_hash *hash, struct blob_key *key)
{
    if (hash->len <= CLIENT_CONTENT_PIECE) {
        sha256_finish(hash->piece, key->bytes);
        return 0;
    }
    piece_end(hash);
    if (hash->failed)
        return SHOAL_E_NO_MEMORY;
    uint8_t length[8];
    store_le64(length, hash->len);
    sha256_begin(hash->piece);
    sha256_update(hash->piece, TREE_TAG, strlen(TREE_TAG));
    sha256_update(hash->piece, length, sizeof length);
    sha256_update(hash->piece, hash->done, hash->done_count * SHA256_SIZE);
    sha256_finish(hash->piece, key->bytes);
    return 0;
}
