/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public handle: a client on a reactor that the callers' own threads take turns in polling.
 *
 * One thread at a time has the *turn*: it alone touches reactor and client. Others hand their work
 * over by mail and wait, either for their own work to end or for the turn to become free.
 */
#ifndef CLIENT_HANDLE_H
#define CLIENT_HANDLE_H

#include <pthread.h>
#include <stdatomic.h>

#include "client/client_private.h"
#include "core/mailbox.h"
#include "shoal/shoal.h"

#define HANDLE_REGIONS_MAX 64u

/* Work for a fiber of the handle. */
struct handle_task {
    struct mail mail;
    struct shoal *shoal;
    void (*run)(void *arg);
    void *arg;
    struct list_node node; /* in shoal->ended, of submitted requests */
    atomic_bool done;
    bool submitted; /* nobody waits for it: it goes to shoal->ended */
    bool refused;   /* there was no fiber */
};

struct shoal {
    struct reactor *reactor;
    struct net *net;
    struct client *client;
    struct fiber_pool *fibers;
    struct client_file file;
    struct shoal_options options;

    pthread_mutex_t lock;
    pthread_cond_t moved; /* the turn is free, or something ended */
    bool turn_taken;
    unsigned waiting;   /* threads on `moved` */
    unsigned under_way; /* submitted and not ended */
    struct list ended;  /* struct handle_task, under the lock */
    bool news;          /* something of another thread ended in this turn; the turn holder's */
    bool event_fd_used;

    struct iovec regions[HANDLE_REGIONS_MAX];
    unsigned regions_count;
};

_Static_assert(sizeof(struct handle_task) <= sizeof(((struct shoal_request *)0)->private_),
               "a request must have room for its task");

/* Hand over; with @submitted nobody waits. */
void handle_start(struct shoal *shoal, struct handle_task *task);
/* Until it is done. */
void handle_wait(struct shoal *shoal, struct handle_task *task);

/* The reactor's kind of time, for threads that do not have the turn. */
uint64_t handle_now_ns(void);

/* Turn without waiting, or until something ended or @limit_ns. */
void handle_turn(struct shoal *shoal, bool wait, uint64_t limit_ns);

#endif
