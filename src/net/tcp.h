/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The TCP backend, private to its files:
 *
 *   tcp.c         the net: configuration, certificates, creation and destruction
 *   tcp_conn.c    a connection's life: connect or accept, handshake, HELLO, watching, closing
 *   tcp_rx.c      receiving: frames out of the stream, payload straight to where it is wanted
 *   tcp_tx.c      sending: small frames first, then a piece of each large payload in turn
 *   tcp_peer.c    the calling side      tcp_listen.c  the answering side
 *   tcp_frame.c   the layout of frames  tcp_tls.c, tcp_tag.c  cryptography, without I/O
 *
 * A connection has at most one receive and one send under way in io_uring. Memory that somebody
 * lent (a payload) may be in use by either; whoever wants it back calls tcp_tx_withdraw() and
 * tcp_rx_abandon(), which return when the kernel has let go of it. A connection that closes first
 * waits for both operations, and only then tells everyone (tcp_conn.c: finish), so that no waiter
 * ever gets his memory back too early.
 */
#ifndef NET_TCP_H
#define NET_TCP_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "base/list.h"
#include "base/pool.h"
#include "core/fiber.h"
#include "core/reactor.h"
#include "core/timer.h"
#include "core/uring.h"
#include "net/backend.h"
#include "net/tcp_frame.h"
#include "net/tcp_tag.h"
#include "net/tcp_tls.h"

#define TCP_HEAD_ROOM 32768u  /* encoded frames and message headers of one send */
#define TCP_RX_ROOM 65536u    /* received and not yet parsed */
#define TCP_SINK_BYTES 65536u /* where payload goes that nobody wants any more */
#define TCP_CHUNK_PLAIN 262144u
#define TCP_CHUNK_TLS 65536u
#define TCP_CIPHER_ROOM (TCP_HEAD_ROOM + TCP_CHUNK_TLS + 4096u)
#define TCP_REFUSALS 32u /* refusals of one connection waiting to be sent */
#define TCP_SLOTS_MAX 32768u

/* Of a file; another one has another. */
struct tcp_stamp {
    uint64_t device, inode, size;
    int64_t changed_ns;
};

struct tcp_net {
    struct net base;
    struct net_tcp_config config; /* defaults filled in */
    char *paths[3];               /* what its paths point to */
    struct tcp_stamp stamps[3];   /* of the files when they were read */
    uint64_t looked_ns;           /* when they were last compared */
    struct net_identity identity;
    struct tls_context *tls;
    struct uring *uring;
    struct list conns;
    struct fiber_queue conns_gone;
    struct pool *requests;
    uint8_t *sink;
};

/* Something to be sent, embedded in what it is about. One frame, or a payload in many. */
struct tcp_out {
    struct list_node node; /* in urgent or bulk of its connection; unlinked: idle or being sent */
    uint8_t type;
    uint16_t status;
    uint64_t call;
    const void *header; /* copied when the frame is made */
    uint32_t header_len;
    struct net_iov_cursor payload; /* lent until `sent` */
    const uint32_t *sums;          /* of the payload, see net_call; NULL: not known */
    uint32_t payload_left;
    uint32_t offset;
    uint32_t total;
    uint64_t deadline_ns;
    uint32_t room;
    bool last_made; /* the last frame of it has been made: the other side may hold all of it */
    void (*sent)(struct tcp_out *out); /* its memory is free again; not called when withdrawn */
};

/* Where the payload of a call is to land. */
struct tcp_landing {
    bool active;
    struct net_iov_cursor to;
    uint32_t total;
    uint32_t received;
    uint32_t crc; /* of all received so far */
    void (*landed)(struct tcp_landing *landing, int error);
};

enum tcp_state {
    CONN_CONNECTING,
    CONN_HANDSHAKE,
    CONN_GREETING, /* TLS is up, HELLO is not through */
    CONN_OPEN,
    CONN_DRAINING, /* refused; the reason is on its way, what comes in is dropped */
    CONN_CLOSING,  /* waiting for the kernel */
    CONN_CLOSED
};

struct tcp_rx {
    struct uring_op op;
    bool busy;
    bool direct; /* the receive under way goes to `landing`, or to the sink, not to `buffer` */
    uint32_t direct_bytes; /* of its payload; what comes beyond is in `buffer` */
    bool paused;           /* no room to refuse any more */
    bool saw_payload;
    uint64_t turn;   /* counts receives */
    uint8_t *buffer; /* [start, end) is unparsed */
    size_t start, end, want;
    struct msghdr message;
    struct iovec iov[NET_IOV_MAX + 1];

    size_t have, need; /* of head */
    bool framed;       /* head holds a whole frame, checked but for its message header */
    bool in_payload;
    struct tcp_frame frame;
    struct tcp_landing *landing; /* of the payload being received; NULL: nobody's */
    uint32_t left, crc;
    bool unchecked; /* bytes of this piece went to the sink */
    uint8_t head[TCP_FRAME_BYTES + TCP_TAG_BYTES + NET_HEADER_MAX];
};

struct tcp_tx {
    struct uring_op op;
    bool busy;
    uint64_t since_ns; /* when it last moved */
    uint64_t poll_ns;  /* the poll in which now_bytes were sent without the ring */
    size_t now_bytes;
    struct list urgent, bulk;
    struct tcp_out *lent; /* whose payload the kernel is reading */
    bool lent_withdrawn;
    struct msghdr message;
    struct iovec iov[1 + NET_IOV_MAX];
    uint8_t *head;
    size_t head_len;
    uint8_t *cipher;
};

struct tcp_conn {
    struct list_node node; /* in net->conns */
    struct tcp_net *net;
    unsigned references;
    int fd;
    bool server;
    enum tcp_state state;
    int error; /* what its calls end with */
    int connect_errno;
    char remote[NET_ADDRESS_MAX];
    struct sockaddr_storage address;
    socklen_t address_len;
    struct net_identity identity; /* of the other side */
    struct tcp_peer *peer;        /* client: NULL once closed */
    struct tcp_listener *listener;
    bool useful; /* client: the server answered at least one call */
    uint64_t heard_ns, handshake_due_ns;
    unsigned silent_ticks; /* in a row; one long pause of our own is one of them */
    struct timer timer;
    struct fiber_queue quiet; /* woken whenever the kernel lets go of something */

    struct tls_session *tls;
    struct tls_pipe pipe;
    bool plain;
    uint8_t version; /* of the frames that go either way now */
    struct tcp_tag *tag_in, *tag_out;
    uint64_t sequence_in, sequence_out;

    struct tcp_rx rx;
    struct tcp_tx tx;
    struct tcp_out ping, pong;

    uint16_t max_calls;
    struct tcp_request **table; /* server: by slot */
    struct list requests;       /* server: unanswered, cancelled ones too */
    unsigned unanswered;
    struct tcp_out refusals[TCP_REFUSALS];
};

struct tcp_slot {
    struct list_node node; /* in free */
    struct tcp_peer *peer;
    struct tcp_conn *conn; /* held */
    uint64_t call_id;
    struct net_call *call; /* NULL when nobody waits */
    bool answered;         /* nothing more will come for this call */
    struct completion done;
    struct tcp_out out;
    struct tcp_landing landing;
};

struct tcp_peer {
    struct net_peer base;
    struct sockaddr_storage address;
    socklen_t address_len;
    struct tcp_conn *conn;
    unsigned failures; /* in a row */
    uint64_t retry_ns; /* no new connection before */
    int last_error;
    unsigned calls; /* fibers in net_call() */
    struct fiber_queue idle;
    struct list free;
    uint64_t generation;
    struct tcp_slot *slots;
};

struct tcp_listener {
    struct net_listener base;
    int fd;
    struct uring_op accept_op;
    bool accepting;
    struct timer pause; /* before the next accept, when the system is out of descriptors */
    unsigned conns, unanswered;
    struct fiber_queue idle;
};

struct tcp_request {
    struct net_request base;
    struct list_node node; /* in conn->requests */
    struct tcp_conn *conn; /* held */
    struct tcp_listener *listener;
    uint64_t call;
    bool cancelled;
    int cancel_error;
    struct completion *waiting; /* of the pull or the reply under way */
    struct tcp_out out;
    struct tcp_landing landing;
    uint8_t header[NET_HEADER_MAX];
};

/* tcp.c */
uint64_t tcp_now(const struct tcp_net *net);
/* Before a new connection: certificates that were renewed are read again. */
void tcp_renew(struct tcp_net *net);
static inline struct tcp_net *tcp_net_of(const struct net *net)
{
    return container_of((struct net *)net, struct tcp_net, base);
}

/* tcp_conn.c */
int tcp_conn_connect(struct tcp_peer *peer);
void tcp_conn_accept(struct tcp_listener *listener, int fd);
void tcp_conn_get(struct tcp_conn *conn);
void tcp_conn_put(struct tcp_conn *conn);
/* From now on nothing is sent or received. Harmless when it closes already. */
void tcp_conn_close(struct tcp_conn *conn, int error);
/* Tell the other side why, then close. */
void tcp_conn_refuse(struct tcp_conn *conn, int error);
void tcp_conn_watch(struct tcp_conn *conn);
void tcp_conn_received(struct tcp_conn *conn, int32_t result);
void tcp_conn_sent(struct tcp_conn *conn);
/* A frame that concerns the connection and no call. */
void tcp_conn_frame(struct tcp_conn *conn, const struct tcp_frame *frame, const uint8_t *header);

/* tcp_rx.c */
int tcp_rx_create(struct tcp_conn *conn);
void tcp_rx_destroy(struct tcp_conn *conn);
void tcp_rx_plain(struct tcp_conn *conn); /* what comes next is not TLS any more */
void tcp_rx_arm(struct tcp_conn *conn);
void tcp_rx_run(struct tcp_conn *conn);
/* [fiber] When it returns nothing will be written to @landing's memory any more. */
void tcp_rx_abandon(struct tcp_conn *conn, struct tcp_landing *landing);

/* tcp_tx.c */
int tcp_tx_create(struct tcp_conn *conn);
void tcp_tx_destroy(struct tcp_conn *conn);
void tcp_tx_queue(struct tcp_conn *conn, struct tcp_out *out);
void tcp_tx_pump(struct tcp_conn *conn);
/* One frame into the TLS pipe, whatever the connection's mode; the pipe must be flushed after. */
int tcp_tx_greet(struct tcp_conn *conn, uint8_t type, int status, const void *body, size_t len);
void tcp_tx_flush_pipe(struct tcp_conn *conn);
/* [fiber] When it returns nothing reads @out's memory any more. */
void tcp_tx_withdraw(struct tcp_conn *conn, struct tcp_out *out);

/* tcp_peer.c */
int tcp_peer_open(struct net *net, const char *address, const char *name, unsigned max_calls,
                  struct net_peer **out);
void tcp_peer_close(struct net_peer *peer);
int tcp_call(struct net_peer *peer, struct net_call *call);
void tcp_call_cancel(struct net_peer *peer, struct net_call *call);
void tcp_peer_opened(struct tcp_conn *conn);
void tcp_peer_closed(struct tcp_conn *conn);
/* A frame of a call. Return: 0 and where its payload goes (NULL: nowhere), or an error. */
int tcp_peer_frame(struct tcp_conn *conn, const struct tcp_frame *frame, const uint8_t *header,
                   struct tcp_landing **landing);

/* tcp_listen.c */
int tcp_listen(struct net *net, const char *address, const struct net_service *service,
               struct net_listener **out);
void tcp_listener_close(struct net_listener *listener);
bool tcp_request_cancelled(const struct net_request *request);
int tcp_request_pull(struct net_request *request, const struct iovec *iov, unsigned iov_count,
                     uint64_t deadline_ns);
int tcp_reply(struct net_request *request, const void *header, size_t header_len,
              const struct iovec *payload, unsigned payload_count);
void tcp_refuse(struct net_request *request, int error);
void tcp_listen_closed(struct tcp_conn *conn);
int tcp_listen_frame(struct tcp_conn *conn, const struct tcp_frame *frame, const uint8_t *header,
                     struct tcp_landing **landing);

/* tcp_address.c */
int tcp_address_parse(const char *text, struct sockaddr_storage *address, socklen_t *len);
void tcp_address_format(const struct sockaddr_storage *address, char *text, size_t room);
bool tcp_address_is_loopback(const struct sockaddr_storage *address);

#endif
