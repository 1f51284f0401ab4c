/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes wrong with drives, and the atlas of it.
 *
 * The pools survive the loss of two members of a set, or of one where a run has a pool that is frail;
 * a node has at most one member of each set. So at any moment no more nodes than that may be other than
 * whole: dead, catching up, or with a drive that hangs, and so is soon taken for dead, or is
 * *suspect*. A drive becomes suspect when something
 * begins to damage what lies on it, and stays so, through restarts, until the damaging has ended, its
 * scrubber has since been over all of it once, and nothing on it is known to be damaged any more.
 *
 * Where deaths are known by silence a troubled network can make nodes miss writes as if they had been dead.
 * There the network and the drives do not go wrong at one time, nor are drives replaced.
 *
 * Silent damage strikes extents alone: a drive by itself cannot tell a lost end of its journal from one
 * that never was (docs/PROMISES.md), so that is left to tests/crash. Errors that the drive reports strike
 * everywhere.
 */
#include <stdio.h>

#include "base/check.h"
#include "base/macros.h"
#include "engine/layout.h"
#include "shoal/error.h"
#include "sim.h"

#define ENTRIES 64u

static uint64_t extents_begin(void)
{
    struct layout layout;

    CHECK(layout_compute(SIM_DEVICE_BYTES, &layout) == 0);
    return layout.extent_start * LAYOUT_BLOCK;
}

bool atlas_suspects(const struct sim_node *node)
{
    for (unsigned i = 0; i < node->sim->drives; i++)
        if (node->drives[i].suspect || node->drives[i].faults.stuck_ppm > 0)
            return true;
    return false;
}

bool atlas_spares(struct sim *sim, const struct sim_node *node)
{
    /* Without an authority nobody can say how clean the targets are. */
    if (sim->authority.state != SIM_RUNNING)
        return false;
    unsigned impaired = 1 + moves_missing(authority_map(sim->authority.authority));
    for (unsigned i = 0; i < SIM_NODES; i++)
        impaired += &sim->nodes[i] != node && sim->nodes[i].joined && !node_is_out(&sim->nodes[i]) &&
                    (!node_is_clean(&sim->nodes[i]) || atlas_suspects(&sim->nodes[i]));
    return impaired <= (sim->frail ? 1u : 2u);
}

static bool is_damaging(const struct dev_sim_faults *faults)
{
    return faults->rot_rest_ppm > 0 || faults->torn_ppm > 0 || faults->misdirected_ppm > 0 ||
           faults->lost_ppm > 0 || faults->write_error_ppm > 0 || faults->flush_error_ppm > 0 ||
           faults->read_error_ppm > 0 || faults->rot_read_ppm > 0;
}

static bool is_redundant(const struct cluster_map *map, const struct engine_entry *entry)
{
    const struct map_pool *pool = cluster_map_pool(map, entry->id.pool & ~BLOB_POOL_UPLOADS);

    return pool != NULL && pool->m > 0;
}

/* Of what can be repaired: a pool of one copy cannot. */
static bool knows_of_damage(const struct cluster_map *map, struct engine *engine)
{
    struct engine_entry entries[ENTRIES];

    for (uint32_t partition = 0; partition < 1u << SIM_PARTITION_BITS; partition++) {
        uint64_t cursor = 0;
        do {
            unsigned count = engine_list(engine, partition, &cursor, entries, ENTRIES);
            for (unsigned i = 0; i < count; i++)
                if (entries[i].hollow && is_redundant(map, &entries[i]))
                    return true;
        } while (cursor != 0);
    }
    return false;
}

static uint64_t scrubs_of(const struct sim_drive *drive)
{
    struct engine_scrub_progress progress;

    engine_scrub_progress(drive->engine, &progress);
    return progress.passes;
}

void atlas_look(struct sim *sim)
{
    if (sim->authority.state != SIM_RUNNING)
        return;
    const struct cluster_map *map = authority_map(sim->authority.authority);
    for (unsigned i = 0; i < SIM_NODES; i++) {
        struct sim_node *node = &sim->nodes[i];
        node->forgot &= !node_is_clean(node);
        for (unsigned at = 0; at < sim->drives && node->state == SIM_RUNNING; at++) {
            struct sim_drive *drive = &node->drives[at];
            if (!drive->suspect || is_damaging(&drive->faults) ||
                scrubs_of(drive) < drive->scrubs + 2 || knows_of_damage(map, drive->engine))
                continue;
            drive->suspect = false;
            sim_event(sim, "node%u drive %u is whole again", i, at);
        }
    }
}

bool atlas_is_clear(const struct sim *sim)
{
    for (unsigned i = 0; i < SIM_NODES; i++)
        if (sim->nodes[i].joined && atlas_suspects(&sim->nodes[i]))
            return false;
    return true;
}

bool atlas_lacks_memory(const struct sim *sim)
{
    for (unsigned i = 0; i < SIM_NODES; i++)
        if (sim->nodes[i].joined && (sim->nodes[i].forgot || sim->nodes[i].replacement != SIM_NONE))
            return true;
    return false;
}

/* ---- the faults ---- */

static struct sim_drive *any_drive(struct sim *sim, struct prng *prng, unsigned *node)
{
    if (net_may_kill(sim))
        return NULL;
    *node = faults_any_node(sim, prng)->index;
    unsigned at = (unsigned)prng_below(prng, sim->drives);

    return sim->nodes[*node].state == SIM_RUNNING ? &sim->nodes[*node].drives[at] : NULL;
}

/* A drive that may be damaged without harm to what the others hold; NULL: this one may not. */
static struct sim_drive *expendable(struct sim *sim, struct prng *prng, unsigned *node)
{
    struct sim_drive *drive = any_drive(sim, prng, node);

    /* What the small drive could not hold it could not learn again either. */
    if (drive == NULL || (sim->tight && *node == SIM_TIGHT_NODE) ||
        !atlas_spares(sim, &sim->nodes[*node]))
        return NULL;
    drive->suspect = true;
    drive->faults.damage_from_bytes = extents_begin();
    return drive;
}

static bool begin(struct sim *sim, struct sim_drive *drive, unsigned node, const char *what)
{
    dev_sim_set_faults(drive->dev, &drive->faults);
    sim_event(sim, "node%u: a drive %s", node, what);
    return true;
}

bool drive_decays(struct sim *sim, struct prng *prng)
{
    unsigned node;
    struct sim_drive *drive = expendable(sim, prng, &node);

    if (drive == NULL)
        return false;
    drive->faults.rot_rest_ppm = (uint32_t)prng_below(prng, 200000);
    drive->faults.rot_read_ppm = (uint32_t)prng_below(prng, 50000);
    return begin(sim, drive, node, "decays");
}

bool drive_misplaces(struct sim *sim, struct prng *prng)
{
    unsigned node;
    struct sim_drive *drive = expendable(sim, prng, &node);

    if (drive == NULL)
        return false;
    switch (prng_below(prng, 3)) {
    case 0: drive->faults.torn_ppm = 100000; break;
    case 1: drive->faults.misdirected_ppm = 100000; break;
    default: drive->faults.lost_ppm = 100000; break;
    }
    return begin(sim, drive, node, "loses, tears or misplaces what is written");
}

bool drive_fails(struct sim *sim, struct prng *prng)
{
    unsigned node;
    struct sim_drive *drive = expendable(sim, prng, &node);

    if (drive == NULL)
        return false;
    switch (prng_below(prng, 3)) {
    case 0: drive->faults.read_error_ppm = 50000; break;
    case 1: drive->faults.write_error_ppm = 20000; break;
    default: drive->faults.flush_error_ppm = 10000; break;
    }
    return begin(sim, drive, node, "fails now and then");
}

bool drive_slows(struct sim *sim, struct prng *prng)
{
    unsigned node;
    struct sim_drive *drive = any_drive(sim, prng, &node);

    if (drive == NULL)
        return false;
    dev_sim_set_latency(drive->dev, SIM_DRIVE_FAST_NS, prng_between(prng, MS, 300 * MS));
    return begin(sim, drive, node, "becomes slow");
}

bool drive_hangs(struct sim *sim, struct prng *prng)
{
    unsigned node;
    struct sim_drive *drive = any_drive(sim, prng, &node);

    if (drive == NULL || !atlas_spares(sim, &sim->nodes[node]))
        return false;
    drive->faults.stuck_ppm = (uint32_t)prng_between(prng, 1000, 50000);
    return begin(sim, drive, node, "lets operations hang");
}

void drives_heal(struct sim *sim)
{
    for (unsigned i = 0; i < SIM_NODES; i++) {
        struct sim_node *node = &sim->nodes[i];
        for (unsigned at = 0; at < sim->drives && node->state == SIM_RUNNING; at++) {
            struct sim_drive *drive = &node->drives[at];
            if (is_damaging(&drive->faults))
                drive->scrubs = scrubs_of(drive);
            drive->faults = (struct dev_sim_faults){0};
            dev_sim_set_faults(drive->dev, &drive->faults);
            dev_sim_set_latency(drive->dev, SIM_DRIVE_FAST_NS, SIM_DRIVE_SLOW_NS);
            dev_sim_unstick(drive->dev);
        }
    }
    sim_event(sim, "the drives heal");
}
