/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cluster of real processes for the programs that measure one: made by the `shoal` that is found in
 * PATH, in a directory under /var/tmp, and removed with it. What goes wrong ends the program: without
 * its cluster there is nothing to measure.
 */
#ifndef BENCH_LOCAL_CLUSTER_H
#define BENCH_LOCAL_CLUSTER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/macros.h"

struct shoal;
struct cluster_map;

struct local_cluster {
    char directory[64]; /* of the cluster; its parent is ours alone */
};

/* `shoal up` with these options. */
void local_cluster_start(struct local_cluster *cluster, const char *options);
void local_cluster_end(struct local_cluster *cluster);

/* Runs a command of the shoal binary; what it prints is dropped unless it fails. */
void shoal_command(const char *format, ...) PRINTF_LIKE(1, 2);
/* The same, of this cluster; not waited for. */
pid_t local_cluster_begin(const struct local_cluster *cluster, const char *command);
void local_cluster_finish(pid_t command);

struct shoal *local_cluster_open(const struct local_cluster *cluster);
/* The client.yaml at @directory. */
struct shoal *open_client(const char *directory);

/* Nodes are counted from 1, as their names are. */
pid_t local_cluster_pid(const struct local_cluster *cluster, unsigned node);
/* SIGKILL; returns at once. */
void local_cluster_kill(const struct local_cluster *cluster, unsigned node);

/* What the newest map says of a node of one target. */
enum node_phase { NODE_GONE, NODE_LEARNS, NODE_SERVES };
enum node_phase local_cluster_phase(struct shoal *shoal, unsigned node);
/* Looks each ms until it is so, for a minute at most. Returns when that was, as bench_now_ns(). */
uint64_t local_cluster_await(struct shoal *shoal, unsigned node, enum node_phase phase);

#endif
