/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shoald: the process around a storage node. It reads node.yaml, opens devices, sockets and
 * certificates, gives them to a struct node, and gets out of the way.
 */
#ifndef SHOALD_SHOALD_H
#define SHOALD_SHOALD_H

#include <stdint.h>

#include "base/metrics.h"
#include "base/value.h"
#include "shoal/error.h"

struct shoald_config {
    char *name, *cluster;
    char *directory;
    struct value_list devices;
    char *data, *replication, *management;
    char *authority;
    char *data_plane;
    char *ca, *certificate, *key;
    uint64_t memory;
    uint64_t index_objects;
    uint64_t spin_ns;
    uint64_t scrub_rate, catch_up_rate;
    char *log_level;
};

int shoald_config_load(const char *path, struct shoald_config *config, struct value_error *why);
int shoald_config_write(const char *path, const struct shoald_config *config);
void shoald_config_free(struct shoald_config *config);

/*
 * The page that Prometheus reads, and /healthz, from a thread of its own: one connection at a time,
 * each with a time limit, so a slow reader harms nobody but other readers.
 */
struct metrics_page;
int metrics_page_start(const char *address, struct metrics *metrics, struct metrics_page **out);
void metrics_page_stop(struct metrics_page *page);

#endif
