/* SPDX-License-Identifier: Apache-2.0 */
/* Laying out one node of a cluster of this machine: addresses, devices, certificate, node.yaml. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/format.h"
#include "base/hash.h"
#include "base/progress.h"
#include "base/random.h"
#include "cli/local.h"
#include "core/dma.h"
#include "core/fiber.h"
#include "core/reactor.h"
#include "dev/dev.h"
#include "engine/engine.h"
#include "net/net.h"

/* All nodes and their clients share one machine, so less than a host of its own would be given. */
#define LOCAL_CATCH_UP_RATE (32u << 20)

/* Below the ports that the kernel gives to outgoing connections. */
#define PORT_FIRST 20000u
#define PORT_COUNT 12000u
#define PORT_TRIES 2000u

/* ---- ports ---- */

/* A port that nobody listens on now. Which one is random, so that two clusters seldom meet. */
bool local_free_address(char *out, size_t size)
{
    for (unsigned i = 0; i < PORT_TRIES; i++) {
        uint16_t port = (uint16_t)(PORT_FIRST + random_os_u64() % PORT_COUNT);
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port),
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bool free_port = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
        if (fd >= 0)
            close(fd);
        if (free_port) {
            snprintf(out, size, "127.0.0.1:%u", port);
            return true;
        }
    }
    cli_fail("no free TCP port was found between %u and %u", PORT_FIRST, PORT_FIRST + PORT_COUNT);
    return false;
}

/* ---- formatting ---- */

struct format_step {
    struct reactor *reactor;
    const char *path;
    uint64_t size_bytes;
    struct engine_format_config config;
    int rc;
};

static void format_fiber(void *arg)
{
    struct format_step *step = arg;
    static const struct dma_class classes[] = {{64u << 10, 16}, {1u << 20, 8}, {4u << 20, 2}};
    struct dma_arena *arena;
    struct dev *dev;
    step->rc = dma_arena_create(step->reactor, classes, ARRAY_LEN(classes), &arena);
    if (step->rc == 0) {
        step->rc = dev_uring_open(step->reactor, step->path, step->size_bytes, false, &dev);
        if (step->rc == 0) {
            step->rc = engine_format(dev, arena, &step->config);
            dev_close(dev);
        }
        dma_arena_destroy(arena);
    }
    reactor_stop(step->reactor);
}

static int explain_format(const char *path, int rc, uint64_t size_bytes)
{
    switch (rc) {
    case SHOAL_E_EXISTS:
        cli_fail("%s holds a Shoal device already: --force makes it empty", path);
        break;
    case SHOAL_E_FULL:
        cli_fail("%s: no space for %s here: choose a smaller --size or another --dir", path,
                 format_bytes(size_bytes).text);
        break;
    case SHOAL_E_BUSY:
        cli_fail("%s is in use by another process: stop that first", path);
        break;
    default:
        cli_fail("cannot format %s: %s", path, shoal_error_text(rc));
    }
    return rc;
}

int local_format(const char *path, uint64_t size_bytes, const uint8_t cluster[16], uint32_t target,
                 unsigned partition_bits, bool force)
{
    struct format_step step = {.path = path, .size_bytes = size_bytes,
                               .config = {.target = target, .partition_bits = partition_bits,
                                          .force = force}};
    memcpy(step.config.cluster, cluster, 16);
    struct reactor_config config = {.name = "format", .cpu = -1, .uring_entries = 64};
    struct fiber_pool *fibers;
    int rc = reactor_create(&config, &step.reactor);
    if (rc != 0) {
        cli_fail("io_uring is not available (%s): a container's seccomp profile or "
                 "/proc/sys/kernel/io_uring_disabled may forbid it", shoal_error_text(rc));
        return rc;
    }
    rc = fiber_pool_create(step.reactor, "format", 1, 256 << 10, &fibers);
    if (rc == 0) {
        (void)fiber_spawn(fibers, format_fiber, &step);
        reactor_run(step.reactor);
        while (fiber_pool_in_use(fibers) > 0)
            reactor_poll_once(step.reactor);
        fiber_pool_destroy(fibers);
        rc = step.rc;
    }
    reactor_destroy(step.reactor);
    return rc == 0 ? 0 : explain_format(path, rc, size_bytes);
}

/* ---- the node ---- */

uint32_t local_weight(uint64_t size_bytes)
{
    return (uint32_t)MAX(size_bytes >> 20, UINT64_C(1));
}

bool local_has_space(const char *directory, unsigned nodes, unsigned targets, uint64_t size_bytes)
{
    struct statvfs space;
    uint64_t need = size_bytes * nodes * targets;
    if (statvfs(directory, &space) != 0)
        return true;
    uint64_t have = (uint64_t)space.f_bavail * space.f_frsize;
    if (need <= have)
        return true;
    cli_fail("%u node%s with %u target%s of %s need%s %s, and %s has %s free: choose a smaller --size "
             "or another --dir", nodes, nodes == 1 ? "" : "s", targets, targets == 1 ? "" : "s",
             format_bytes(size_bytes).text, nodes == 1 ? "s" : "", format_bytes(need).text,
             directory, format_bytes(have).text);
    return false;
}

bool local_add_string(struct value_list *list, const char *text)
{
    char **items = realloc(list->items, (list->count + 1) * sizeof *items);
    if (items == NULL)
        return false;
    list->items = items;
    items[list->count] = strdup(text);
    return items[list->count++] != NULL;
}

/* Relative to where? Processes get absolute paths, for they run anywhere. */
static void fill_config(const struct local_node_plan *plan, struct shoald_config *config)
{
    char path[CLI_PATH_MAX + 64], cluster[33];
    hex_encode(plan->cluster, 16, cluster);
    *config = (struct shoald_config){
        .name = strdup(plan->node->name), .cluster = strdup(cluster),
        .directory = strdup(plan->directory), .data = strdup(plan->node->data),
        .replication = strdup(plan->node->replication),
        .management = strdup(plan->node->management), .authority = strdup(plan->authority),
        .data_plane = strdup(plan->data_plane), .memory = 128u << 20, .scrub_rate = 32u << 20,
        .scrub_pause_ns = UINT64_C(600000000000), .catch_up_rate = LOCAL_CATCH_UP_RATE,
        .log_level = strdup("info"),
    };
    snprintf(path, sizeof path, "%s/certs/ca.crt", plan->cluster_directory);
    config->ca = strdup(path);
    snprintf(path, sizeof path, "%s/node.crt", plan->directory);
    config->certificate = strdup(path);
    snprintf(path, sizeof path, "%s/node.key", plan->directory);
    config->key = strdup(path);
}

static bool make_devices(const struct local_node_plan *plan, const char *where,
                         struct shoald_config *config)
{
    char path[CLI_PATH_MAX + 64];
    for (unsigned t = 0; t < plan->targets; t++) {
        snprintf(path, sizeof path, "%s/disk-%u", plan->directory, t + 1);
        if (!local_add_string(&config->devices, path))
            return false;
        snprintf(path, sizeof path, "%s/disk-%u", where, t + 1);
        if (local_format(path, plan->size_bytes, plan->cluster, plan->ids[t], plan->partition_bits,
                         true) != 0)
            return false;
        progress_add(plan->progress, plan->size_bytes);
    }
    return true;
}

bool local_make_node(const struct local_node_plan *plan, const char *where)
{
    struct shoald_config config;
    char path[CLI_PATH_MAX + 64];
    if (!local_make_directory(where) ||
        !local_issue(plan->cluster_directory, NET_ROLE_NODE, plan->node->name, where, "node"))
        return false;
    fill_config(plan, &config);
    bool ok = make_devices(plan, where, &config);
    snprintf(path, sizeof path, "%s/node.yaml", where);
    int rc = ok ? shoald_config_write(path, &config) : 0;
    shoald_config_free(&config);
    if (rc != 0)
        cli_fail("cannot write %s: %s", path, shoal_error_text(rc));
    return ok && rc == 0;
}
