/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The main() of a fuzz target in a build without libFuzzer: driver SECONDS CORPUS
 *
 * Runs each file of the corpus as it is, then mutants of them from a fixed seed until the time is
 * up. Blind, where libFuzzer is guided; it is there so that each compiler's sanitizers see the
 * parsers.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/macros.h"
#include "base/random.h"

#define INPUT_MAX 65536
#define SEEDS_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seed {
    char *data;
    size_t size;
};

static struct seed seeds[SEEDS_MAX];
static size_t seed_count;

static void load_corpus(const char *path)
{
    DIR *directory = opendir(path);
    if (directory == NULL) {
        fprintf(stderr, "no corpus at %s\n", path);
        exit(1);
    }
    struct dirent *entry;
    while ((entry = readdir(directory)) != NULL && seed_count < SEEDS_MAX) {
        char name[4096];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        struct seed *seed = &seeds[seed_count];
        if (file_read(name, INPUT_MAX, &seed->data, &seed->size) != 0) {
            fprintf(stderr, "cannot read %s\n", name);
            exit(1);
        }
        seed_count++;
    }
    closedir(directory);
}

/* A copy of its exact size on the heap, so that ASan sees one byte too far. */
static void run_once(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(MAX(size, (size_t)1));
    if (copy == NULL)
        abort();
    memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static size_t mutate(struct prng *prng, uint8_t *data, size_t size)
{
    static const uint8_t edges[] = {0, 1, 0x7f, 0x80, 0xfe, 0xff};
    for (uint64_t times = prng_between(prng, 1, 8); times > 0; times--) {
        size_t at = size > 0 ? (size_t)prng_below(prng, size) : 0;
        switch (prng_below(prng, 6)) {
        case 0: /* flip a bit */
            if (size > 0)
                data[at] ^= (uint8_t)(1U << prng_below(prng, 8));
            break;
        case 1: /* a value from the edge */
            if (size > 0)
                data[at] = edges[prng_below(prng, ARRAY_LEN(edges))];
            break;
        case 2: /* cut */
            size = at;
            break;
        case 3: /* insert */
            if (size < INPUT_MAX) {
                memmove(data + at + 1, data + at, size - at);
                data[at] = (uint8_t)prng_next(prng);
                size++;
            }
            break;
        case 4: { /* copy a piece over another */
            size_t from = size > 0 ? (size_t)prng_below(prng, size) : 0;
            size_t length = MIN(size - MAX(at, from), (size_t)prng_below(prng, 16));
            memmove(data + at, data + from, length);
            break;
        }
        default: { /* splice with another seed */
            const struct seed *other = &seeds[prng_below(prng, seed_count)];
            size_t length = MIN(other->size, (size_t)INPUT_MAX - at);
            memcpy(data + at, other->data, length);
            size = at + length;
            break;
        }
        }
    }
    return size;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s SECONDS CORPUS\n", argv[0]);
        return 2;
    }
    load_corpus(argv[2]);
    for (size_t i = 0; i < seed_count; i++)
        run_once((const uint8_t *)seeds[i].data, seeds[i].size);

    static uint8_t input[INPUT_MAX];
    struct prng prng;
    prng_seed(&prng, 1);
    time_t end = time(NULL) + strtol(argv[1], NULL, 10);
    uint64_t runs = 0;
    for (; seed_count > 0 && time(NULL) < end; runs++) {
        const struct seed *seed = &seeds[prng_below(&prng, seed_count)];
        memcpy(input, seed->data, seed->size);
        run_once(input, mutate(&prng, input, seed->size));
    }
    printf("%zu seeds, %llu mutants\n", seed_count, (unsigned long long)runs);
    for (size_t i = 0; i < seed_count; i++)
        free(seeds[i].data);
    return 0;
}
