/* SPDX-License-Identifier: Apache-2.0 */
/* shoal status: the map, what each node says of itself, and what follows from both. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/format.h"
#include "base/hash.h"
#include "cli/local.h"
#include "cli/process.h"
#include "cli/reports.h"

#define NEAR_FULL_PERCENT 85

struct arguments {
    struct cli_common common;
};

static const struct option_spec options[] = {CLI_COMMON_OPTIONS(struct arguments, common)};
static const struct options_command command = {
    .name = "shoal status", .arguments = "",
    .summary = "Show nodes, targets, pools, and whether all is well.",
    .example = "shoal status\nshoal status --json",
    .options = options, .option_count = ARRAY_LEN(options),
};

struct status {
    struct shoal *shoal;
    struct reports reports;
    struct local *local;     /* NULL: the cluster is elsewhere */
    json_t *warnings;
    uint64_t blobs;
};

static void warn(struct status *status, const char *format, ...) PRINTF_LIKE(2, 3);
static void warn(struct status *status, const char *format, ...)
{
    char text[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    json_array_append_new(status->warnings, json_string(text));
}

/* ---- targets and nodes ---- */

static const char *target_state(const struct status *status, const struct map_target *target)
{
    if (target->state == TARGET_OUT)
        return "out";
    if (!target->up || !status->reports.of[target->node].answered)
        return "down";
    return target->state == TARGET_CLEAN ? "up" : "catching-up";
}

static struct local_node *local_node(const struct status *status, const char *name)
{
    for (unsigned i = 0; status->local != NULL && i < status->local->nodes_count; i++)
        if (strcmp(status->local->nodes[i].name, name) == 0)
            return &status->local->nodes[i];
    return NULL;
}

static json_t *target_json(struct status *status, const struct map_target *target,
                           const char *device)
{
    const struct wire_item_target_report *report = reports_target(&status->reports, target);
    json_t *json = json_pack("{s:I, s:s*, s:s}", "id", (json_int_t)target->id, "device", device,
                             "state", target_state(status, target));
    if (device == NULL)
        json_object_set_new(json, "device", json_null());
    json_object_set_new(json, "bytes_used",
                        json_integer(report != NULL ? (json_int_t)report->bytes_used : 0));
    json_object_set_new(json, "bytes_total",
                        json_integer(report != NULL ? (json_int_t)report->bytes_total : 0));
    if (report != NULL && target->state == TARGET_LEARNER) {
        json_object_set_new(json, "catch_up_done", json_integer((json_int_t)report->catch_up_done));
        json_object_set_new(json, "catch_up_total",
                            json_integer((json_int_t)report->catch_up_total));
    }
    if (report != NULL && report->bytes_total > 0 &&
        report->bytes_used * 100 >= report->bytes_total * NEAR_FULL_PERCENT)
        warn(status, "target %u on %s is %llu %% full", target->id,
             status->reports.map->nodes[target->node].name,
             (unsigned long long)(report->bytes_used * 100 / report->bytes_total));
    return json;
}

static json_t *headway_json(const struct headway *headway)
{
    return json_pack("{s:I, s:f, s:f, s:o}", "slots_left", (json_int_t)headway->slots_left,
                     "bytes_per_s", headway->bytes_per_s, "pieces_per_s", headway->pieces_per_s,
                     "seconds_left", headway->seconds_left >= 0 ? json_real(headway->seconds_left)
                                                                : json_null());
}

static json_t *node_json(struct status *status, uint32_t index)
{
    const struct map_node *node = &status->reports.map->nodes[index];
    const struct local_node *local = local_node(status, node->name);
    json_t *targets = json_array();
    const char *state = node->up && status->reports.of[index].answered
                            ? node->draining ? "draining" : "up"
                            : "down";
    unsigned seen = 0;
    for (uint32_t i = 0; i < status->reports.map->targets_count; i++) {
        const struct map_target *target = &status->reports.map->targets[i];
        if (target->node != index)
            continue;
        const char *device = local != NULL && seen < local->config.devices.count
                                 ? local->config.devices.items[seen] : NULL;
        seen++;
        if (strcmp(state, "up") == 0 && target->state == TARGET_LEARNER)
            state = "catching-up";
        json_array_append_new(targets, target_json(status, target, device));
    }
    pid_t pid = local != NULL ? process_find(local->pid_file) : 0;
    if (strcmp(state, "down") == 0 && local != NULL && pid == 0)
        warn(status, "%s is down: 'shoal node start %s' starts it", node->name, node->name);
    else if (strcmp(state, "down") == 0)
        warn(status, "%s is down", node->name);
    struct headway headway = reports_headway(&status->reports, index);
    return json_pack("{s:s, s:o, s:s, s:s, s:s, s:{s:s, s:s, s:s}, s:o, s:o}", "name", node->name,
                     "pid", pid > 0 ? json_integer(pid) : json_null(), "state", state, "rack",
                     cluster_map_rack(status->reports.map, node), "row",
                     cluster_map_row(status->reports.map, node), "addresses", "data", node->data,
                     "replication", node->replication, "management", node->management,
                     "rebuild", headway_json(&headway), "targets", targets);
}

/* ---- pools ---- */

/*
 * What a pool holds. Heads are counted by their primaries, so their sum is the number of blobs; bytes
 * on targets that did not answer are supposed to be as many as on the others.
 */
static void pool_totals(const struct status *status, const struct map_pool *pool,
                        uint64_t *raw_bytes, uint64_t *blobs)
{
    unsigned answering = 0, total = 0;
    *raw_bytes = *blobs = 0;
    for (uint32_t i = 0; i < status->reports.map->targets_count; i++) {
        const struct map_target *target = &status->reports.map->targets[i];
        total += target->state != TARGET_OUT;
        answering += reports_target(&status->reports, target) != NULL;
    }
    for (uint32_t n = 0; n < status->reports.map->nodes_count; n++) {
        const struct node_report *report = &status->reports.of[n];
        for (unsigned i = 0; report->answered && i < report->reply.pools_count; i++) {
            if (report->reply.pools[i].pool != pool->id)
                continue;
            *raw_bytes += report->reply.pools[i].bytes_used;
            *blobs += report->reply.pools[i].heads;
        }
    }
    if (answering > 0 && answering < total)
        *raw_bytes = *raw_bytes * total / answering;
}

static uint64_t raw_free(const struct status *status)
{
    uint64_t free_bytes = 0;
    for (uint32_t i = 0; i < status->reports.map->targets_count; i++) {
        const struct wire_item_target_report *report = reports_target(&status->reports, &status->reports.map->targets[i]);
        if (report != NULL && report->bytes_total > report->bytes_used)
            free_bytes += report->bytes_total - report->bytes_used;
    }
    return free_bytes;
}

/* The largest of what may be lost, any one of it, with nothing lost of the pool. */
static const char *survives(const struct status *status, const struct map_pool *pool)
{
    static const char *const words[] = {"nothing", "node", "rack", "row"};
    return words[cluster_map_pool_survives(status->reports.map, pool)];
}

static json_t *pool_json(struct status *status, const struct map_pool *pool)
{
    unsigned width = map_pool_width(pool);
    uint64_t raw, blobs;
    pool_totals(status, pool, &raw, &blobs);
    uint64_t used = raw / width * pool->k + raw % width * pool->k / width;
    uint64_t usable = used + raw_free(status) / width * pool->k;
    if (pool->quota_bytes > 0)
        usable = MIN(usable, pool->quota_bytes);
    bool unsafe = cluster_map_pool_unsafe(status->reports.map, pool);
    status->blobs += blobs;
    if (unsafe && pool->m > 0)
        warn(status, "pool %s is unsafe: the loss of one node may take more than %u shards",
             pool->name, pool->m);
    if (usable > 0 && !pool->cache && used * 100 >= usable * NEAR_FULL_PERCENT)
        warn(status, "pool %s is %llu %% full", pool->name,
             (unsigned long long)(used * 100 / usable));
    json_t *json = json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:b, s:b, s:s}", "name", pool->name, "usable_bytes",
        (json_int_t)usable, "used_bytes", (json_int_t)used, "raw_used_bytes", (json_int_t)raw,
        "blobs", (json_int_t)blobs, "cache", (int)pool->cache, "unsafe", (int)unsafe, "survives",
        survives(status, pool));
    if (pool->erasure)
        json_object_set_new(json, "ec", json_sprintf("%u+%u", pool->k, pool->m));
    else
        json_object_set_new(json, "copies", json_integer(pool->m + 1));
    if (pool->quota_bytes > 0)
        json_object_set_new(json, "quota_bytes", json_integer((json_int_t)pool->quota_bytes));
    if (pool->ttl_s > 0)
        json_object_set_new(json, "ttl_s", json_integer(pool->ttl_s));
    return json;
}

/* ---- together ---- */

static uint32_t unwritable_of(const struct cluster_map *map, const struct map_pool *pool)
{
    uint32_t count = 0;
    for (uint32_t partition = 0; partition < 1u << map->partition_bits; partition++) {
        struct target_set set;
        cluster_map_partition_set(map, pool, partition, &set);
        count += !target_set_writable(&set, pool);
    }
    return count;
}

/*
 * Nodes that do not answer count as absent, also while nobody is there to say so in a map. A pool
 * without redundancy loses a part of itself with each node, by its own choice: that is degraded.
 */
static const char *health(struct status *status, uint64_t *degraded)
{
    struct cluster_map *map = status->reports.map;
    const char *worst = "ok";
    for (uint32_t i = 0; i < map->nodes_count; i++)
        if (!status->reports.of[i].answered && !map->nodes[i].removed)
            (void)map_change_node_down(map, map->nodes[i].name);
    *degraded = cluster_map_degraded_partitions(map);
    if (*degraded > 0)
        worst = "degraded";
    for (uint32_t i = 0; i < map->pools_count; i++) {
        const struct map_pool *pool = &map->pools[i];
        uint32_t unwritable = unwritable_of(map, pool);
        if (unwritable == 0)
            continue;
        warn(status, "%u of %u partitions of pool %s take no writes now%s", unwritable,
             1u << map->partition_bits, pool->name,
             pool->m == 0 ? ": it has no redundancy" : "");
        if (pool->m > 0)
            worst = "unavailable";
    }
    return worst;
}

static json_t *status_json(struct status *status)
{
    json_t *nodes = json_array(), *pools = json_array();
    uint64_t degraded;
    char cluster[33];
    hex_encode(status->reports.map->cluster, 16, cluster);
    for (uint32_t i = 0; i < status->reports.map->nodes_count; i++)
        if (!status->reports.map->nodes[i].removed)
            json_array_append_new(nodes, node_json(status, i));
    const struct map_moves *moves = status->reports.map->moves;
    json_int_t moving = moves == NULL ? 0 : (json_int_t)(moves->arriving + moves->leaving);
    for (uint32_t i = 0; i < status->reports.map->pools_count; i++)
        json_array_append_new(pools, pool_json(status, &status->reports.map->pools[i]));
    const char *state = health(status, &degraded);
    struct headway headway = reports_headway_of_all(&status->reports);
    return json_pack("{s:I, s:s, s:s, s:o, s:o, s:I, s:I, s:I, s:o, s:I, s:o}", "epoch",
                     (json_int_t)status->reports.map->epoch, "cluster", cluster, "health", state, "nodes",
                     nodes, "pools", pools, "partitions",
                     (json_int_t)1 << status->reports.map->partition_bits, "partitions_degraded",
                     (json_int_t)degraded, "positions_moving", moving, "rebuild",
                     headway_json(&headway), "blobs", (json_int_t)status->blobs, "warnings",
                     json_incref(status->warnings));
}

static const char *text_of(const json_t *json, const char *name)
{
    const char *text = json_string_value(json_object_get(json, name));
    return text != NULL ? text : "-";
}

static uint64_t number_of(const json_t *json, const char *name)
{
    return (uint64_t)json_integer_value(json_object_get(json, name));
}

/* An estimate: to the second, the minute, or the hour. */
static const char *time_left(double seconds, char *out, size_t size)
{
    if (seconds < 100)
        snprintf(out, size, "%.0f s", seconds + 0.5);
    else if (seconds < 100 * 60)
        snprintf(out, size, "%.0f min", seconds / 60);
    else
        snprintf(out, size, "%.0f h", seconds / 3600);
    return out;
}

static void print_rebuild(const json_t *rebuild)
{
    const json_t *left = json_object_get(rebuild, "seconds_left");
    char text[32];
    printf("%llu slots, %s/s, %s pieces/s, ", (unsigned long long)number_of(rebuild, "slots_left"),
           format_bytes((uint64_t)json_real_value(json_object_get(rebuild, "bytes_per_s"))).text,
           format_count((uint64_t)json_real_value(json_object_get(rebuild, "pieces_per_s"))).text);
    if (json_is_real(left))
        printf("about %s left", time_left(json_real_value(left), text, sizeof text));
    else
        printf("no telling for how long");
}

static void print_summary(const json_t *json)
{
    const json_t *rebuild = json_object_get(json, "rebuild");
    uint64_t degraded = number_of(json, "partitions_degraded");
    uint64_t moving = number_of(json, "positions_moving");
    printf("health %s, epoch %llu, %s blobs\n", text_of(json, "health"),
           (unsigned long long)number_of(json, "epoch"),
           format_count(number_of(json, "blobs")).text);
    if (degraded > 0)
        printf("degraded: %llu of %llu partitions lack a member\n", (unsigned long long)degraded,
               (unsigned long long)number_of(json, "partitions"));
    if (moving > 0)
        printf("moving: %llu positions to other targets\n", (unsigned long long)moving);
    if (number_of(rebuild, "slots_left") == 0)
        return;
    printf("rebuilding: ");
    print_rebuild(rebuild);
    putchar('\n');
}

/* Racks and rows are shown where there are any. */
static bool has_places(const json_t *json)
{
    const json_t *node;
    size_t i;
    json_array_foreach(json_object_get(json, "nodes"), i, node)
        if (text_of(node, "rack")[0] != 0 || text_of(node, "row")[0] != 0)
            return true;
    return false;
}

static void print_place(const json_t *node)
{
    char place[40];
    const char *rack = text_of(node, "rack"), *row = text_of(node, "row");
    snprintf(place, sizeof place, "%s%s%s", row, row[0] != 0 ? "/" : "", rack[0] != 0 ? rack : "-");
    printf(" %-18s", place);
}

static void print_node(const json_t *node, bool places)
{
    const json_t *target, *rebuild = json_object_get(node, "rebuild");
    char pid[16] = "-";
    size_t i;
    if (json_is_integer(json_object_get(node, "pid")))
        snprintf(pid, sizeof pid, "%llu", (unsigned long long)number_of(node, "pid"));
    printf("%-10s %-12s %-8s %-22s", text_of(node, "name"), text_of(node, "state"), pid,
           text_of(json_object_get(node, "addresses"), "data"));
    if (places)
        print_place(node);
    json_array_foreach(json_object_get(node, "targets"), i, target)
        printf("%s%s %s of %s", i > 0 ? "; " : " ", text_of(target, "state"),
               format_bytes(number_of(target, "bytes_used")).text,
               format_bytes(number_of(target, "bytes_total")).text);
    if (number_of(rebuild, "slots_left") > 0) {
        printf("\n%11srebuilds ", "");
        print_rebuild(rebuild);
    }
    putchar('\n');
}

static void print_pool(const json_t *pool)
{
    char layout[32];
    if (json_object_get(pool, "ec") != NULL)
        snprintf(layout, sizeof layout, "ec %s", text_of(pool, "ec"));
    else
        snprintf(layout, sizeof layout, "%scopies %llu",
                 json_is_true(json_object_get(pool, "cache")) ? "cache " : "",
                 (unsigned long long)number_of(pool, "copies"));
    printf("%-14s %-14s %12s %12s %12s  %s%s\n", text_of(pool, "name"), layout,
           format_bytes(number_of(pool, "used_bytes")).text,
           format_bytes(number_of(pool, "usable_bytes")).text,
           format_count(number_of(pool, "blobs")).text,
           strcmp(text_of(pool, "survives"), "nothing") == 0 ? "" : "a ", text_of(pool, "survives"));
}

static void print_text(const json_t *json)
{
    bool places = has_places(json);
    json_t *item;
    size_t i;
    print_summary(json);
    printf("\n%-10s %-12s %-8s %-22s", "NODE", "STATE", "PID", "DATA ADDRESS");
    if (places)
        printf(" %-18s", "ROW/RACK");
    printf(" TARGETS\n");
    json_array_foreach(json_object_get(json, "nodes"), i, item)
        print_node(item, places);
    printf("\n%-14s %-14s %12s %12s %12s  %s\n", "POOL", "LAYOUT", "USED", "USABLE", "BLOBS",
           "SURVIVES");
    json_array_foreach(json_object_get(json, "pools"), i, item)
        print_pool(item);
    json_array_foreach(json_object_get(json, "warnings"), i, item)
        printf("%s! %s\n", i == 0 ? "\n" : "", json_string_value(item));
}

int cli_status(int argc, char **argv)
{
    struct arguments arguments;
    struct options_arguments positional;
    char directory[CLI_PATH_MAX - 64];
    int exit_status = cli_parse(&command, argc, argv, &arguments, &positional);
    if (exit_status >= 0)
        return exit_status;
    struct status status = {.warnings = json_array()};
    exit_status = EXIT_FAILED;
    if (shoal_open(arguments.common.config, NULL, &status.shoal) != 0) {
        cli_fail_shoal();
        goto out;
    }
    if (local_directory_of(arguments.common.config, directory, sizeof directory) &&
        local_exists(directory))
        status.local = local_load(directory);
    int rc = reports_gather(status.shoal, &status.reports);
    if (rc != 0) {
        cli_fail("cannot learn the cluster's status: %s", shoal_error_text(rc));
        goto out;
    }
    json_t *json = status_json(&status);
    exit_status = EXIT_DONE;
    if (arguments.common.json) {
        cli_print_json(json);
    } else {
        print_text(json);
        json_decref(json);
    }
out:
    shoal_close(status.shoal);
    reports_free(&status.reports);
    local_free(status.local);
    json_decref(status.warnings);
    options_free(&command, &arguments);
    return exit_status;
}
