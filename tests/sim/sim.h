/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole cluster in one thread, on virtual time, from one seed.
 *
 * Each host (storage node, authority, client) has a reactor and a simulated network of its own and
 * runs the code that ships: node/, engine/, cluster/, client/. The loop polls every reactor until none
 * has anything to do and then moves the clock to the next event; so nothing depends on how fast the
 * machine is, and one seed gives one run, which its digest names.
 *
 * Faults: messages are delayed, lost, reordered, connections reset, links cut one way, hosts slow.
 * Nodes lose power (unsynced writes are kept, dropped, torn) or are killed, one by one or all at
 * once, and return. The authority dies and returns. Drives fail reads, and bits rot. What is injected
 * stays within what the redundancy must survive (see faults.c), so every loss is a bug.
 *
 * Checks: per-key linearizability of the whole history; no byte that was not put; every request ends
 * by its deadline; after the faults end the cluster settles within a bound, and everything can be read
 * again with any two nodes gone.
 */
#ifndef SHOAL_TESTS_SIM_SIM_H
#define SHOAL_TESTS_SIM_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/random.h"
#include "client/client.h"
#include "cluster/cluster.h"
#include "core/dma.h"
#include "core/fiber.h"
#include "core/reactor.h"
#include "dev/dev.h"
#include "engine/engine.h"
#include "history.h"
#include "net/net.h"
#include "node/node.h"
#include "options.h"

#define SIM_NODES 6u
#define SIM_TIGHT_NODE 1u
#define SIM_CLIENTS 3u
#define SIM_CLIENT_FIBERS 3u
#define SIM_FAULTS_LEAST UINT64_C(6)
#define SIM_DEVICE_BYTES (24u << 20)
#define SIM_STRIPE_BYTES (64u << 10)
#define SIM_BLOB_MAX (5u * SIM_STRIPE_BYTES)
#define MS 1000000ull
#define SECOND 1000000000ull

/* A reactor, its network and its fibers. */
struct sim_host {
    char name[16];
    struct reactor *reactor;
    struct net *net;
    struct fiber_pool *fibers;
};

enum sim_node_state { SIM_GONE, SIM_STARTING, SIM_RUNNING, SIM_DYING };

struct sim_node {
    struct sim *sim;
    struct sim_host host;
    unsigned index;
    enum sim_node_state state;
    struct dev_sim_store *store;
    struct dev *dev;
    struct engine *engine;
    struct engine_report report;
    struct dma_arena *arena;
    struct authority_remote *authority;
    struct node *node;
    void *map; /* what node_store keeps */
    size_t map_len;
    uint64_t boots;
    bool formatted;
    bool new_drive;      /* it returns with an empty one */
    bool stopped;        /* node_stop() has returned */
    bool told_dead;      /* the authority knows of this death */
    uint64_t restart_ns; /* when a gone node returns; UINT64_MAX: not by itself */
    uint64_t patience_ns; /* since when its engine is seen to have stopped; 0: it has not */
    uint64_t tell_ns;    /* when the authority notices the death */
};

struct sim_authority {
    struct sim *sim;
    struct sim_host host;
    enum sim_node_state state;
    uint64_t boots;
    struct authority *authority;
    void *map;
    size_t map_len;
    uint64_t restart_ns;
    bool telling;
};

struct sim_client {
    struct sim *sim;
    struct sim_host host;
    unsigned index;
    struct client *client;
    unsigned busy; /* fibers that run */
};

struct sim {
    struct sim_options options;
    struct prng fault_prng;
    uint64_t now_ns;
    struct reactor_clock clock;
    struct net_sim_world *world;
    struct sim_authority authority;
    struct sim_node nodes[SIM_NODES];
    struct sim_client clients[SIM_CLIENTS];
    struct history history;
    struct blob_version versions[HISTORY_KEYS_MAX]; /* the last one that a client saw of a key, */
    uint32_t version_values[HISTORY_KEYS_MAX];      /* and which value that was */
    uint32_t next_value;
    uint64_t operations_left, operations_beyond;
    uint64_t digest; /* of everything that happened, to compare two runs of one seed */
    uint64_t faults_injected, answered, unanswered;
    uint64_t next_fault_ns;
    bool tight;   /* this run's SIM_TIGHT_NODE is soon full, and never lost */
    bool rotting; /* this run damages the drive of node 0 */
    bool ending;    /* everything is taken down: nothing is wrong any more */
    char wrong[512];
};

/* The first thing found wrong is kept, and ends the run. */
void sim_complain(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* An event of the run: into the digest, and printed when verbose. */
void sim_event(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));

/*
 * Every part of the simulation draws from a stream of its own, so that a run with fewer operations or
 * faults begins as the one with more did. @number: of the times that a host was started, say.
 */
uint64_t sim_seed(const struct sim *sim, const char *part, uint64_t number);

/* ---- hosts.c ---- */
void host_create(struct sim *sim, struct sim_host *host, const char *name, enum net_role role,
                 uint64_t boot);
void host_destroy(struct sim_host *host);

/* ---- cluster.c ---- */
void authority_boot(struct sim *sim);
void authority_die(struct sim *sim);
void node_boot(struct sim_node *node);
void node_die(struct sim_node *node, bool power);
/* What moves on by itself: restarts that are due, hosts that finished dying. */
void cluster_tick(struct sim *sim);
uint64_t cluster_next_ns(const struct sim *sim);
bool cluster_is_settled(struct sim *sim);
void cluster_destroy(struct sim *sim);

/* ---- loop.c ---- */
/* One step; false when nothing will ever happen again. */
bool sim_step(struct sim *sim, uint64_t limit_ns);
/* Until @done says so or virtual @limit_ns passes; false then, or when something went wrong. */
bool sim_until(struct sim *sim, bool (*done)(struct sim *sim), uint64_t limit_ns);

/* ---- workload.c ---- */
void clients_create(struct sim *sim);
void clients_destroy(struct sim *sim);
void clients_start(struct sim *sim, uint64_t operations);
bool clients_are_idle(struct sim *sim);
/* Every key once more, by one client. */
void clients_read_all(struct sim *sim);

/* ---- faults.c ---- */
void faults_choose(struct sim *sim); /* what this run may be hit by; before anything starts */
void faults_begin(struct sim *sim);
void faults_tick(struct sim *sim);
void faults_end(struct sim *sim); /* all heal, all return */
/* At the end of a run: everything must be readable with any two nodes gone; two are tried. */
void faults_take_two(struct sim *sim);

/* A cluster that starts, without clients. */
void sim_begin(struct sim *sim, const struct sim_options *options);
void sim_end(struct sim *sim);

/* Return: true when nothing was wrong; sim->wrong says what otherwise. */
bool sim_run(struct sim *sim, const struct sim_options *options);

#endif
