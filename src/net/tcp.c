/* SPDX-License-Identifier: Apache-2.0 */
#include "net/tcp.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/check.h"
#include "base/log.h"
#include "net/cert.h"
#include "shoal/error.h"

#define LOOK_NS UINT64_C(1000000000) /* between looks at the files of certificates */

uint64_t tcp_now(const struct tcp_net *net)
{
    return reactor_now_ns(net->base.reactor);
}

static void net_free(struct tcp_net *net)
{
    tls_context_put(net->tls);
    pool_destroy(net->requests);
    free(net->sink);
    for (unsigned i = 0; i < ARRAY_LEN(net->paths); i++)
        free(net->paths[i]);
    free(net);
}

/* [fiber] Connections that are still closing hold kernel operations, and those hold memory. */
static void tcp_destroy(struct net *base)
{
    struct tcp_net *net = tcp_net_of(base);
    while (!list_empty(&net->conns))
        fiber_queue_wait(&net->conns_gone);
    net_free(net);
}

static const struct net_ops tcp_ops = {
    .peer_open = tcp_peer_open,
    .peer_close = tcp_peer_close,
    .call = tcp_call,
    .call_cancel = tcp_call_cancel,
    .listen = tcp_listen,
    .listener_close = tcp_listener_close,
    .request_cancelled = tcp_request_cancelled,
    .request_pull = tcp_request_pull,
    .reply = tcp_reply,
    .refuse = tcp_refuse,
    .destroy = tcp_destroy,
};

static void config_defaults(struct net_tcp_config *config)
{
    config->max_connections = config->max_connections != 0 ? config->max_connections : 256;
    config->max_calls = config->max_calls != 0 ? config->max_calls : 256;
    config->max_calls = MIN(config->max_calls, TCP_SLOTS_MAX);
    config->max_requests = config->max_requests != 0 ? config->max_requests : 1024;
    config->handshake_ms = config->handshake_ms != 0 ? config->handshake_ms : 5000;
    config->stall_ms = config->stall_ms != 0 ? config->stall_ms : 10000;
    config->ping_ms = config->ping_ms != 0 ? config->ping_ms : 2000;
}

static int paths_copy(struct tcp_net *net)
{
    const char **const from[] = {&net->config.certificate, &net->config.key, &net->config.ca};
    for (unsigned i = 0; i < ARRAY_LEN(net->paths); i++) {
        net->paths[i] = strdup(*from[i]);
        if (net->paths[i] == NULL)
            return SHOAL_E_NO_MEMORY;
        *from[i] = net->paths[i];
    }
    return 0;
}

/* All zero for what is not there. */
static void take_stamps(const struct tcp_net *net, struct tcp_stamp *stamps)
{
    for (unsigned i = 0; i < ARRAY_LEN(net->stamps); i++) {
        struct stat about;
        memset(&stamps[i], 0, sizeof stamps[i]);
        if (stat(net->paths[i], &about) == 0)
            stamps[i] = (struct tcp_stamp){
                about.st_dev, about.st_ino, (uint64_t)about.st_size,
                about.st_mtim.tv_sec * INT64_C(1000000000) + about.st_mtim.tv_nsec};
    }
}

int net_tcp_create(struct reactor *reactor, const struct net_tcp_config *config, struct net **out)
{
    if (reactor_uring(reactor) == NULL)
        return SHOAL_E_UNSUPPORTED;
    struct tcp_net *net = calloc(1, sizeof *net);
    if (net == NULL)
        return SHOAL_E_NO_MEMORY;
    net->base.ops = &tcp_ops;
    net->base.reactor = reactor;
    net->config = *config;
    config_defaults(&net->config);
    net->uring = reactor_uring(reactor);
    list_init(&net->conns);
    fiber_queue_init(&net->conns_gone);
    net->sink = malloc(TCP_SINK_BYTES);
    net->requests =
        pool_create("net requests", sizeof(struct tcp_request), net->config.max_requests, 0);
    net->looked_ns = tcp_now(net);
    int error = net->sink == NULL || net->requests == NULL ? SHOAL_E_NO_MEMORY : 0;
    if (error == 0)
        error = paths_copy(net);
    if (error == 0)
        take_stamps(net, net->stamps);
    if (error == 0)
        error = tls_context_create(config->certificate, config->key, config->ca, &net->tls,
                                   &net->identity);
    if (error != 0) {
        net_free(net);
        return error;
    }
    *out = &net->base;
    return 0;
}

int net_tcp_reload(struct net *base)
{
    CHECK(base->ops == &tcp_ops);
    struct tcp_net *net = tcp_net_of(base);
    struct tcp_stamp stamps[ARRAY_LEN(net->stamps)];
    struct tls_context *fresh = NULL;
    take_stamps(net, stamps);
    struct net_identity identity;
    const struct net_tcp_config *config = &net->config;
    int error = tls_context_create(config->certificate, config->key, config->ca, &fresh, &identity);
    if (error != 0)
        return error;
    tls_context_put(net->tls);
    net->tls = fresh;
    net->identity = identity;
    memcpy(net->stamps, stamps, sizeof stamps);
    LOG_INFO("certificates read again: we are %s '%s' of cluster %s", cert_role_name(identity.role),
             identity.name, identity.cluster);
    return 0;
}

/* While a file is missing, or a key is new and its certificate is not yet, the old ones serve on. */
void tcp_renew(struct tcp_net *net)
{
    struct tcp_stamp stamps[ARRAY_LEN(net->stamps)];
    uint64_t now = tcp_now(net);
    if (now < net->looked_ns + LOOK_NS)
        return;
    net->looked_ns = now;
    take_stamps(net, stamps);
    if (memcmp(stamps, net->stamps, sizeof stamps) != 0)
        (void)net_tcp_reload(&net->base);
}

const struct net_identity *net_tcp_identity(const struct net *base)
{
    CHECK(base->ops == &tcp_ops);
    return &tcp_net_of(base)->identity;
}
