/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One storage node in a process of its own, its device in memory: what gets are measured on, so that
 * the figure is about the path and not about a disk.
 */
#ifndef BENCH_MEMORY_NODE_H
#define BENCH_MEMORY_NODE_H

#include <stdbool.h>
#include <sys/types.h>

/*
 * memory_node_start() - A cluster of one node with a pool "one" of one copy. It dies with its parent.
 * @directory: empty; certificates and client.yaml are made there
 */
pid_t memory_node_start(const char *directory, bool plain);

#endif
