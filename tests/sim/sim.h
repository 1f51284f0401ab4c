/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole cluster in one thread, on virtual time, from one seed.
 *
 * Each host (storage node, authority, client) has a reactor and a simulated network of its own and
 * runs the code that ships: node/, engine/, cluster/, client/. The loop polls every reactor until none
 * has anything to do and then moves the clock to the next event; so nothing depends on how fast the
 * machine is, and one seed gives one run, which its digest names.
 *
 * A run's shape is drawn first: how many drives a node has and whether they have volatile caches, how
 * hurried the clients are, whether there is a pool that survives only one loss, and whether somebody sees
 * processes end, or only hears nothing of them, and may be wrong; then perhaps no drive is ever damaged, and nodes
 * are cut off all the more. Then come the faults
 * (faults.c has the list, drives.c what happens to drives, and how much of it at once, moves.c how
 * nodes join, are drained and removed, and stay away for long); what is injected stays within what the redundancy must survive, so every loss is a bug.
 *
 * There is no duplication of messages: a transport of connections never delivers one twice. What comes
 * twice is a request that its caller sends again while the first is still under way, and that happens.
 *
 * Checks: per-key linearizability of the whole history; no byte that was not put; every request ends
 * by its deadline; after the faults end the cluster settles within a bound, every member of every set
 * has what it should (audit.c), and everything can be read with as many nodes gone as the pools survive.
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

#define SIM_NODES 8u /* with those that join later */
#define SIM_FIRST_NODES 6u
#define SIM_DRIVES_MAX 2u
#define SIM_TIGHT_NODE 1u
#define SIM_CLIENTS 3u
#define SIM_CLIENT_FIBERS 3u
#define SIM_FAULTS_LEAST UINT64_C(6)
#define SIM_DEVICE_BYTES (24u << 20)
#define SIM_STRIPE_BYTES (64u << 10)
#define SIM_BLOB_MAX (5u * SIM_STRIPE_BYTES)
#define SIM_PARTITION_BITS 4u
#define SIM_AUTHORITY_ADDRESS "authority:1"
#define SIM_DRIVE_FAST_NS 20000u /* what an operation of a drive takes, from */
#define SIM_DRIVE_SLOW_NS 400000u /* to */
/* Longer than a client goes on trying, as R8 demands. */
#define SIM_DEADLINE_NS (12 * SECOND)
#define SIM_TOMBSTONE_S 15u
#define SIM_LEASE_MS 2400u
#define SIM_OUT_MS 6000u
#define SIM_SAVE_NS (20 * MS) /* of a map, by the authority */
#define MS 1000000ull
#define SECOND 1000000000ull

/* A host's own idea of time. */
struct sim_clock {
    struct sim *sim;
    struct reactor_clock door;
    uint64_t since_ns, at_ns; /* it said at_ns when the simulation was at since_ns */
    int64_t rate_ppm;         /* how much faster than the simulation it runs */
    int64_t wall_off_s;
};

/* A reactor, its network and its fibers. */
struct sim_host {
    char name[16];
    struct sim_clock clock;
    struct reactor *reactor;
    struct net *net;
    struct fiber_pool *fibers;
};

/* Of a node's drive by an empty one: wanted, on its way into the map, in it. */
enum sim_replacement { SIM_NONE, SIM_WANTED, SIM_TOLD, SIM_KNOWN };

enum sim_node_state { SIM_GONE, SIM_STARTING, SIM_RUNNING, SIM_DYING };

struct sim_drive {
    struct dev_sim_store *store;
    struct dev *dev;
    struct engine *engine;
    struct engine_report report;
    struct dev_sim_faults faults;
    bool formatted;
    bool suspect;    /* the atlas: what lies on it may be damaged */
    uint64_t scrubs; /* passes of its scrubber when the last damage ended */
};

struct sim_node {
    struct sim *sim;
    struct sim_host host;
    unsigned index;
    enum sim_node_state state;
    struct sim_drive drives[SIM_DRIVES_MAX];
    struct dma_arena *arena;
    struct authority_remote *authority;
    struct node *node;
    void *map; /* what node_store keeps */
    size_t map_len;
    uint64_t boots;
    bool joined;         /* the map has it */
    enum sim_replacement replacement;
    bool forgot;         /* the atlas: a drive was replaced, and does not have all of it yet */
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

/* What moves.c is about; one thing is asked of the authority at a time. */
struct sim_moves {
    struct prng prng;
    uint64_t next_ns;
    bool chosen, busy;
    int (*apply)(struct cluster_map *map, void *arg);
    const char *what;
    unsigned node;
    uint32_t target, weight;
};

struct sim {
    struct sim_options options;
    struct sim_moves moves;
    struct prng fault_prng;
    uint64_t now_ns;
    struct reactor_clock clock; /* of the network alone */
    struct net_sim_world *world;
    struct sim_authority authority;
    struct sim_node nodes[SIM_NODES];
    struct sim_client clients[SIM_CLIENTS];
    struct history history;
    struct blob_version versions[HISTORY_KEYS_MAX]; /* the last one that a client saw of a key, */
    uint32_t version_values[HISTORY_KEYS_MAX];      /* and which value that was */
    uint32_t next_value;
    uint64_t operations_left;
    uint64_t digest; /* of everything that happened, to compare two runs of one seed */
    uint64_t faults_injected, answered, unanswered;
    uint64_t next_fault_ns;
    bool ending; /* everything is taken down: nothing is wrong any more */
    char wrong[512];

    /* The shape of this run. */
    unsigned drives;         /* of each node */
    bool volatile_caches;
    bool frail;              /* there is a pool that survives the loss of one member only */
    bool tight;              /* SIM_TIGHT_NODE is soon full, and never lost */
    bool silence;            /* deaths are known by silence alone */
    bool net_troubled;       /* since it healed last */
    uint64_t net_calm_ns;    /* until when nodes may be declared dead for what it was before */
    bool sound_drives;       /* what would befall a drive befalls the network */
    uint64_t commit_delay_ns, care_ns; /* as in engine_config and node_config; 0: what is usual */
    uint64_t pause_ns;       /* between two operations of a worker, at most */
    uint64_t fault_pause_ns; /* between two faults, at most */
};

static inline uint32_t sim_target(const struct sim *sim, unsigned node, unsigned drive)
{
    return node * sim->drives + drive;
}

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
/* No fiber of it may run. */
void host_destroy(struct sim_host *host);
void host_set_clock(struct sim_host *host, int64_t rate_ppm, int64_t wall_off_s);
/* When, in the simulation's time, it has something to do; UINT64_MAX: never, or it is off. */
uint64_t host_next_ns(const struct sim_host *host);

/* ---- authority.c ---- */
void authority_boot(struct sim *sim);
void authority_die(struct sim *sim);
void authority_tick(struct sim *sim);
void authority_notice_deaths(struct sim *sim);
/* A copy of @bytes takes the place of *@kept. */
int sim_save_bytes(void **kept, size_t *kept_len, const void *bytes, size_t len);

/* ---- cluster.c ---- */
void cluster_begin(struct sim *sim);
void node_boot(struct sim_node *node);
void node_die(struct sim_node *node, bool power);
/* It runs, and the map knows nothing to its disadvantage. */
bool node_is_clean(const struct sim_node *node);
/* Nothing that it holds is counted on any more. */
bool node_is_out(const struct sim_node *node);
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
/* The shape of the run, before anything starts; the plainest for one without operations. */
void faults_choose(struct sim *sim);
void faults_begin(struct sim *sim);
void faults_tick(struct sim *sim);
void faults_end(struct sim *sim); /* all heal, all return */
bool net_may_kill(const struct sim *sim);
/* At the end of a run: everything must be readable with as many nodes gone as the pools survive. */
void faults_take_away(struct sim *sim);

/* A node that has joined. */
struct sim_node *faults_any_node(struct sim *sim, struct prng *prng);

/* ---- moves.c ---- */
void moves_choose(struct sim *sim);
void moves_begin(struct sim *sim);
void moves_tick(struct sim *sim);
void moves_end(struct sim *sim);
bool moves_are_done(const struct sim *sim, const struct cluster_map *map);
/* Positions that nobody serves, since their target is out, in the row that has most of them. */
unsigned moves_missing(const struct cluster_map *map);

/* ---- drives.c ---- */
/* Could @node be lost, or its drives be damaged, without harm to what the others hold? */
bool atlas_spares(struct sim *sim, const struct sim_node *node);
/* Drives that have been found whole since they were damaged are trusted again. */
void atlas_look(struct sim *sim);
bool atlas_is_clear(const struct sim *sim);
/* Does some node lack what it once held, or will when it returns? */
bool atlas_lacks_memory(const struct sim *sim);
bool atlas_suspects(const struct sim_node *node);
typedef bool strike(struct sim *sim, struct prng *prng); /* true when it happened */
strike drive_decays, drive_misplaces, drive_fails, drive_slows, drive_hangs;
void drives_heal(struct sim *sim);

/* ---- audit.c ---- */
/* Has every member of every set what it should have? Else @why says what is missing first. */
bool audit(struct sim *sim, char *why, size_t size);

/* ---- run.c ---- */

/* A cluster, which starts; without clients and faults. */
void sim_begin(struct sim *sim, const struct sim_options *options);
/* All of it is taken down, the clients too if there are any. */
void sim_end(struct sim *sim);
/* Return: true when nothing was wrong; sim->wrong says what otherwise. */
bool sim_run(struct sim *sim, const struct sim_options *options);

#endif
