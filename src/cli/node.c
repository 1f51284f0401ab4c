/* SPDX-License-Identifier: Apache-2.0 */
/* shoal node: what may be done to a node. Most verbs are one wish. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/local.h"
#include "cli/node.h"

bool node_wish(const char *config, const char *wish, const char *node)
{
    json_t *answer;
    bool ok = cli_wish(config, json_pack("{s:s, s:s}", "wish", wish, "node", node), &answer);
    json_decref(answer);
    return ok;
}

bool node_directory(const char *config, char *out, size_t size)
{
    if (!local_directory_of(config, out, size) || !local_exists(out))
        return false;
    struct local *local = local_load(out);
    bool here = local != NULL && local->nodes_count > 0;
    local_free(local);
    return here;
}

int node_lock(const char *directory)
{
    char path[CLI_PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/.lock", directory);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0 && flock(fd, LOCK_EX) == 0)
        return fd;
    cli_fail("cannot lock %s: %s", path, strerror(errno));
    return -1;
}

/* ---- verbs that are a wish with a name ---- */

struct named {
    struct cli_common common;
};
static const struct option_spec named_options[] = {CLI_COMMON_OPTIONS(struct named, common)};

/*
 * struct verb - @wish: NULL: there is @run instead. @here: only where `shoal up` made the cluster.
 * @done: what is said when it was granted, with the node's name.
 */
struct verb {
    const char *name, *summary;
    int (*run)(int argc, char **argv);
    const char *wish;
    bool undo, here;
    const char *done, *example;
};

static int run_weight(int argc, char **argv);
static int run_move(int argc, char **argv);

static const struct verb verbs[] = {
    {.name = "add", .summary = "Make one more node, to which its share of the data moves.",
     .run = node_add},
    {.name = "drain", .wish = "node_drain",
     .summary = "Move everything off a node, with full redundancy at every moment.",
     .done = "Data moves off %s; 'shoal status' shows how far it is. Then 'shoal node remove' ends it.",
     .example = "shoal node drain node-3\nshoal status\nshoal node remove node-3"},
    {.name = "undrain", .wish = "node_drain", .undo = true,
     .summary = "Let data be placed on a node again.", .done = "Data may be placed again on %s.",
     .example = "shoal node undrain node-3"},
    {.name = "remove", .summary = "Take a node that was drained out of the cluster.",
     .run = node_remove},
    {.name = "weight", .summary = "Give a node's targets another share of the data.",
     .run = run_weight},
    {.name = "move", .summary = "Say in which rack and row nodes stand; data moves accordingly.",
     .run = run_move},
    {.name = "stop", .wish = "node_stop", .here = true, .summary = "Stop a node in order.",
     .done = "Stopped %s.", .example = "shoal node stop node-3"},
    {.name = "kill", .wish = "node_kill", .here = true, .summary = "Kill a node (SIGKILL).",
     .done = "Killed %s.", .example = "shoal node kill node-3"},
    {.name = "start", .wish = "node_start", .here = true,
     .summary = "Start a node that does not run; it catches up with what it missed.",
     .done = "Started %s.", .example = "shoal node start node-3"},
    {.name = "replace-device", .summary = "Give a node an empty device, rebuilt from the others.",
     .run = node_replace_device},
};

/* Processes are started and ended where they run. */
static bool is_here(const struct verb *verb, const char *config)
{
    char directory[CLI_PATH_MAX - 64];
    if (!verb->here || node_directory(config, directory, sizeof directory))
        return true;
    cli_fail("the nodes of this cluster run on hosts of their own; there it is "
             "'systemctl %s shoal' (docs/hosts.md)",
             strcmp(verb->name, "start") == 0 ? "start" : "stop");
    return false;
}

static int run_named(const struct verb *verb, int argc, char **argv)
{
    char full_name[64];
    snprintf(full_name, sizeof full_name, "shoal node %s", verb->name);
    const struct options_command command = {
        .name = full_name, .arguments = "NAME", .summary = verb->summary,
        .example = verb->example, .min_arguments = 1, .max_arguments = 1,
        .options = named_options, .option_count = ARRAY_LEN(named_options)};
    struct named named;
    struct options_arguments positional;
    json_t *answer;
    int status = cli_parse(&command, argc, argv, &named, &positional);
    if (status >= 0)
        return status;
    const char *name = positional.values[0];
    status = EXIT_FAILED;
    if (is_here(verb, named.common.config) &&
        cli_wish(named.common.config,
                 json_pack("{s:s, s:s, s:b}", "wish", verb->wish, "node", name, "undo",
                           (int)verb->undo), &answer)) {
        json_decref(answer);
        status = EXIT_DONE;
        if (named.common.json) {
            cli_print_json(json_pack("{s:s, s:s}", "node", name, "done", verb->name));
        } else {
            const char *rest = strstr(verb->done, "%s");
            printf("%.*s%s%s\n", (int)(rest - verb->done), verb->done, name, rest + 2);
        }
    }
    options_free(&command, &named);
    return status;
}

/* ---- weight ---- */

static const struct options_command weight_command = {
    .name = "shoal node weight", .arguments = "NAME WEIGHT",
    .summary = "Give each target of a node this weight, which is its share of the data beside those "
               "of the others. It begins as the device's size in MiB; 'shoal map' shows it.",
    .example = "shoal node weight node-2 200",
    .min_arguments = 2, .max_arguments = 2,
    .options = named_options, .option_count = ARRAY_LEN(named_options),
};

static int run_weight(int argc, char **argv)
{
    struct named named;
    struct options_arguments positional;
    json_t *answer;
    int status = cli_parse(&weight_command, argc, argv, &named, &positional);
    if (status >= 0)
        return status;
    const char *name = positional.values[0];
    char *end;
    long long weight = strtoll(positional.values[1], &end, 10);
    status = EXIT_FAILED;
    if (*end != 0) {
        (void)options_usage_error(&weight_command, "'%s' is no number", positional.values[1]);
        status = EXIT_USAGE;
    } else if (cli_wish(named.common.config,
                        json_pack("{s:s, s:s, s:I}", "wish", "node_weight", "node", name, "weight",
                                  (json_int_t)weight), &answer)) {
        json_decref(answer);
        status = EXIT_DONE;
        if (named.common.json)
            cli_print_json(json_pack("{s:s, s:s}", "node", name, "done", "weight"));
        else
            printf("Data moves by the new weight of %s.\n", name);
    }
    options_free(&weight_command, &named);
    return status;
}

/* ---- move ---- */

struct move {
    struct cli_common common;
    char *rack, *row;
};
static const struct option_spec move_options[] = {
    {{"rack", VALUE_STRING, offsetof(struct move, rack), NULL, 0, 63, NULL,
      "The rack that they stand in; '' for none."}, 0, "NAME"},
    {{"row", VALUE_STRING, offsetof(struct move, row), NULL, 0, 63, NULL,
      "The row that their racks stand in; '' for none. Without it that of the other nodes in the rack."},
     0, "NAME"},
    CLI_COMMON_OPTIONS(struct move, common),
};
static const struct options_command move_command = {
    .name = "shoal node move", .arguments = "NAME...",
    .summary = "Say in which rack and row nodes stand. The shards of an object are spread over rows, "
               "in a row over racks, and in a rack over nodes, so data moves; the nodes serve "
               "meanwhile. Nodes that are named together move at once.",
    .example = "shoal node move node-3 --rack r7\nshoal node move node-1 node-2 --row east",
    .min_arguments = 1, .max_arguments = (int)MAP_MOVE_MAX,
    .options = move_options, .option_count = ARRAY_LEN(move_options),
};

static int run_move(int argc, char **argv)
{
    struct move move;
    struct options_arguments positional;
    json_t *answer;
    int status = cli_parse(&move_command, argc, argv, &move, &positional);
    if (status >= 0)
        return status;
    status = EXIT_FAILED;
    json_t *nodes = json_array();
    for (int i = 0; i < positional.count; i++)
        json_array_append_new(nodes, json_string(positional.values[i]));
    if (move.rack == NULL && move.row == NULL) {
        (void)options_usage_error(&move_command, "--rack or --row is needed");
        status = EXIT_USAGE;
    } else if (cli_wish(move.common.config,
                        json_pack("{s:s, s:O, s:s*, s:s*}", "wish", "node_move", "nodes", nodes,
                                  "rack", move.rack, "row", move.row), &answer)) {
        json_decref(answer);
        status = EXIT_DONE;
        if (move.common.json)
            cli_print_json(json_pack("{s:O, s:s}", "nodes", nodes, "done", "move"));
        else
            printf("Data moves to where racks and rows want it; 'shoal status' shows how far "
                   "it is.\n");
    }
    json_decref(nodes);
    options_free(&move_command, &move);
    return status;
}

/* ---- verbs ---- */

int cli_node(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        if (strcmp(verb, verbs[i].name) == 0)
            return verbs[i].run != NULL ? verbs[i].run(argc - 1, argv + 1)
                                        : run_named(&verbs[i], argc - 1, argv + 1);
    bool help = strcmp(verb, "--help") == 0 || strcmp(verb, "-h") == 0;
    FILE *out = help ? stdout : stderr;
    if (argc > 1 && !help)
        fprintf(out, "shoal node: there is no '%s'\n", verb);
    fprintf(out, "Usage: shoal node VERB NAME [OPTIONS]\n\n");
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        fprintf(out, "  %-16s%s\n", verbs[i].name, verbs[i].summary);
    fprintf(out, "\nEach has --help.\n\nExample:\n  shoal node add\n  shoal node drain node-3\n  "
                 "shoal node remove node-3\n");
    return help ? EXIT_DONE : EXIT_USAGE;
}
