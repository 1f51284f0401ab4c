/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network: calls between named peers, each a header and optionally a payload either way.
 *
 * A caller sends a header and *offers* a payload. The receiver sees the header first, decides where
 * the payload is to go, and pulls it into that memory; then it answers with a header and optionally
 * a payload, which lands straight in the memory that the caller named. So no byte of payload moves
 * before somebody has a place for it, and nothing is copied on the way. (Over RDMA the pull is a
 * read and the reply's payload a write, both started by the node.)
 *
 * Backends: `tcp` (io_uring; TLS 1.3 with certificates on both sides, or plain with a keyed tag on
 * each message) and `sim` (virtual time, delays, loss). All calls run on the reactor that owns the
 * struct net; those marked [fiber] block the calling fiber.
 *
 * A connection is established on first use, and again after a failure with growing pauses; a call
 * on a lost connection ends with SHOAL_E_CONNECTION, and then nothing is known of what the peer
 * did.
 */
#ifndef SHOAL_NET_NET_H
#define SHOAL_NET_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct reactor;
struct net;
struct net_peer;
struct net_listener;
struct net_request;

#define NET_HEADER_MAX 8192u        /* bytes of an encoded message header */
#define NET_PAYLOAD_MAX (16u << 20) /* bytes of one payload */
#define NET_IOV_MAX 16u
#define NET_SUM_BYTES 16384u /* what one of a payload's sums covers */
#define NET_ADDRESS_MAX 64u /* "10.0.0.1:7400", "[::1]:7400", or a simulated host's name */

/*
 * What a certificate says of its holder: who may send which message is decided by this. NET_ROLE_JOIN
 * is of the bearer of a token: he may ask for a node's certificate, and nothing else.
 */
enum net_role {
    NET_ROLE_NONE,
    NET_ROLE_CLIENT,
    NET_ROLE_NODE,
    NET_ROLE_AUTHORITY,
    NET_ROLE_ADMIN,
    NET_ROLE_JOIN
};

struct net_identity {
    enum net_role role;
    char name[64];    /* a node's or user's name */
    char cluster[40]; /* the cluster the certificate belongs to */
};

/*
 * struct net_call - One call, the caller's until net_call() returns.
 * @header: request header to send (an encoded message of wire/)
 * @payload: payload offered to the receiver; lent until the call ends
 * @payload_sums: CRC32C of each NET_SUM_BYTES of it, the last of what is left, where they are known;
 *                else NULL, and the transport works them out. Lent as well.
 * @reply_payload: where the reply's payload may go; lent until the call ends
 * @deadline_ns: absolute, of the reactor's clock; after it the call ends with SHOAL_E_TIMEOUT and
 *               the peer is told to cancel
 * @reply_header, @reply_header_len: the reply's header (in: room, out: length)
 * @reply_payload_len: out: bytes of payload that came
 * @reply_payload_crc: out: their CRC32C, which the transport has worked out anyway
 */
struct net_call {
    const void *header;
    size_t header_len;
    const struct iovec *payload;
    unsigned payload_count;
    const uint32_t *payload_sums;
    const struct iovec *reply_payload;
    unsigned reply_payload_count;
    uint64_t deadline_ns;

    uint8_t *reply_header;
    size_t reply_header_len;
    size_t reply_payload_len;
    uint32_t reply_payload_crc;
};

/*
 * struct net_service - What a listener does with requests.
 * @request: a request's header has arrived. Runs on the reactor's stack, must not block: it spawns
 * a fiber of the right class or answers with net_refuse(). The header stays valid until the request
 * is answered.
 */
struct net_service {
    void (*request)(void *ctx, struct net_request *request);
    void *ctx;
};

/* ---- calling ---- */

/*
 * net_peer_open() - A peer to call. No connection is made yet.
 * @address: text as above. @name: the certificate's name it must present, NULL: any of the cluster.
 * @max_calls: calls outstanding at once; more end with SHOAL_E_BUSY at once.
 */
int net_peer_open(struct net *net, const char *address, const char *name, unsigned max_calls,
                  struct net_peer **out);
/* Outstanding calls end with SHOAL_E_CANCELLED; [fiber] returns when they have. */
void net_peer_close(struct net_peer *peer);

/*
 * net_call() - [fiber] Send and wait for the answer.
 * Return: 0 when a reply came (whatever its header says), else SHOAL_E_CONNECTION, TIMEOUT, BUSY,
 * CANCELLED, DENIED (certificate refused), VERSION, or TOO_LARGE (the reply does not fit).
 */
int net_call(struct net_peer *peer, struct net_call *call);

/* net_call_cancel() - End a call of another fiber early, with SHOAL_E_CANCELLED. */
void net_call_cancel(struct net_peer *peer, struct net_call *call);

/* ---- answering ---- */

int net_listen(struct net *net, const char *address, const struct net_service *service,
               struct net_listener **out);
/* Is this text an address as TCP takes it? */
bool net_address_is_valid(const char *text);
/* The address really listened on (port 0 asks for any). */
const char *net_listener_address(const struct net_listener *listener);
/* [fiber] Unanswered requests are cancelled; returns when their handlers have answered. */
void net_listener_close(struct net_listener *listener);

const void *net_request_header(const struct net_request *request, size_t *len);
const struct net_identity *net_request_identity(const struct net_request *request);
size_t net_request_payload_len(const struct net_request *request); /* offered by the caller */
/* When the caller stops waiting, by this reactor's clock: for the calls a handler makes itself. */
uint64_t net_request_deadline_ns(const struct net_request *request);
bool net_request_cancelled(const struct net_request *request); /* the caller gave up or is gone */

/*
 * net_request_pull() - [fiber] Fetch the offered payload into @iov, at most once.
 * Return: 0, SHOAL_E_CONNECTION, SHOAL_E_CANCELLED, SHOAL_E_TIMEOUT, SHOAL_E_TOO_LARGE when @iov
 * has no room for it, or SHOAL_E_CORRUPT when the transport's own check failed.
 */
int net_request_pull(struct net_request *request, const struct iovec *iov, unsigned iov_count,
                     uint64_t deadline_ns);

/* CRC32C of the payload that was pulled, which the transport has worked out anyway. */
uint32_t net_request_payload_crc(const struct net_request *request);

/*
 * net_reply() - [fiber] Answer, exactly once for each request; returns when the buffers are no
 * longer in use. The request is gone afterwards, whatever is returned.
 */
int net_reply(struct net_request *request, const void *header, size_t header_len,
              const struct iovec *payload, unsigned payload_count);

/*
 * net_request_sums() - Before net_reply(): the CRC32C of each NET_SUM_BYTES of the payload that it is
 * given, where they are known. Lent until it returns.
 */
void net_request_sums(struct net_request *request, const uint32_t *sums);

/*
 * net_refuse() - Answer without a header, from where a fiber could not be had: net_call() of the
 * caller returns @error (SHOAL_E_BUSY, DENIED, SHUTDOWN, VERSION, INVALID). Does not block.
 */
void net_refuse(struct net_request *request, int error);

/*
 * struct net_relay - Hands requests that arrive on one reactor to services on others of the process,
 * which pull and answer as if they had arrived there: mail goes to and fro, payload does not move
 * once more. Such a request is cancelled by its deadline alone. All functions run on @reactor, whose
 * nets the requests come by; the services run on theirs.
 */
struct net_relay;
int net_relay_create(struct reactor *reactor, unsigned max_requests, struct net_relay **out);
/* In the place of the service's request(); too many at once are refused with SHOAL_E_BUSY. */
void net_relay_request(struct net_relay *relay, struct reactor *to,
                       const struct net_service *service, struct net_request *request);
/* [fiber] Waits for what is under way; both reactors must go on meanwhile. */
void net_relay_destroy(struct net_relay *relay);

/* ---- backends ---- */

void net_destroy(struct net *net); /* [fiber] every peer and listener must be closed */

/* ---- backend: TCP ---- */

/* May others listen at the same address? Only nets of one process may: the kernel deals connections
 * out among them. An address that another process has is refused to all but NET_SHARE_JOIN. */
enum net_tcp_share { NET_SHARE_NO, NET_SHARE_FIRST, NET_SHARE_JOIN };

/*
 * struct net_tcp_config - All of it is copied.
 * @certificate, @key, @ca: PEM files. The certificate's subject says who we are: CN the name, OU
 * the role (client, node, authority, admin), O the cluster.
 * @plain: do without encryption where the other side does too. Sessions open over TLS all the same,
 *      and every frame carries a keyed tag; payload is protected against accidents, not secret.
 * @max_connections: accepted by a listener (default 256); more are closed at once
 * @max_calls: unanswered requests of one accepted connection (256); more are refused with BUSY
 * @max_requests: unanswered requests of all connections of this net (1024)
 * @handshake_ms: a connection that is not open by then is closed (5000)
 * @stall_ms: so is one that takes nothing of what we send for this long (10000)
 * @ping_ms: how long a server may be silent while calls are outstanding before it is asked; after
 *      three times this the connection is given up (2000)
 * A 0 means the default.
 */
struct net_tcp_config {
    const char *certificate, *key, *ca;
    bool plain;
    enum net_tcp_share share;
    unsigned max_connections;
    unsigned max_calls;
    unsigned max_requests;
    uint64_t handshake_ms;
    uint64_t stall_ms;
    uint64_t ping_ms;
};

/*
 * net_tcp_create() - Over the reactor's io_uring.
 * Return: 0, SHOAL_E_CONFIG when the certificates cannot be used (the log says which and why),
 * SHOAL_E_UNSUPPORTED for a reactor without io_uring, SHOAL_E_NO_MEMORY
 */
int net_tcp_create(struct reactor *reactor, const struct net_tcp_config *config, struct net **out);
/*
 * Read the certificates again: for new connections; those that are open stay. On an error the old ones
 * stay in use. A net does it by itself before a new connection when the files have changed, and looks
 * at most once a second; this is for who wants to be told.
 */
int net_tcp_reload(struct net *net);
const struct net_identity *net_tcp_identity(const struct net *net);

/* ---- certificates ---- */

/*
 * Keys on P-256, files of mode 0600 written at once or not at all. Each
 * makes DIRECTORY/STEM.crt and .key; the authority's stem is "ca". Blocking. Return: 0 or an error,
 * with a line in the log.
 */
int net_cert_create_ca(const char *directory, const char *cluster); /* valid for ten years */
/* Valid for one year, in the authority's cluster. */
int net_cert_issue(const char *ca_directory, enum net_role role, const char *name,
                   const char *directory, const char *stem);

struct net_cert_request {
    enum net_role role;
    const char *name;
    const char *cluster; /* NULL: the authority's */
    long valid_s;        /* from now on, may be negative; 0: one year */
    const char *directory, *stem;
};
int net_cert_issue_for(const char *ca_directory, const struct net_cert_request *request);

/*
 * The same where the authority's key is on another host. net_cert_request() makes DIRECTORY/STEM.key
 * and the text of a request; net_cert_request_read() says what one asks for, and that who made it has
 * the key; net_cert_sign() answers with a certificate that says what @request says (its directory and
 * stem are not used): that is for the signer to decide. Texts are PEM, and the caller's to free.
 */
int net_cert_request(const struct net_cert_request *request, char **csr);
int net_cert_request_read(const char *csr, struct net_identity *wanted);
int net_cert_sign(const char *ca_directory, const char *csr, const struct net_cert_request *request,
                  char **certificate);

struct net_cert_info {
    struct net_identity identity;
    int64_t valid_from_s, valid_until_s; /* since 1970 */
    char fingerprint[65];                /* SHA-256 */
};
/* Return: 0, SHOAL_E_CONFIG: no certificate, SHOAL_E_DENIED: it says no role we know. */
int net_cert_read(const char *path, struct net_cert_info *info);
/* Would a net work with these now? Return: 0, or SHOAL_E_CONFIG and @why, a sentence. */
int net_cert_check(const char *certificate, const char *key, const char *ca,
                   struct net_cert_info *info, char *why, size_t size);

enum net_role net_role_named(const char *name); /* NET_ROLE_NONE: there is no such role */
const char *net_role_name(enum net_role role);

/* ---- backend: simulated ---- */

/*
 * A simulated network joins any number of reactors of one thread. It draws every delay and fault
 * from its seed, and time from the clock that those reactors share, so one seed gives one run. A
 * message waits in the receiving net until its time has come, and is delivered by that reactor's
 * poll; so the loop around it is: poll all reactors until none did anything, then move the clock to
 * the earliest of net_sim_next_event_ns() and every reactor_next_timer_ns().
 *
 * Messages of one call arrive in the order in which one caused the other; those of different calls
 * overtake each other. A request may arrive, and be executed, long after its caller gave up. What a
 * host sent before it crashed may still arrive.
 */
struct net_sim_world;
struct reactor_clock;

/*
 * struct net_sim_faults - How bad the network is. All zero: messages arrive at once and always.
 * Chances are in millionths and are drawn for each message between different hosts.
 * @delay_ns, @jitter_ns: each message takes delay_ns and a draw, small more often than large, of up
 *                        to 8 times jitter_ns
 * @bytes_per_s: adds the time a payload takes; 0: none
 * @slow_ppm, @slow_ns: some take up to slow_ns longer
 * @loss_ppm: the message vanishes, and its call hangs until a deadline
 * @reset_ppm: the connection breaks: its calls end with SHOAL_E_CONNECTION, requests are cancelled
 * @held_ppm: of messages sent into a cut link, those that arrive after it is mended
 * @silent_ppm: of crashes, those that the peers are not told of
 */
struct net_sim_faults {
    uint64_t delay_ns;
    uint64_t jitter_ns;
    uint64_t bytes_per_s;
    uint64_t slow_ns;
    uint32_t slow_ppm;
    uint32_t loss_ppm;
    uint32_t reset_ppm;
    uint32_t held_ppm;
    uint32_t silent_ppm;
};

/* What happened to a message, for an event log; strings live as long as the call. */
struct net_sim_event {
    uint64_t at_ns;
    const char *what; /* "send", "deliver", "lose", "hold", "reset", "drop", "crash" */
    const char *kind; /* "call", "pull", "data", "reply", "refuse", "cancel", "broken", "-" */
    const char *from, *to;
    uint64_t call; /* numbers calls in the order in which they were made */
    size_t header_len, payload_len;
};

/* @clock is the reactors' and must outlive the world. */
int net_sim_world_create(const struct reactor_clock *clock, uint64_t seed,
                         const struct net_sim_faults *faults, struct net_sim_world **out);
/* Every net of it must be destroyed. */
void net_sim_world_destroy(struct net_sim_world *world);
void net_sim_set_faults(struct net_sim_world *world, const struct net_sim_faults *faults);
void net_sim_set_trace(struct net_sim_world *world,
                       void (*trace)(void *ctx, const struct net_sim_event *event), void *ctx);

/* When the next message is due, maybe in the past; UINT64_MAX when none is under way. */
uint64_t net_sim_next_event_ns(const struct net_sim_world *world);

/*
 * net_sim_create() - The network of one reactor of @host. Several reactors may share a host: each
 * listens at its own "HOST:PORT" (the port is any text; "HOST:0" asks for a free number). The first
 * net created on a host that crashed is its restart.
 */
int net_sim_create(struct net_sim_world *world, struct reactor *reactor, const char *host,
                   const struct net_identity *identity, struct net **out);

/*
 * net_sim_crash() - @host dies now. Everything under way in its nets ends with SHOAL_E_SHUTDOWN,
 * and so does everything begun in them later; nothing they send leaves any more. Peers learn of it
 * by broken connections, or not at all (silent_ppm).
 */
void net_sim_crash(struct net_sim_world *world, const char *host);

/* Cut or mend one direction; messages sent meanwhile are lost or held. */
void net_sim_cut(struct net_sim_world *world, const char *from, const char *to, bool cut);
/* Messages from and to @host take this much longer from now on: a slow member, not a dead one. */
void net_sim_slow(struct net_sim_world *world, const char *host, uint64_t extra_ns);
/* Mend every cut, end every slowness. The faults stay as they are. */
void net_sim_heal(struct net_sim_world *world);

#endif
