/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shoal node add: one more node in a cluster of `shoal up`. It comes into the map first, which gives its
 * targets their numbers; is laid out beside the others under another name, and renamed when it is whole;
 * then its supervisor starts it, and data moves there by itself. Who is interrupted in the middle says
 * the same again, with the node's name.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/format.h"
#include "base/hash.h"
#include "base/progress.h"
#include "cli/local.h"
#include "cli/node.h"
#include "engine/engine.h"

struct add {
    struct cli_common common;
    uint64_t size, targets;
    char *rack, *row;
};

static const struct option_spec options[] = {
    {{"size", VALUE_SIZE, offsetof(struct add, size), "0", 0, 0, NULL,
      "Bytes of each device; else as the first node has them."}, 's', "BYTES"},
    {{"targets_per_node", VALUE_U64, offsetof(struct add, targets), "0", 0, LOCAL_TARGETS_MAX, NULL,
      "Devices of the node, each a file; else as many as the first node has."}, 't', "T"},
    {{"rack", VALUE_STRING, offsetof(struct add, rack), "", 0, 63, NULL,
      "The rack that it stands in: what fails together. Shards are spread over racks."}, 0, "NAME"},
    {{"row", VALUE_STRING, offsetof(struct add, row), "", 0, 63, NULL,
      "The row that its rack stands in; else that of the other nodes there."}, 0, "NAME"},
    CLI_COMMON_OPTIONS(struct add, common),
};
static const struct options_command command = {
    .name = "shoal node add", .arguments = "[NAME]",
    .summary = "Make one more node in a cluster of 'shoal up' and start it; its share of the data moves "
               "there while all serve. NAME is the next free node-N unless it is given, as to finish "
               "what was interrupted. A node on another host is made there, by 'shoal cluster join'.",
    .example = "shoal node add\nshoal node add --size 4G --rack r2\nshoal status",
    .min_arguments = 0, .max_arguments = 1,
    .options = options, .option_count = ARRAY_LEN(options),
};

struct adding {
    const struct add *add;
    struct local *local;
    struct map_node node;
    char directory[CLI_PATH_MAX + 64], staging[CLI_PATH_MAX + 64];
    uint64_t size;
    unsigned targets;
    uint32_t ids[LOCAL_TARGETS_MAX];
    unsigned partition_bits;
};

/* ---- what it is to be ---- */

static unsigned number_of(const char *name)
{
    char *end;
    unsigned long number = strncmp(name, "node-", 5) == 0 ? strtoul(name + 5, &end, 10) : 0;
    return number == 0 || number > 1000000 || *end != 0 ? 0 : (unsigned)number;
}

/* Numbers are not given twice: what was removed is put aside under its name. */
static bool choose_name(struct adding *adding, const char *wanted, const json_t *nodes)
{
    const json_t *node;
    unsigned highest = 0;
    size_t i;
    json_array_foreach(nodes, i, node) {
        const char *name = json_string_value(json_object_get(node, "name"));
        highest = MAX(highest, number_of(name));
        if (wanted == NULL || strcmp(name, wanted) != 0)
            continue;
        if (json_is_true(json_object_get(node, "removed"))) {
            cli_fail("%s was removed, and a new node gets a new name: 'shoal node add' finds one", name);
            return false;
        }
        if (json_integer_value(json_object_get(node, "incarnation")) != 0) {
            cli_fail("there is a node '%s' already: 'shoal node add' finds a free name", name);
            return false;
        }
    }
    if (wanted != NULL && (number_of(wanted) == 0 || strlen(wanted) >= sizeof adding->node.name)) {
        cli_fail("'%s' is no name of a node here: they are node-1, node-2 and so on", wanted);
        return false;
    }
    snprintf(adding->node.name, sizeof adding->node.name, "node-%u",
             wanted != NULL ? number_of(wanted) : highest + 1);
    snprintf(adding->directory, sizeof adding->directory, "%s/%s", adding->local->directory,
             adding->node.name);
    snprintf(adding->staging, sizeof adding->staging, "%s/adding-%s", adding->local->directory,
             adding->node.name);
    return true;
}

static bool choose_shape(struct adding *adding)
{
    const struct shoald_config *first = &adding->local->nodes[0].config;
    struct stat about;
    adding->targets = adding->add->targets != 0 ? (unsigned)adding->add->targets
                                                : (unsigned)first->devices.count;
    adding->size = round_down_u64(adding->add->size, 4096);
    if (adding->size == 0 && stat(first->devices.items[0], &about) == 0)
        adding->size = (uint64_t)about.st_size;
    if (adding->local->nodes_count == LOCAL_NODES_MAX)
        cli_fail("%s has %u nodes, and more are not possible here", adding->local->directory,
                 LOCAL_NODES_MAX);
    else if (adding->size < ENGINE_DEVICE_MIN)
        cli_fail("a device has at least %s: choose a larger --size",
                 format_bytes(ENGINE_DEVICE_MIN).text);
    else
        return local_has_space(adding->local->directory, 1, adding->targets, adding->size);
    return false;
}

static bool choose(struct adding *adding, const char *wanted)
{
    json_t *answer;
    if (!cli_wish(adding->add->common.config, json_pack("{s:s}", "wish", "map"), &answer))
        return false;
    bool ok = choose_name(adding, wanted,
                          json_object_get(json_object_get(answer, "map"), "nodes"));
    json_decref(answer);
    return ok && choose_shape(adding) &&
           local_free_address(adding->node.data, sizeof adding->node.data) &&
           local_free_address(adding->node.replication, sizeof adding->node.replication) &&
           local_free_address(adding->node.management, sizeof adding->node.management);
}

/* ---- making it ---- */

static bool enter_map(struct adding *adding)
{
    const struct map_node *node = &adding->node;
    json_t *weights = json_array(), *answer;
    for (unsigned i = 0; i < adding->targets; i++)
        json_array_append_new(weights, json_integer(local_weight(adding->size)));
    if (!cli_wish(adding->add->common.config,
                  json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:o}", "wish", "node_add", "node",
                            node->name, "data", node->data, "replication", node->replication,
                            "management", node->management, "rack", adding->add->rack, "row",
                            adding->add->row, "weights", weights), &answer))
        return false;
    const json_t *ids = json_object_get(answer, "targets");
    for (unsigned i = 0; i < adding->targets; i++)
        adding->ids[i] = (uint32_t)json_integer_value(json_array_get(ids, i));
    adding->partition_bits =
        (unsigned)json_integer_value(json_object_get(answer, "partition_bits"));
    json_decref(answer);
    return true;
}

static bool lay_out(struct adding *adding)
{
    struct progress progress;
    const struct local *local = adding->local;
    uint8_t cluster[16];
    if (hex_decode(local->client.cluster, strlen(local->client.cluster), cluster, 16) != 0 ||
        (file_remove_tree(adding->staging) != 0 && errno != ENOENT)) {
        cli_fail("cannot lay out %s in %s", adding->node.name, adding->staging);
        return false;
    }
    const struct local_node_plan plan = {
        .cluster_directory = local->directory, .directory = adding->directory,
        .node = &adding->node, .cluster = cluster, .authority = local->client.authority,
        .data_plane = local->nodes[0].config.data_plane,
        .partition_bits = adding->partition_bits, .targets = adding->targets,
        .ids = adding->ids, .size_bytes = adding->size, .progress = &progress};
    progress_begin(&progress, "preparing devices", adding->size * adding->targets,
                   !adding->add->common.json);
    bool ok = local_make_node(&plan, adding->staging);
    progress_end(&progress);
    if (ok && rename(adding->staging, adding->directory) != 0) {
        cli_fail("cannot rename %s to %s: %s", adding->staging, adding->directory, strerror(errno));
        ok = false;
    }
    return ok;
}

/* It has no data yet, and without devices it never will: out of the map again. */
static void undo(struct adding *adding)
{
    if (file_remove_tree(adding->staging) != 0)
        cli_fail("cannot remove %s: %s", adding->staging, strerror(errno));
    if (!node_wish(adding->add->common.config, "node_remove", adding->node.name))
        cli_fail("%s is in the map and was not made: 'shoal node add %s' makes it", adding->node.name,
                 adding->node.name);
}

static int start(struct adding *adding)
{
    const char *name = adding->node.name;
    char client[CLI_PATH_MAX];
    local_path(adding->local, "client.yaml", client, sizeof client);
    int rc = client_file_add_node(client, adding->node.data);
    if (rc != 0)
        cli_fail("cannot write %s: %s; clients find %s through the others", client,
                 shoal_error_text(rc), name);
    if (!node_wish(adding->add->common.config, "node_start", name))
        return cli_fail("%s is a node of the cluster now, but does not run: its log is %s/log, and "
                        "'shoal node start %s' tries again", name, adding->directory, name);
    if (adding->add->common.json) {
        json_t *ids = json_array();
        for (unsigned i = 0; i < adding->targets; i++)
            json_array_append_new(ids, json_integer(adding->ids[i]));
        return cli_print_json(json_pack("{s:s, s:s, s:s, s:o}", "node", name, "done", "add",
                                        "directory", adding->directory, "targets", ids));
    }
    printf("Added %s with %u device%s of %s. Its share of the data moves there; 'shoal status' shows how "
           "far it is.\n", name, adding->targets, adding->targets == 1 ? "" : "s",
           format_bytes(adding->size).text);
    return EXIT_DONE;
}

static int add_here(struct adding *adding, const char *directory, const char *wanted)
{
    adding->local = local_load(directory);
    if (adding->local == NULL || !choose(adding, wanted))
        return EXIT_FAILED;
    if (access(adding->directory, F_OK) == 0)
        return cli_fail("%s is there already: 'shoal node start %s' starts it", adding->directory,
                        adding->node.name);
    if (!enter_map(adding))
        return EXIT_FAILED;
    if (!lay_out(adding)) {
        undo(adding);
        return EXIT_FAILED;
    }
    return start(adding);
}

int node_add(int argc, char **argv)
{
    struct adding adding = {.add = NULL};
    struct add add;
    struct options_arguments positional;
    char directory[CLI_PATH_MAX - 64];
    int status = cli_parse(&command, argc, argv, &add, &positional);
    if (status >= 0)
        return status;
    adding.add = &add;
    if (node_directory(add.common.config, directory, sizeof directory)) {
        int lock = node_lock(directory);
        status = lock < 0 ? EXIT_FAILED
                          : add_here(&adding, directory,
                                     positional.count == 1 ? positional.values[0] : NULL);
        if (lock >= 0)
            close(lock);
    } else {
        status = cli_fail(
            "no cluster of 'shoal up' is here. A node on a host of its own joins from there:\n"
            "  shoal cluster token | ssh HOST shoal cluster join --token - --name NAME ... DEVICE...\n"
            "'shoal cluster join --help' has the rest.");
    }
    local_free(adding.local);
    options_free(&command, &add);
    return status;
}
