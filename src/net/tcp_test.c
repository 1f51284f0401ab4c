/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/macros.h"
#include "net/test_rig.h"
#include "shoal/error.h"

static char directory[64];

static int certificates_make(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/shoal-net-XXXXXX");
    assert_non_null(mkdtemp(directory));
    assert_int_equal(net_cert_create_ca(directory, "reef"), 0);
    assert_int_equal(net_cert_issue(directory, NET_ROLE_NODE, "server", directory, "server"), 0);
    assert_int_equal(net_cert_issue(directory, NET_ROLE_CLIENT, "client", directory, "client"), 0);
    return 0;
}

static int certificates_remove(void **state)
{
    (void)state;
    return file_remove_tree(directory);
}

static struct net *net_with(struct rig *rig, const char *stem, const char *ca, bool plain)
{
    char certificate[128], key[128], authority[128];
    snprintf(certificate, sizeof certificate, "%s/%s.crt", directory, stem);
    snprintf(key, sizeof key, "%s/%s.key", directory, stem);
    snprintf(authority, sizeof authority, "%s/%s.crt", directory, ca);
    const struct net_tcp_config config = {.certificate = certificate,
                                          .key = key,
                                          .ca = authority,
                                          .plain = plain,
                                          .max_calls = 1100,
                                          .max_requests = 1100,
                                          .max_connections = 20,
                                          .handshake_ms = 300,
                                          .stall_ms = 500,
                                          .ping_ms = 200};
    struct net *net = NULL;
    assert_int_equal(net_tcp_create(rig->reactor, &config, &net), 0);
    return net;
}

void rig_nets_create(struct rig *rig)
{
    bool plain = rig->backend == RIG_TCP_PLAIN;
    rig->server_net = net_with(rig, "server", "ca", plain);
    rig->client_net = net_with(rig, "client", "ca", plain);
}

void rig_nets_destroy(struct rig *rig)
{
    net_destroy(rig->client_net);
    net_destroy(rig->server_net);
}

const char *rig_listen_address(const struct rig *rig)
{
    (void)rig;
    return "127.0.0.1:0";
}

int main(void)
{
    int failed = 0;
    if (certificates_make(NULL) != 0)
        return 1;
    rig_promises(RIG_TCP_TLS, "net over tcp with TLS", &failed);
    rig_promises(RIG_TCP_PLAIN, "net over tcp, plain", &failed);
    certificates_remove(NULL);
    return failed;
}
