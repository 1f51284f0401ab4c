/* SPDX-License-Identifier: Apache-2.0 */
/* Making certificates, and requests for them. */
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/macros.h"
#include "net/cert.h"
#include "shoal/error.h"

#define DAY_S (24L * 3600L)
#define BACKDATE_S 3600L /* so that a clock an hour behind accepts a new certificate */

static bool add_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    bool ok = extension != NULL && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return ok;
}

/* @cluster: NULL: not said */
static bool add_subject(X509_NAME *subject, const char *name, const char *role, const char *cluster)
{
    const char *const entries[][2] = {{"O", cluster}, {"OU", role}, {"CN", name}};
    for (size_t i = 0; i < ARRAY_LEN(entries); i++) {
        if (entries[i][1] != NULL &&
            X509_NAME_add_entry_by_txt(subject, entries[i][0], MBSTRING_UTF8,
                                       (const unsigned char *)entries[i][1], -1, -1, 0) != 1)
            return false;
    }
    return true;
}

static bool set_serial(X509 *certificate)
{
    unsigned char bytes[16];
    if (RAND_bytes(bytes, sizeof bytes) != 1)
        return false;
    bytes[0] &= 0x7f;
    BIGNUM *number = BN_bin2bn(bytes, sizeof bytes, NULL);
    bool ok =
        number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != NULL;
    BN_free(number);
    return ok;
}

static X509 *certificate_begin(EVP_PKEY *key, const char *name, const char *role,
                               const char *cluster, long valid_s)
{
    X509 *certificate = X509_new();
    if (certificate == NULL)
        return NULL;
    if (X509_set_version(certificate, X509_VERSION_3) == 1 && set_serial(certificate) &&
        X509_gmtime_adj(X509_getm_notBefore(certificate), -BACKDATE_S) != NULL &&
        X509_gmtime_adj(X509_getm_notAfter(certificate), valid_s) != NULL &&
        X509_set_pubkey(certificate, key) == 1 &&
        add_subject(X509_get_subject_name(certificate), name, role, cluster))
        return certificate;
    X509_free(certificate);
    return NULL;
}

/* PEM text of one of the three, to be freed. */
static char *pem_of(X509 *certificate, EVP_PKEY *key, X509_REQ *csr)
{
    BIO *memory = BIO_new(BIO_s_mem());
    int done = 0;
    if (memory != NULL && certificate != NULL)
        done = PEM_write_bio_X509(memory, certificate);
    else if (memory != NULL && csr != NULL)
        done = PEM_write_bio_X509_REQ(memory, csr);
    else if (memory != NULL)
        done = PEM_write_bio_PrivateKey(memory, key, NULL, NULL, 0, NULL, NULL);
    char *data = NULL, *text = NULL;
    long len = done == 1 ? BIO_get_mem_data(memory, &data) : 0;
    if (len > 0 && (text = calloc(1, (size_t)len + 1)) != NULL)
        memcpy(text, data, (size_t)len);
    BIO_free(memory);
    return text;
}

static int write_pem(const char *path, X509 *certificate, EVP_PKEY *key)
{
    char *text = pem_of(certificate, key, NULL);
    int error = text != NULL ? file_write_atomic(path, text, strlen(text), 0600)
                             : SHOAL_E_NO_MEMORY;
    if (error != 0)
        LOG_ERROR("cannot write %s: %s", path, shoal_error_text(error));
    free(text);
    return error;
}

static int write_pair(const char *directory, const char *stem, X509 *certificate, EVP_PKEY *key)
{
    char path[4096];
    int error = file_make_directories(directory, 0700);
    if (error != 0)
        return error;
    if ((size_t)snprintf(path, sizeof path, "%s/%s.key", directory, stem) >= sizeof path)
        return SHOAL_E_INVALID;
    error = write_pem(path, NULL, key);
    if (error != 0)
        return error;
    snprintf(path, sizeof path, "%s/%s.crt", directory, stem);
    return write_pem(path, certificate, NULL);
}

int net_cert_create_ca(const char *directory, const char *cluster)
{
    struct net_identity limits;
    if (strlen(cluster) == 0 || strlen(cluster) >= sizeof limits.cluster)
        return SHOAL_E_INVALID;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = NULL;
    int error = SHOAL_E_SYSTEM;
    if (key != NULL)
        certificate =
            certificate_begin(key, "Shoal cluster authority", "ca", cluster, 3650 * DAY_S);
    if (certificate != NULL &&
        X509_set_issuer_name(certificate, X509_get_subject_name(certificate)) == 1 &&
        add_extension(certificate, certificate, NID_basic_constraints,
                      "critical,CA:TRUE,pathlen:0") &&
        add_extension(certificate, certificate, NID_key_usage, "critical,keyCertSign,cRLSign") &&
        add_extension(certificate, certificate, NID_subject_key_identifier, "hash") &&
        X509_sign(certificate, key, EVP_sha256()) > 0)
        error = write_pair(directory, "ca", certificate, key);
    X509_free(certificate);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return error;
}

struct authority {
    X509 *certificate;
    EVP_PKEY *key;
    struct net_identity identity; /* only the cluster is set */
};

static BIO *open_pem(const char *directory, const char *file)
{
    char path[4096];
    if ((size_t)snprintf(path, sizeof path, "%s/%s", directory, file) >= sizeof path)
        return NULL;
    BIO *bio = BIO_new_file(path, "r");
    if (bio == NULL)
        LOG_ERROR("cannot read %s, which is needed to issue certificates", path);
    return bio;
}

static int authority_load(const char *directory, struct authority *ca)
{
    BIO *certificate = open_pem(directory, "ca.crt");
    BIO *key = open_pem(directory, "ca.key");
    int error = SHOAL_E_CONFIG;
    memset(ca, 0, sizeof *ca);
    if (certificate != NULL && key != NULL) {
        ca->certificate = PEM_read_bio_X509(certificate, NULL, NULL, NULL);
        ca->key = PEM_read_bio_PrivateKey(key, NULL, NULL, NULL);
        if (ca->certificate != NULL && ca->key != NULL &&
            X509_check_private_key(ca->certificate, ca->key) == 1)
            error = cert_name_entry(X509_get_subject_name(ca->certificate), NID_organizationName,
                                    ca->identity.cluster, sizeof ca->identity.cluster);
    }
    BIO_free(certificate);
    BIO_free(key);
    return error;
}

static void authority_free(struct authority *ca)
{
    X509_free(ca->certificate);
    EVP_PKEY_free(ca->key);
    ERR_clear_error();
}

static X509 *issue(const struct authority *ca, EVP_PKEY *key,
                   const struct net_cert_request *request)
{
    const char *cluster = request->cluster != NULL ? request->cluster : ca->identity.cluster;
    long valid_s = request->valid_s != 0 ? request->valid_s : 365 * DAY_S;
    X509 *certificate =
        certificate_begin(key, request->name, cert_role_name(request->role), cluster, valid_s);
    if (certificate != NULL &&
        X509_set_issuer_name(certificate, X509_get_subject_name(ca->certificate)) == 1 &&
        add_extension(certificate, ca->certificate, NID_basic_constraints, "critical,CA:FALSE") &&
        add_extension(certificate, ca->certificate, NID_key_usage, "critical,digitalSignature") &&
        add_extension(certificate, ca->certificate, NID_ext_key_usage, "serverAuth,clientAuth") &&
        X509_sign(certificate, ca->key, EVP_sha256()) > 0)
        return certificate;
    X509_free(certificate);
    return NULL;
}

static int request_check(const struct net_cert_request *request)
{
    struct net_identity limits;
    size_t len = strlen(request->name);
    bool known = request->role > NET_ROLE_NONE && request->role <= NET_ROLE_JOIN;
    return len > 0 && len < sizeof limits.name && known ? 0 : SHOAL_E_INVALID;
}

int net_cert_issue_for(const char *ca_directory, const struct net_cert_request *request)
{
    struct authority ca = {0};
    int error = request_check(request);
    if (error == 0)
        error = authority_load(ca_directory, &ca);
    EVP_PKEY *key = error == 0 ? EVP_EC_gen("P-256") : NULL;
    X509 *certificate = key != NULL ? issue(&ca, key, request) : NULL;
    if (certificate != NULL)
        error = write_pair(request->directory, request->stem, certificate, key);
    else if (error == 0)
        error = SHOAL_E_SYSTEM;
    X509_free(certificate);
    EVP_PKEY_free(key);
    authority_free(&ca);
    return error;
}

int net_cert_issue(const char *ca_directory, enum net_role role, const char *name,
                   const char *directory, const char *stem)
{
    const struct net_cert_request request = {
        .role = role, .name = name, .directory = directory, .stem = stem};
    return net_cert_issue_for(ca_directory, &request);
}

/* ---- requests: the key stays where it is made ---- */

static char *make_csr(EVP_PKEY *key, const struct net_cert_request *request)
{
    X509_REQ *csr = X509_REQ_new();
    char *text = NULL;
    if (csr != NULL && X509_REQ_set_pubkey(csr, key) == 1 &&
        add_subject(X509_REQ_get_subject_name(csr), request->name, cert_role_name(request->role),
                    request->cluster) &&
        X509_REQ_sign(csr, key, EVP_sha256()) > 0)
        text = pem_of(NULL, NULL, csr);
    X509_REQ_free(csr);
    return text;
}

int net_cert_request(const struct net_cert_request *request, char **csr)
{
    char path[4096];
    int error = request_check(request);
    *csr = NULL;
    if (error == 0)
        error = file_make_directories(request->directory, 0700);
    if (error != 0)
        return error;
    if ((size_t)snprintf(path, sizeof path, "%s/%s.key", request->directory, request->stem) >=
        sizeof path)
        return SHOAL_E_INVALID;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    *csr = key != NULL ? make_csr(key, request) : NULL;
    error = *csr != NULL ? write_pem(path, NULL, key) : SHOAL_E_SYSTEM;
    EVP_PKEY_free(key);
    ERR_clear_error();
    if (error != 0) {
        free(*csr);
        *csr = NULL;
    }
    return error;
}

/* What it asks for, and proof that who asks has the key. */
static int read_csr(const char *text, X509_REQ **out, struct net_identity *wanted)
{
    char role[16];
    BIO *memory = BIO_new_mem_buf(text, -1);
    X509_REQ *csr = memory != NULL ? PEM_read_bio_X509_REQ(memory, NULL, NULL, NULL) : NULL;
    BIO_free(memory);
    memset(wanted, 0, sizeof *wanted);
    EVP_PKEY *key = csr != NULL ? X509_REQ_get0_pubkey(csr) : NULL;
    X509_NAME *subject = csr != NULL ? X509_REQ_get_subject_name(csr) : NULL;
    if (key == NULL || EVP_PKEY_get_bits(key) < 256 || X509_REQ_verify(csr, key) != 1 ||
        cert_name_entry(subject, NID_commonName, wanted->name, sizeof wanted->name) != 0 ||
        cert_name_entry(subject, NID_organizationalUnitName, role, sizeof role) != 0) {
        X509_REQ_free(csr);
        ERR_clear_error();
        return SHOAL_E_INVALID;
    }
    wanted->role = net_role_named(role);
    *out = csr;
    return 0;
}

int net_cert_request_read(const char *csr, struct net_identity *wanted)
{
    X509_REQ *parsed;
    int error = read_csr(csr, &parsed, wanted);
    if (error == 0)
        X509_REQ_free(parsed);
    return error;
}

int net_cert_sign(const char *ca_directory, const char *csr, const struct net_cert_request *request,
                  char **certificate)
{
    struct net_identity wanted;
    struct authority ca = {0};
    X509_REQ *parsed = NULL;
    *certificate = NULL;
    int error = request_check(request);
    if (error == 0)
        error = read_csr(csr, &parsed, &wanted);
    if (error == 0)
        error = authority_load(ca_directory, &ca);
    X509 *made = error == 0 ? issue(&ca, X509_REQ_get0_pubkey(parsed), request) : NULL;
    if (made != NULL)
        *certificate = pem_of(made, NULL, NULL);
    if (error == 0 && *certificate == NULL)
        error = SHOAL_E_SYSTEM;
    X509_free(made);
    X509_REQ_free(parsed);
    authority_free(&ca);
    return error;
}
