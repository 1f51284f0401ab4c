/* SPDX-License-Identifier: Apache-2.0 */
#include "net/tcp_tls.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "net/cert.h"
#include "shoal/error.h"

#define RECORD_MAX 16384u
#define RECORD_EXTRA 64u /* header, content type, tag; rounded up */

struct tls_context {
    SSL_CTX *ctx;
    unsigned references;
};

struct tls_session {
    SSL *ssl;
    struct tls_context *context;
    const char *remote;
    bool certificate_refused; /* by us, and logged */
};

/* ---- the pipe as OpenSSL sees it ---- */

static int pipe_read(BIO *bio, char *to, int len)
{
    struct tls_pipe *pipe = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (pipe->in_len == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    size_t take = pipe->in_len < (size_t)len ? pipe->in_len : (size_t)len;
    memcpy(to, pipe->in, take);
    pipe->in += take;
    pipe->in_len -= take;
    return (int)take;
}

static int pipe_write(BIO *bio, const char *from, int len)
{
    struct tls_pipe *pipe = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (pipe->out_room - pipe->out_len < (size_t)len)
        return -1;
    memcpy(pipe->out + pipe->out_len, from, (size_t)len);
    pipe->out_len += (size_t)len;
    return len;
}

static long pipe_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *pipe_method(void)
{
    static BIO_METHOD *method; /* each thread may build one, the first wins; they are alike */
    BIO_METHOD *found = __atomic_load_n(&method, __ATOMIC_ACQUIRE);
    if (found != NULL)
        return found;
    BIO_METHOD *made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "shoal pipe");
    if (made == NULL)
        return NULL;
    BIO_meth_set_read(made, pipe_read);
    BIO_meth_set_write(made, pipe_write);
    BIO_meth_set_ctrl(made, pipe_ctrl);
    if (__atomic_compare_exchange_n(&method, &found, made, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE))
        return made;
    BIO_meth_free(made);
    return found;
}

/* ---- contexts ---- */

static const char *ssl_reason(void)
{
    unsigned long code = ERR_peek_last_error();
    if (ERR_SYSTEM_ERROR(code))
        return strerror(ERR_GET_REASON(code));
    const char *reason = ERR_reason_error_string(code);
    return reason != NULL ? reason : "no reason given";
}

static int on_verify(int ok, X509_STORE_CTX *store)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct tls_session *session = SSL_get_app_data(ssl);
    if (ok || session->certificate_refused)
        return ok;
    session->certificate_refused = true;
    int error = X509_STORE_CTX_get_error(store);
    char name[64] = "(none)";
    X509 *certificate = X509_STORE_CTX_get_current_cert(store);
    if (certificate != NULL)
        X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name,
                                  sizeof name);
    const char *hint = "it was not issued by this cluster's authority";
    if (error == X509_V_ERR_CERT_HAS_EXPIRED)
        hint = "it has expired and must be renewed";
    else if (error == X509_V_ERR_CERT_NOT_YET_VALID)
        hint = "it is not valid yet: compare the clocks of both machines";
    LOG_WARN("the certificate of '%s' at %s is refused: %s (%s)", name, session->remote, hint,
             X509_verify_cert_error_string(error));
    return 0;
}

static int context_load(SSL_CTX *ctx, const char *certificate, const char *key, const char *ca)
{
    ERR_clear_error();
    if (SSL_CTX_load_verify_file(ctx, ca) != 1) {
        LOG_ERROR("cannot read the cluster's authority %s: %s", ca, ssl_reason());
        return SHOAL_E_CONFIG;
    }
    if (SSL_CTX_use_certificate_chain_file(ctx, certificate) != 1) {
        LOG_ERROR("cannot read the certificate %s: %s", certificate, ssl_reason());
        return SHOAL_E_CONFIG;
    }
    if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1) {
        LOG_ERROR("cannot use the key %s: %s", key, ssl_reason());
        return SHOAL_E_CONFIG;
    }
    if (SSL_CTX_check_private_key(ctx) != 1) {
        LOG_ERROR("the key %s is not that of the certificate %s", key, certificate);
        return SHOAL_E_CONFIG;
    }
    return 0;
}

static int context_configure(SSL_CTX *ctx)
{
    if (SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
                                      "TLS_CHACHA20_POLY1305_SHA256") != 1 ||
        SSL_CTX_set_num_tickets(ctx, 0) != 1)
        return SHOAL_E_SYSTEM;
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, on_verify);
    SSL_CTX_set_verify_depth(ctx, 2);
    return 0;
}

int tls_context_create(const char *certificate, const char *key, const char *ca,
                       struct tls_context **out, struct net_identity *identity)
{
    struct tls_context *context = calloc(1, sizeof *context);
    if (context == NULL)
        return SHOAL_E_NO_MEMORY;
    context->references = 1;
    context->ctx = SSL_CTX_new(TLS_method());
    int error = context->ctx == NULL ? SHOAL_E_NO_MEMORY : context_configure(context->ctx);
    if (error == 0)
        error = context_load(context->ctx, certificate, key, ca);
    if (error == 0) {
        error = cert_identity(SSL_CTX_get0_certificate(context->ctx), identity);
        if (error != 0) {
            LOG_ERROR("the certificate %s does not say a name, a role and a cluster", certificate);
            error = SHOAL_E_CONFIG;
        }
    }
    if (error != 0) {
        tls_context_put(context);
        return error;
    }
    *out = context;
    return 0;
}

void tls_context_put(struct tls_context *context)
{
    if (context == NULL || --context->references > 0)
        return;
    SSL_CTX_free(context->ctx);
    free(context);
}

/* ---- sessions ---- */

struct tls_session *tls_session_create(struct tls_context *context, bool server,
                                       struct tls_pipe *pipe, const char *remote)
{
    struct tls_session *session = calloc(1, sizeof *session);
    if (session == NULL)
        return NULL;
    BIO_METHOD *method = pipe_method();
    BIO *bio = method != NULL ? BIO_new(method) : NULL;
    session->ssl = SSL_new(context->ctx);
    if (bio == NULL || session->ssl == NULL) {
        BIO_free(bio);
        SSL_free(session->ssl);
        free(session);
        return NULL;
    }
    BIO_set_data(bio, pipe);
    BIO_set_init(bio, 1);
    SSL_set_bio(session->ssl, bio, bio);
    SSL_set_app_data(session->ssl, session);
    if (server)
        SSL_set_accept_state(session->ssl);
    else
        SSL_set_connect_state(session->ssl);
    session->remote = remote;
    session->context = context;
    context->references++;
    return session;
}

void tls_session_destroy(struct tls_session *session)
{
    if (session == NULL)
        return;
    SSL_free(session->ssl);
    tls_context_put(session->context);
    free(session);
}

/* Alerts by which the other side says that it refused our certificate. */
static bool reason_is_denial(int reason)
{
    switch (reason) {
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
    case SSL_R_TLSV1_ALERT_ACCESS_DENIED:
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
    case SSL_R_TLSV1_ALERT_DECRYPT_ERROR:
        return true;
    default:
        return false;
    }
}

static int session_error(struct tls_session *session, int result)
{
    int kind = SSL_get_error(session->ssl, result);
    if (kind == SSL_ERROR_WANT_READ)
        return 0;
    if (session->certificate_refused)
        return SHOAL_E_DENIED;
    if (kind == SSL_ERROR_ZERO_RETURN)
        return SHOAL_E_CONNECTION;
    int reason = ERR_GET_REASON(ERR_peek_last_error());
    if (reason_is_denial(reason)) {
        LOG_WARN("%s refuses our certificate: %s", session->remote, ssl_reason());
        return SHOAL_E_DENIED;
    }
    if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) {
        LOG_WARN("%s shows no certificate and is refused", session->remote);
        return SHOAL_E_DENIED;
    }
    LOG_WARN("the TLS session with %s failed: %s", session->remote, ssl_reason());
    return SHOAL_E_CONNECTION;
}

int tls_handshake(struct tls_session *session)
{
    ERR_clear_error();
    int result = SSL_do_handshake(session->ssl);
    return result == 1 ? 1 : session_error(session, result);
}

int tls_identity(struct tls_session *session, struct net_identity *identity)
{
    X509 *certificate = SSL_get0_peer_certificate(session->ssl);
    if (certificate == NULL)
        return SHOAL_E_DENIED;
    return cert_identity(certificate, identity);
}

int tls_read(struct tls_session *session, void *to, size_t len)
{
    ERR_clear_error();
    int result = SSL_read(session->ssl, to, len < INT_MAX ? (int)len : INT_MAX);
    return result > 0 ? result : session_error(session, result);
}

int tls_write(struct tls_session *session, const void *from, size_t len)
{
    CHECK(len <= INT_MAX);
    if (len == 0)
        return 0;
    ERR_clear_error();
    int result = SSL_write(session->ssl, from, (int)len);
    if (result == (int)len)
        return 0;
    LOG_WARN("writing to the TLS session with %s failed: %s", session->remote, ssl_reason());
    return SHOAL_E_CONNECTION;
}

size_t tls_room(size_t len)
{
    return len + (len / RECORD_MAX + 1) * RECORD_EXTRA;
}

int tls_export(struct tls_session *session, const char *label, void *key, size_t len)
{
    int done = SSL_export_keying_material(session->ssl, key, len, label, strlen(label), NULL, 0, 0);
    return done == 1 ? 0 : SHOAL_E_SYSTEM;
}
