/* SPDX-License-Identifier: Apache-2.0 */
#include "chain.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "engine/checkpoint_format.h"
#include "engine/layout.h"
#include "engine/record.h"
#include "engine/superblock.h"

static enum step_kind random_kind(struct prng *prng, unsigned lanes)
{
    static const enum step_kind often[] = {STEP_PUT_SMALL, STEP_PUT_LARGE, STEP_PUT_LARGE,
                                           STEP_COMMIT,    STEP_COMMIT,    STEP_COMMIT};

    if (prng_chance(prng, 2, 3))
        return often[prng_below(prng, sizeof often / sizeof *often)];
    for (;;) {
        enum step_kind kind = (enum step_kind)prng_below(prng, STEP_KINDS);
        if (kind != STEP_DROP_PARTITION || lanes == 1)
            return kind;
    }
}

/* Each object is in one lane, so that what happens to it has an order. */
static unsigned random_steps(struct prng *prng, struct step *steps)
{
    unsigned count = 1 + (unsigned)prng_below(prng, LIFE_STEPS_MAX / 2);
    unsigned lanes = 1 + (unsigned)prng_below(prng, LIFE_LANES);

    for (unsigned i = 0; i < count; i++) {
        unsigned object = (unsigned)prng_below(prng, LIFE_OBJECTS);
        steps[i] = (struct step){random_kind(prng, lanes), object, object % lanes};
    }
    return count;
}

struct span {
    uint64_t from, to; /* bytes on the drive */
};

static void read_superblock(struct life *life, struct superblock *sb)
{
    static const uint64_t at[] = {0, CHAIN_DEVICE_BYTES - LAYOUT_BLOCK};
    uint8_t block[LAYOUT_BLOCK];
    uint32_t version;

    for (unsigned i = 0; i < 2; i++) {
        dev_sim_store_read(life->fixture.store, at[i], block, sizeof block);
        if (superblock_decode(block, sb, &version) == 0)
            return;
    }
    CHECK(false);
}

/* Is the checkpoint at @at whole? */
static bool whole_checkpoint(struct life *life, uint64_t at, struct checkpoint_head *head)
{
    static uint8_t data[CHECKPOINT_CHUNK_BYTES];
    struct superblock sb;

    read_superblock(life, &sb);
    dev_sim_store_read(life->fixture.store, at, data, LAYOUT_BLOCK);
    if (checkpoint_head_decode(data, sb.device, head) != 0)
        return false;
    at += LAYOUT_BLOCK;
    for (uint32_t i = 0; i < head->chunks; i++) {
        struct checkpoint_chunk chunk;
        dev_sim_store_read(life->fixture.store, at, data, sizeof data);
        if (checkpoint_chunk_decode(data, &chunk) != 0 ||
            checkpoint_chunk_check(data, &chunk) != 0 || chunk.id != head->id)
            return false;
        at += (uint64_t)chunk.blocks * LAYOUT_BLOCK;
    }
    return true;
}

/* Where two checkpoints are whole the newer one may be damaged, and nothing must be lost. */
static void damage_checkpoint(struct life *life)
{
    struct checkpoint_head heads[2];
    struct layout layout;

    CHECK(layout_compute(CHAIN_DEVICE_BYTES, &layout) == 0);
    for (unsigned i = 0; i < 2; i++)
        if (!whole_checkpoint(life, layout.checkpoint_start[i] * LAYOUT_BLOCK, &heads[i]))
            return;
    unsigned newer = heads[1].id > heads[0].id;
    dev_sim_store_flip_bit(life->fixture.store,
                           layout.checkpoint_start[newer] * LAYOUT_BLOCK +
                               prng_below(&life->fixture.prng, 32),
                           (unsigned)prng_below(&life->fixture.prng, 8));
}

/*
 * The last group of the journal. Damage to it cannot be told from a write that a crash cut short,
 * and what it held is lost: the only place where one bit may cost an acknowledged change unnoticed.
 */
static struct span last_group(struct life *life)
{
    static uint8_t ring[1u << 20];
    struct span last = {0, 0};
    struct superblock sb;
    struct layout layout;
    uint64_t newest = 0;

    CHECK(layout_compute(CHAIN_DEVICE_BYTES, &layout) == 0);
    read_superblock(life, &sb);
    const uint64_t start = layout.journal_start * LAYOUT_BLOCK;
    const uint64_t bytes = layout.journal_blocks * LAYOUT_BLOCK;
    CHECK(bytes <= sizeof ring);
    dev_sim_store_read(life->fixture.store, start, ring, bytes);
    for (uint64_t at = 0; at < bytes; at += LAYOUT_BLOCK) {
        struct group_header group;
        if (group_decode(ring + at, sb.device, &group) != 0 ||
            at + (uint64_t)group.blocks * LAYOUT_BLOCK > bytes ||
            group_check(ring + at, &group) != 0 || group.position < newest)
            continue;
        newest = group.position;
        last = (struct span){start + at, start + at + (uint64_t)group.blocks * LAYOUT_BLOCK};
    }
    return last;
}

static void damage(struct life *life)
{
    struct prng *prng = &life->fixture.prng;
    /* The metadata lies in front: mostly there. */
    uint64_t reach = prng_chance(prng, 3, 4) ? 512u << 10 : CHAIN_DEVICE_BYTES;
    uint64_t at = prng_below(prng, reach);
    struct span spared = last_group(life);

    if (at >= spared.from && at < spared.to)
        return;
    dev_sim_store_flip_bit(life->fixture.store, at, (unsigned)prng_below(prng, 8));
    life->damaged = true;
}

/* Return: false at the first violation, which is in life->wrong. */
static bool run_one(struct life *life, const struct chain *chain)
{
    struct prng *prng = &life->fixture.prng;
    struct step steps[LIFE_STEPS_MAX];

    life_begin(life);
    for (unsigned i = 0; i < chain->lives && !life->damaged; i++) {
        unsigned count = random_steps(prng, steps);
        bool fails = chain->faults && prng_chance(prng, 1, 2);
        life->fail_nth = fails ? 1 + prng_below(prng, 60) : 0;
        if (!life_run(life, steps, count))
            return life->gone;
        if (chain->images > 0 && prng_chance(prng, 1, chain->images) && !life_check_images(life))
            return false;
        if (prng_chance(prng, 1, 8))
            life_end(life);
        else
            life_crash(life);
        if (chain->damage_checkpoint && prng_chance(prng, 1, 2))
            damage_checkpoint(life);
        if (chain->damage && prng_chance(prng, 1, 2))
            damage(life);
    }
    life->fail_nth = 0;
    return life_run(life, steps, 0) || life->gone;
}

unsigned chain_run(uint64_t seed, unsigned count, const struct chain *chain, char *wrong,
                   size_t wrong_size)
{
    struct life *life = calloc(1, sizeof *life);
    unsigned number;

    CHECK(life != NULL);
    for (number = 0; number < count; number++) {
        life_create(life, CHAIN_DEVICE_BYTES, chain->partition_bits > 0 ? chain->partition_bits : 2,
                    seed + number);
        life->break_rules = chain->break_rules;
        life->forgive_stale = chain->forgive_stale;
        life->fixture.volatile_cache = number % 4 != 3;
        bool right = run_one(life, chain);
        if (!right)
            snprintf(wrong, wrong_size, "seed %" PRIu64 ": %s", seed + number, life->wrong);
        life_destroy(life);
        if (!right)
            break;
    }
    free(life);
    return number;
}
