/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cluster on this machine, as `shoal up` lays it out in a directory:
 *
 *   client.yaml             how clients find it; written last, so its presence means "complete"
 *   certs/                  CA, authority, admin and client certificates
 *   authority/{map,pid,log} the supervisor's
 *   node-N/{node.yaml,node.crt,node.key,disk-M,map,pid,log}
 *   adding-node-N/          a node that is being laid out
 *   removed/node-N/         what is left of a node that was removed
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
    uint64_t racks; /* 0: none */
    bool quiet;
};

/*
 * struct local_node_plan - A node to be laid out.
 * @directory: where it will be, as node.yaml says
 * @ids: of its targets, all of @size_bytes
 */
struct progress;
struct local_node_plan {
    const char *cluster_directory, *directory;
    const struct map_node *node; /* its name and addresses */
    const uint8_t *cluster;
    const char *authority, *data_plane;
    unsigned partition_bits, targets;
    const uint32_t *ids;
    uint64_t size_bytes;
    struct progress *progress;
};

/* The directory to use: @wanted, or that of `shoal up` without --dir. Absolute. false: said why. */
bool local_directory(const char *wanted, char *out, size_t size);
/* The directory of the cluster that @config (as for --config) belongs to. */
bool local_directory_of(const char *config, char *out, size_t size);

bool local_exists(const char *directory);
/* Lay out a new cluster. Return: false, and said why. */
bool local_create(const char *directory, const struct local_plan *plan);

/* Delete all that is in the directory and ours. false: said what stays. */
bool local_clear(const char *directory);

/* What the authority saved last. Return: 0 or SHOAL_E_*, and said why. */
int local_load_map(const struct local *local, struct cluster_map **map);

struct local *local_load(const char *directory); /* NULL: said why */
void local_free(struct local *local);
/* One that was laid out since; false: said why. */
bool local_load_node(struct local *local, const char *name);
struct local_node *local_node_named(struct local *local, const char *name);

/* "DIRECTORY/NAME" for files of the whole cluster. Returns @out. */
const char *local_path(const struct local *local, const char *name, char *out, size_t size);

/* Of it, for another directory than it will be in. node.yaml is written last. false: said why. */
bool local_make_node(const struct local_node_plan *plan, const char *where);
/* A port that nobody listens on now. */
bool local_free_address(char *out, size_t size);
bool local_has_space(const char *directory, unsigned nodes, unsigned targets, uint64_t size_bytes);
uint32_t local_weight(uint64_t size_bytes);

/* Parts of laying out, for `shoal cluster init`; false: said why. */
bool local_make_directory(const char *path);
bool local_add_string(struct value_list *list, const char *text);
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
