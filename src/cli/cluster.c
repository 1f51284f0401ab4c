/* SPDX-License-Identifier: Apache-2.0 */
/* shoal cluster init and token: what is done where the cluster's certificate authority is. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/random.h"
#include "cli/cluster.h"
#include "cli/local.h"

#define TOKEN_PART_MAX 16384u

/* ---- init ---- */

struct init {
    char *dir, *authority, *admit, *data_plane;
    uint64_t targets, lease_ns, out_ns;
    bool json;
};

static const struct option_spec init_options[] = {
    {{"dir", VALUE_STRING, offsetof(struct init, dir), "/etc/shoal", 1, 0, NULL,
      "Where certificates, the first map and client.yaml go; must hold no cluster."}, 'd', "DIR"},
    {{"authority", VALUE_STRING, offsetof(struct init, authority), NULL, 1, 63, NULL,
      "HOST:PORT of the cluster's authority, on this host."}, 'a', "HOST:PORT"},
    {{"admit", VALUE_STRING, offsetof(struct init, admit), NULL, 1, 63, NULL,
      "HOST:PORT at which this host lets nodes join; else the authority's with the next port."},
     0, "HOST:PORT"},
    {{"data_plane", VALUE_STRING, offsetof(struct init, data_plane), "tls", 0, 0, "tls|plain",
      "Encrypt payload, or only protect it."}, 0, NULL},
    {{"targets", VALUE_U64, offsetof(struct init, targets), "128", 1, CLUSTER_TARGETS_MAX, NULL,
      "Devices that the cluster may grow to: sets the number of partitions, for good."}, 't', "N"},
    {{"lease", VALUE_DURATION, offsetof(struct init, lease_ns), "3s", UINT64_C(500000000),
      CLUSTER_LEASE_MS_MAX * UINT64_C(1000000), NULL,
      "A node that is silent for so long is down, and has ceased to answer by itself."}, 0, "TIME"},
    {{"out", VALUE_DURATION, offsetof(struct init, out_ns), "10min", UINT64_C(10000000000),
      UINT64_C(4000000000000000), NULL,
      "What is down for so long is rebuilt elsewhere."}, 0, "TIME"},
    {{"json", VALUE_BOOL, offsetof(struct init, json), NULL, 0, 0, NULL, "Print JSON."}, 0, NULL},
};
static const struct options_command init_command = {
    .name = "shoal cluster init", .arguments = "",
    .summary = "Make a cluster of many hosts: its certificate authority, its first map, and the "
               "client.yaml of its administrator.",
    .example = "shoal cluster init --authority 10.0.0.1:7400",
    .options = init_options, .option_count = ARRAY_LEN(init_options),
};

/* The same host, one port up. */
static bool next_port(const char *address, char *out, size_t size)
{
    const char *colon = strrchr(address, ':');
    unsigned long port = strtoul(colon + 1, NULL, 10) + 1;
    return port <= UINT16_MAX &&
           (size_t)snprintf(out, size, "%.*s:%lu", (int)(colon - address), address, port) < size;
}

static bool write_client(const char *directory, const char *cluster, const struct init *init,
                         const char *admit)
{
    char path[CLI_PATH_MAX];
    char *seed = init->authority;
    /* Paths relative to the file: copied with the certificates it works elsewhere. */
    struct client_file file = {
        .cluster = (char *)(uintptr_t)cluster, .nodes = {&seed, 1}, .authority = init->authority,
        .data_plane = init->data_plane, .ca = (char[]){"certs/ca.crt"},
        .certificate = (char[]){"certs/client.crt"}, .key = (char[]){"certs/client.key"},
        .renewal = (char *)(uintptr_t)admit, .admin_certificate = (char[]){"certs/admin.crt"},
        .admin_key = (char[]){"certs/admin.key"}};
    snprintf(path, sizeof path, "%s/client.yaml", directory);
    int rc = client_file_write(path, &file);
    if (rc != 0)
        cli_fail("cannot write %s: %s", path, shoal_error_text(rc));
    return rc == 0;
}

static bool write_map(const char *directory, const uint8_t cluster[16], unsigned partition_bits,
                      const struct init *init)
{
    struct cluster_map *map = cluster_map_create();
    if (map == NULL)
        return false;
    memcpy(map->cluster, cluster, 16);
    map->partition_bits = partition_bits;
    map->lease_ms = (uint32_t)(init->lease_ns / 1000000);
    map->out_ms = (uint32_t)(init->out_ns / 1000000);
    bool ok = local_save_map(directory, map);
    cluster_map_free(map);
    return ok;
}

static int init_run(const struct init *init)
{
    char directory[CLI_PATH_MAX - 64], certs[CLI_PATH_MAX], admit[CLUSTER_ADDRESS_MAX];
    char cluster_text[33];
    uint8_t cluster[16];
    if (!local_directory(init->dir, directory, sizeof directory))
        return EXIT_FAILED;
    snprintf(certs, sizeof certs, "%s/certs", directory);
    if (local_exists(directory) || access(certs, F_OK) == 0)
        return cli_fail("%s holds a cluster already: choose another --dir", directory);
    if (!net_address_is_valid(init->authority) ||
        (init->admit != NULL && !net_address_is_valid(init->admit)))
        return cli_fail("an address looks like 10.0.0.1:7400 or [fd00::1]:7400");
    if (init->admit != NULL)
        snprintf(admit, sizeof admit, "%s", init->admit);
    else if (!next_port(init->authority, admit, sizeof admit))
        return cli_fail("%s leaves no next port for --admit: give one", init->authority);
    random_os_bytes(cluster, sizeof cluster);
    hex_encode(cluster, sizeof cluster, cluster_text);
    unsigned bits = local_partition_bits((unsigned)init->targets);
    if (!local_make_certificates(directory, cluster_text) ||
        !local_issue(directory, NET_ROLE_AUTHORITY, "admit", certs, "admit") ||
        !write_map(directory, cluster, bits, init) ||
        !write_client(directory, cluster_text, init, admit))
        return EXIT_FAILED;
    if (init->json)
        return cli_print_json(json_pack("{s:s, s:s, s:s, s:s, s:i}", "directory", directory,
                                        "cluster", cluster_text, "authority", init->authority,
                                        "admit", admit, "partitions", 1 << bits));
    printf("Made cluster %s in %s. Its key, certs/ca.key, stays on this host.\n\n"
           "Next, on this host (deploy/systemd has units for both):\n"
           "  shoal supervise --dir %s          # the authority, at %s\n"
           "  shoal cluster admit --dir %s      # lets nodes join, at %s\n"
           "Then for each node:\n"
           "  shoal cluster token --dir %s | ssh NODE shoal cluster join --token - --name NODE \\\n"
           "    --data HOST:PORT --replication HOST:PORT --management HOST:PORT DEVICE...\n",
           cluster_text, directory, directory, init->authority, directory, admit, directory);
    return EXIT_DONE;
}

static int cluster_init(int argc, char **argv)
{
    struct init init;
    struct options_arguments positional;
    int status = cli_parse(&init_command, argc, argv, &init, &positional);
    if (status >= 0)
        return status;
    if (init.authority == NULL) {
        (void)options_usage_error(&init_command, "--authority HOST:PORT is needed");
        status = EXIT_USAGE;
    } else {
        status = init_run(&init);
    }
    options_free(&init_command, &init);
    return status;
}

/* ---- token ---- */

struct token {
    char *dir;
    uint64_t valid_ns;
};

static const struct option_spec token_options[] = {
    {{"dir", VALUE_STRING, offsetof(struct token, dir), "/etc/shoal", 1, 0, NULL,
      "Where 'shoal cluster init' made the cluster."}, 'd', "DIR"},
    {{"valid", VALUE_DURATION, offsetof(struct token, valid_ns), "1h", UINT64_C(60000000000),
      UINT64_C(2592000000000000), NULL, "How long it is good for."}, 0, NULL},
};
static const struct options_command token_command = {
    .name = "shoal cluster token", .arguments = "",
    .summary = "Print a token with which nodes may join. Whoever has it can join: treat it as a "
               "password.",
    .example = "shoal cluster token | ssh node-1 shoal cluster join --token - ...",
    .options = token_options, .option_count = ARRAY_LEN(token_options),
};

static bool print_file(const char *directory, const char *name)
{
    char path[CLI_PATH_MAX + 32], *text;
    size_t len;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    if (file_read(path, TOKEN_PART_MAX, &text, &len) != 0)
        return false;
    fwrite(text, 1, len, stdout);
    free(text);
    return true;
}

/* A certificate that may ask for another one, its key, and whom to trust: the order of tools. */
static int token_run(const struct token *token)
{
    char directory[CLI_PATH_MAX - 64], certs[CLI_PATH_MAX], path[CLI_PATH_MAX], name[32];
    char work[] = "/tmp/shoal-token-XXXXXX";
    struct value_error why;
    struct client_file file;
    if (!local_directory(token->dir, directory, sizeof directory))
        return EXIT_FAILED;
    snprintf(certs, sizeof certs, "%s/certs", directory);
    snprintf(path, sizeof path, "%s/client.yaml", directory);
    if (client_file_load(path, &file, &why) != 0)
        return cli_fail("%s", why.text);
    int status = EXIT_FAILED;
    snprintf(name, sizeof name, "join-%08x", (unsigned)random_os_u64());
    const struct net_cert_request request = {.role = NET_ROLE_JOIN, .name = name,
                                             .valid_s = (long)(token->valid_ns / 1000000000u),
                                             .directory = work, .stem = "join"};
    if (file.renewal == NULL)
        cli_fail("%s has no tls.renewal: was this cluster made by 'shoal cluster init'?", path);
    else if (mkdtemp(work) == NULL)
        cli_fail("cannot make a directory in /tmp: %s", strerror(errno));
    else if (net_cert_issue_for(certs, &request) != 0)
        cli_fail("cannot issue a token with %s/ca.key", certs);
    else if (printf(CLUSTER_TOKEN_HEAD "%s\n", file.renewal) > 0 && print_file(work, "join.crt") &&
             print_file(work, "join.key") && print_file(certs, "ca.crt") && fflush(stdout) == 0)
        status = EXIT_DONE;
    else
        cli_fail("the token could not be printed");
    cli_remove_work(work);
    client_file_free(&file);
    return status;
}

static int cluster_token(int argc, char **argv)
{
    struct token token;
    struct options_arguments positional;
    int status = cli_parse(&token_command, argc, argv, &token, &positional);
    if (status >= 0)
        return status;
    status = token_run(&token);
    options_free(&token_command, &token);
    return status;
}

/* ---- verbs ---- */

int cli_cluster(int argc, char **argv)
{
    static const struct {
        const char *name, *summary;
        int (*run)(int argc, char **argv);
    } verbs[] = {{"init", "Make a cluster of many hosts.", cluster_init},
                 {"token", "Print a token with which nodes may join.", cluster_token},
                 {"admit", "Let nodes with a token join, and sign renewals.", cluster_admit},
                 {"join", "Make this host a node of a cluster.", cluster_join},
                 {"elect", "Hand the map to etcd: nodes elect the authority.", cluster_elect}};
    const char *verb = argc > 1 ? argv[1] : "--help";
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        if (strcmp(verb, verbs[i].name) == 0)
            return verbs[i].run(argc - 1, argv + 1);
    bool help = argc > 1 && (strcmp(verb, "--help") == 0 || strcmp(verb, "-h") == 0);
    FILE *out = help ? stdout : stderr;
    if (argc > 1 && !help)
        fprintf(out, "shoal cluster: there is no '%s'\n", verb);
    fprintf(out, "Usage: shoal cluster VERB [OPTIONS]\n\n");
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        fprintf(out, "  %-10s%s\n", verbs[i].name, verbs[i].summary);
    fprintf(out, "\nExample:\n  shoal cluster init --authority 10.0.0.1:7400\n");
    return help ? EXIT_DONE : EXIT_USAGE;
}
