/* SPDX-License-Identifier: Apache-2.0 */
/* shoal scrub status: how far the check of all stored data is, and what it found. */
#include <stdio.h>
#include <string.h>

#include "base/format.h"
#include "cli/reports.h"

struct arguments {
    struct cli_common common;
};

static const struct option_spec options[] = {CLI_COMMON_OPTIONS(struct arguments, common)};
static const struct options_command command = {
    .name = "shoal scrub", .arguments = "status",
    .summary = "Show how far nodes are with reading all that they store, which they do again and again "
               "at a bounded rate (scrub.rate and scrub.pause in node.yaml). What is found damaged is "
               "rebuilt from the other members. Numbers count from a node's start.",
    .example = "shoal scrub status\nshoal scrub status --json",
    .min_arguments = 1, .max_arguments = 1,
    .options = options, .option_count = ARRAY_LEN(options),
};

static json_t *target_json(const struct reports *reports, const struct map_target *target)
{
    const struct wire_item_target_report *report = reports_target(reports, target);
    const char *node = reports->map->nodes[target->node].name;
    if (report == NULL)
        return json_pack("{s:s, s:I, s:n}", "node", node, "target", (json_int_t)target->id, "passes");
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "node", node, "target",
                     (json_int_t)target->id, "passes", (json_int_t)report->scrub_passes,
                     "objects_checked", (json_int_t)report->scrub_objects, "objects",
                     (json_int_t)report->objects, "bytes_checked",
                     (json_int_t)report->scrub_bytes, "damaged", (json_int_t)report->scrub_damaged,
                     "repaired", (json_int_t)report->scrub_repaired, "last_pass_ended_s",
                     (json_int_t)report->scrub_ended_s);
}

/* How much of this pass is done, in percent; a pass begins anew when it ends. */
static unsigned percent_of(const struct wire_item_target_report *report)
{
    return report->objects == 0 ? 0
                                : (unsigned)MIN(report->scrub_objects * 100 / report->objects,
                                                UINT64_C(100));
}

static void print_target(const struct reports *reports, const struct map_target *target)
{
    const struct wire_item_target_report *report = reports_target(reports, target);
    const char *node = reports->map->nodes[target->node].name;
    char ended[32] = "none yet";
    if (report == NULL) {
        printf("%-12s %6u   does not answer\n", node, target->id);
        return;
    }
    if (report->scrub_ended_s != 0)
        cli_time(report->scrub_ended_s, ended, sizeof ended);
    printf("%-12s %6u %8llu %9u%% %12s %9llu %9llu  %s\n", node, target->id,
           (unsigned long long)report->scrub_passes, percent_of(report),
           format_bytes(report->scrub_bytes).text, (unsigned long long)report->scrub_damaged,
           (unsigned long long)report->scrub_repaired, ended);
}

static bool is_member(const struct reports *reports, const struct map_target *target)
{
    return !reports->map->nodes[target->node].removed;
}

static void print_all(const struct reports *reports)
{
    uint64_t damaged = 0, repaired = 0;
    printf("%-12s %6s %8s %10s %12s %9s %9s  %s\n", "NODE", "TARGET", "PASSES", "THIS PASS",
           "CHECKED", "DAMAGED", "REPAIRED", "LAST PASS ENDED");
    for (uint32_t i = 0; i < reports->map->targets_count; i++) {
        const struct map_target *target = &reports->map->targets[i];
        const struct wire_item_target_report *report = reports_target(reports, target);
        if (!is_member(reports, target))
            continue;
        print_target(reports, target);
        damaged += report != NULL ? report->scrub_damaged : 0;
        repaired += report != NULL ? report->scrub_repaired : 0;
    }
    printf("\nSince the nodes started: %s damaged pieces found, %s rebuilt from the others.\n",
           damaged == 0 ? "no" : format_count(damaged).text,
           repaired == 0 ? "none" : format_count(repaired).text);
}

static int show(const struct arguments *arguments, const struct reports *reports)
{
    if (!arguments->common.json) {
        print_all(reports);
        return EXIT_DONE;
    }
    json_t *targets = json_array();
    for (uint32_t i = 0; i < reports->map->targets_count; i++)
        if (is_member(reports, &reports->map->targets[i]))
            json_array_append_new(targets, target_json(reports, &reports->map->targets[i]));
    return cli_print_json(json_pack("{s:o}", "targets", targets));
}

int cli_scrub(int argc, char **argv)
{
    struct arguments arguments;
    struct options_arguments positional;
    struct shoal *shoal;
    struct reports reports;
    int status = cli_parse(&command, argc, argv, &arguments, &positional);
    if (status >= 0)
        return status;
    if (strcmp(positional.values[0], "status") != 0) {
        (void)options_usage_error(&command, "the word is 'status'");
        status = EXIT_USAGE;
    } else if (shoal_open(arguments.common.config, NULL, &shoal) != 0) {
        status = cli_fail_shoal();
    } else {
        int rc = reports_gather(shoal, &reports);
        status = rc == 0 ? show(&arguments, &reports)
                         : cli_fail("cannot learn how far the check is: %s", shoal_error_text(rc));
        reports_free(&reports);
        shoal_close(shoal);
    }
    options_free(&command, &arguments);
    return status;
}
