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
#define MAP_MAX (64u << 20)

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

bool local_make_directory(const char *path)
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
    if (!local_make_directory(certs))
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

/* Nodes are dealt to racks as cards are. */
static int stand_in_rack(struct cluster_map *map, const char *node, unsigned rack)
{
    char name[32];
    snprintf(name, sizeof name, "rack-%u", rack + 1);
    const struct map_move move = {.nodes = &node, .count = 1, .rack = name};
    return map_change_nodes_move(map, &move);
}

static bool make_node(struct layout *layout, unsigned index)
{
    const struct local_plan *plan = layout->plan;
    uint32_t ids[LOCAL_TARGETS_MAX];
    char directory[CLI_PATH_MAX];
    struct map_node node = {.rack = 0};
    struct local_node_plan place = {
        .cluster_directory = layout->directory, .directory = directory,
        .cluster = layout->cluster, .authority = layout->authority,
        .data_plane = plan->data_plane, .partition_bits = layout->partition_bits,
        .targets = plan->targets_per_node, .ids = ids, .size_bytes = plan->size_bytes,
        .progress = &layout->progress};
    snprintf(node.name, sizeof node.name, "node-%u", index + 1);
    snprintf(directory, sizeof directory, "%s/%s", layout->directory, node.name);
    if (!local_free_address(node.data, sizeof node.data) ||
        !local_free_address(node.replication, sizeof node.replication) ||
        !local_free_address(node.management, sizeof node.management))
        return false;
    place.node = &node;
    int rc = map_change_node_add(layout->map, &node);
    for (unsigned t = 0; t < plan->targets_per_node && rc == 0; t++) {
        ids[t] = index * plan->targets_per_node + t + 1;
        rc = map_change_target_add(layout->map, ids[t], node.name,
                                   local_weight(plan->size_bytes));
    }
    if (rc == 0 && plan->racks > 0)
        rc = stand_in_rack(layout->map, node.name, index % (unsigned)plan->racks);
    if (rc == 0 && !local_make_node(&place, place.directory))
        return false;
    if (rc == 0 && !local_add_string(&layout->client.nodes, node.data))
        rc = SHOAL_E_NO_MEMORY;
    if (rc != 0)
        cli_fail("cannot lay out %s: %s", node.name, shoal_error_text(rc));
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
    if (!local_make_directory(path))
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

int local_load_map(const struct local *local, struct cluster_map **map)
{
    char path[CLI_PATH_MAX], *bytes;
    size_t len;
    local_path(local, "authority/map", path, sizeof path);
    int rc = file_read(path, MAP_MAX, &bytes, &len);
    if (rc == 0) {
        rc = cluster_map_decode(bytes, len, map);
        free(bytes);
    }
    if (rc == SHOAL_E_FORMAT)
        cli_fail("%s is of another release of Shoal, whose programs have to be used", path);
    else if (rc != 0)
        cli_fail("cannot read the cluster's map %s: %s", path, shoal_error_text(rc));
    return rc;
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

bool local_clear(const char *directory)
{
    DIR *stream = opendir(directory);
    struct dirent *entry;
    char path[CLI_PATH_MAX + 300];
    bool ok = true;
    while (stream != NULL && (entry = readdir(stream)) != NULL) {
        bool ours = strncmp(entry->d_name, "node-", 5) == 0 ||
                    strncmp(entry->d_name, "adding-node-", 12) == 0 ||
                    strcmp(entry->d_name, "removed") == 0 ||
                    strcmp(entry->d_name, "certs") == 0 || strcmp(entry->d_name, "authority") == 0;
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        if (ours && file_remove_tree(path) != 0) {
            cli_fail("cannot remove %s: %s", path, strerror(errno));
            ok = false;
        }
    }
    if (stream != NULL)
        closedir(stream);
    return ok;
}

bool local_create(const char *directory, const struct local_plan *plan)
{
    struct layout layout = {.directory = directory, .plan = plan};
    if (!local_make_directory(directory))
        return false;
    if (!local_has_space(directory, plan->nodes, plan->targets_per_node, plan->size_bytes))
        return false;
    (void)local_clear(directory); /* what an earlier attempt left that did not get to its end */
    random_os_bytes(layout.cluster, sizeof layout.cluster);
    hex_encode(layout.cluster, sizeof layout.cluster, layout.cluster_text);
    layout.partition_bits = local_partition_bits(plan->nodes * plan->targets_per_node);
    layout.map = cluster_map_create();
    bool ok = layout.map != NULL && local_free_address(layout.authority, sizeof layout.authority) &&
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
