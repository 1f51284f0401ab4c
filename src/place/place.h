/* SPDX-License-Identifier: Apache-2.0 */
/*
 * place: from the cluster's targets to the table that says where every object lives.
 *
 * An object is hashed to a partition (base/blob.h); each partition has a *target set*, an ordered
 * list of distinct targets, one for each position 0 .. width-1 of a pool's redundancy. The sets of
 * all partitions are worked out once an epoch into a flat table; after that a lookup is a hash and
 * one load. Everything here is a pure function in integers: the same input gives the same table on
 * every machine.
 *
 *     place_table_build(&table, memory, bytes, targets, count, bits, 1u << 6);
 *     place_table_fix(&table, targets, count, fixes, fixes_count);
 *     const uint16_t *set = place_targets(&table, 6, blob_partition(&id, table.bits));
 *
 * What the sets promise, first things first:
 * - no target twice;
 * - one shard a node while there are nodes enough, else as evenly as can be;
 * - one shard a failure domain while there are domains enough, else as evenly as can be;
 * - likewise over zones of several domains, as far as the rules above leave a choice;
 * - shares in proportion to weight, as far as the rules above leave a choice;
 * - a target that joins or leaves moves little else. A position is what holds a shard, so what
 *   counts as moved is a position that changes its target.
 *
 * A table has two parts. *Hashing* (draw.c) gives each set by itself, from the targets alone, in
 * whatever order they are listed. It is uneven by chance, and by more where nodes are few for the
 * width or differ in weight. *Fixes* even that out: whoever changes the map balances the table
 * (balance.c), beginning with the former one so that little moves, and puts into the map where the
 * result differs from hashing. So the history that least movement needs is in the map, and the same
 * map gives the same table everywhere. docs/decisions/placement.md says why.
 *
 * The table belongs to a width: a set of 6 is not the beginning of a set of 10. A cluster builds
 * one block of rows for each width that its pools use.
 */
#ifndef SHOAL_PLACE_PLACE_H
#define SHOAL_PLACE_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PLACE_WIDTH_MAX = 12,
    PLACE_BITS_DEFAULT = 16,
    PLACE_BITS_MAX = 22,
    PLACE_TARGETS_MAX = UINT16_MAX, /* a row holds 16-bit indexes; more targets are refused */
    PLACE_NONE = UINT16_MAX,        /* a position that no target was left for */
};

/*
 * One target of the map.
 * @id: unique; decides, with @node and @domain, what the hash gives. Best small and dense, and
 *      reused when a drive is replaced: what takes over an id takes over its places.
 * @weight: its share of the data, in any unit that all targets have in common, such as GiB.
 * @node: the machine. Best small and dense, as @id.
 * @domain: what fails together, such as a rack; 0 if the node is a domain of its own. All nodes in
 *          one domain is as good as no domains.
 * @zone: what several domains share, such as a row of racks; 0 if the domain is a zone of its own. All
 *        in one zone is as good as no zones.
 * @placeable: false for one that is out. It may stay in the list, so that indexes stay.
 */
struct place_target {
    uint32_t id;
    uint32_t weight;
    uint32_t node;
    uint32_t domain;
    uint32_t zone;
    bool placeable;
};

/* 32 bytes, so that a row lies in one cache line and 65,536 of them in one huge page. */
struct place_row {
    uint16_t target[PLACE_WIDTH_MAX]; /* indexes into the list of targets; PLACE_NONE beyond width */
    uint8_t spare[8];
};

/* Read-only once built: any number of threads. The memory stays the caller's. */
struct place_table {
    unsigned bits;
    uint32_t widths;                             /* bit w: rows[w] is there */
    struct place_row *rows[PLACE_WIDTH_MAX + 1]; /* 1 << bits each */
};

/*
 * place_table_bytes() - Memory that a table needs.
 * @bits: partitions are 1 << bits.
 * @widths: bitmap: bit w set for each pool width k+m in use, 1 to 12.
 */
size_t place_table_bytes(unsigned bits, uint32_t widths);

/*
 * place_table_init() - A table of rows that are yet to be written, in memory as of
 * place_table_build(). Return: 0 or SHOAL_E_INVALID.
 */
int place_table_init(struct place_table *table, void *memory, size_t memory_bytes, unsigned bits,
                     uint32_t widths);

/*
 * place_table_build() - Work out the sets of all partitions, as hashing gives them.
 * @memory: place_table_bytes() of it, aligned to 64 bytes. From which tier it comes (huge pages, a
 *          CXL node) is the caller's choice; it is written once, here.
 * @targets: in any order; the table speaks of them by index.
 * @bits: chosen when the cluster is made and never changed, for another number moves everything.
 *        Few partitions a target, a dozen, make many fixes: each twelfth position or so has one.
 *
 * With fewer targets than a width some positions are PLACE_NONE, not always the last: the others
 * keep theirs.
 *
 * Return: 0; SHOAL_E_INVALID for bits or widths out of range, an id listed twice, a node in two
 * domains, or a domain in two zones; SHOAL_E_TOO_LARGE for more than PLACE_TARGETS_MAX targets; SHOAL_E_NO_MEMORY when there
 * is no room to work in.
 */
int place_table_build(struct place_table *table, void *memory, size_t memory_bytes,
                      const struct place_target *targets, size_t count, unsigned bits,
                      uint32_t widths);

/*
 * place_table_update() - Make of the sets that hashing gives for one list of targets those for
 * another: what place_table_build() would give, faster where little differs.
 * @before: what @table was built for, without fixes.
 *
 * Return: as place_table_build(); after an error the table is of no use.
 */
int place_table_update(struct place_table *table, const struct place_target *before,
                       size_t before_count, const struct place_target *targets, size_t count);

/*
 * place_table_balance() - From what hashing gives and from the former table to an even one: no
 * target more than 9 % above its share, where the spread rules and whole numbers allow it, and
 * moved hardly more than that takes.
 * @table: place_table_init() of the shape of @hashed; the result.
 * @hashed: as place_table_build() leaves it for @targets.
 * @before: the table that is in use, of the same number of partitions, whose indexes mean the same
 *          targets in @targets; NULL, or without the rows of a width, where there is none.
 *
 * Return: as place_table_build().
 */
int place_table_balance(struct place_table *table, const struct place_table *hashed,
                        const struct place_table *before, const struct place_target *targets,
                        size_t count);

/*
 * struct place_fix - A position whose target is another than hashing gives.
 * @cell: width, partition and position; lists of fixes are in its order
 */
struct place_fix {
    uint32_t cell;
    uint16_t target;
};

/* place_fixes() - List where tables differ, as far as there is room. Return: how many there are. */
size_t place_fixes(const struct place_table *hashed, const struct place_table *table,
                   struct place_fix *fixes, size_t room);

/*
 * place_table_fix() - Apply fixes, which may come from anybody, to what hashing gives.
 *
 * Return: 0, or SHOAL_E_INVALID for fixes that are out of order, of no such position or target, or
 * that put a target into a set twice; the table is then of no use.
 */
int place_table_fix(struct place_table *table, const struct place_target *targets, size_t count,
                    const struct place_fix *fixes, size_t fixes_count);

/*
 * place_targets() - The target set of a partition: @width indexes into the list of targets.
 * @width: one of the table's.
 */
static inline const uint16_t *place_targets(const struct place_table *table, unsigned width,
                                            uint32_t partition)
{
    return table->rows[width][partition].target;
}

/* What a redundancy comes to on these targets. */
struct place_verdict {
    unsigned targets;          /* placeable ones */
    unsigned nodes;            /* that have one */
    unsigned domains;          /* likewise */
    unsigned zones;            /* likewise */
    unsigned most_on_a_node;   /* shards of one set that a single node may hold */
    unsigned most_in_a_domain; /* likewise */
    unsigned most_in_a_zone;   /* likewise */
    bool survives_a_node;      /* a node may fail and every set keeps k: most_on_a_node <= m */
    bool survives_a_domain;
    bool survives_a_zone;
};

/*
 * place_check() - Whether a pool of k+m can be placed, and what it would survive.
 *
 * Return: 0, with the verdict filled in (to be flagged wherever the pool is shown, if it does not
 * survive a node); SHOAL_E_UNAVAILABLE when there are fewer than k+m distinct targets, verdict
 * likewise filled in; or what place_table_build() refuses.
 */
int place_check(struct place_verdict *verdict, const struct place_target *targets, size_t count,
                unsigned k, unsigned m);

#endif
