/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shoald: the process around a storage node. It reads node.yaml, opens devices, sockets and
 * certificates, gives them to a struct node on each reactor, and gets out of the way.
 *
 *   main.c          the process: options, lock, signals, and the order in which workers do things
 *   worker.c        one thread with its reactor, its devices and its part of the node
 *   plan.c          how many workers, where they run, whether they spin
 *   authority.c     whom the node asks for changes of the map
 *   config.c        node.yaml            check.c   --check-config
 *   metrics_page.c  what Prometheus reads
 */
#ifndef SHOALD_SHOALD_H
#define SHOALD_SHOALD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/metrics.h"
#include "base/value.h"
#include "core/mailbox.h"
#include "node/node.h"
#include "shoal/error.h"

struct shoald_config {
    char *name, *cluster;
    char *directory;
    struct value_list devices;
    char *data, *replication, *management;
    char *authority, *authority_address;
    struct value_list etcd_endpoints;
    char *etcd_prefix, *etcd_ca, *etcd_certificate, *etcd_key;
    char *data_plane;
    char *ca, *certificate, *key, *renewal;
    uint64_t memory;
    uint64_t index_objects;
    uint64_t reactors;
    char *cpus;
    uint64_t spin_ns;
    uint64_t scrub_rate, scrub_pause_ns, catch_up_rate;
    char *log_level;
};

int shoald_config_load(const char *path, struct shoald_config *config, struct value_error *why);
/* As an empty file would give, without what it must give. */
int shoald_config_defaults(struct shoald_config *config);
int shoald_config_write(const char *path, const struct shoald_config *config);
void shoald_config_free(struct shoald_config *config);
/* Every entry, as commented YAML. */
void shoald_config_reference(FILE *out);

/*
 * struct shoald_plan - What the host and the configuration allow.
 * @cpus: of each worker, -1: wherever the kernel likes
 */
struct shoald_plan {
    unsigned workers;
    int cpus[NODE_TARGETS_MAX];
    uint64_t spin_ns;
};

/* Return: 0, or SHOAL_E_CONFIG with @why. */
int shoald_plan(const struct shoald_config *config, struct shoald_plan *plan,
                struct value_error *why);

/* --check-config: writes what is wrong to @out, a line each. Return: how many such. */
unsigned shoald_check(const struct shoald_config *config, FILE *out);

/*
 * struct worker - A thread that owns a reactor, some of the devices, and its part of the node. It
 * does a step when it is told to, in a fiber, and says so through the eventfd @done.
 * @part: this worker's of the array that node_group_create() gets, between OPEN and START; START
 *        takes its addresses
 * @rc: what the last step came to; the log has the reason
 */
enum worker_step {
    WORKER_OPEN,   /* devices and nets */
    WORKER_START,  /* create the node and listen */
    WORKER_STOP,   /* answer what is under way, take no more */
    WORKER_CLOSE,  /* give everything back and end the thread */
    WORKER_RELOAD, /* read the certificates again */
};

struct worker {
    const struct shoald_config *config;
    struct metrics *metrics;
    struct node_config *part;
    int done;
    char name[64];
    struct reactor *reactor;
    struct fiber_pool *fibers;
    struct dma_arena *arena;
    enum net_tcp_share share;
    struct net *data, *replication;
    struct shoald_authority *authority;
    unsigned devices_count;
    const char *paths[NODE_TARGETS_MAX];
    struct dev *devs[NODE_TARGETS_MAX];
    struct engine *engines[NODE_TARGETS_MAX];
    struct node *node;
    pthread_t thread;
    struct mail mail;
    enum worker_step step;
    int rc;
};

/* Its thread runs on return. @done and what else it points to outlive it. */
int worker_create(struct worker *worker, unsigned index, const struct shoald_plan *plan);
void worker_tell(struct worker *worker, enum worker_step step);
/* After WORKER_CLOSE is done. */
void worker_join(struct worker *worker);

/*
 * The authority: one at the address that the configuration names, or the one that is elected through
 * etcd, for which this node stands too.
 * @node: where the node will be once there is one
 * All [fiber]; the door serves the reactor's fibers until the close.
 */
struct shoald_authority;
int shoald_authority_open(const struct shoald_config *config, struct reactor *reactor,
                          struct net *net, struct node *const *node, struct shoald_authority **out);
struct authority_door shoald_authority_door(struct shoald_authority *authority);
void shoald_authority_close(struct shoald_authority *authority); /* NULL is well */

/*
 * The page that Prometheus reads, and /healthz, from a thread of its own: one connection at a time,
 * each with a time limit, so a slow reader harms nobody but other readers.
 */
struct metrics_page;
int metrics_page_start(const char *address, struct metrics *metrics, struct metrics_page **out);
void metrics_page_stop(struct metrics_page *page);

#endif
