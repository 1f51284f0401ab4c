/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What balancing (balance.c) works with: the rows of one width, what each target holds and should
 * hold, and who may take which position.
 */
#ifndef SHOAL_PLACE_BALANCER_H
#define SHOAL_PLACE_BALANCER_H

#include <stdbool.h>
#include <stdint.h>

#include "place/place.h"
#include "place/tree.h"

/*
 * struct load - Of one target, in shards.
 * @share: what it should hold, rounded down
 * @full: more than this is passed on while that moves little
 * @beyond: more than this is passed on whatever it moves
 * @hungry: began with so little that it is fed
 */
struct load {
    uint32_t now;
    uint32_t share;
    uint32_t full, beyond;
    bool hungry;
};

/* Who may receive: the hungry up to their share, all up to their share, all until they are full. */
enum appetite { HUNGRY, BELOW_SHARE, BELOW_FULL };

/* A list of targets to receive shards; those that want no more drop out of it. */
struct receivers {
    uint32_t *items;
    uint32_t count;
    enum appetite appetite;
};

/*
 * struct balancer - Targets and nodes are meant by their index in the tree.
 * @some_least: the spread rules give some nodes, domains or zones a shard of each set at least
 * @item_of: by index in the caller's list; UINT32_MAX: not placeable
 * @rows: what is being balanced; @hashed: what hashing gives
 * @moved: positions that were given to somebody so far
 */
struct balancer {
    struct tree tree;
    unsigned bits;
    bool some_least;
    uint32_t *item_of;
    struct load *loads;
    uint32_t *node_loads;
    struct receivers receivers;
    struct place_row *rows;
    const struct place_row *hashed;
    uint64_t moved;
};

/* A set in terms of the tree; UINT32_MAX where nobody is. */
struct members {
    uint32_t target[PLACE_WIDTH_MAX], node[PLACE_WIDTH_MAX], domain[PLACE_WIDTH_MAX],
        zone[PLACE_WIDTH_MAX];
};

/* Return: 0, or as tree_create(); to be finished either way. Loads are none yet. */
int balancer_init(struct balancer *b, const struct place_target *targets, size_t count,
                  unsigned width, unsigned bits);
void balancer_fini(struct balancer *b);

static inline bool wants(const struct load *load, enum appetite appetite)
{
    if (appetite == BELOW_FULL)
        return load->now < load->full;
    return load->now < load->share && (load->hungry || appetite == BELOW_SHARE);
}

/* Is @a loaded more for its share than @b? */
static inline bool is_fuller(const struct load *a, const struct load *b)
{
    return (uint64_t)a->now * b->share > (uint64_t)b->now * a->share;
}

static inline uint32_t item_at(const struct balancer *b, const struct place_row *row, unsigned i)
{
    return row->target[i] == PLACE_NONE ? UINT32_MAX : b->item_of[row->target[i]];
}

static inline unsigned count_of(const uint32_t *of, unsigned width, uint32_t which)
{
    unsigned count = 0;

    for (unsigned i = 0; i < width; i++)
        count += of[i] == which;
    return count;
}

/* Has it no more of the set than the spread rules give it at least? */
static inline bool has_only_least(const struct tree_level *level, const uint32_t *of, unsigned width,
                                  uint32_t which)
{
    return count_of(of, width, which) <= level->items[which].least;
}

/* The order in which partitions are gone through: neighbours far apart. */
static inline uint32_t scatter(const struct balancer *b, uint32_t n)
{
    return n * UINT32_C(2654435761) & ((1u << b->bits) - 1);
}

void members_of(const struct balancer *b, const struct place_row *row, struct members *m);

/* A set as it was found enters the loads; those that are not placeable leave it. */
void balancer_enter(struct balancer *b, struct place_row *row);

/* May @item take position @i, which would break no rule of spread that the set keeps now? */
bool may_take(const struct balancer *b, const struct members *m, unsigned i, uint32_t item);

/* It does; UINT32_MAX: nobody does. */
void put(struct balancer *b, struct place_row *row, struct members *m, unsigned i, uint32_t item);

void list_receivers(struct balancer *b, enum appetite appetite);

/*
 * find_receiver() - One of the list that may take position @i, or UINT32_MAX: of a long list some,
 * of a short one the one that needs it most.
 */
uint32_t find_receiver(struct balancer *b, const struct members *m, unsigned i, uint64_t seed);

#endif
