/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the supervisor of a local cluster. supervisor.c runs it and watches processes;
 * supervisor_nodes.c starts, ends and fences them; supervisor_wish.c grants what commands ask for.
 *
 * Two threads: the *watcher* sees processes end, the *reactor* has the authority and all else. What both
 * use is under the lock.
 */
#ifndef CLI_SUPERVISOR_H
#define CLI_SUPERVISOR_H

#include <pthread.h>
#include <signal.h>

#include "cli/local.h"
#include "core/fiber.h"
#include "core/mailbox.h"
#include "core/reactor.h"

#define SUPERVISOR_LOOK_NS UINT64_C(10000000)

struct supervisor;

/*
 * struct watched - A node as the watcher sees it.
 * @replaces: the incarnation that the map had when this process was started, which is a dead one's
 */
struct watched {
    struct supervisor *supervisor;
    struct local_node *node;
    uint32_t replaces;     /* the reactor's */
    struct mail died_mail; /* at most one under way: nobody watches a dead one */
    int pidfd;             /* -1: not watched; this and what follows is under the lock */
    pid_t pid;
    unsigned deaths;       /* of watched processes; told to the authority when equal to `told` */
    unsigned told;         /* the reactor's */
};

struct supervisor {
    struct local *local;
    int lock_fd;
    struct reactor *reactor;
    struct fiber_pool *fibers;
    struct net *net;
    struct authority *authority;

    pthread_mutex_t lock;
    struct watched watched[LOCAL_NODES_MAX];
    unsigned watched_count; /* under the lock; grows */
    pthread_t watcher;
    int wake[2]; /* the watcher's set has changed */
    sigset_t signals;
    struct mail stop_mail;
    int rc;
};

/* ---- supervisor_nodes.c; the reactor's ---- */

/* A node that came to be since the cluster was loaded, or at its start. */
void supervisor_watch_node(struct supervisor *supervisor, struct local_node *node);
/* The node of this name that the map has and that lives here; NULL: there is none. */
struct watched *supervisor_find(struct supervisor *supervisor, const char *name);
const struct map_node *supervisor_node_in_map(struct watched *watched);

bool supervisor_is_alive(struct watched *watched);
/* Take over the process that runs already, if there is one. */
bool supervisor_adopt(struct watched *watched);
int supervisor_spawn(struct watched *watched);
/* All deaths of it that were seen have been published. */
bool supervisor_told_all(struct watched *watched);
void supervisor_signal(struct watched *watched, int signal);
/* [fiber] The authority has not heard the node for too long (struct authority_config). */
void supervisor_fence(void *supervisor, const char *node);

/* ---- supervisor_wish.c ---- */

/* [fiber] node_start, node_stop, node_kill, node_dismiss; as struct authority_config says. */
int supervisor_wish(void *supervisor, const char *wish, char **answer);

#endif
