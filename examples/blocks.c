/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a KV cache does: many blocks under raw keys, all under way at once, driven by poll(2) on the
 * library's file descriptor. Blocks that are there already are not sent again.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <shoal/shoal.h>

#define BLOCKS 64
#define BLOCK_BYTES 65536

struct block {
    struct shoal_request request;
    struct iovec iov[2]; /* keys and values, say: gathered into one blob */
    unsigned char *memory;
};

static struct block blocks[BLOCKS];

static void fill(struct block *block, unsigned number)
{
    memset(block->memory, (int)(number + 1), BLOCK_BYTES);
    block->iov[0].iov_base = block->memory;
    block->iov[0].iov_len = BLOCK_BYTES / 2;
    block->iov[1].iov_base = block->memory + BLOCK_BYTES / 2;
    block->iov[1].iov_len = BLOCK_BYTES / 2;
}

/* Submit @op for the blocks that @wanted says, and wait for all of them. */
static int run(struct shoal *shoal, const char *pool, enum shoal_op op, const unsigned char *wanted)
{
    struct shoal_request *done[16];
    struct pollfd wake = {.fd = shoal_fd(shoal), .events = POLLIN};
    unsigned under_way = 0, failed = 0;

    for (unsigned i = 0; i < BLOCKS; i++) {
        struct shoal_request *request = &blocks[i].request;
        struct shoal_key key = request->key;
        if (!wanted[i])
            continue;
        memset(request, 0, sizeof *request);
        request->op = op;
        request->pool = pool;
        request->key = key;
        request->iov = blocks[i].iov;
        request->iov_count = 2;
        if (shoal_submit(shoal, request) != 0)
            return -1;
        under_way++;
    }
    while (under_way > 0) {
        unsigned count = shoal_poll(shoal, done, 16);
        for (unsigned i = 0; i < count; i++)
            failed += done[i]->status != 0;
        under_way -= count;
        if (count == 0)
            poll(&wake, 1, 1000);
    }
    return failed == 0 ? 0 : -1;
}

int main(int argc, char **argv)
{
    const char *pool = argc > 1 ? argv[1] : "kv";
    struct shoal_key keys[BLOCKS];
    unsigned char present[BLOCKS], wanted[BLOCKS];
    struct shoal *shoal;
    unsigned hits = 0, wrong = 0;

    if (shoal_open(NULL, NULL, &shoal) != 0) {
        fprintf(stderr, "blocks: %s\n", shoal_message());
        return 1;
    }
    for (unsigned i = 0; i < BLOCKS; i++) {
        blocks[i].memory = malloc(BLOCK_BYTES);
        if (blocks[i].memory == NULL)
            return 1;
        fill(&blocks[i], i);
        shoal_register(shoal, blocks[i].memory, BLOCK_BYTES);
        shoal_key_of_content(blocks[i].memory, BLOCK_BYTES, &keys[i]);
        blocks[i].request.key = keys[i];
    }
    struct shoal_request look = {.op = SHOAL_OP_EXISTS, .flags = SHOAL_TOUCH, .pool = pool,
                                 .keys = keys, .keys_count = BLOCKS, .present = present};
    if (shoal_run(shoal, &look) != 0)
        goto failed;
    for (unsigned i = 0; i < BLOCKS; i++) {
        hits += present[i];
        wanted[i] = !present[i];
    }
    if (run(shoal, pool, SHOAL_OP_PUT, wanted) != 0)
        goto failed;
    for (unsigned i = 0; i < BLOCKS; i++) {
        memset(blocks[i].memory, 0, BLOCK_BYTES);
        wanted[i] = 1;
    }
    if (run(shoal, pool, SHOAL_OP_GET, wanted) != 0)
        goto failed;
    for (unsigned i = 0; i < BLOCKS; i++)
        for (unsigned j = 0; j < BLOCK_BYTES; j++)
            wrong += blocks[i].memory[j] != (unsigned char)(i + 1);
    printf("%d blocks: %u hits, %u wrong bytes\n", BLOCKS, hits, wrong);
    shoal_close(shoal);
    for (unsigned i = 0; i < BLOCKS; i++)
        free(blocks[i].memory);
    return wrong != 0;

failed:
    fprintf(stderr, "blocks: %s\n", shoal_message());
    shoal_close(shoal);
    return 1;
}
