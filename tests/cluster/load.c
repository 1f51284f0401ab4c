/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Load for the tests that kill processes, and the judge of what is left.
 *
 *   cluster_load write POOL SECONDS SEED JOURNAL   puts and removes, until the time is over or SIGTERM
 *   cluster_load check POOL JOURNAL                reads every blob twice and compares
 *
 * The journal has a line for each attempt before it starts ("+ NAME ID LEN", LEN -1: a remove) and
 * one when its outcome is known ("= NAME ID" acknowledged, "! NAME ID" refused: had no effect, "? NAME ID"
 * unknown). A blob's bytes follow from (NAME, ID). So after any number of deaths a blob must be what
 * was acknowledged last, or what one of the unknown attempts after that would have made of it; and
 * the same when read again.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/hash.h"
#include "base/macros.h"
#include "base/random.h"
#include "shoal/shoal.h"

#define SLOTS 12u
#define NAMES_PER_SLOT 40u
#define LEN_MAX (9u << 20)
#define REMOVED INT64_C(-1)
#define ATTEMPTS_MAX 64u

static volatile sig_atomic_t ended;

static void end_early(int number)
{
    (void)number;
    ended = 1;
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void contents(const char *name, uint64_t id, uint8_t *out, size_t len)
{
    struct prng prng;
    prng_seed(&prng, hash64(name, strlen(name), id));
    prng_bytes(&prng, out, len);
}

/* ---- writing ---- */

struct slot {
    struct shoal_request request;
    struct iovec iov;
    uint8_t *memory;
    char name[64];
    uint64_t id;
    unsigned index;
};

struct writer {
    struct shoal *shoal;
    const char *pool;
    FILE *journal;
    struct prng prng;
    struct slot slots[SLOTS];
    uint64_t next_id;
    uint64_t acked, refused, unknown;
};

/* Mostly small, some of a stripe, a few of several: every way in which a blob is laid out. */
static size_t draw_len(struct prng *prng)
{
    uint64_t kind = prng_below(prng, 100);
    if (kind < 5)
        return 0;
    if (kind < 60)
        return (size_t)prng_between(prng, 1, 20000);
    if (kind < 90)
        return (size_t)prng_between(prng, 60000, 300000);
    if (kind < 98)
        return (size_t)prng_between(prng, 1000000, 2000000);
    return (size_t)prng_between(prng, (4u << 20) - 2, LEN_MAX);
}

static void start(struct writer *writer, struct slot *slot)
{
    bool removal = prng_chance(&writer->prng, 1, 12);
    size_t len = removal ? 0 : draw_len(&writer->prng);
    /* A name belongs to one slot, so at most one attempt on it is under way. */
    snprintf(slot->name, sizeof slot->name, "load/%u/%u", slot->index,
             (unsigned)prng_below(&writer->prng, NAMES_PER_SLOT));
    slot->id = ++writer->next_id;
    if (!removal)
        contents(slot->name, slot->id, slot->memory, len);
    slot->iov = (struct iovec){slot->memory, len};
    slot->request = (struct shoal_request){
        .op = removal ? SHOAL_OP_REMOVE : SHOAL_OP_PUT, .pool = writer->pool, .name = slot->name,
        .iov = &slot->iov, .iov_count = 1, .timeout_ms = 20000, .user = slot};
    fprintf(writer->journal, "+ %s %" PRIu64 " %" PRId64 "\n", slot->name, slot->id,
            removal ? REMOVED : (int64_t)len);
    fflush(writer->journal);
    if (shoal_submit(writer->shoal, &slot->request) != 0) {
        fprintf(stderr, "load: %s\n", shoal_message());
        exit(1);
    }
}

static bool had_no_effect(int status)
{
    return status == SHOAL_E_FULL || status == SHOAL_E_QUOTA || status == SHOAL_E_DENIED ||
           status == SHOAL_E_NO_POOL || status == SHOAL_E_NOT_FOUND;
}

static void end(struct writer *writer, struct slot *slot)
{
    int status = slot->request.status;
    /* "No such blob" is as good as removed: it was not there. */
    bool gone = slot->request.op == SHOAL_OP_REMOVE && status == SHOAL_E_NOT_FOUND;
    char outcome = status == 0 || gone ? '=' : had_no_effect(status) ? '!' : '?';
    writer->acked += outcome == '=';
    writer->refused += outcome == '!';
    writer->unknown += outcome == '?';
    fprintf(writer->journal, "%c %s %" PRIu64 " %s\n", outcome, slot->name, slot->id,
            shoal_error_name(status));
    fflush(writer->journal);
}

static int write_load(const char *pool, unsigned seconds, uint64_t seed, const char *path)
{
    struct writer writer = {.pool = pool, .journal = fopen(path, "a"), .next_id = seed << 32};
    struct shoal_request *done[SLOTS];
    struct shoal_options options = {.requests_max = SLOTS};
    if (writer.journal == NULL || shoal_open(NULL, &options, &writer.shoal) != 0) {
        fprintf(stderr, "load: %s\n", shoal_message());
        return 1;
    }
    signal(SIGTERM, end_early);
    prng_seed(&writer.prng, seed);
    uint64_t stop = now_ms() + seconds * UINT64_C(1000);
    unsigned under_way = 0;
    for (unsigned i = 0; i < SLOTS; i++, under_way++) {
        writer.slots[i].index = i;
        writer.slots[i].memory = malloc(LEN_MAX);
        start(&writer, &writer.slots[i]);
    }
    while (under_way > 0) {
        unsigned count = shoal_wait(writer.shoal, done, SLOTS, -1);
        for (unsigned i = 0; i < count; i++) {
            end(&writer, done[i]->user);
            if (now_ms() < stop && !ended)
                start(&writer, done[i]->user);
            else
                under_way--;
        }
    }
    shoal_close(writer.shoal);
    fclose(writer.journal);
    for (unsigned i = 0; i < SLOTS; i++)
        free(writer.slots[i].memory);
    printf("acknowledged %" PRIu64 " refused %" PRIu64 " unknown %" PRIu64 "\n", writer.acked,
           writer.refused, writer.unknown);
    return 0;
}

/* ---- checking ---- */

struct attempt {
    uint64_t id;
    int64_t len;
    bool open; /* its outcome is not in the journal, or unknown */
};

/* What a blob may be now: the first attempt is the acknowledged state, if any. */
struct blob {
    char name[64];
    struct attempt may_be[ATTEMPTS_MAX];
    unsigned count;
    bool acknowledged; /* may_be[0] is */
};

struct judge {
    struct blob *blobs;
    size_t count, room;
    uint64_t wrong;
};

static struct blob *find_blob(struct judge *judge, const char *name)
{
    for (size_t i = 0; i < judge->count; i++)
        if (strcmp(judge->blobs[i].name, name) == 0)
            return &judge->blobs[i];
    if (judge->count == judge->room) {
        judge->room = judge->room == 0 ? 1024 : judge->room * 2;
        judge->blobs = realloc(judge->blobs, judge->room * sizeof *judge->blobs);
        if (judge->blobs == NULL)
            exit(1);
    }
    struct blob *blob = &judge->blobs[judge->count++];
    memset(blob, 0, sizeof *blob);
    snprintf(blob->name, sizeof blob->name, "%s", name);
    return blob;
}

static void take_line(struct judge *judge, const char *line)
{
    char kind, name[64];
    uint64_t id;
    int64_t len = 0;
    if (sscanf(line, "%c %63s %" SCNu64 " %" SCNd64, &kind, name, &id, &len) < 3)
        return;
    struct blob *blob = find_blob(judge, name);
    if (kind == '+') {
        if (blob->count == ATTEMPTS_MAX) {
            fprintf(stderr, "check: too many attempts on %s of unknown outcome\n", name);
            exit(1);
        }
        blob->may_be[blob->count++] = (struct attempt){id, len, true};
        return;
    }
    for (unsigned i = 0; i < blob->count; i++) {
        if (blob->may_be[i].id != id)
            continue;
        if (kind == '=') {
            /* All that was before is settled by it. */
            blob->may_be[0] = blob->may_be[i];
            blob->may_be[0].open = false;
            blob->acknowledged = true;
            blob->count = 1;
        } else if (kind == '!') {
            memmove(&blob->may_be[i], &blob->may_be[i + 1],
                    (blob->count - i - 1) * sizeof blob->may_be[0]);
            blob->count--;
        }
        return;
    }
}

static bool absence_allowed(const struct blob *blob)
{
    bool allowed = !blob->acknowledged;
    for (unsigned i = 0; i < blob->count; i++)
        allowed |= blob->may_be[i].len == REMOVED;
    return allowed;
}

/* Which attempt's bytes these are; -1: of none. */
static int identify(const struct blob *blob, const uint8_t *data, uint64_t len, uint8_t *scratch)
{
    for (unsigned i = 0; i < blob->count; i++) {
        if (blob->may_be[i].len != (int64_t)len)
            continue;
        contents(blob->name, blob->may_be[i].id, scratch, len);
        if (memcmp(scratch, data, len) == 0)
            return (int)i;
    }
    return -1;
}

static void complain(struct judge *judge, const struct blob *blob, const char *what)
{
    fprintf(stderr, "WRONG: %s %s; it may be", blob->name, what);
    for (unsigned i = 0; i < blob->count; i++)
        fprintf(stderr, " %s#%" PRIu64 "(%" PRId64 ")", blob->may_be[i].open ? "maybe" : "",
                blob->may_be[i].id, blob->may_be[i].len);
    fprintf(stderr, "%s\n", absence_allowed(blob) ? " or absent" : "");
    judge->wrong++;
}

static void judge_blob(struct judge *judge, struct shoal *shoal, const char *pool,
                       const struct blob *blob, uint8_t *data, uint8_t *scratch)
{
    int first = -2;
    char text[200];
    for (unsigned round = 0; round < 2; round++) {
        size_t len = 0;
        int rc = shoal_get(shoal, pool, blob->name, data, LEN_MAX, &len);
        int seen = -1;
        if (rc == 0) {
            seen = identify(blob, data, len, scratch);
            if (seen < 0) {
                snprintf(text, sizeof text, "has %zu bytes that nobody wrote", len);
                complain(judge, blob, text);
                return;
            }
        } else if (rc != SHOAL_E_NOT_FOUND || !absence_allowed(blob)) {
            snprintf(text, sizeof text, "cannot be read: %s", shoal_message());
            complain(judge, blob, text);
            return;
        }
        if (round == 1 && seen != first)
            complain(judge, blob, "was another the second time");
        first = seen;
    }
}

static int check(const char *pool, const char *path)
{
    struct judge judge = {0};
    struct shoal *shoal;
    char line[256];
    FILE *journal = fopen(path, "r");
    if (journal == NULL || shoal_open(NULL, NULL, &shoal) != 0) {
        fprintf(stderr, "check: %s\n", journal == NULL ? path : shoal_message());
        return 1;
    }
    while (fgets(line, sizeof line, journal) != NULL)
        take_line(&judge, line);
    fclose(journal);
    uint8_t *data = malloc(LEN_MAX), *scratch = malloc(LEN_MAX);
    for (size_t i = 0; i < judge.count; i++)
        judge_blob(&judge, shoal, pool, &judge.blobs[i], data, scratch);
    printf("checked %zu blobs, %" PRIu64 " wrong\n", judge.count, judge.wrong);
    shoal_close(shoal);
    free(data);
    free(scratch);
    free(judge.blobs);
    return judge.wrong == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc == 6 && strcmp(argv[1], "write") == 0)
        return write_load(argv[2], (unsigned)atoi(argv[3]), strtoull(argv[4], NULL, 10), argv[5]);
    if (argc == 4 && strcmp(argv[1], "check") == 0)
        return check(argv[2], argv[3]);
    fprintf(stderr, "usage: cluster_load write POOL SECONDS SEED JOURNAL | check POOL JOURNAL\n");
    return 2;
}
