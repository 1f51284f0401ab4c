/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients write or read while nodes of a cluster are killed, one after the other:
 *
 *   writes  from SIGKILL until all writes succeed again: the end of the last put of 4 KiB that failed or
 *           took more than 250 ms. The worst of five kills
 *   reads   gets of 256 KiB in the seconds after SIGKILL, p99.9 over all five kills; of blobs that were
 *           committed on all members before. One that fails counts as if none had come back in 30 s
 *
 * Four threads put, or two get, each one after the other and with a handle of its own; where there are
 * several pools they take turns.
 */
#ifndef BENCH_FAILOVER_H
#define BENCH_FAILOVER_H

#define FAILOVER_KILLS 5u
#define FAILOVER_POOLS_MAX 2u

struct shoal;

/*
 * struct failover_cluster - What is hurt. Nodes are counted from 1.
 * @watch_s: for so long after a kill clients go on
 * @rest_s: for so long after a node has come back nothing is measured
 * @start: not waited for
 */
struct failover_cluster {
    const char *pools[FAILOVER_POOLS_MAX];
    unsigned pools_count, watch_s, rest_s;
    struct shoal *(*open)(void *context);
    void (*kill)(void *context, unsigned node);
    void (*start)(void *context, unsigned node);
    void *context;
};

/* Whom to kill; @turn: from 0. */
typedef unsigned failover_victim(void *context, unsigned turn);

/* Prints the figure @name, to be no more than @goal_s. */
void failover_writes(const struct failover_cluster *cluster, const char *name,
                     failover_victim *victim, double goal_s);

/* Blobs for these; returns when they are committed everywhere. */
void failover_fill(const struct failover_cluster *cluster);
/*
 * Prints the figure @name, and with -quiet behind it that of gets before each kill; with -longest the slowest get
 * of all after one, for who waits does not ask, so that a single long wait is too few gets for p99.9.
 */
void failover_reads(const struct failover_cluster *cluster, const char *name,
                    failover_victim *victim);

#endif
