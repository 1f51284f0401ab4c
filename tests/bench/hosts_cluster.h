/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cluster whose nodes joined it, each with addresses of its own, and whose authority is elected over a
 * real etcd of three members: all of it started, and taken away again, by elected.py. Here nobody
 * sees a process end. What goes wrong ends the program.
 */
#ifndef BENCH_HOSTS_CLUSTER_H
#define BENCH_HOSTS_CLUSTER_H

#include <stdio.h>
#include <sys/types.h>

struct shoal;

struct hosts_cluster {
    pid_t process;
    FILE *to, *from;
    char directory[256]; /* of client.yaml */
};

/* Returns when all six nodes serve, with pools `durable` (4+2) and `copied` (three). */
void hosts_cluster_start(struct hosts_cluster *cluster);
void hosts_cluster_end(struct hosts_cluster *cluster);

struct shoal *hosts_cluster_open(const struct hosts_cluster *cluster);
/* Nodes are counted from 1. */
unsigned hosts_cluster_leader(struct hosts_cluster *cluster);
void hosts_cluster_kill(struct hosts_cluster *cluster, unsigned node);
/* A process that was killed before; not waited for. */
void hosts_cluster_restart(struct hosts_cluster *cluster, unsigned node);

#endif
