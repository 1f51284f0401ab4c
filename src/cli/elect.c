/* SPDX-License-Identifier: Apache-2.0 */
/* shoal cluster elect: the map goes from a file to etcd, the authority from one host to nodes. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/cluster.h"
#include "cli/local.h"
#include "cli/process.h"
#include "core/fiber.h"
#include "core/reactor.h"

#define MAP_MAX (64u << 20)

struct elect {
    char *dir, *prefix, *ca, *certificate, *key, *authority;
    struct value_list endpoints;
};

static const struct option_spec options[] = {
    {{"dir", VALUE_STRING, offsetof(struct elect, dir), "/etc/shoal", 1, 0, NULL,
      "Where 'shoal cluster init' made the cluster."}, 'd', "DIR"},
    {{"etcd", VALUE_LIST, offsetof(struct elect, endpoints), NULL, 1, 9, NULL,
      "A member of etcd; repeat for each."}, 'e', "https://HOST:PORT"},
    {{"prefix", VALUE_STRING, offsetof(struct elect, prefix), "shoal", 1, 100, NULL,
      "Of the cluster's keys in etcd."}, 0, NULL},
    {{"etcd_ca", VALUE_STRING, offsetof(struct elect, ca), NULL, 1, 0, NULL,
      "Who issued etcd's certificates."}, 0, "FILE"},
    {{"etcd_cert", VALUE_STRING, offsetof(struct elect, certificate), NULL, 1, 0, NULL,
      "The certificate that etcd's members know us by."}, 0, "FILE"},
    {{"etcd_key", VALUE_STRING, offsetof(struct elect, key), NULL, 1, 0, NULL,
      "Its private key."}, 0, "FILE"},
    {{"authority", VALUE_STRING, offsetof(struct elect, authority), NULL, 1, 4095, NULL,
      "listen.authority of nodes that may be elected, for client.yaml."}, 'a',
     "HOST:PORT,..."},
};
static const struct options_command command = {
    .name = "shoal cluster elect", .arguments = "",
    .summary = "Hand the map of a cluster to etcd, for good: from then on its nodes elect the "
               "authority among them. The authority of this host must be stopped before.",
    .example = "shoal cluster elect --etcd https://10.0.0.1:2379 --etcd https://10.0.0.2:2379 \\\n"
               "  --etcd https://10.0.0.3:2379 --etcd-ca ca.crt --etcd-cert etcd.crt "
               "--etcd-key etcd.key \\\n  --authority 10.0.0.11:7400,10.0.0.12:7400",
    .options = options, .option_count = ARRAY_LEN(options),
};

struct founding {
    const struct elect *elect;
    struct reactor *reactor;
    struct cluster_map *map;
    int rc;
};

static void found_fiber(void *arg)
{
    struct founding *founding = arg;
    const struct elect *elect = founding->elect;
    const struct etcd_config config = {
        .endpoints = (const char *const *)elect->endpoints.items,
        .endpoints_count = (unsigned)elect->endpoints.count,
        .ca = elect->ca, .certificate = elect->certificate, .key = elect->key};
    struct etcd_client *client;
    founding->rc = etcd_client_create(founding->reactor, &config, &client);
    if (founding->rc == 0) {
        founding->rc = authority_etcd_found(etcd_client_door(client), elect->prefix, founding->map);
        etcd_client_stop(client);
        etcd_client_destroy(client);
    }
    reactor_stop(founding->reactor);
}

static int found(const struct elect *elect, struct cluster_map *map)
{
    struct reactor_config config = {.name = "elect", .cpu = -1, .uring_entries = 64};
    struct founding founding = {.elect = elect, .map = map};
    struct fiber_pool *fibers;
    int rc = reactor_create(&config, &founding.reactor);
    if (rc != 0)
        return rc;
    rc = fiber_pool_create(founding.reactor, "elect", 1, 256 << 10, &fibers);
    if (rc == 0) {
        (void)fiber_spawn(fibers, found_fiber, &founding);
        reactor_run(founding.reactor);
        while (fiber_pool_in_use(fibers) > 0)
            reactor_poll_once(founding.reactor);
        fiber_pool_destroy(fibers);
        rc = founding.rc;
    }
    reactor_destroy(founding.reactor);
    return rc;
}

static struct cluster_map *read_map(const char *path)
{
    struct cluster_map *map = NULL;
    char *bytes;
    size_t len;
    int rc = file_read(path, MAP_MAX, &bytes, &len);
    if (rc == 0) {
        rc = cluster_map_decode(bytes, len, &map);
        free(bytes);
    }
    if (rc != 0)
        cli_fail("cannot read the cluster's map %s: %s", path, shoal_error_text(rc));
    return map;
}

static int explain(const struct elect *elect, int rc)
{
    if (rc == SHOAL_E_EXISTS)
        return cli_fail("etcd holds a map under '%s' already: choose another --prefix",
                        elect->prefix);
    return cli_fail("etcd's members did not take the map (%s); whether it is there after all, "
                    "'etcdctl get --prefix %s' says", shoal_error_text(rc), elect->prefix);
}

static int run(const struct elect *elect)
{
    char directory[CLI_PATH_MAX - 96], path[CLI_PATH_MAX], gone[CLI_PATH_MAX];
    if (!local_directory(elect->dir, directory, sizeof directory))
        return EXIT_FAILED;
    /* Held to the end: two authorities would be two clusters. */
    snprintf(path, sizeof path, "%s/authority/pid", directory);
    int lock = process_claim(path);
    if (lock < 0)
        return cli_fail("the authority runs in %s: stop it first (systemctl disable --now "
                        "shoal-authority)", directory);
    snprintf(path, sizeof path, "%s/authority/map", directory);
    snprintf(gone, sizeof gone, "%s/authority/map.in-etcd", directory);
    struct cluster_map *map = read_map(path);
    int rc = map == NULL ? SHOAL_E_NOT_FOUND : found(elect, map);
    cluster_map_free(map);
    if (map == NULL || rc != 0) {
        close(lock);
        return map == NULL ? EXIT_FAILED : explain(elect, rc);
    }
    /* So that it is never an authority again. */
    rc = rename(path, gone) == 0 ? 0 : SHOAL_E_SYSTEM;
    close(lock);
    if (rc != 0)
        return cli_fail("the map is in etcd, but %s could not be renamed: remove it, or the old "
                        "authority could start again", path);
    snprintf(path, sizeof path, "%s/client.yaml", directory);
    rc = elect->authority == NULL ? 0 : client_file_set_authority(path, elect->authority);
    if (rc != 0)
        return cli_fail("the map is in etcd, but %s could not be written: %s", path,
                        shoal_error_text(rc));
    printf("The map is in etcd under '%s'. Each node.yaml now wants, in the place of 'authority':\n"
           "  listen: authority: HOST:PORT\n  etcd: endpoints, prefix: %s, ca, cert, key\n"
           "and each node a restart. They elect an authority as soon as the first is up.\n",
           elect->prefix, elect->prefix);
    return EXIT_DONE;
}

int cluster_elect(int argc, char **argv)
{
    struct elect elect;
    struct options_arguments positional;
    int status = cli_parse(&command, argc, argv, &elect, &positional);
    if (status >= 0)
        return status;
    if (elect.endpoints.count == 0) {
        (void)options_usage_error(&command, "--etcd https://HOST:PORT is needed");
        status = EXIT_USAGE;
    } else {
        status = run(&elect);
    }
    options_free(&command, &elect);
    return status;
}
