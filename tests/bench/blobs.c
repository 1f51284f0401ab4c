/* SPDX-License-Identifier: Apache-2.0 */
#include "blobs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/macros.h"
#include "base/random.h"
#include "shoal/shoal.h"

#define AT_ONCE 16u

struct put {
    struct shoal_request request;
    struct iovec bytes;
    char name[32];
};

const char *blob_name(uint32_t index, char name[32])
{
    snprintf(name, 32, "blob-%u", index);
    return name;
}

static void put_start(struct shoal *shoal, const struct blobs *blobs, struct put *put,
                      uint32_t index, uint64_t seed)
{
    const uint64_t head[2] = {index, seed};

    memcpy(put->bytes.iov_base, head, MIN(sizeof head, blobs->size));
    put->request = (struct shoal_request){.op = SHOAL_OP_PUT,
                                          .pool = blobs->pool,
                                          .name = blob_name(index, put->name),
                                          .iov = &put->bytes,
                                          .iov_count = 1,
                                          .user = put};
    CHECK_MSG(shoal_submit(shoal, &put->request) == 0, "%s", shoal_message());
}

void blobs_put(struct shoal *shoal, const struct blobs *blobs, uint64_t seed)
{
    struct put *puts = calloc(AT_ONCE, sizeof *puts);
    const uint32_t at_once = MIN(AT_ONCE, blobs->count);
    uint32_t started = 0;
    struct prng prng;

    CHECK(puts != NULL);
    prng_seed(&prng, seed);
    for (uint32_t i = 0; i < at_once; i++) {
        puts[i].bytes = (struct iovec){malloc(blobs->size), blobs->size};
        CHECK(puts[i].bytes.iov_base != NULL);
        prng_bytes(&prng, puts[i].bytes.iov_base, blobs->size);
        put_start(shoal, blobs, &puts[i], started++, seed);
    }
    for (uint32_t ended = 0; ended < blobs->count;) {
        struct shoal_request *done[AT_ONCE];
        const unsigned count = shoal_wait(shoal, done, AT_ONCE, -1);
        for (unsigned i = 0; i < count; i++) {
            CHECK_MSG(done[i]->status == 0, "a put failed: %d", done[i]->status);
            ended++;
            if (started < blobs->count)
                put_start(shoal, blobs, done[i]->user, started++, seed);
        }
    }
    for (uint32_t i = 0; i < at_once; i++)
        free(puts[i].bytes.iov_base);
    free(puts);
}

void samples_add(struct samples *samples, double value)
{
    if (samples->count == samples->room) {
        samples->room = MAX(2 * samples->room, 4096u);
        samples->values = realloc(samples->values, samples->room * sizeof *samples->values);
        CHECK(samples->values != NULL);
    }
    samples->values[samples->count++] = value;
}

static int compare(const void *left, const void *right)
{
    const double a = *(const double *)left;
    const double b = *(const double *)right;

    return (a > b) - (a < b);
}

double samples_percentile(struct samples *samples, double percent)
{
    if (samples->count == 0)
        return 0;
    qsort(samples->values, samples->count, sizeof *samples->values, compare);
    const uint32_t at = (uint32_t)((double)samples->count * percent / 100);
    return samples->values[MIN(at, samples->count - 1)];
}

void samples_free(struct samples *samples)
{
    free(samples->values);
    *samples = (struct samples){0};
}
