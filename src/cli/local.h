/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cluster on this machine, as `shoal up` lays it out in a directory:
 *
 *   client.yaml             how clients find it; written last, so its presence means "complete"
 *   certs/                  CA, authority, admin and client certificates
 *   authority/{map,pid,log} the supervisor's
 *   node-N/{node.yaml,node.crt,node.key,disk-M,map,pid,log}
 */
#ifndef CLI_LOCAL_H
#define CLI_LOCAL_H

#include "cli/cli.h"
#include "shoald/shoald.h"

#define LOCAL_NODES_MAX 64u
#define LOCAL_TARGETS_MAX 32u

struct local_node {
    char name[CLUSTER_NAME_MAX];
    char directory[CLI_PATH_MAX];
    char config_path[CLI_PATH_MAX + 16];
    char pid_file[CLI_PATH_MAX + 16];
    char log[CLI_PATH_MAX + 16];
    struct shoald_config config;
};

struct local {
    char directory[CLI_PATH_MAX - 64];
    unsigned nodes_count;
    struct local_node *nodes;
    struct client_file client;
};

struct local_plan {
    unsigned nodes, targets_per_node;
    uint64_t size_bytes;
    const char *data_plane;
    bool quiet;
};

/* The directory to use: @wanted, or that of `shoal up` without --dir. Absolute. false: said why. */
bool local_directory(const char *wanted, char *out, size_t size);
/* The directory of the cluster that @config (as for --config) belongs to. */
bool local_directory_of(const char *config, char *out, size_t size);

bool local_exists(const char *directory);
/* Lay out a new cluster. Return: false, and said why. */
bool local_create(const char *directory, const struct local_plan *plan);

struct local *local_load(const char *directory); /* NULL: said why */
void local_free(struct local *local);
/* One that was laid out since; false: said why. */
bool local_load_node(struct local *local, const char *name);
struct local_node *local_node_named(struct local *local, const char *name);

/* "DIRECTORY/NAME" for files of the whole cluster. Returns @out. */
const char *local_path(const struct local *local, const char *name, char *out, size_t size);

/* Parts of laying out, for `shoal cluster init`; false: said why. */
bool local_make_certificates(const char *directory, const char *cluster);
bool local_issue(const char *cluster_directory, enum net_role role, const char *name,
                 const char *directory, const char *stem);
bool local_save_map(const char *directory, const struct cluster_map *map);
/* How many partitions, as a power of two, a cluster of so many targets should have. */
unsigned local_partition_bits(unsigned targets);

/* Make @path an empty device of the cluster. Return: 0 or SHOAL_E_*, and said why. */
int local_format(const char *path, uint64_t size_bytes, const uint8_t cluster[16], uint32_t target,
                 unsigned partition_bits, bool force);

#endif
