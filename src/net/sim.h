/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated network, private to its files: sim.c (world, hosts, faults), sim_queue.c (messages
 * on their way), sim_peer.c (the calling side), sim_listen.c (the answering side).
 *
 * One struct sim_exchange is one call, seen from both ends: the caller's half lives while
 * `call` is set, the server's while `listener` is set, and each message under way holds a
 * reference. Nets are kept, marked dead, until the world goes, so that an exchange may always
 * look at both of its ends.
 */
#ifndef NET_SIM_H
#define NET_SIM_H

#include "base/list.h"
#include "base/random.h"
#include "core/fiber.h"
#include "core/reactor.h"
#include "net/backend.h"

enum sim_kind { SIM_CALL, SIM_PULL, SIM_DATA, SIM_REPLY, SIM_REFUSE, SIM_CANCEL, SIM_BROKEN };

struct sim_host {
    struct list_node node;
    char name[NET_ADDRESS_MAX];
    uint64_t extra_ns;
    unsigned next_port;
    bool silent; /* crashed without a word: what is sent there vanishes */
};

struct sim_cut {
    struct list_node node;
    struct sim_host *from, *to;
};

struct net_sim_world {
    const struct reactor_clock *clock;
    struct prng prng;
    struct net_sim_faults faults;
    struct list hosts;
    struct list cuts;
    struct list nets;      /* dead ones too */
    struct list exchanges; /* in the order of their numbers */
    struct list held;      /* messages waiting for their link */
    uint64_t next_order;
    uint64_t next_call;
    void (*trace)(void *ctx, const struct net_sim_event *event);
    void *trace_ctx;
};

struct sim_net {
    struct net base;
    struct list_node node;
    struct net_sim_world *world;
    struct sim_host *host;
    struct net_identity identity;
    struct reactor_source source;
    struct sim_message **heap; /* what is on its way here, earliest first */
    size_t heap_count, heap_room;
    struct list peers;
    struct list listeners;
    bool dead;          /* crashed or destroyed: nothing leaves or arrives */
    bool crash_pending; /* the next poll ends what was under way */
};

struct sim_peer {
    struct net_peer base;
    struct list_node node;
    unsigned outstanding;
    struct fiber_queue idle;
};

struct sim_listener {
    struct net_listener base;
    struct list_node node;
    unsigned unanswered;
    struct fiber_queue idle;
};

struct sim_exchange {
    struct net_request request; /* the server's view; first, so that it converts */
    struct list_node node;
    struct net_sim_world *world;
    unsigned references;
    uint64_t number;
    uint64_t left_ns; /* of the caller's time when it sent: clocks of hosts differ */

    struct sim_net *caller;
    struct sim_peer *peer;
    struct net_call *call; /* NULL when the caller no longer waits */
    struct completion called;
    char address[NET_ADDRESS_MAX]; /* copies: the peer may be gone when the call arrives */
    char expected[64];

    struct sim_net *server;        /* NULL when nobody listened */
    struct sim_listener *listener; /* set from arrival until the answer */
    bool cancelled;
    int cancel_error;             /* what a pull ends with */
    const struct iovec *pull_iov; /* set while a pull waits */
    unsigned pull_count;
    struct completion pulled;

    uint8_t header[NET_HEADER_MAX];
};

struct sim_message {
    struct list_node node; /* in world->held */
    uint64_t due_ns;
    uint64_t order;
    enum sim_kind kind;
    struct sim_host *from;
    struct sim_net *to;
    struct sim_exchange *exchange;
    int status;
    bool dropped;
    size_t header_len, payload_len;
    uint8_t data[]; /* header, then payload */
};

struct sim_exchange *sim_exchange_create(struct sim_net *caller);
void sim_exchange_put(struct sim_exchange *exchange);

/* sim_queue.c */
uint64_t sim_now(const struct net_sim_world *world);
void sim_trace(struct net_sim_world *world, const char *what, const struct sim_message *message);
/* A message that @from sends now, with all that can befall it. Never fails; it may not arrive. */
void sim_send(struct sim_net *from, struct sim_net *to, struct sim_exchange *exchange,
              enum sim_kind kind, int status, const void *header, size_t header_len,
              const struct iovec *payload, unsigned payload_count);
/* What the system of @from tells @to of a connection that is gone; only a cut link stops it. */
void sim_send_broken(struct sim_host *from, struct sim_net *to, struct sim_exchange *exchange);
void sim_release_held(struct net_sim_world *world);
void sim_drop_sent_by(struct net_sim_world *world, const struct sim_host *host);
void sim_queue_clear(struct sim_net *net);
uint64_t sim_delay(struct net_sim_world *world, const struct sim_host *from,
                   const struct sim_host *to, size_t bytes);
unsigned sim_poll(struct reactor_source *source);

/* sim.c */
bool sim_is_cut(const struct net_sim_world *world, const struct sim_host *from,
                const struct sim_host *to);
struct sim_host *sim_host(struct net_sim_world *world, const char *name);
struct sim_listener *sim_listener_find(struct sim_net *net, const char *address);

/* sim_peer.c */
int sim_peer_open(struct net *net, const char *address, const char *name, unsigned max_calls,
                  struct net_peer **out);
void sim_peer_close(struct net_peer *peer);
int sim_call(struct net_peer *peer, struct net_call *call);
void sim_call_cancel(struct net_peer *peer, struct net_call *call);
void sim_call_end(struct sim_exchange *exchange, int error);
void sim_peer_deliver(struct sim_message *message);
void sim_peer_break(struct sim_peer *peer);

/* sim_listen.c */
int sim_listen(struct net *net, const char *address, const struct net_service *service,
               struct net_listener **out);
void sim_listener_close(struct net_listener *listener);
bool sim_request_cancelled(const struct net_request *request);
int sim_request_pull(struct net_request *request, const struct iovec *iov, unsigned iov_count,
                     uint64_t deadline_ns);
int sim_reply(struct net_request *request, const void *header, size_t header_len,
              const struct iovec *payload, unsigned payload_count);
void sim_refuse(struct net_request *request, int error);
void sim_listen_deliver(struct sim_message *message);
void sim_request_cancel(struct sim_exchange *exchange, int error);

#endif
