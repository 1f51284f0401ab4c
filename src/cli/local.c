/* SPDX-License-Identifier: Apache-2.0 */
/* Finding, laying out and loading a cluster's directory. */
#include "cli/local.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/file.h"
#include "base/format.h"
#include "base/hash.h"
#include "base/progress.h"
#include "base/random.h"
#include "core/dma.h"
#include "core/fiber.h"
#include "core/reactor.h"
#include "dev/dev.h"
#include "ec/ec.h"
#include "engine/engine.h"
#include "net/net.h"

/* Below the ports that the kernel gives to outgoing connections. */
#define PORT_FIRST 20000u
#define PORT_COUNT 12000u
#define PORT_TRIES 2000u
#define STRIPE_SIZE (4u << 20)

/* ---- where ---- */

bool local_directory(const char *wanted, char *out, size_t size)
{
    char given[CLI_PATH_MAX], resolved[PATH_MAX];
    if (wanted != NULL) {
        snprintf(given, sizeof given, "%s", wanted);
    } else if (client_file_last(given, sizeof given) != 0 || !local_exists(given)) {
        const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
        if (data != NULL && data[0] == '/')
            snprintf(given, sizeof given, "%s/shoal", data);
        else if (home != NULL && home[0] == '/')
            snprintf(given, sizeof given, "%s/.local/share/shoal", home);
        else
            snprintf(given, sizeof given, "/var/tmp/shoal-%u", (unsigned)getuid());
    }
    if (realpath(given, resolved) == NULL) {
        /* Not there yet: absolute all the same, because processes will run elsewhere. */
        char here[PATH_MAX];
        if (given[0] == '/')
            snprintf(resolved, sizeof resolved, "%s", given);
        else if (getcwd(here, sizeof here) == NULL ||
                 (size_t)snprintf(resolved, sizeof resolved, "%s/%s", here, given) >=
                     sizeof resolved)
            return false;
    }
    if ((size_t)snprintf(out, size, "%s", resolved) < size)
        return true;
    cli_fail("the directory's path is too long: %s", resolved);
    return false;
}

bool local_directory_of(const char *config, char *out, size_t size)
{
    char path[CLI_PATH_MAX];
    const char *environment = getenv("SHOAL_CONFIG");
    if (config == NULL && environment != NULL && environment[0] != 0)
        config = environment;
    if (config == NULL)
        return client_file_last(out, size) == 0;
    if (realpath(config, path) == NULL)
        return false;
    char *slash = strrchr(path, '/');
    *slash = 0;
    return (size_t)snprintf(out, size, "%s", path) < size;
}

bool local_exists(const char *directory)
{
    char path[CLI_PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/client.yaml", directory);
    return access(path, F_OK) == 0;
}

const char *local_path(const struct local *local, const char *name, char *out, size_t size)
{
    snprintf(out, size, "%s/%s", local->directory, name);
    return out;
}

/* ---- ports ---- */

/* A port that nobody listens on now. Which one is random, so that two clusters seldom meet. */
static bool free_address(char *out, size_t size)
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

/* ---- laying out ---- */

struct layout {
    const char *directory;
    const struct local_plan *plan;
    uint8_t cluster[16];
    char cluster_text[33];
    unsigned partition_bits;
    struct cluster_map *map;
    char authority[CLUSTER_ADDRESS_MAX];
    struct client_file client;
    struct progress progress;
};

static bool make_directory(const char *path)
{
    if (file_make_directories(path, 0700) == 0)
        return true;
    cli_fail("cannot make the directory %s: %s", path, strerror(errno));
    return false;
}

/* Enough partitions that each target has its even share of them, and few enough to list quickly. */
unsigned local_partition_bits(unsigned targets)
{
    unsigned bits = 8;
    while (bits < 16 && (1u << bits) < targets * 32)
        bits++;
    return bits;
}

bool local_issue(const char *cluster_directory, enum net_role role, const char *name,
                 const char *directory, const char *stem)
{
    char certs[CLI_PATH_MAX];
    snprintf(certs, sizeof certs, "%s/certs", cluster_directory);
    int rc = net_cert_issue(certs, role, name, directory, stem);
    if (rc != 0)
        cli_fail("cannot make the certificate of %s: %s", name, shoal_error_text(rc));
    return rc == 0;
}

bool local_make_certificates(const char *directory, const char *cluster)
{
    char certs[CLI_PATH_MAX];
    snprintf(certs, sizeof certs, "%s/certs", directory);
    if (!make_directory(certs))
        return false;
    int rc = net_cert_create_ca(certs, cluster);
    if (rc != 0) {
        cli_fail("cannot make the cluster's certificate authority: %s", shoal_error_text(rc));
        return false;
    }
    return local_issue(directory, NET_ROLE_AUTHORITY, "authority", certs, "authority") &&
           local_issue(directory, NET_ROLE_ADMIN, "admin", certs, "admin") &&
           local_issue(directory, NET_ROLE_CLIENT, "client", certs, "client");
}

static bool add_string(struct value_list *list, const char *text)
{
    char **items = realloc(list->items, (list->count + 1) * sizeof *items);
    if (items == NULL)
        return false;
    list->items = items;
    items[list->count] = strdup(text);
    return items[list->count++] != NULL;
}

static bool make_node(struct layout *layout, unsigned index)
{
    const struct local_plan *plan = layout->plan;
    char name[32], directory[CLI_PATH_MAX], path[CLI_PATH_MAX + 64];
    struct map_node node = {.rack = 0};
    snprintf(name, sizeof name, "node-%u", index + 1);
    snprintf(node.name, sizeof node.name, "%s", name);
    snprintf(directory, sizeof directory, "%s/%s", layout->directory, name);
    if (!make_directory(directory) ||
        !local_issue(layout->directory, NET_ROLE_NODE, name, directory, "node") ||
        !free_address(node.data, sizeof node.data) ||
        !free_address(node.replication, sizeof node.replication) ||
        !free_address(node.management, sizeof node.management))
        return false;
    int rc = map_change_node_add(layout->map, &node);
    /* Relative to where? Processes get absolute paths, for they run anywhere. */
    struct shoald_config config = {
        .name = strdup(name), .cluster = strdup(layout->cluster_text),
        .directory = strdup(directory), .data = strdup(node.data),
        .replication = strdup(node.replication), .management = strdup(node.management),
        .authority = strdup(layout->authority), .data_plane = strdup(plan->data_plane),
        .memory = 128u << 20, .scrub_rate = 32u << 20,
        .scrub_pause_ns = UINT64_C(600000000000), .catch_up_rate = 256u << 20,
        .log_level = strdup("info"),
    };
    snprintf(path, sizeof path, "%s/certs/ca.crt", layout->directory);
    config.ca = strdup(path);
    snprintf(path, sizeof path, "%s/node.crt", directory);
    config.certificate = strdup(path);
    snprintf(path, sizeof path, "%s/node.key", directory);
    config.key = strdup(path);
    for (unsigned t = 0; t < plan->targets_per_node && rc == 0; t++) {
        uint32_t id = index * plan->targets_per_node + t + 1;
        uint64_t weight = MAX(plan->size_bytes >> 20, UINT64_C(1));
        snprintf(path, sizeof path, "%s/disk-%u", directory, t + 1);
        if (!add_string(&config.devices, path))
            rc = SHOAL_E_NO_MEMORY;
        if (rc == 0)
            rc = map_change_target_add(layout->map, id, name, (uint32_t)weight);
        if (rc == 0 && local_format(path, plan->size_bytes, layout->cluster, id,
                                    layout->partition_bits, true) != 0) {
            shoald_config_free(&config);
            return false;
        }
        progress_add(&layout->progress, plan->size_bytes);
    }
    snprintf(path, sizeof path, "%s/node.yaml", directory);
    if (rc == 0)
        rc = shoald_config_write(path, &config);
    shoald_config_free(&config);
    if (rc == 0 && !add_string(&layout->client.nodes, node.data))
        rc = SHOAL_E_NO_MEMORY;
    if (rc != 0)
        cli_fail("cannot lay out %s: %s", name, shoal_error_text(rc));
    return rc == 0;
}

/* The pools that everybody expects, where there are targets enough for them. */
static void make_pools(struct layout *layout)
{
    static const struct {
        const char *name;
        uint8_t k, m;
        bool cache;
    } pools[] = {{"durable", 4, 2, false}, {"replicated", 1, 2, false}, {"kv", 1, 0, true}};
    char why[256];
    for (size_t i = 0; i < ARRAY_LEN(pools); i++) {
        struct map_pool pool = {.erasure = pools[i].k > 1, .k = pools[i].k, .m = pools[i].m,
                                .cache = pools[i].cache, .stripe_size = STRIPE_SIZE,
                                .copies_below = EC_COPIES_BELOW};
        snprintf(pool.name, sizeof pool.name, "%s", pools[i].name);
        if (map_pool_check(layout->map, &pool, why) == 0 &&
            map_change_pool_create(layout->map, &pool) == 0)
            continue;
        fprintf(stderr, "shoal: the default pool '%s' needs %u targets and this cluster has %u: "
                        "left out (more --nodes or --targets-per-node, or 'shoal pool create')\n",
                pools[i].name, pools[i].k + pools[i].m, layout->map->targets_count);
    }
}

bool local_save_map(const char *directory, const struct cluster_map *map)
{
    char path[CLI_PATH_MAX];
    snprintf(path, sizeof path, "%s/authority", directory);
    if (!make_directory(path))
        return false;
    size_t size = cluster_map_encoded_size(map);
    void *bytes = malloc(size);
    size_t len = bytes != NULL ? cluster_map_encode(map, bytes, size) : 0;
    snprintf(path, sizeof path, "%s/authority/map", directory);
    int rc = len > 0 ? file_write_atomic(path, bytes, len, 0600) : SHOAL_E_NO_MEMORY;
    free(bytes);
    if (rc != 0)
        cli_fail("cannot write %s: %s", path, shoal_error_text(rc));
    return rc == 0;
}

static bool save_client(struct layout *layout)
{
    struct client_file *client = &layout->client;
    char path[CLI_PATH_MAX];
    /* Paths relative to the file: the directory may be copied to where a client runs. */
    client->cluster = strdup(layout->cluster_text);
    client->authority = strdup(layout->authority);
    client->data_plane = strdup(layout->plan->data_plane);
    client->ca = strdup("certs/ca.crt");
    client->certificate = strdup("certs/client.crt");
    client->key = strdup("certs/client.key");
    client->admin_certificate = strdup("certs/admin.crt");
    client->admin_key = strdup("certs/admin.key");
    snprintf(path, sizeof path, "%s/client.yaml", layout->directory);
    int rc = client_file_write(path, client);
    if (rc != 0)
        cli_fail("cannot write %s: %s", path, shoal_error_text(rc));
    return rc == 0;
}

static bool enough_space(const struct layout *layout)
{
    struct statvfs space;
    const struct local_plan *plan = layout->plan;
    uint64_t need = plan->size_bytes * plan->nodes * plan->targets_per_node;
    if (statvfs(layout->directory, &space) != 0)
        return true;
    uint64_t have = (uint64_t)space.f_bavail * space.f_frsize;
    if (need <= have)
        return true;
    cli_fail("%u nodes with %u targets of %s need %s, and %s has %s free: choose a smaller --size or "
             "another --dir", plan->nodes, plan->targets_per_node,
             format_bytes(plan->size_bytes).text, format_bytes(need).text, layout->directory,
             format_bytes(have).text);
    return false;
}

/* What an earlier attempt left that did not get to its end. Only names that are ours. */
static void clear_remains(const char *directory)
{
    DIR *stream = opendir(directory);
    struct dirent *entry;
    char path[CLI_PATH_MAX + 300];
    while (stream != NULL && (entry = readdir(stream)) != NULL) {
        bool ours = strncmp(entry->d_name, "node-", 5) == 0 ||
                    strcmp(entry->d_name, "certs") == 0 || strcmp(entry->d_name, "authority") == 0;
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        if (ours && file_remove_tree(path) != 0)
            fprintf(stderr, "shoal: cannot remove %s: %s\n", path, strerror(errno));
    }
    if (stream != NULL)
        closedir(stream);
}

bool local_create(const char *directory, const struct local_plan *plan)
{
    struct layout layout = {.directory = directory, .plan = plan};
    if (!make_directory(directory))
        return false;
    if (!enough_space(&layout))
        return false;
    clear_remains(directory);
    random_os_bytes(layout.cluster, sizeof layout.cluster);
    hex_encode(layout.cluster, sizeof layout.cluster, layout.cluster_text);
    layout.partition_bits = local_partition_bits(plan->nodes * plan->targets_per_node);
    layout.map = cluster_map_create();
    bool ok = layout.map != NULL && free_address(layout.authority, sizeof layout.authority) &&
              local_make_certificates(directory, layout.cluster_text);
    if (ok) {
        memcpy(layout.map->cluster, layout.cluster, sizeof layout.cluster);
        layout.map->partition_bits = layout.partition_bits;
    }
    progress_begin(&layout.progress, "preparing devices",
                   plan->size_bytes * plan->nodes * plan->targets_per_node, !plan->quiet);
    for (unsigned i = 0; i < plan->nodes && ok; i++)
        ok = make_node(&layout, i);
    progress_end(&layout.progress);
    if (ok)
        make_pools(&layout);
    ok = ok && local_save_map(directory, layout.map) && save_client(&layout);
    client_file_free(&layout.client);
    if (layout.map != NULL)
        cluster_map_free(layout.map);
    return ok;
}

/* ---- loading ---- */

static int by_name(const void *a, const void *b)
{
    const struct local_node *left = a, *right = b;
    return strverscmp(left->name, right->name);
}

bool local_load_node(struct local *local, const char *name)
{
    struct value_error why;
    struct local_node *node = &local->nodes[local->nodes_count];
    size_t len = strlen(name);
    if (len >= sizeof node->name)
        return true; /* not one of ours */
    if (local->nodes_count == LOCAL_NODES_MAX) {
        cli_fail("%s holds more than %u nodes", local->directory, LOCAL_NODES_MAX);
        return false;
    }
    memcpy(node->name, name, len + 1);
    snprintf(node->directory, sizeof node->directory, "%s/%s", local->directory, node->name);
    snprintf(node->config_path, sizeof node->config_path, "%s/node.yaml", node->directory);
    snprintf(node->pid_file, sizeof node->pid_file, "%s/pid", node->directory);
    snprintf(node->log, sizeof node->log, "%s/log", node->directory);
    if (shoald_config_load(node->config_path, &node->config, &why) != 0) {
        cli_fail("%s", why.text);
        return false;
    }
    local->nodes_count++;
    return true;
}

struct local *local_load(const char *directory)
{
    struct local *local = calloc(1, sizeof *local);
    struct value_error why;
    char path[CLI_PATH_MAX];
    if (local == NULL)
        return NULL;
    snprintf(local->directory, sizeof local->directory, "%s", directory);
    local_path(local, "client.yaml", path, sizeof path);
    if (client_file_load(path, &local->client, &why) != 0) {
        cli_fail("%s is no cluster of 'shoal up': %s", directory, why.text);
        free(local);
        return NULL;
    }
    DIR *stream = opendir(directory);
    struct dirent *entry;
    local->nodes = calloc(LOCAL_NODES_MAX + 1, sizeof *local->nodes); /* their addresses stay */
    bool ok = stream != NULL && local->nodes != NULL;
    while (ok && (entry = readdir(stream)) != NULL)
        if (strncmp(entry->d_name, "node-", 5) == 0)
            ok = local_load_node(local, entry->d_name);
    if (stream != NULL)
        closedir(stream);
    if (!ok) {
        local_free(local);
        return NULL;
    }
    if (local->nodes_count > 0)
        qsort(local->nodes, local->nodes_count, sizeof *local->nodes, by_name);
    return local;
}

void local_free(struct local *local)
{
    if (local == NULL)
        return;
    for (unsigned i = 0; i < local->nodes_count; i++)
        shoald_config_free(&local->nodes[i].config);
    client_file_free(&local->client);
    free(local->nodes);
    free(local);
}

struct local_node *local_node_named(struct local *local, const char *name)
{
    for (unsigned i = 0; i < local->nodes_count; i++)
        if (strcmp(local->nodes[i].name, name) == 0)
            return &local->nodes[i];
    cli_fail("there is no node '%s': the nodes are node-1 to node-%u", name, local->nodes_count);
    return NULL;
}
