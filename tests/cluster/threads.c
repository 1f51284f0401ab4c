/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One handle of libshoal in many hands: threads that call synchronously, one that submits and polls
 * the file descriptor, one that waits, and one that streams; every byte compared.
 *
 *   cluster_threads POOL SECONDS
 */
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/macros.h"
#include "base/random.h"
#include "shoal/shoal.h"

#define SYNCHRONOUS 6
#define DEPTH 8
#define BYTES 50000u

static struct shoal *shoal;
static const char *pool;
static atomic_bool stop;
static atomic_ullong rounds, failures;

static void fill(uint8_t *data, size_t len, uint64_t seed)
{
    struct prng prng;
    prng_seed(&prng, seed);
    prng_bytes(&prng, data, len);
}

static void failed(const char *who, const char *what)
{
    if (atomic_fetch_add(&failures, 1) < 5)
        fprintf(stderr, "%s: %s\n", who, what);
}

static void *synchronous(void *arg)
{
    unsigned number = (unsigned)(uintptr_t)arg;
    uint8_t *data = malloc(BYTES), *back = malloc(BYTES);
    char name[64];
    for (uint64_t i = 0; !atomic_load(&stop); i++) {
        size_t len = (size_t)(i * 7919 % BYTES), got;
        snprintf(name, sizeof name, "threads/%u/%u", number, (unsigned)(i % 5));
        fill(data, len, number * 1000003 + i);
        if (shoal_put(shoal, pool, name, data, len) != 0 ||
            shoal_get(shoal, pool, name, back, BYTES, &got) != 0)
            failed("synchronous", shoal_message());
        else if (got != len || memcmp(data, back, len) != 0)
            failed("synchronous", "other bytes came back");
        atomic_fetch_add(&rounds, 1);
    }
    free(data);
    free(back);
    return NULL;
}

struct slot {
    struct shoal_request request;
    struct iovec iov[2];
    uint8_t *data, *back;
    char name[64];
    uint64_t seed;
    bool idle;
};

static void submit(struct slot *slot, enum shoal_op op, uint8_t *memory)
{
    slot->iov[0] = (struct iovec){memory, BYTES / 3};
    slot->iov[1] = (struct iovec){memory + BYTES / 3, BYTES - BYTES / 3};
    slot->request = (struct shoal_request){.op = op, .pool = pool, .name = slot->name,
                                           .iov = slot->iov, .iov_count = 2, .user = slot};
    slot->idle = shoal_submit(shoal, &slot->request) != 0;
    if (slot->idle)
        failed("asynchronous", shoal_message());
}

/* A put that ended becomes a get, a get that ended is compared and becomes the next put. */
static void advance(struct slot *slot)
{
    if (slot->request.status != 0)
        failed("asynchronous", shoal_error_text(slot->request.status));
    if (slot->request.op == SHOAL_OP_PUT) {
        memset(slot->back, 0, BYTES);
        submit(slot, SHOAL_OP_GET, slot->back);
        return;
    }
    if (slot->request.status == 0 && memcmp(slot->data, slot->back, BYTES) != 0)
        failed("asynchronous", "other bytes came back");
    atomic_fetch_add(&rounds, 1);
    slot->idle = atomic_load(&stop);
    if (slot->idle)
        return;
    fill(slot->data, BYTES, ++slot->seed);
    submit(slot, SHOAL_OP_PUT, slot->data);
}

/* Requests that ended are handed to whoever polls, so there is one such thread. */
static void *asynchronous(void *arg)
{
    struct slot slots[DEPTH];
    struct shoal_request *done[DEPTH];
    struct pollfd wake = {.fd = shoal_fd(shoal), .events = POLLIN};
    unsigned busy = DEPTH;
    (void)arg;
    for (unsigned i = 0; i < DEPTH; i++) {
        slots[i] = (struct slot){.data = malloc(BYTES), .back = malloc(BYTES), .seed = i << 20};
        snprintf(slots[i].name, sizeof slots[i].name, "threads/async/%u", i);
        fill(slots[i].data, BYTES, slots[i].seed);
        submit(&slots[i], SHOAL_OP_PUT, slots[i].data);
    }
    for (unsigned turn = 0; busy > 0; turn++) {
        unsigned count = turn % 2 == 0 ? shoal_poll(shoal, done, DEPTH)
                                       : shoal_wait(shoal, done, DEPTH, 50);
        for (unsigned i = 0; i < count; i++)
            advance(done[i]->user);
        if (count == 0 && turn % 2 == 0)
            poll(&wake, 1, 50);
        busy = 0;
        for (unsigned i = 0; i < DEPTH; i++)
            busy += !slots[i].idle;
    }
    for (unsigned i = 0; i < DEPTH; i++) {
        free(slots[i].data);
        free(slots[i].back);
    }
    return NULL;
}

static void *streaming(void *arg)
{
    uint8_t *piece = malloc(1u << 20);
    (void)arg;
    for (uint64_t i = 0; !atomic_load(&stop); i++) {
        struct shoal_request blob = {.pool = pool, .name = "threads/stream"};
        struct shoal_writer *writer;
        struct shoal_reader *reader;
        size_t got;
        if (shoal_writer_open(shoal, &blob, UINT64_MAX, &writer) != 0) {
            failed("writer", shoal_message());
            continue;
        }
        int rc = 0;
        for (unsigned j = 0; j < 6 && rc == 0; j++) {
            fill(piece, 1u << 20, i * 10 + j);
            rc = shoal_writer_write(writer, piece, 1u << 20);
        }
        if (rc != 0 || shoal_writer_finish(writer, NULL) != 0) {
            failed("writer", shoal_message());
            continue;
        }
        if (shoal_reader_open(shoal, &blob, &reader, NULL) != 0) {
            failed("reader", shoal_message());
            continue;
        }
        uint8_t *expected = malloc(1u << 20);
        for (unsigned j = 0; j < 6; j++) {
            fill(expected, 1u << 20, i * 10 + j);
            if (shoal_reader_read(reader, piece, 1u << 20, &got) != 0 || got != 1u << 20 ||
                memcmp(piece, expected, got) != 0)
                failed("reader", shoal_message());
        }
        free(expected);
        shoal_reader_close(reader);
        atomic_fetch_add(&rounds, 1);
    }
    free(piece);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[SYNCHRONOUS + 2];
    struct shoal_options options = {.requests_max = 32};
    if (argc != 3) {
        fprintf(stderr, "usage: cluster_threads POOL SECONDS\n");
        return 2;
    }
    pool = argv[1];
    if (shoal_open(NULL, &options, &shoal) != 0) {
        fprintf(stderr, "%s\n", shoal_message());
        return 1;
    }
    for (unsigned i = 0; i < SYNCHRONOUS; i++)
        pthread_create(&threads[i], NULL, synchronous, (void *)(uintptr_t)(i + 1));
    pthread_create(&threads[SYNCHRONOUS], NULL, asynchronous, NULL);
    pthread_create(&threads[SYNCHRONOUS + 1], NULL, streaming, NULL);
    struct timespec pause = {.tv_sec = atoi(argv[2])};
    nanosleep(&pause, NULL);
    atomic_store(&stop, true);
    for (unsigned i = 0; i < ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    shoal_close(shoal);
    printf("%llu rounds, %llu failures\n", (unsigned long long)rounds,
           (unsigned long long)failures);
    return failures == 0 && rounds > 0 ? 0 : 1;
}
