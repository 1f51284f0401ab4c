/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of registers that many clients write and read at once, which notes what it was told.
 *
 *   registers make CLIENT PREFIX JOURNAL POOL...    puts every register; ends when all are there
 *   registers run CLIENT PREFIX JOURNAL POOL...     operations at random until SIGTERM
 *   registers watch CLIENT PREFIX JOURNAL POOL...   likewise, but only reads, of little patience
 *   registers read CLIENT PREFIX JOURNAL POOL...    reads every register twice
 *
 * The journal has a line for each operation that has ended:
 *
 *   CLIENT KIND KEY VALUE VERSION CALLED RETURNED STATUS
 *
 * Times are nanoseconds of the machine's one monotonic clock, so journals of several clients make
 * one history, which history.py judges. A put's value is a number that nobody else puts; length and
 * bytes follow from it, so that a read tells which put it is of, and whether whole. What cannot be
 * of any put is noted as the value "wrong". "grave" registers are put once and then only removed,
 * so that "not found" says one thing: it was removed.
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

#define SLOTS_MAX 16u
#define TIMEOUT_MS 5000u /* of an operation; history.py knows it */
#define MAKE_ROUNDS 20u
#define LEN_MAX 150000u
#define LIVE 12u  /* registers of a pool that are put again and again */
#define GRAVE 40u /* and of those that are removed */
#define REGISTERS (LIVE + GRAVE)

struct slot {
    struct shoal_request request;
    struct iovec iov;
    uint8_t *memory;
    char name[64];
    uint64_t value, called_ns, due_ns;
};

/*
 * How operations follow each other.
 * @slots: operations under way at once, at most
 * @pause_ms: between two of a slot: the machine is shared
 */
struct manner {
    bool only_reads;
    unsigned slots;
    uint32_t timeout_ms, pause_ms;
};

static const struct manner running = {false, 4, TIMEOUT_MS, 10};
/* Most of what is asked across a cut waits for the end of its time. */
static const struct manner watching = {true, SLOTS_MAX, 1000, 50};

struct registers {
    struct shoal *shoal;
    const char *client, *prefix;
    FILE *journal;
    char *const *pools;
    unsigned pools_count;
    uint64_t next_value;
    const struct manner *manner;
    struct prng prng;
    struct slot slots[SLOTS_MAX];
};

static volatile sig_atomic_t ended;

static void end(int number)
{
    (void)number;
    ended = 1;
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* ---- values ---- */

static size_t contents(const char *name, uint64_t value, uint8_t *out)
{
    struct prng prng;
    prng_seed(&prng, hash64(name, strlen(name), value));
    bool small = prng_chance(&prng, 3, 4);
    size_t len = (size_t)prng_between(&prng, sizeof value, small ? 8000 : LEN_MAX);
    prng_bytes(&prng, out, len);
    memcpy(out, &value, sizeof value);
    return len;
}

/* Which value was read; 0: none that was ever put. */
static uint64_t value_of(const char *name, const uint8_t *bytes, size_t len)
{
    static uint8_t expected[LEN_MAX];
    uint64_t value;
    if (len < sizeof value)
        return 0;
    memcpy(&value, bytes, sizeof value);
    if (contents(name, value, expected) != len || memcmp(bytes, expected, len) != 0)
        return 0;
    return value;
}

/* ---- operations ---- */

static void start(struct registers *r, struct slot *slot, enum shoal_op op, const char *pool,
                  unsigned number)
{
    snprintf(slot->name, sizeof slot->name, "%s/%s-%u", r->prefix, number < LIVE ? "live" : "grave",
             number);
    slot->value = 0;
    slot->iov = (struct iovec){slot->memory, LEN_MAX};
    if (op == SHOAL_OP_PUT) {
        slot->value = r->next_value++;
        slot->iov.iov_len = contents(slot->name, slot->value, slot->memory);
    }
    slot->request = (struct shoal_request){
        .op = op, .pool = pool, .name = slot->name, .iov = &slot->iov,
        .iov_count = op == SHOAL_OP_PUT || op == SHOAL_OP_GET, .timeout_ms = r->manner->timeout_ms,
        .user = slot};
    slot->called_ns = now_ns();
    if (shoal_submit(r->shoal, &slot->request) != 0) {
        fprintf(stderr, "registers: %s\n", shoal_message());
        exit(1);
    }
}

static void note(struct registers *r, struct slot *slot)
{
    static const char *const kinds[] = {
        [SHOAL_OP_PUT] = "put", [SHOAL_OP_GET] = "get", [SHOAL_OP_STAT] = "stat",
        [SHOAL_OP_REMOVE] = "remove"};
    const struct shoal_request *request = &slot->request;
    uint64_t returned_ns = now_ns();
    char version[64] = "-", value[32];
    if (request->status == 0 && request->op != SHOAL_OP_REMOVE)
        shoal_version_print(&request->version, version, sizeof version);
    if (request->status == 0 && request->op == SHOAL_OP_GET)
        slot->value = value_of(slot->name, slot->memory, request->bytes);
    snprintf(value, sizeof value, "%" PRIu64, slot->value);
    bool wrong = request->status == 0 && request->op == SHOAL_OP_GET && slot->value == 0;
    fprintf(r->journal, "%s %s %s/%s %s %s %" PRIu64 " %" PRIu64 " %s\n", r->client,
            kinds[request->op], request->pool, slot->name, wrong ? "wrong" : value, version,
            slot->called_ns, returned_ns, shoal_error_name(request->status));
    fflush(r->journal);
}

static void run_one(struct registers *r, enum shoal_op op, const char *pool, unsigned number)
{
    struct shoal_request *done;
    start(r, &r->slots[0], op, pool, number);
    (void)shoal_wait(r->shoal, &done, 1, -1);
    note(r, &r->slots[0]);
}

static int make(struct registers *r)
{
    for (unsigned i = 0; i < r->pools_count * REGISTERS; i++) {
        unsigned rounds = 0;
        do {
            if (rounds++ == MAKE_ROUNDS) {
                fprintf(stderr, "registers: %s cannot be put\n", r->slots[0].name);
                return 1;
            }
            run_one(r, SHOAL_OP_PUT, r->pools[i / REGISTERS], i % REGISTERS);
        } while (r->slots[0].request.status != 0);
    }
    return 0;
}

static int read_all(struct registers *r)
{
    for (unsigned round = 0; round < 2; round++)
        for (unsigned i = 0; i < r->pools_count * REGISTERS; i++)
            run_one(r, SHOAL_OP_GET, r->pools[i / REGISTERS], i % REGISTERS);
    return 0;
}

static void start_any(struct registers *r, struct slot *slot)
{
    const char *pool = r->pools[prng_below(&r->prng, r->pools_count)];
    bool reads = r->manner->only_reads;
    uint64_t kind = prng_between(&r->prng, reads ? 30 : 0, reads ? 98 : 99);
    unsigned live = (unsigned)prng_below(&r->prng, LIVE);
    unsigned grave = LIVE + (unsigned)prng_below(&r->prng, GRAVE);
    if (kind < 30)
        start(r, slot, SHOAL_OP_PUT, pool, live);
    else if (kind < 75)
        start(r, slot, SHOAL_OP_GET, pool, live);
    else if (kind < 90)
        start(r, slot, SHOAL_OP_STAT, pool, live);
    else if (kind < 99)
        start(r, slot, SHOAL_OP_GET, pool, grave);
    else
        start(r, slot, SHOAL_OP_REMOVE, pool, grave);
}

static int wait_ms(const struct registers *r, uint64_t now)
{
    uint64_t due = now + 100000000; /* to see the signal soon */
    for (unsigned i = 0; i < r->manner->slots; i++)
        if (r->slots[i].due_ns != 0)
            due = MIN(due, r->slots[i].due_ns);
    return due > now ? (int)((due - now) / 1000000) + 1 : 0;
}

static int run(struct registers *r)
{
    uint64_t now = now_ns();
    unsigned under_way = 0;
    for (unsigned i = 0; i < r->manner->slots; i++)
        r->slots[i].due_ns = now;
    while (!ended || under_way > 0) {
        struct shoal_request *done[SLOTS_MAX];
        for (unsigned i = 0; i < r->manner->slots; i++) {
            struct slot *slot = &r->slots[i];
            if (slot->due_ns == 0 || slot->due_ns > now || ended)
                continue;
            slot->due_ns = 0;
            start_any(r, slot);
            under_way++;
        }
        unsigned count = shoal_wait(r->shoal, done, SLOTS_MAX, wait_ms(r, now));
        now = now_ns();
        for (unsigned i = 0; i < count; i++, under_way--) {
            struct slot *slot = done[i]->user;
            note(r, slot);
            slot->due_ns = now + r->manner->pause_ms * UINT64_C(1000000);
        }
    }
    return 0;
}

static int usage(void)
{
    fprintf(stderr, "usage: registers make|run|watch|read CLIENT PREFIX JOURNAL POOL...\n");
    return 2;
}

int main(int argc, char **argv)
{
    if (argc < 6)
        return usage();
    struct registers r = {.client = argv[2], .prefix = argv[3], .journal = fopen(argv[4], "a"),
                          .pools = argv + 5, .pools_count = (unsigned)(argc - 5),
                          .manner = strcmp(argv[1], "watch") == 0 ? &watching : &running};
    struct shoal_options options = {.requests_max = SLOTS_MAX};
    if (r.journal == NULL || shoal_open(NULL, &options, &r.shoal) != 0) {
        fprintf(stderr, "registers: %s\n", r.journal == NULL ? argv[4] : shoal_message());
        return 1;
    }
    /* Of no other client, and of no other life of this one. */
    r.next_value = hash64(r.client, strlen(r.client), now_ns()) | 1;
    prng_seed(&r.prng, r.next_value);
    for (unsigned i = 0; i < SLOTS_MAX; i++)
        if ((r.slots[i].memory = malloc(LEN_MAX)) == NULL)
            return 1;
    signal(SIGTERM, end);
    int result = 2;
    if (r.manner == &watching || strcmp(argv[1], "run") == 0)
        result = run(&r);
    else if (strcmp(argv[1], "make") == 0)
        result = make(&r);
    else if (strcmp(argv[1], "read") == 0)
        result = read_all(&r);
    shoal_close(r.shoal);
    fclose(r.journal);
    for (unsigned i = 0; i < SLOTS_MAX; i++)
        free(r.slots[i].memory);
    return result == 2 ? usage() : result;
}
