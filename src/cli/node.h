/* SPDX-License-Identifier: Apache-2.0 */
/* The verbs of `shoal node` that are more than a wish; each as a command of its own. */
#ifndef CLI_NODE_H
#define CLI_NODE_H

#include "cli/cli.h"

int node_add(int argc, char **argv);
int node_remove(int argc, char **argv);
int node_replace_device(int argc, char **argv);

/* Ask the authority, or the supervisor of a local cluster, for what needs but the node's name. */
bool node_wish(const char *config, const char *wish, const char *node);

/*
 * node_directory() - Where the cluster lives, if `shoal up` made it.
 * Return: false when its nodes are elsewhere, which is for the caller to say.
 */
bool node_directory(const char *config, char *out, size_t size);

/* [blocks] Only one command changes who the nodes of a directory are. -1: said why. */
int node_lock(const char *directory);

#endif
