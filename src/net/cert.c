/* SPDX-License-Identifier: Apache-2.0 */
#include "net/cert.h"

#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/hash.h"
#include "base/macros.h"
#include "shoal/error.h"

static const char *const role_names[] = {
    [NET_ROLE_CLIENT] = "client",
    [NET_ROLE_NODE] = "node",
    [NET_ROLE_AUTHORITY] = "authority",
    [NET_ROLE_ADMIN] = "admin",
    [NET_ROLE_JOIN] = "join",
};

const char *cert_role_name(enum net_role role)
{
    return role > NET_ROLE_NONE && role < ARRAY_LEN(role_names) ? role_names[role] : "none";
}

enum net_role net_role_named(const char *name)
{
    for (size_t i = NET_ROLE_NONE + 1; i < ARRAY_LEN(role_names); i++)
        if (strcmp(name, role_names[i]) == 0)
            return (enum net_role)i;
    return NET_ROLE_NONE;
}

const char *net_role_name(enum net_role role)
{
    return cert_role_name(role);
}

int cert_name_entry(X509_NAME *name, int nid, char *out, size_t room)
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
    if (cert_name_entry(subject, NID_commonName, identity->name, sizeof identity->name) != 0 ||
        cert_name_entry(subject, NID_organizationName, identity->cluster,
                        sizeof identity->cluster) != 0 ||
        cert_name_entry(subject, NID_organizationalUnitName, role, sizeof role) != 0)
        return SHOAL_E_DENIED;
    identity->role = net_role_named(role);
    return identity->role == NET_ROLE_NONE ? SHOAL_E_DENIED : 0;
}

/* ---- looking at files ---- */

static X509 *read_certificate(const char *path)
{
    BIO *file = BIO_new_file(path, "r");
    X509 *certificate = file != NULL ? PEM_read_bio_X509(file, NULL, NULL, NULL) : NULL;
    BIO_free(file);
    ERR_clear_error();
    return certificate;
}

static int64_t seconds_of(const ASN1_TIME *time)
{
    struct tm broken;
    return ASN1_TIME_to_tm(time, &broken) == 1 ? (int64_t)timegm(&broken) : 0;
}

static int describe(X509 *certificate, struct net_cert_info *info)
{
    unsigned char digest[32];
    unsigned len = sizeof digest;
    memset(info, 0, sizeof *info);
    info->valid_from_s = seconds_of(X509_get0_notBefore(certificate));
    info->valid_until_s = seconds_of(X509_get0_notAfter(certificate));
    if (X509_digest(certificate, EVP_sha256(), digest, &len) != 1 || len != sizeof digest)
        return SHOAL_E_SYSTEM;
    hex_encode(digest, sizeof digest, info->fingerprint);
    return cert_identity(certificate, &info->identity);
}

int net_cert_read(const char *path, struct net_cert_info *info)
{
    X509 *certificate = read_certificate(path);
    if (certificate == NULL)
        return SHOAL_E_CONFIG;
    int error = describe(certificate, info);
    X509_free(certificate);
    return error;
}

static bool is_signed_by(X509 *certificate, X509 *ca, const char **why)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *context = X509_STORE_CTX_new();
    bool ok = store != NULL && context != NULL && X509_STORE_add_cert(store, ca) == 1 &&
              X509_STORE_CTX_init(context, store, certificate, NULL) == 1 &&
              X509_verify_cert(context) == 1;
    *why = ok || context == NULL
               ? "" : X509_verify_cert_error_string(X509_STORE_CTX_get_error(context));
    X509_STORE_CTX_free(context);
    X509_STORE_free(store);
    return ok;
}

int net_cert_check(const char *certificate_path, const char *key_path, const char *ca_path,
                   struct net_cert_info *info, char *why, size_t size)
{
    X509 *certificate = read_certificate(certificate_path), *ca = read_certificate(ca_path);
    BIO *file = BIO_new_file(key_path, "r");
    EVP_PKEY *key = file != NULL ? PEM_read_bio_PrivateKey(file, NULL, NULL, NULL) : NULL;
    const char *reason = "";
    int error = SHOAL_E_CONFIG;
    BIO_free(file);
    memset(info, 0, sizeof *info);
    if (certificate == NULL || ca == NULL || key == NULL)
        snprintf(why, size, "cannot read %s",
                 certificate == NULL ? certificate_path : ca == NULL ? ca_path : key_path);
    else if (describe(certificate, info) != 0)
        snprintf(why, size, "%s does not say a name, a role and a cluster", certificate_path);
    else if (X509_check_private_key(certificate, key) != 1)
        snprintf(why, size, "%s is not the key of %s", key_path, certificate_path);
    else if (!is_signed_by(certificate, ca, &reason))
        snprintf(why, size, "%s is not good by %s: %s", certificate_path, ca_path, reason);
    else
        error = 0;
    EVP_PKEY_free(key);
    X509_free(certificate);
    X509_free(ca);
    ERR_clear_error();
    return error;
}
