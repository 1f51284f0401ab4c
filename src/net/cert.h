/* SPDX-License-Identifier: Apache-2.0 */
/* What a certificate says of its holder; private to net. Making them is in net.h. */
#ifndef NET_CERT_H
#define NET_CERT_H

#include <openssl/x509.h>

#include "net/net.h"

/*
 * cert_identity() - The subject's CN is the name, OU the role, O the cluster, each exactly once.
 * Return: 0, or SHOAL_E_DENIED when one is missing, doubled, too long or unknown.
 */
int cert_identity(X509 *certificate, struct net_identity *identity);

const char *cert_role_name(enum net_role role);

#endif
