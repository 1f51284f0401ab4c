/* SPDX-License-Identifier: Apache-2.0 */
#include "life.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/macros.h"

#define EXHAUSTIVE_MAX 6u /* all subsets of up to so many writes in doubt */
#define SAMPLES 24u       /* beyond that */
#define IN_DOUBT_MAX 512u

static const size_t tear_bytes[] = {512, 4096};

/* ---- which images there were ---- */

#define SEEN_SLOTS (1u << 16)

/* Every image's hash; sorted to be counted. */
static struct {
    uint64_t *hashes;
    size_t count, room;
    uint64_t seen[SEEN_SLOTS]; /* a cache of (image, moment): may forget, never invents */
} noted;

static int compare_hashes(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

static void forget_doubles(void)
{
    size_t kept = 0;

    if (noted.count == 0)
        return;
    qsort(noted.hashes, noted.count, sizeof *noted.hashes, compare_hashes);
    for (size_t i = 0; i < noted.count; i++)
        if (i == 0 || noted.hashes[i] != noted.hashes[kept - 1])
            noted.hashes[kept++] = noted.hashes[i];
    noted.count = kept;
}

uint64_t life_different_images(void)
{
    forget_doubles();
    return noted.count;
}

static uint64_t block_hash(const struct dev_sim_store *store, uint64_t number)
{
    uint8_t block[DEV_BLOCK_BYTES];

    dev_sim_store_read(store, number * sizeof block, block, sizeof block);
    return hash64(block, sizeof block, number);
}

/* The hash of a drive is the sum of those of its blocks, so that only what changed is looked at. */
void life_note_snapshot(struct life *life)
{
    uint64_t blocks = dev_sim_store_size(life->fixture.store) / DEV_BLOCK_BYTES;

    CHECK(blocks <= LIFE_BLOCKS_MAX);
    life->snapshot_hash = 0;
    for (uint64_t i = 0; i < blocks; i++) {
        life->block_hashes[i] = block_hash(life->fixture.store, i);
        life->snapshot_hash += life->block_hashes[i];
    }
}

static uint64_t image_hash(const struct life *life)
{
    uint8_t looked_at[LIFE_BLOCKS_MAX / 8] = {0};
    uint64_t hash = life->snapshot_hash;

    for (size_t i = 0; i < life->log.write_count; i++) {
        const struct dev_record_write *write = &life->log.writes[i];
        uint64_t first = write->offset_bytes / DEV_BLOCK_BYTES;
        for (uint64_t at = first; at < first + write->len / DEV_BLOCK_BYTES; at++) {
            if (looked_at[at / 8] >> at % 8 & 1)
                continue;
            looked_at[at / 8] |= (uint8_t)(1u << at % 8);
            hash += block_hash(life->fixture.store, at) - life->block_hashes[at];
        }
    }
    return hash;
}

bool life_note_image(struct life *life, size_t prefix)
{
    uint64_t hash = image_hash(life);

    if (noted.count == noted.room) {
        forget_doubles();
        if (noted.count * 2 >= noted.room) {
            noted.room = MAX(noted.room * 2, (size_t)65536);
            noted.hashes = realloc(noted.hashes, noted.room * sizeof *noted.hashes);
            CHECK(noted.hashes != NULL);
        }
    }
    noted.hashes[noted.count++] = hash;
    uint64_t moment =
        (life->runs << 20) + (prefix <= life->opened ? 0 : 1 + life_marks_in(life, prefix));
    uint64_t key = hash_mix64(hash ^ hash_mix64(moment + 1));
    uint64_t *slot = &noted.seen[key % SEEN_SLOTS];
    if (*slot == key)
        return false;
    *slot = key;
    life->images++;
    return true;
}

/* ---- building them ---- */

static bool check_image(struct life *life, const struct dev_record_split *split, size_t prefix,
                        const struct dev_record_fate *fates)
{
    dev_sim_store_restore(life->fixture.store);
    dev_record_apply(&life->log, split, fates, life->fixture.store);
    return !life_note_image(life, prefix) || life_check(life, prefix);
}

static size_t write_len(const struct life *life, const struct dev_record_split *split, size_t i)
{
    return life->log.writes[split->in_doubt[i]].len;
}

/* Every write in doubt wholly there or wholly not, in all combinations. */
static bool check_subsets(struct life *life, const struct dev_record_split *split, size_t prefix)
{
    struct dev_record_fate fates[EXHAUSTIVE_MAX];
    size_t n = split->in_doubt_count;

    for (unsigned subset = 0; subset < 1u << n; subset++) {
        for (size_t i = 0; i < n; i++)
            fates[i] = (struct dev_record_fate){0, subset >> i & 1 ? write_len(life, split, i) : 0};
        if (!check_image(life, split, prefix, fates))
            return false;
    }
    return true;
}

static struct dev_record_fate torn_fate(struct life *life, size_t len, size_t unit, bool tail)
{
    size_t at = unit * (1 + prng_below(&life->fixture.prng, len / unit));

    at = MIN(at, len - tear_bytes[0]);
    return tail ? (struct dev_record_fate){at, len} : (struct dev_record_fate){0, at};
}

/* One write torn, head or tail there; the others mostly there. */
static bool check_tears(struct life *life, const struct dev_record_split *split, size_t prefix)
{
    struct dev_record_fate fates[IN_DOUBT_MAX];
    struct prng *prng = &life->fixture.prng;
    size_t n = split->in_doubt_count;

    for (size_t torn = 0; torn < n; torn++)
        for (unsigned way = 0; way < 2 * ARRAY_LEN(tear_bytes); way++) {
            size_t unit = tear_bytes[way / 2];
            if (write_len(life, split, torn) <= unit)
                continue;
            for (size_t i = 0; i < n; i++)
                fates[i] = (struct dev_record_fate){
                    0, prng_chance(prng, 3, 4) ? write_len(life, split, i) : 0};
            fates[torn] = torn_fate(life, write_len(life, split, torn), unit, way % 2);
            if (!check_image(life, split, prefix, fates))
                return false;
        }
    return true;
}

static struct dev_record_fate random_fate(struct life *life, size_t len)
{
    struct prng *prng = &life->fixture.prng;
    size_t unit = prng_chance(prng, 1, 2) ? 512 : DEV_BLOCK_BYTES;
    size_t at = unit * prng_below(prng, len / unit + 1);

    switch (prng_below(prng, 4)) {
    case 0:
        return (struct dev_record_fate){0, 0};
    case 1:
        return (struct dev_record_fate){0, at};
    case 2:
        return (struct dev_record_fate){at, len};
    default:
        return (struct dev_record_fate){0, len};
    }
}

static void random_fates(struct life *life, const struct dev_record_split *split,
                         struct dev_record_fate *fates)
{
    CHECK(split->in_doubt_count <= IN_DOUBT_MAX);
    for (size_t i = 0; i < split->in_doubt_count; i++)
        fates[i] = random_fate(life, write_len(life, split, i));
}

/* ---- all of them ---- */

/* A crash between two entries differs from one before them only if the second changes what is
 * known. */
static bool distinguishable(const struct dev_record_log *log, size_t prefix)
{
    return prefix == log->entry_count || log->entries[prefix].kind == DEV_RECORD_WRITE_COMPLETED ||
           log->entries[prefix].kind == DEV_RECORD_FLUSH_COMPLETED ||
           (prefix > 0 && log->entries[prefix - 1].kind != DEV_RECORD_MARK &&
            log->entries[prefix].kind == DEV_RECORD_MARK);
}

/* The engine is closed after the last mark; what it writes then is not part of the life. */
static size_t end_of_life(const struct life *life)
{
    size_t end = life->log.entry_count;

    while (end > 0 && life->log.entries[end - 1].kind != DEV_RECORD_MARK)
        end--;
    return end;
}

static bool check_prefix(struct life *life, size_t prefix, struct dev_record_split *split)
{
    struct dev_record_fate fates[IN_DOUBT_MAX];
    bool right = true;

    dev_record_split(&life->log, prefix, life->fixture.volatile_cache, split);
    if (split->in_doubt_count <= EXHAUSTIVE_MAX)
        right = check_subsets(life, split, prefix);
    else
        for (unsigned i = 0; right && i < SAMPLES; i++) {
            random_fates(life, split, fates);
            right = check_image(life, split, prefix, fates);
        }
    return right && check_tears(life, split, prefix);
}

bool life_check_images(struct life *life)
{
    struct dev_record_split split = {0};
    size_t end = end_of_life(life);
    bool right = true;

    for (size_t prefix = 0; right && prefix <= end; prefix++)
        if (distinguishable(&life->log, prefix))
            right = check_prefix(life, prefix, &split);
    dev_record_split_free(&split);
    return right;
}

void life_crash(struct life *life)
{
    struct dev_record_split split = {0};
    struct dev_record_fate fates[IN_DOUBT_MAX];
    struct prng *prng = &life->fixture.prng;
    size_t end = end_of_life(life);
    /* Mostly somewhere in the middle, often enough at the very end or while opening. */
    size_t prefix = prng_chance(prng, 1, 4)   ? end
                    : prng_chance(prng, 1, 6) ? prng_below(prng, life->opened + 1)
                                              : prng_below(prng, end + 1);

    dev_record_split(&life->log, prefix, life->fixture.volatile_cache, &split);
    random_fates(life, &split, fates);
    dev_sim_store_restore(life->fixture.store);
    dev_record_apply(&life->log, &split, fates, life->fixture.store);
    dev_record_split_free(&split);
    if (prefix <= life->opened)
        return;
    life->past = life->now;
    life->past.marks = life_marks_in(life, prefix);
}
