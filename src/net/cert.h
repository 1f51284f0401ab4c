/* SPDX-License-Identifier: Apache-2.0 */
/* What a certificate says of its holder (cert.c); private to net. Making them (cert_issue.c) is in net.h. */
#ifndef NET_CERT_H
#define NET_CERT_H

#include <openssl/x509.h>

#include "net/net.h"

/*
 * cert_identity() - The subject's CN is the name, OU the role, O the cluster, each exactly once.
 * Return: 0, or SHOAL_E_DENIED when one is missing, doubled, too long or unknown.
 */
int cert_identity(X509 *certificate, struct net_identity *identity);

/* The one entry of this kind, which must be there and fit. */
int cert_name_entry(X509_NAME *name, int nid, char *out, size_t room);

const char *cert_role_name(enum net_role role);

#endif
