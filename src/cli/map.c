/* SPDX-License-Identifier: Apache-2.0 */
/* shoal map: what the authority has agreed on, and what is on its way somewhere else. */
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"

struct arguments {
    struct cli_common common;
};

static const struct option_spec options[] = {CLI_COMMON_OPTIONS(struct arguments, common)};
static const struct options_command command = {
    .name = "shoal map", .arguments = "",
    .summary = "Show the cluster's map: nodes, targets, and how many positions each target serves, "
               "is learning, and is leaving.",
    .example = "shoal map\nshoal map --json",
    .options = options, .option_count = ARRAY_LEN(options),
};

static long long number(const json_t *json, const char *name)
{
    return (long long)json_integer_value(json_object_get(json, name));
}

static const char *text(const json_t *json, const char *name)
{
    const char *value = json_string_value(json_object_get(json, name));
    return value != NULL && value[0] != 0 ? value : "-";
}

static const char *node_state(const json_t *node)
{
    return json_is_true(json_object_get(node, "removed"))    ? "removed"
           : json_is_true(json_object_get(node, "draining")) ? "draining"
           : json_is_true(json_object_get(node, "up"))       ? "up"
                                                             : "down";
}

static void print_map(const json_t *map)
{
    const json_t *item;
    size_t i;
    printf("epoch %lld, cluster %s\n\n%-14s %-9s %-12s %-12s %s\n", number(map, "epoch"),
           text(map, "cluster"), "NODE", "STATE", "RACK", "ROW", "DATA ADDRESS");
    json_array_foreach(json_object_get(map, "nodes"), i, item)
        printf("%-14s %-9s %-12s %-12s %s\n", text(item, "name"), node_state(item),
               text(item, "rack"), text(item, "row"), text(item, "data"));
    printf("\n%6s %-14s %-8s %8s %9s %9s %9s\n", "TARGET", "NODE", "STATE", "WEIGHT", "SERVES",
           "LEARNS", "LEAVES");
    json_array_foreach(json_object_get(map, "targets"), i, item)
        printf("%6lld %-14s %-8s %8lld %9lld %9lld %9lld\n", number(item, "id"),
               text(item, "node"), text(item, "state"), number(item, "weight"),
               number(item, "serves"), number(item, "learns"), number(item, "leaves"));
}

int cli_map(int argc, char **argv)
{
    struct arguments arguments;
    struct options_arguments positional;
    json_t *answer;
    int status = cli_parse(&command, argc, argv, &arguments, &positional);
    if (status >= 0)
        return status;
    status = EXIT_FAILED;
    if (cli_wish(arguments.common.config, json_pack("{s:s}", "wish", "map"), &answer)) {
        json_t *map = json_incref(json_object_get(answer, "map"));
        json_decref(answer);
        status = EXIT_DONE;
        if (arguments.common.json) {
            status = cli_print_json(map);
        } else {
            print_map(map);
            json_decref(map);
        }
    }
    options_free(&command, &arguments);
    return status;
}
