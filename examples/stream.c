/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A blob larger than the memory used for it: written piece by piece, replaced only if nobody else
 * has meanwhile, read back from the middle, and listed.
 */
#include <stdio.h>
#include <string.h>

#include <shoal/shoal.h>

#define PIECE (1u << 20)
#define PIECES 20u

static unsigned char piece[PIECE];

static int write_all(struct shoal *shoal, struct shoal_request *like, unsigned char first)
{
    struct shoal_writer *writer;
    if (shoal_writer_open(shoal, like, UINT64_MAX, &writer) != 0)
        return -1;
    for (unsigned i = 0; i < PIECES; i++) {
        memset(piece, (int)(first + i), sizeof piece);
        if (shoal_writer_write(writer, piece, sizeof piece) != 0) {
            shoal_writer_abort(writer);
            return -1;
        }
    }
    return shoal_writer_finish(writer, like);
}

static int check_from(struct shoal *shoal, struct shoal_request *like, unsigned first_piece,
                      unsigned char first)
{
    struct shoal_reader *reader;
    size_t got;
    like->offset = (uint64_t)first_piece * PIECE;
    if (shoal_reader_open(shoal, like, &reader, NULL) != 0)
        return -1;
    for (unsigned i = first_piece; i < PIECES; i++) {
        if (shoal_reader_read(reader, piece, sizeof piece, &got) != 0 || got != sizeof piece ||
            piece[0] != (unsigned char)(first + i) || piece[PIECE - 1] != piece[0]) {
            shoal_reader_close(reader);
            return -1;
        }
    }
    shoal_reader_close(reader);
    return 0;
}

static bool show(void *ctx, const struct shoal_listed *blob)
{
    (void)ctx;
    printf("%s: %llu bytes\n", blob->name, (unsigned long long)blob->size);
    return true;
}

int main(int argc, char **argv)
{
    struct shoal_request blob = {.pool = argc > 1 ? argv[1] : "durable", .name = "examples/stream"};
    struct shoal *shoal;
    if (shoal_open(NULL, NULL, &shoal) != 0) {
        fprintf(stderr, "stream: %s\n", shoal_message());
        return 1;
    }
    int failed = write_all(shoal, &blob, 1) != 0 || check_from(shoal, &blob, 7, 1) != 0;
    if (!failed) {
        /* Replace exactly the version that was written above. */
        blob.expected = blob.version;
        blob.flags = SHOAL_IF_VERSION;
        failed = write_all(shoal, &blob, 101) != 0 || check_from(shoal, &blob, 0, 101) != 0 ||
                 shoal_list(shoal, blob.pool, "examples/", show, NULL) != 0 ||
                 shoal_remove(shoal, blob.pool, blob.name) != 0;
    }
    if (failed)
        fprintf(stderr, "stream: %s\n", shoal_message());
    shoal_close(shoal);
    return failed;
}
