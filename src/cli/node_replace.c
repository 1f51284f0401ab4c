/* SPDX-License-Identifier: Apache-2.0 */
/* shoal node replace-device: an empty device in the place of one that is damaged or gone. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/local.h"
#include "cli/node.h"
#include "cli/process.h"

struct replace {
    struct cli_common common;
    uint64_t target;
};

static const struct option_spec options[] = {
    {{"target", VALUE_U64, offsetof(struct replace, target), "0", 0, UINT32_MAX, NULL,
      "Replace this target's device only ('shoal map' has the numbers); else all of the node."}, 0, "N"},
    CLI_COMMON_OPTIONS(struct replace, common),
};
static const struct options_command command = {
    .name = "shoal node replace-device", .arguments = "NAME",
    .summary = "Give a node of a cluster of 'shoal up' an empty device, which is rebuilt from the "
               "others: the node is stopped, what the device held is deleted, the node is started.",
    .example = "shoal node replace-device node-3",
    .min_arguments = 1, .max_arguments = 1,
    .options = options, .option_count = ARRAY_LEN(options),
};

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
static bool replace_one(const struct replace *arguments, const struct map_step *step,
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

static int run(const struct replace *arguments, const char *name)
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
        ok = node_wish(arguments->common.config, "node_stop", name);
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
    ok = ok && node_wish(arguments->common.config, "node_start", name);
    local_free(local);
    return ok ? EXIT_DONE : EXIT_FAILED;
}

int node_replace_device(int argc, char **argv)
{
    struct replace replace;
    struct options_arguments positional;
    int status = cli_parse(&command, argc, argv, &replace, &positional);
    if (status >= 0)
        return status;
    const char *name = positional.values[0];
    status = run(&replace, name);
    if (status == EXIT_DONE && replace.common.json)
        cli_print_json(json_pack("{s:s, s:s}", "node", name, "done", "replace-device"));
    else if (status == EXIT_DONE)
        printf("Replaced the device of %s; 'shoal status' shows how far it is rebuilt.\n", name);
    options_free(&command, &replace);
    return status;
}
