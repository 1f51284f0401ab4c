/* SPDX-License-Identifier: Apache-2.0 */
#include "memory_node.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/check.h"
#include "base/macros.h"
#include "client/client.h"
#include "cluster/cluster.h"
#include "core/dma.h"
#include "core/fiber.h"
#include "core/reactor.h"
#include "dev/dev.h"
#include "engine/engine.h"
#include "net/net.h"
#include "node/node.h"
#include "shoal/error.h"

#define DEVICE_BYTES (128u << 20)
#define PARTITION_BITS 4u

struct memory_node {
    const char *directory;
    bool plain;
    int ready; /* a byte is written here once it serves */
    struct reactor *reactor;
    struct fiber_pool *fibers;
    struct net *net;
    struct dma_arena *arena;
    struct engine *engine;
    struct authority *authority;
    struct node *node;
};

static int keep_nothing(void *ctx, const void *bytes, size_t len)
{
    (void)ctx, (void)bytes, (void)len;
    return 0;
}

static int load_nothing(void *ctx, void **bytes, size_t *len)
{
    (void)ctx, (void)bytes, (void)len;
    return SHOAL_E_NOT_FOUND;
}

static void open_net(struct memory_node *self)
{
    char certificate[128], key[128], ca[128];

    snprintf(certificate, sizeof certificate, "%s/node.crt", self->directory);
    snprintf(key, sizeof key, "%s/node.key", self->directory);
    snprintf(ca, sizeof ca, "%s/ca.crt", self->directory);
    const struct net_tcp_config config = {
        .certificate = certificate, .key = key, .ca = ca, .plain = self->plain};
    CHECK(net_tcp_create(self->reactor, &config, &self->net) == 0);
}

static void open_engine(struct memory_node *self)
{
    const struct engine_format_config format = {.partition_bits = PARTITION_BITS};
    const struct engine_config config = {0};
    struct dev_sim_store *store = NULL;
    struct dev *dev = NULL;
    struct engine_report report;

    CHECK(dev_sim_store_create(DEVICE_BYTES, &store) == 0);
    CHECK(dev_sim_open(self->reactor, store, &(struct dev_sim_config){.name = "memory"}, &dev) == 0);
    CHECK(engine_format(dev, self->arena, &format) == 0);
    CHECK(engine_open(dev, self->arena, &config, &self->engine, &report) == 0);
}

/* The map needs the node's addresses, which are known when it listens: ports are asked for first. */
static void open_authority(struct memory_node *self, const char *address)
{
    struct cluster_map *map = cluster_map_create();
    struct map_node node = {.name = "node"};
    const struct map_pool pool = {.name = "one", .k = 1, .m = 0, .stripe_size = 4u << 20};

    CHECK(map != NULL);
    memcpy(map->cluster, "a-bench-in-memory", sizeof map->cluster);
    map->partition_bits = PARTITION_BITS;
    snprintf(node.data, sizeof node.data, "%s", address);
    snprintf(node.replication, sizeof node.replication, "%s", address);
    CHECK(map_change_node_add(map, &node) == 0);
    CHECK(map_change_target_add(map, 0, "node", 100) == 0);
    CHECK(map_change_pool_create(map, &pool) == 0);
    CHECK(map_change_publish(map) == 0);
    const struct authority_config config = {
        .reactor = self->reactor, .net = self->net, .map = map, .save = keep_nothing};
    CHECK(authority_create(&config, &self->authority) == 0);
    CHECK(authority_listen(self->authority, "127.0.0.1:0") == 0);
}

static void free_address(struct memory_node *self, char *address, size_t room)
{
    const struct net_service service = {0};
    struct net_listener *listener = NULL;

    CHECK(net_listen(self->net, "127.0.0.1:0", &service, &listener) == 0);
    snprintf(address, room, "%s", net_listener_address(listener));
    net_listener_close(listener);
}

static void open_node(struct memory_node *self, const char *address)
{
    struct authority_remote *remote = NULL;

    CHECK(authority_remote_create(self->reactor, self->net, authority_address(self->authority),
                                  &remote) == 0);
    struct node_config config = {
        .name = "node",
        .reactor = self->reactor,
        .data = self->net,
        .replication = self->net,
        .arena = self->arena,
        .authority = authority_remote_door(remote),
        .store = {load_nothing, keep_nothing, NULL},
        .targets_count = 1,
        .targets = {{.id = 0, .engine = self->engine}},
    };
    snprintf(config.data_address, sizeof config.data_address, "%s", address);
    snprintf(config.replication_address, sizeof config.replication_address, "%s", address);
    CHECK(node_create(&config, &self->node) == 0);
    CHECK(node_start(self->node) == 0);
}

static void write_client_file(struct memory_node *self, const char *address)
{
    char path[128], ca[128], certificate[128], key[128];
    char *nodes[] = {(char *)(uintptr_t)address};

    snprintf(path, sizeof path, "%s/client.yaml", self->directory);
    snprintf(ca, sizeof ca, "%s/ca.crt", self->directory);
    snprintf(certificate, sizeof certificate, "%s/client.crt", self->directory);
    snprintf(key, sizeof key, "%s/client.key", self->directory);
    const struct client_file file = {
        .cluster = "bench",
        .nodes = {.items = nodes, .count = 1},
        .authority = (char *)(uintptr_t)authority_address(self->authority),
        .data_plane = self->plain ? "plain" : "tls",
        .ca = ca,
        .certificate = certificate,
        .key = key,
        .admin_certificate = certificate,
        .admin_key = key,
    };
    CHECK(client_file_write(path, &file) == 0);
}

static void serve(void *arg)
{
    struct memory_node *self = arg;
    char address[NET_ADDRESS_MAX];

    open_net(self);
    open_engine(self);
    free_address(self, address, sizeof address);
    open_authority(self, address);
    open_node(self, address);
    while (!node_is_settled(self->node) || node_map(self->node) == NULL ||
           !node_map(self->node)->nodes[0].up)
        fiber_sleep(1000000);
    write_client_file(self, address);
    CHECK(write(self->ready, "!", 1) == 1);
}

static _Noreturn void run(const char *directory, bool plain, int ready)
{
    static const struct dma_class classes[] = {
        {24u << 10, 64}, {160u << 10, 32}, {1152u << 10, 32}, {4224u << 10, 8}};
    struct memory_node self = {.directory = directory, .plain = plain, .ready = ready};
    const struct reactor_config config = {.name = "node", .cpu = -1, .uring_entries = 256};

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    CHECK(reactor_create(&config, &self.reactor) == 0);
    CHECK(fiber_pool_create(self.reactor, "bench", 2, 256u << 10, &self.fibers) == 0);
    CHECK(dma_arena_create(self.reactor, classes, ARRAY_LEN(classes), &self.arena) == 0);
    CHECK(fiber_spawn(self.fibers, serve, &self) == 0);
    reactor_run(self.reactor);
    _exit(0);
}

pid_t memory_node_start(const char *directory, bool plain)
{
    int pair[2];
    char byte;

    CHECK(net_cert_create_ca(directory, "bench") == 0);
    CHECK(net_cert_issue(directory, NET_ROLE_NODE, "node", directory, "node") == 0);
    CHECK(net_cert_issue(directory, NET_ROLE_CLIENT, "client", directory, "client") == 0);
    CHECK(pipe(pair) == 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0)
        run(directory, plain, pair[1]);
    close(pair[1]);
    CHECK_MSG(read(pair[0], &byte, 1) == 1, "the node did not start");
    close(pair[0]);
    return pid;
}
