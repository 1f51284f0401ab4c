/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS 1.3 with certificates on both sides, over memory: no sockets here. A session reads what the
 * connection received and writes what it is to send, through one struct tls_pipe, without a buffer
 * between. Ciphertext is consumed record by record, so a connection may leave TLS after the last.
 */
#ifndef NET_TCP_TLS_H
#define NET_TCP_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/net.h"

struct tls_context;
struct tls_session;

/*
 * tls_context_create() - Certificate, key and authority from PEM files.
 * @identity: what our own certificate says
 * Return: 0, SHOAL_E_CONFIG with a line in the log that names file and cause, SHOAL_E_NO_MEMORY
 */
int tls_context_create(const char *certificate, const char *key, const char *ca,
                       struct tls_context **out, struct net_identity *identity);
void tls_context_put(struct tls_context *context); /* sessions hold it too */

/*
 * struct tls_pipe - Between a session and its connection. What is read leaves the front of `in`;
 * what is written is appended to `out`.
 */
struct tls_pipe {
    const uint8_t *in;
    size_t in_len;
    uint8_t *out;
    size_t out_len, out_room;
};

/*
 * tls_session_create() - @remote: address of the other side, for messages; borrowed.
 * Return: NULL when out of memory.
 */
struct tls_session *tls_session_create(struct tls_context *context, bool server,
                                       struct tls_pipe *pipe, const char *remote);
void tls_session_destroy(struct tls_session *session);

/*
 * tls_handshake() - Return: 1 when done, 0 when more must come in first, SHOAL_E_DENIED when either
 * side refused the other's certificate (what is in the pipe tells the other why), else
 * SHOAL_E_CONNECTION.
 */
int tls_handshake(struct tls_session *session);

/* What the other's certificate says; SHOAL_E_DENIED when it says no role we know. */
int tls_identity(struct tls_session *session, struct net_identity *identity);

/* Return: bytes, 0 when more must come in first, or as tls_handshake(). */
int tls_read(struct tls_session *session, void *to, size_t len);
/* All of it; the pipe must have room: tls_room(@len). Return: 0 or SHOAL_E_CONNECTION. */
int tls_write(struct tls_session *session, const void *from, size_t len);
/* What @len bytes become at most. */
size_t tls_room(size_t len);

/* Secrets that both sides derive from the session, and nobody else can. */
int tls_export(struct tls_session *session, const char *label, void *key, size_t len);

#endif
