/* SPDX-License-Identifier: Apache-2.0 */
#include "net/cert.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "base/macros.h"
#include "shoal/error.h"

#define DAY_S (24L * 3600L)
#define BACKDATE_S 3600L /* so that a clock an hour behind accepts a new certificate */

static const char *const role_names[] = {
    [NET_ROLE_CLIENT] = "client",
    [NET_ROLE_NODE] = "node",
    [NET_ROLE_AUTHORITY] = "authority",
    [NET_ROLE_ADMIN] = "admin",
};

const char *cert_role_name(enum net_role role)
{
    return role > NET_ROLE_NONE && role <= NET_ROLE_ADMIN ? role_names[role] : "none";
}

/* ---- reading ---- */

static int name_entry(X509_NAME *name, int nid, char *out, size_t room)
{
    int at = X509_NAME_get_index_by_NID(name, nid, -1);
    if (at < 0 || X509_NAME_get_index_by_NID(name, nid, at) >= 0)
        return SHOAL_E_DENIED;
    unsigned char *text = NULL;
    int len = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
    int error = SHOAL_E_DENIED;
    if (len > 0 && (size_t)len < room && memchr(text, 0, (size_t)len) == NULL) {
        memcpy(out, text, (size_t)len);
        out[len] = '\0';
        error = 0;
    }
    OPENSSL_free(text);
    return error;
}

int cert_identity(X509 *certificate, struct net_identity *identity)
{
    memset(identity, 0, sizeof *identity);
    X509_NAME *subject = X509_get_subject_name(certificate);
    char role[16];
    if (name_entry(subject, NID_commonName, identity->name, sizeof identity->name) != 0 ||
        name_entry(subject, NID_organizationName, identity->cluster, sizeof identity->cluster) !=
            0 ||
        name_entry(subject, NID_organizationalUnitName, role, sizeof role) != 0)
        return SHOAL_E_DENIED;
    for (int i = NET_ROLE_CLIENT; i <= NET_ROLE_ADMIN; i++) {
        if (strcmp(role, role_names[i]) == 0)
            identity->role = (enum net_role)i;
    }
    return identity->role == NET_ROLE_NONE ? SHOAL_E_DENIED : 0;
}

/* ---- making ---- */

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

static bool set_subject(X509 *certificate, const char *name, const char *role, const char *cluster)
{
    const char *const entries[][2] = {{"O", cluster}, {"OU", role}, {"CN", name}};
    X509_NAME *subject = X509_get_subject_name(certificate);
    for (size_t i = 0; i < ARRAY_LEN(entries); i++) {
        if (X509_NAME_add_entry_by_txt(subject, entries[i][0], MBSTRING_UTF8,
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
        X509_set_pubkey(certificate, key) == 1 && set_subject(certificate, name, role, cluster))
        return certificate;
    X509_free(certificate);
    return NULL;
}

static int write_pem(const char *path, X509 *certificate, EVP_PKEY *key)
{
    BIO *memory = BIO_new(BIO_s_mem());
    if (memory == NULL)
        return SHOAL_E_NO_MEMORY;
    int done = certificate != NULL
                   ? PEM_write_bio_X509(memory, certificate)
                   : PEM_write_bio_PrivateKey(memory, key, NULL, NULL, 0, NULL, NULL);
    char *data = NULL;
    long len = BIO_get_mem_data(memory, &data);
    int error = SHOAL_E_SYSTEM;
    if (done == 1 && len > 0)
        error = file_write_atomic(path, data, (size_t)len, 0600);
    if (error != 0)
        LOG_ERROR("cannot write %s: %s", path, shoal_error_text(error));
    BIO_free(memory);
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
            error = name_entry(X509_get_subject_name(ca->certificate), NID_organizationName,
                               ca->identity.cluster, sizeof ca->identity.cluster);
    }
    BIO_free(certificate);
    BIO_free(key);
    return error;
}

int net_cert_issue_for(const char *ca_directory, const struct net_cert_request *request)
{
    struct net_identity limits;
    size_t name_len = strlen(request->name);
    if (name_len == 0 || name_len >= sizeof limits.name || request->role <= NET_ROLE_NONE ||
        request->role > NET_ROLE_ADMIN)
        return SHOAL_E_INVALID;
    struct authority ca;
    int error = authority_load(ca_directory, &ca);
    EVP_PKEY *key = error == 0 ? EVP_EC_gen("P-256") : NULL;
    X509 *certificate = NULL;
    if (error == 0) {
        error = SHOAL_E_SYSTEM;
        const char *cluster = request->cluster != NULL ? request->cluster : ca.identity.cluster;
        long valid_s = request->valid_s != 0 ? request->valid_s : 365 * DAY_S;
        if (key != NULL)
            certificate = certificate_begin(key, request->name, cert_role_name(request->role),
                                            cluster, valid_s);
    }
    if (certificate != NULL &&
        X509_set_issuer_name(certificate, X509_get_subject_name(ca.certificate)) == 1 &&
        add_extension(certificate, ca.certificate, NID_basic_constraints, "critical,CA:FALSE") &&
        add_extension(certificate, ca.certificate, NID_key_usage, "critical,digitalSignature") &&
        add_extension(certificate, ca.certificate, NID_ext_key_usage, "serverAuth,clientAuth") &&
        X509_sign(certificate, ca.key, EVP_sha256()) > 0)
        error = write_pair(request->directory, request->stem, certificate, key);
    X509_free(certificate);
    EVP_PKEY_free(key);
    X509_free(ca.certificate);
    EVP_PKEY_free(ca.key);
    ERR_clear_error();
    return error;
}

int net_cert_issue(const char *ca_directory, enum net_role role, const char *name,
                   const char *directory, const char *stem)
{
    const struct net_cert_request request = {
        .role = role, .name = name, .directory = directory, .stem = stem};
    return net_cert_issue_for(ca_directory, &request);
}
