/* SPDX-License-Identifier: Apache-2.0 */
/* shoal cluster join: this host becomes a node. What was half done the same command does again. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/format.h"
#include "base/hash.h"
#include "cli/cluster.h"
#include "cli/local.h"
#include "engine/engine.h"

#define TOKEN_MAX 65536u
#define PEM_BEGIN "-----BEGIN CERTIFICATE-----"

struct join {
    char *token, *name, *dir, *state, *data, *replication, *management;
    char *authority, *prefix, *etcd_ca, *etcd_certificate, *etcd_key;
    struct value_list etcd;
    char *rack, *row;
    uint64_t size;
    bool force, json;
};

static const struct option_spec options[] = {
    {{"token", VALUE_STRING, offsetof(struct join, token), NULL, 1, 0, NULL,
      "A file with what 'shoal cluster token' printed, - for standard input."}, 0, "FILE|-"},
    {{"name", VALUE_STRING, offsetof(struct join, name), NULL, 1, 63, NULL,
      "The node's name in the cluster."}, 'n', "NAME"},
    {{"data", VALUE_STRING, offsetof(struct join, data), NULL, 1, 63, NULL,
      "Where it serves clients."}, 0, "HOST:PORT"},
    {{"replication", VALUE_STRING, offsetof(struct join, replication), NULL, 1, 63, NULL,
      "Where it serves other nodes."}, 0, "HOST:PORT"},
    {{"management", VALUE_STRING, offsetof(struct join, management), NULL, 1, 63, NULL,
      "Where its metrics are."}, 0, "HOST:PORT"},
    {{"rack", VALUE_STRING, offsetof(struct join, rack), "", 0, 63, NULL,
      "The rack that it stands in: what fails together. Shards are spread over racks."}, 0, "NAME"},
    {{"row", VALUE_STRING, offsetof(struct join, row), "", 0, 63, NULL,
      "The row that its rack stands in; else that of the other nodes there."}, 0, "NAME"},
    {{"etcd", VALUE_LIST, offsetof(struct join, etcd), NULL, 1, 9, NULL,
      "Where the authority is elected: a member of etcd; repeat for each."},
     'e', "https://HOST:PORT"},
    {{"authority", VALUE_STRING, offsetof(struct join, authority), NULL, 1, 63, NULL,
      "Likewise: where it listens while it is the authority."}, 'a', "HOST:PORT"},
    {{"prefix", VALUE_STRING, offsetof(struct join, prefix), "shoal", 1, 100, NULL,
      "Likewise: of the cluster's keys in etcd."}, 0, NULL},
    {{"etcd_ca", VALUE_STRING, offsetof(struct join, etcd_ca), NULL, 1, 0, NULL,
      "Likewise: who issued etcd's certificates."}, 0, "FILE"},
    {{"etcd_cert", VALUE_STRING, offsetof(struct join, etcd_certificate), NULL, 1, 0, NULL,
      "Likewise: the certificate that etcd's members know this node by."}, 0, "FILE"},
    {{"etcd_key", VALUE_STRING, offsetof(struct join, etcd_key), NULL, 1, 0, NULL,
      "Likewise: its private key."}, 0, "FILE"},
    {{"dir", VALUE_STRING, offsetof(struct join, dir), "/etc/shoal", 1, 0, NULL,
      "Where node.yaml and certificates go."}, 'd', "DIR"},
    {{"state", VALUE_STRING, offsetof(struct join, state), "/var/lib/shoal", 1, 0, NULL,
      "Where the node keeps its map."}, 0, "DIR"},
    {{"size", VALUE_SIZE, offsetof(struct join, size), "0", 0, 0, NULL,
      "Make each DEVICE that does not exist a file of this size."}, 's', "BYTES"},
    {{"force", VALUE_BOOL, offsetof(struct join, force), NULL, 0, 0, NULL,
      "Even if a DEVICE holds a Shoal device: what is there is lost."}, 'f', NULL},
    {{"json", VALUE_BOOL, offsetof(struct join, json), NULL, 0, 0, NULL, "Print JSON."}, 0, NULL},
};
static const struct options_command command = {
    .name = "shoal cluster join", .arguments = "DEVICE...",
    .summary = "Make this host a node: a certificate whose key never leaves it, a place in the "
               "map, formatted devices, and node.yaml.",
    .example = "shoal cluster join --token t --name node-1 --data 10.1.0.1:7500 \\\n"
               "  --replication 10.2.0.1:7501 --management 10.0.0.1:7502 /dev/nvme0n1 /dev/nvme1n1",
    .min_arguments = 1, .max_arguments = LOCAL_TARGETS_MAX,
    .options = options, .option_count = ARRAY_LEN(options),
};

struct joining {
    const struct join *join;
    char directory[CLI_PATH_MAX - 96], state[CLI_PATH_MAX]; /* absolute */
    char token[CLI_PATH_MAX];
    char address[CLUSTER_ADDRESS_MAX];
    unsigned count;
    const char *devices[LOCAL_TARGETS_MAX];
    uint64_t sizes[LOCAL_TARGETS_MAX];
};

static const char *in(const struct joining *joining, const char *name)
{
    static char paths[4][CLI_PATH_MAX];
    static unsigned next;
    char *path = paths[next++ % ARRAY_LEN(paths)];
    snprintf(path, sizeof paths[0], "%s/%s", joining->directory, name);
    return path;
}

/* ---- what is there ---- */

static bool read_token(struct joining *joining)
{
    const char *from = joining->join->token;
    size_t len = 0;
    char *text = calloc(1, TOKEN_MAX + 1);
    FILE *in_file = strcmp(from, "-") == 0 ? stdin : fopen(from, "re");
    if (text != NULL && in_file != NULL)
        len = fread(text, 1, TOKEN_MAX, in_file);
    if (in_file != NULL && in_file != stdin)
        fclose(in_file);
    bool ok = len > 0 && strncmp(text, CLUSTER_TOKEN_HEAD, strlen(CLUSTER_TOKEN_HEAD)) == 0;
    if (ok) {
        const char *at = text + strlen(CLUSTER_TOKEN_HEAD);
        snprintf(joining->address, sizeof joining->address, "%.*s", (int)strcspn(at, "\n"), at);
        /* The cluster's authority is its last part. */
        const char *ca = strstr(text, PEM_BEGIN), *more;
        while (ca != NULL && (more = strstr(ca + 1, PEM_BEGIN)) != NULL)
            ca = more;
        snprintf(joining->token, sizeof joining->token, "%s", in(joining, "join.token"));
        ok = net_address_is_valid(joining->address) && ca != NULL &&
             file_make_directories(joining->directory, 0700) == 0 &&
             file_write_atomic(joining->token, text, len, 0600) == 0 &&
             file_write_atomic(in(joining, "join.ca"), ca, strlen(ca), 0644) == 0;
    }
    free(text);
    if (!ok)
        cli_fail("%s holds no token that can be used, or %s cannot be written to: 'shoal cluster "
                 "token' prints a token", strcmp(from, "-") == 0 ? "standard input" : from,
                 joining->directory);
    return ok;
}

static bool measure(struct joining *joining, unsigned i, const char *path)
{
    struct stat about;
    uint64_t bytes = 0;
    bool there = stat(path, &about) == 0;
    if (there && S_ISBLK(about.st_mode)) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || ioctl(fd, BLKGETSIZE64, &bytes) != 0)
            bytes = 0;
        if (fd >= 0)
            close(fd);
    } else {
        bytes = there ? (uint64_t)about.st_size : 0;
        bytes = MAX(bytes, joining->join->size);
    }
    joining->devices[i] = path;
    joining->sizes[i] = bytes;
    if (bytes >= ENGINE_DEVICE_MIN)
        return true;
    cli_fail("%s has %s, and a device needs at least %s%s", path,
             there ? format_bytes(bytes).text : "nothing there",
             format_bytes(ENGINE_DEVICE_MIN).text, there ? "" : ": --size makes a file of it");
    return false;
}

static bool measure_all(struct joining *joining, const struct options_arguments *positional)
{
    joining->count = (unsigned)positional->count;
    for (unsigned i = 0; i < joining->count; i++) {
        static char absolute[LOCAL_TARGETS_MAX][CLI_PATH_MAX];
        if (!local_directory(positional->values[i], absolute[i], sizeof absolute[i]) ||
            !measure(joining, i, absolute[i]))
            return false;
    }
    return true;
}

/* ---- asking ---- */

static json_t *ask(struct joining *joining)
{
    const struct join *join = joining->join;
    const struct net_cert_request request = {.role = NET_ROLE_NODE, .name = join->name,
                                             .directory = joining->directory, .stem = "join"};
    const struct cli_credentials who = {joining->token, joining->token, joining->token};
    json_t *weights = json_array(), *answer = NULL;
    char *csr;
    for (unsigned i = 0; i < joining->count; i++)
        json_array_append_new(weights, json_integer((json_int_t)(joining->sizes[i] >> 20)));
    int rc = net_cert_request(&request, &csr);
    if (rc != 0) {
        json_decref(weights);
        cli_fail("cannot make a key in %s: %s", joining->directory, shoal_error_text(rc));
        return NULL;
    }
    json_t *wish = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:s}", "wish", "join", "node",
                             join->name, "data", join->data, "replication", join->replication,
                             "management", join->management, "rack", join->rack, "row", join->row,
                             "weights", weights, "csr", csr);
    free(csr);
    return cli_ask(&who, joining->address, wish, &answer) ? answer : NULL;
}

static char *copy_of(const json_t *answer, const char *name)
{
    const char *text = json_string_value(json_object_get(answer, name));
    return text != NULL ? strdup(text) : NULL;
}

/* ---- laying out ---- */

/* Absolute: shoald runs elsewhere. */
static char *path_of(const char *path)
{
    char absolute[CLI_PATH_MAX];
    return path != NULL && local_directory(path, absolute, sizeof absolute) ? strdup(absolute)
                                                                           : NULL;
}

/* One authority for all, or the members of etcd that elect it. */
static int set_authority(const struct join *join, const json_t *answer,
                         struct shoald_config *config)
{
    if (join->etcd.count == 0) {
        config->authority = copy_of(answer, "authority_address");
        return config->authority == NULL ? SHOAL_E_INVALID : 0;
    }
    config->authority_address = strdup(join->authority);
    config->etcd_prefix = strdup(join->prefix);
    config->etcd_ca = path_of(join->etcd_ca);
    config->etcd_certificate = path_of(join->etcd_certificate);
    config->etcd_key = path_of(join->etcd_key);
    config->etcd_endpoints.items = calloc(join->etcd.count, sizeof(char *));
    if (config->etcd_endpoints.items == NULL)
        return SHOAL_E_NO_MEMORY;
    for (size_t i = 0; i < join->etcd.count; i++)
        config->etcd_endpoints.items[config->etcd_endpoints.count++] = strdup(join->etcd.items[i]);
    return 0;
}

/* What was asked was done all the same; the same command with more words goes on from there. */
static bool authority_is_clear(const struct join *join, const json_t *answer)
{
    const char *address = json_string_value(json_object_get(answer, "authority_address"));
    if (join->etcd.count > 0 || address == NULL || strchr(address, ',') == NULL)
        return true;
    cli_fail("the authority of this cluster is elected: give --etcd, --authority and the others, "
             "and join again");
    return false;
}

static bool write_config(const struct joining *joining, const json_t *answer)
{
    const struct join *join = joining->join;
    struct shoald_config config;
    int rc = shoald_config_defaults(&config);
    if (rc == 0) {
        free(config.data_plane);
        config.name = strdup(join->name);
        config.cluster = copy_of(answer, "cluster");
        config.directory = strdup(joining->state);
        config.data = strdup(join->data);
        config.replication = strdup(join->replication);
        config.management = strdup(join->management);
        config.data_plane = copy_of(answer, "data_plane");
        config.ca = strdup(in(joining, "ca.crt"));
        config.certificate = strdup(in(joining, "node.crt"));
        config.key = strdup(in(joining, "node.key"));
        config.renewal = copy_of(answer, "renewal");
        config.devices.items = calloc(joining->count, sizeof *config.devices.items);
        for (unsigned i = 0; i < joining->count && config.devices.items != NULL; i++)
            config.devices.items[config.devices.count++] = strdup(joining->devices[i]);
        rc = config.cluster == NULL || config.data_plane == NULL
                 ? SHOAL_E_INVALID
                 : set_authority(join, answer, &config);
        if (rc == 0)
            rc = shoald_config_write(in(joining, "node.yaml"), &config);
        shoald_config_free(&config);
    }
    if (rc != 0)
        cli_fail("cannot write %s: %s", in(joining, "node.yaml"), shoal_error_text(rc));
    return rc == 0;
}

/* All of it is here and good before any of it takes the place of what may be in use. */
static bool install_certificate(const struct joining *joining, const json_t *answer)
{
    static const char *const names[][2] = {
        {"join.key", "node.key"}, {"join.crt", "node.crt"}, {"join.ca", "ca.crt"}};
    const char *text = json_string_value(json_object_get(answer, "certificate"));
    struct net_cert_info info;
    char why[512] = "the answer holds no certificate";
    int rc = text == NULL ? SHOAL_E_INVALID
                          : file_write_atomic(in(joining, "join.crt"), text, strlen(text), 0644);
    if (rc == 0)
        rc = net_cert_check(in(joining, "join.crt"), in(joining, "join.key"),
                            in(joining, "join.ca"), &info, why, sizeof why);
    for (size_t i = 0; i < ARRAY_LEN(names) && rc == 0; i++)
        if (rename(in(joining, names[i][0]), in(joining, names[i][1])) != 0) {
            snprintf(why, sizeof why, "cannot make %s: %s", in(joining, names[i][1]),
                     strerror(errno));
            rc = SHOAL_E_SYSTEM;
        }
    if (rc != 0)
        cli_fail("%s", why);
    return rc == 0;
}

static void remove_remains(const struct joining *joining)
{
    static const char *const names[] = {"join.token", "join.key", "join.crt", "join.ca"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (unlink(in(joining, names[i])) != 0 && errno != ENOENT)
            cli_fail("cannot remove %s: %s; remove it by hand", in(joining, names[i]),
                     strerror(errno));
}

static bool is_free(const struct joining *joining)
{
    if (joining->join->force || access(in(joining, "node.yaml"), F_OK) != 0)
        return true;
    cli_fail("%s is there: this host is a node already; --force makes it another",
             in(joining, "node.yaml"));
    return false;
}

static bool format_all(const struct joining *joining, const json_t *answer)
{
    const json_t *targets = json_object_get(answer, "targets");
    const char *cluster = json_string_value(json_object_get(answer, "cluster"));
    json_int_t bits = json_integer_value(json_object_get(answer, "partition_bits"));
    uint8_t id[16];
    if (json_array_size(targets) != joining->count || cluster == NULL ||
        hex_decode(cluster, strlen(cluster), id, sizeof id) != 0 || bits < 1 || bits > 24) {
        cli_fail("the cluster's answer cannot be understood: is it of another version?");
        return false;
    }
    for (unsigned i = 0; i < joining->count; i++) {
        struct stat about;
        bool file = stat(joining->devices[i], &about) != 0 || S_ISREG(about.st_mode);
        if (local_format(joining->devices[i], file ? joining->sizes[i] : 0, id,
                         (uint32_t)json_integer_value(json_array_get(targets, i)), (unsigned)bits,
                         joining->join->force) != 0)
            return false;
    }
    return true;
}

static int run(struct joining *joining, const struct options_arguments *positional)
{
    const struct join *join = joining->join;
    if (!local_directory(join->dir, joining->directory, sizeof joining->directory) ||
        !local_directory(join->state, joining->state, sizeof joining->state) ||
        !is_free(joining) || !measure_all(joining, positional))
        return EXIT_FAILED;
    json_t *answer = read_token(joining) ? ask(joining) : NULL;
    bool ok = answer != NULL && authority_is_clear(join, answer) && format_all(joining, answer) &&
              install_certificate(joining, answer) && write_config(joining, answer);
    remove_remains(joining);
    if (!ok) {
        json_decref(answer);
        return EXIT_FAILED;
    }
    if (join->json) {
        int status = cli_print_json(json_pack("{s:s, s:s, s:O}", "node", join->name, "config",
                                              in(joining, "node.yaml"), "targets",
                                              json_object_get(answer, "targets")));
        json_decref(answer);
        return status;
    }
    printf("%s has joined cluster %s with %u device%s. Start it:\n  shoald --config %s\n",
           join->name, json_string_value(json_object_get(answer, "cluster")), joining->count,
           joining->count == 1 ? "" : "s", in(joining, "node.yaml"));
    json_decref(answer);
    return EXIT_DONE;
}

int cluster_join(int argc, char **argv)
{
    static struct joining joining; /* large */
    static struct join join;
    struct options_arguments positional;
    int status = cli_parse(&command, argc, argv, &join, &positional);
    if (status >= 0)
        return status;
    const char *missing = join.token == NULL         ? "--token FILE"
                          : join.name == NULL        ? "--name NAME"
                          : join.data == NULL        ? "--data HOST:PORT"
                          : join.replication == NULL ? "--replication HOST:PORT"
                          : join.management == NULL  ? "--management HOST:PORT"
                          : join.etcd.count > 0 && join.authority == NULL
                              ? "--authority HOST:PORT with --etcd"
                              : NULL;
    joining.join = &join;
    if (missing != NULL) {
        (void)options_usage_error(&command, "%s is needed", missing);
        status = EXIT_USAGE;
    } else {
        status = run(&joining, &positional);
    }
    options_free(&command, &join);
    return status;
}
