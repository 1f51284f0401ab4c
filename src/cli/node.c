/* SPDX-License-Identifier: Apache-2.0 */
/* shoal node stop|kill|start|replace-device|drain|undrain|remove|weight NAME. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/local.h"
#include "cli/process.h"
#include "base/file.h"

struct arguments {
    struct cli_common common;
    uint64_t target;
};

static const struct option_spec options[] = {
    CLI_COMMON_OPTIONS(struct arguments, common),
    {{"target", VALUE_U64, offsetof(struct arguments, target), "0", 0, UINT32_MAX, NULL,
      "Replace this target's device only; else all of the node."}, 0, "N"},
};
static const struct options_command command = {
    .name = "shoal node",
    .arguments = "stop|kill|start|replace-device|drain|undrain|remove|weight NAME [WEIGHT]",
    .summary = "Stop a node in order, kill it (SIGKILL), start it, or give it an empty device that "
               "is rebuilt from the others. Drain it: everything moves off it, with full "
               "redundancy at every moment; then remove it from the cluster. Or give its targets "
               "another weight, which is their share of the data.",
    .example = "shoal node kill node-3\nshoal node start node-3\n"
               "shoal node replace-device node-3\n"
               "shoal node drain node-3\nshoal node weight node-2 200",
    .min_arguments = 2, .max_arguments = 3,
    .options = options, .option_count = ARRAY_LEN(options),
};

static bool wish_for(const char *config, const char *wish, const char *node)
{
    json_t *answer;
    bool ok = cli_wish(config, json_pack("{s:s, s:s}", "wish", wish, "node", node), &answer);
    json_decref(answer);
    return ok;
}

struct map_step {
    struct shoal *shoal;
    const char *node;
    uint8_t cluster[16];
    unsigned partition_bits;
    uint32_t targets[LOCAL_TARGETS_MAX];
    unsigned count;
};

static void map_fiber(void *arg)
{
    struct map_step *step = arg;
    const struct cluster_map *map = client_map(shoal_client(step->shoal));
    memcpy(step->cluster, map->cluster, sizeof step->cluster);
    step->partition_bits = map->partition_bits;
    for (uint32_t i = 0; i < map->targets_count && step->count < LOCAL_TARGETS_MAX; i++)
        if (strcmp(map->nodes[map->targets[i].node].name, step->node) == 0)
            step->targets[step->count++] = map->targets[i].id;
}

/* The node's targets are listed in the map in the order of its devices. */
static bool replace_one(const struct arguments *arguments, const struct map_step *step,
                        const struct local_node *node, unsigned index)
{
    const char *path = node->config.devices.items[index];
    struct stat old;
    uint64_t size = 0;
    json_t *answer;
    if (stat(path, &old) == 0)
        size = (uint64_t)old.st_size;
    for (unsigned i = 0; size == 0 && i < node->config.devices.count; i++)
        if (stat(node->config.devices.items[i], &old) == 0)
            size = (uint64_t)old.st_size;
    if (size == 0) {
        cli_fail("%s is gone and its size is not known: make a file of that size there first "
                 "(truncate -s SIZE %s)", path, path);
        return false;
    }
    if (S_ISREG(old.st_mode) && unlink(path) != 0 && errno != ENOENT) {
        cli_fail("cannot remove %s: %s", path, strerror(errno));
        return false;
    }
    if (local_format(path, size, step->cluster, step->targets[index], step->partition_bits,
                     true) != 0)
        return false;
    if (!cli_wish(arguments->common.config,
                  json_pack("{s:s, s:I}", "wish", "target_replaced", "target",
                            (json_int_t)step->targets[index]), &answer))
        return false;
    json_decref(answer);
    return true;
}

static int replace(const struct arguments *arguments, const char *name)
{
    char directory[CLI_PATH_MAX - 64];
    struct map_step step = {.node = name};
    if (!local_directory_of(arguments->common.config, directory, sizeof directory))
        return cli_fail("a device can be replaced where its node runs, and no cluster lives here");
    struct local *local = local_load(directory);
    struct local_node *node = local != NULL ? local_node_named(local, name) : NULL;
    bool ok = node != NULL;
    if (ok && shoal_open(arguments->common.config, NULL, &step.shoal) != 0) {
        cli_fail_shoal();
        ok = false;
    }
    if (ok) {
        (void)shoal_run_fiber(step.shoal, map_fiber, &step);
        shoal_close(step.shoal);
        if (step.count != node->config.devices.count) {
            cli_fail("%s has %zu devices here and %u targets in the map", name,
                     node->config.devices.count, step.count);
            ok = false;
        }
    }
    if (ok && process_find(node->pid_file) != 0)
        ok = wish_for(arguments->common.config, "node_stop", name);
    bool any = false;
    for (unsigned i = 0; ok && i < step.count; i++) {
        if (arguments->target != 0 && arguments->target != step.targets[i])
            continue;
        any = true;
        ok = replace_one(arguments, &step, node, i);
    }
    if (ok && !any) {
        cli_fail("%s has no target %llu", name, (unsigned long long)arguments->target);
        ok = false;
    }
    ok = ok && wish_for(arguments->common.config, "node_start", name);
    local_free(local);
    return ok ? EXIT_DONE : EXIT_FAILED;
}

/* What the authority does by itself: drain, undrain, remove, weight. */
static bool moving_wish(const char *config, const char *verb, const char *name,
                        const char *weight, json_t **answer)
{
    json_t *wish = NULL;
    if (strcmp(verb, "weight") == 0)
        wish = json_pack("{s:s, s:s, s:I}", "wish", "node_weight", "node", name, "weight",
                         (json_int_t)strtoll(weight == NULL ? "0" : weight, NULL, 10));
    else if (strcmp(verb, "remove") == 0)
        wish = json_pack("{s:s, s:s}", "wish", "node_remove", "node", name);
    else
        wish = json_pack("{s:s, s:s, s:b}", "wish", "node_drain", "node", name, "undo",
                         strcmp(verb, "undrain") == 0);
    return cli_wish(config, wish, answer);
}

int cli_node(int argc, char **argv)
{
    static const char *const verbs[][3] = {{"stop", "node_stop", "Stopped"},
                                           {"kill", "node_kill", "Killed"},
                                           {"start", "node_start", "Started"},
                                           {"replace-device", NULL, "Replaced the device of"},
                                           {"drain", NULL, "Data moves off"},
                                           {"undrain", NULL, "Data may be placed again on"},
                                           {"remove", NULL, "Removed"},
                                           {"weight", NULL, "Data moves by the new weight of"}};
    struct arguments arguments;
    struct options_arguments positional;
    int status = cli_parse(&command, argc, argv, &arguments, &positional);
    if (status >= 0)
        return status;
    const char *verb = positional.values[0], *name = positional.values[1];
    unsigned which = 0;
    while (which < ARRAY_LEN(verbs) && strcmp(verbs[which][0], verb) != 0)
        which++;
    if (which == ARRAY_LEN(verbs)) {
        (void)options_usage_error(&command, "'%s' is none of stop, kill, start, replace-device, "
                                            "drain, undrain, remove, weight", verb);
        status = EXIT_USAGE;
    } else if ((positional.count == 3) != (strcmp(verb, "weight") == 0)) {
        (void)options_usage_error(&command, "a weight belongs to 'weight', and only there");
        status = EXIT_USAGE;
    } else if (which > 3) {
        json_t *answer;
        status = moving_wish(arguments.common.config, verb, name,
                             positional.count == 3 ? positional.values[2] : NULL, &answer)
                     ? EXIT_DONE
                     : EXIT_FAILED;
        json_decref(answer);
    } else if (verbs[which][1] == NULL) {
        status = replace(&arguments, name);
    } else {
        status = wish_for(arguments.common.config, verbs[which][1], name) ? EXIT_DONE : EXIT_FAILED;
    }
    if (status == EXIT_DONE && arguments.common.json)
        cli_print_json(json_pack("{s:s, s:s}", "node", name, "done", verb));
    else if (status == EXIT_DONE)
        printf("%s %s.\n", verbs[which][2], name);
    options_free(&command, &arguments);
    return status;
}
