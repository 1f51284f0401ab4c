/* SPDX-License-Identifier: Apache-2.0 */
/* shoal up and shoal down. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/format.h"
#include "cli/local.h"
#include "cli/node.h"
#include "cli/process.h"
#include "engine/engine.h"

#define SERVE_TIMEOUT_NS UINT64_C(60000000000)
#define SHOW_NS UINT64_C(5000000000)
#define LOOK_MS 20
#define STOP_TIMEOUT_MS 15000
#define SUPERVISOR_STOP_MS 3000

static void pause_ms(long ms)
{
    struct timespec pause = {.tv_nsec = ms * 1000000};
    nanosleep(&pause, NULL);
}

/* ---- up ---- */

struct up {
    char *dir;
    uint64_t nodes, targets_per_node, size, racks;
    char *data_plane;
    bool json;
};

static const struct option_spec up_options[] = {
    {{"dir", VALUE_STRING, offsetof(struct up, dir), NULL, 1, 0, NULL,
      "Where the cluster lives; else where the one started last does, else "
      "~/.local/share/shoal."}, 'd', "DIR"},
    {{"nodes", VALUE_U64, offsetof(struct up, nodes), "6", 1, LOCAL_NODES_MAX, NULL,
      "Storage nodes, each a process."}, 'n', "N"},
    {{"targets_per_node", VALUE_U64, offsetof(struct up, targets_per_node), "1", 1,
      LOCAL_TARGETS_MAX, NULL, "Devices of each node, each a file."}, 't', "T"},
    {{"size", VALUE_SIZE, offsetof(struct up, size), "512M", ENGINE_DEVICE_MIN, 0, NULL,
      "Bytes of each device."}, 's', "BYTES"},
    {{"racks", VALUE_U64, offsetof(struct up, racks), "0", 0, LOCAL_NODES_MAX, NULL,
      "Say that the nodes stand in so many racks, rack-1, rack-2 and so on, over which shards are spread; "
      "'shoal node move' changes it."}, 0, "N"},
    {{"data_plane", VALUE_STRING, offsetof(struct up, data_plane), "tls", 0, 0, "tls|plain",
      "Encrypt payload, or only protect it."}, 0, NULL},
    {{"json", VALUE_BOOL, offsetof(struct up, json), NULL, 0, 0, NULL, "Print JSON."}, 0, NULL},
};
static const struct options_command up_command = {
    .name = "shoal up", .arguments = "",
    .summary = "Start a cluster on this machine, or resume the one in DIR with its data.",
    .example = "shoal up\nshoal up --dir /srv/shoal --nodes 6 --size 4G",
    .options = up_options, .option_count = ARRAY_LEN(up_options),
};

static bool has_racks(const struct local *local, uint64_t wanted)
{
    struct cluster_map *map;
    uint64_t racks = 0;
    if (local_load_map(local, &map) != 0)
        return false;
    for (uint32_t i = 0; i < map->nodes_count; i++) {
        bool known = map->nodes[i].removed || map->nodes[i].rack == 0;
        for (uint32_t j = 0; j < i; j++)
            known |= !map->nodes[j].removed && map->nodes[j].rack == map->nodes[i].rack;
        racks += !known;
    }
    cluster_map_free(map);
    if (racks == wanted)
        return true;
    cli_fail("the nodes in %s stand in %llu racks: leave --racks out to resume; 'shoal node move' moves "
             "them to others", local->directory, (unsigned long long)racks);
    return false;
}

/* What was asked for explicitly must fit what is there. */
static bool same_plan(const struct up *up, uint64_t given, const struct local *local)
{
    const struct shoald_config *first = &local->nodes[0].config;
    size_t nodes = options_index(&up_command, "nodes");
    size_t targets = options_index(&up_command, "targets_per_node");
    size_t plane = options_index(&up_command, "data_plane");
    const char *what = NULL;
    if ((given >> nodes & 1) != 0 && up->nodes != local->nodes_count)
        what = "--nodes";
    else if ((given >> targets & 1) != 0 && up->targets_per_node != first->devices.count)
        what = "--targets-per-node";
    else if ((given >> plane & 1) != 0 && strcmp(up->data_plane, first->data_plane) != 0)
        what = "--data-plane";
    if (what == NULL)
        return (given >> options_index(&up_command, "racks") & 1) == 0 || has_racks(local, up->racks);
    cli_fail("%s holds a cluster of %u nodes with %zu targets each and a %s data plane, which %s "
             "cannot change: leave it out to resume, or start anew with 'shoal down --destroy' or "
             "another --dir", local->directory, local->nodes_count, first->devices.count,
             first->data_plane, what);
    return false;
}

static bool start_supervisor(const struct local *local)
{
    char pid_file[CLI_PATH_MAX], log[CLI_PATH_MAX], program[CLI_PATH_MAX], words[600];
    local_path(local, "authority/pid", pid_file, sizeof pid_file);
    local_path(local, "authority/log", log, sizeof log);
    if (process_find(pid_file) != 0)
        return true;
    if (process_program("shoald", program, sizeof program) == NULL) {
        cli_fail("there is no program shoald beside shoal or on the PATH: install both");
        return false;
    }
    process_program("shoal", program, sizeof program);
    char directory[CLI_PATH_MAX];
    snprintf(directory, sizeof directory, "%s", local->directory);
    char *argv[] = {program, "supervise", "--dir", directory, NULL};
    if (process_spawn(argv, log) < 0) {
        cli_fail("cannot start the supervisor: %s", strerror(errno));
        return false;
    }
    for (unsigned i = 0; i < 250; i++) {
        if (process_find(pid_file) != 0)
            return true;
        pause_ms(LOOK_MS);
    }
    cli_fail("the supervisor did not start: %s", process_last_words(log, words, sizeof words));
    return false;
}

struct serving {
    struct shoal *shoal;
    bool ready;
    unsigned up;
};

static void serving_fiber(void *arg)
{
    struct serving *serving = arg;
    struct client *client = shoal_client(serving->shoal);
    (void)client_refresh(client, shoal_deadline_ns(serving->shoal, 2000));
    const struct cluster_map *map = client_map(client);
    unsigned members = 0;
    serving->up = 0;
    for (uint32_t i = 0; i < map->nodes_count; i++) {
        members += !map->nodes[i].removed;
        serving->up += map->nodes[i].up;
    }
    serving->ready = serving->up == members && cluster_map_unwritable_partitions(map) == 0;
}

/*
 * Nodes that were stopped one by one come back as well, and so do processes that were killed so shortly
 * before that they were still there when somebody looked. The supervisor may be one of these.
 */
static bool start_missing(const struct local *local, const char *config)
{
    if (!start_supervisor(local))
        return false;
    for (unsigned i = 0; i < local->nodes_count; i++)
        if (process_find(local->nodes[i].pid_file) == 0 &&
            !node_wish(config, "node_start", local->nodes[i].name))
            return false;
    return true;
}

static bool wait_until_serving(const struct local *local)
{
    uint64_t started = cli_now_ns();
    uint64_t deadline = started + SERVE_TIMEOUT_NS;
    char config[CLI_PATH_MAX];
    struct serving serving = {0};
    local_path(local, "client.yaml", config, sizeof config);
    while (cli_now_ns() < deadline) {
        if (serving.shoal == NULL && shoal_open(config, NULL, &serving.shoal) != 0)
            serving.shoal = NULL;
        if (serving.shoal != NULL) {
            (void)shoal_run_fiber(serving.shoal, serving_fiber, &serving);
            if (serving.ready) {
                shoal_close(serving.shoal);
                return true;
            }
        }
        pause_ms(LOOK_MS);
        /* Started processes have shown themselves by now; one that is missing will not come by itself. */
        if (cli_now_ns() - started > SHOW_NS && !start_missing(local, config)) {
            shoal_close(serving.shoal);
            return false;
        }
    }
    if (serving.shoal == NULL)
        cli_fail_shoal();
    else
        cli_fail("%u of %u nodes have joined after %llu s; 'shoal status' and the logs in %s say more",
                 serving.up, local->nodes_count,
                 (unsigned long long)(SERVE_TIMEOUT_NS / 1000000000u), local->directory);
    shoal_close(serving.shoal);
    return false;
}

static void note_last(const char *directory)
{
    char note[CLI_PATH_MAX], parent[CLI_PATH_MAX];
    if (client_file_note(note, sizeof note) != 0)
        return;
    snprintf(parent, sizeof parent, "%s", note);
    *strrchr(parent, '/') = 0;
    if (file_make_directories(parent, 0700) != 0 ||
        file_write_atomic(note, directory, strlen(directory), 0600) != 0)
        fprintf(stderr, "shoal: cannot note the directory in %s: use --config %s/client.yaml\n",
                note, directory);
}

static int report_up(const struct up *up, const struct local *local, bool created)
{
    const struct shoald_config *first = &local->nodes[0].config;
    char config[CLI_PATH_MAX];
    local_path(local, "client.yaml", config, sizeof config);
    if (up->json)
        return cli_print_json(json_pack("{s:s, s:s, s:i, s:i, s:b, s:s}", "directory",
                                        local->directory, "config", config, "nodes",
                                        (int)local->nodes_count, "targets_per_node",
                                        (int)first->devices.count, "created", (int)created,
                                        "data_plane", first->data_plane));
    printf("%s a cluster of %u nodes in %s (%s data plane).\n", created ? "Started" : "Resumed",
           local->nodes_count, local->directory, first->data_plane);
    printf("Clients find it by themselves, or with SHOAL_CONFIG=%s\n", config);
    printf("Try: shoal put durable/hello FILE; shoal status; shoal down\n");
    return EXIT_DONE;
}

static int lock_directory(const char *directory)
{
    char path[CLI_PATH_MAX + 16];
    if (file_make_directories(directory, 0700) != 0) {
        cli_fail("cannot make the directory %s: %s", directory, strerror(errno));
        return -1;
    }
    snprintf(path, sizeof path, "%s/.lock", directory);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0 && flock(fd, LOCK_EX) == 0)
        return fd;
    cli_fail("cannot lock %s: %s", path, strerror(errno));
    return -1;
}

int cli_up(int argc, char **argv)
{
    struct up up;
    struct options_arguments arguments;
    char directory[CLI_PATH_MAX - 64];
    int status = cli_parse(&up_command, argc, argv, &up, &arguments);
    if (status >= 0)
        return status;
    status = EXIT_FAILED;
    struct local *local = NULL;
    int lock = -1;
    if (!local_directory(up.dir, directory, sizeof directory) ||
        (lock = lock_directory(directory)) < 0)
        goto out;
    bool created = !local_exists(directory);
    struct local_plan plan = {.nodes = (unsigned)up.nodes,
                              .size_bytes = round_down_u64(up.size, 4096),
                              .targets_per_node = (unsigned)up.targets_per_node,
                              .data_plane = up.data_plane, .racks = up.racks, .quiet = up.json};
    if (created && !local_create(directory, &plan))
        goto out;
    local = local_load(directory);
    if (local == NULL || (!created && !same_plan(&up, arguments.given, local)))
        goto out;
    if (!start_supervisor(local))
        goto out;
    note_last(directory);
    if (wait_until_serving(local))
        status = report_up(&up, local, created);
out:
    local_free(local);
    if (lock >= 0)
        close(lock);
    options_free(&up_command, &up);
    return status;
}

/* ---- down ---- */

struct down {
    char *dir;
    struct cli_common common;
    bool destroy;
};

static const struct option_spec down_options[] = {
    {{"dir", VALUE_STRING, offsetof(struct down, dir), NULL, 1, 0, NULL,
      "The cluster's directory; else the one of --config."}, 'd', "DIR"},
    {{"destroy", VALUE_BOOL, offsetof(struct down, destroy), NULL, 0, 0, NULL,
      "Delete the cluster with all its data."}, 0, NULL},
    CLI_COMMON_OPTIONS(struct down, common),
};
static const struct options_command down_command = {
    .name = "shoal down", .arguments = "",
    .summary = "Stop the cluster; its data stays for the next 'shoal up'.",
    .example = "shoal down\nshoal down --dir /srv/shoal --destroy",
    .options = down_options, .option_count = ARRAY_LEN(down_options),
};

/* The supervisor first, so that it takes no stop for a death. Nodes end side by side. */
static bool stop_all(struct local *local)
{
    char pid_file[CLI_PATH_MAX];
    local_path(local, "authority/pid", pid_file, sizeof pid_file);
    bool ok = process_end(pid_file, SIGTERM, SUPERVISOR_STOP_MS);
    for (unsigned i = 0; i < local->nodes_count; i++) {
        pid_t pid = process_find(local->nodes[i].pid_file);
        if (pid > 0)
            (void)kill(pid, SIGTERM);
    }
    for (unsigned i = 0; i < local->nodes_count; i++)
        ok = process_end(local->nodes[i].pid_file, 0, STOP_TIMEOUT_MS) && ok;
    return ok;
}

/* The mark of a complete cluster goes first, and only what we made. */
static bool destroy(struct local *local)
{
    char path[CLI_PATH_MAX];
    bool ok = unlink(local_path(local, "client.yaml", path, sizeof path)) == 0;
    ok = local_clear(local->directory) && ok;
    (void)unlink(local_path(local, ".lock", path, sizeof path));
    (void)rmdir(local->directory);
    return ok;
}

int cli_down(int argc, char **argv)
{
    struct down down;
    struct options_arguments arguments;
    char directory[CLI_PATH_MAX - 64];
    int status = cli_parse(&down_command, argc, argv, &down, &arguments);
    if (status >= 0)
        return status;
    status = EXIT_FAILED;
    struct local *local = NULL;
    bool known = down.dir != NULL ? local_directory(down.dir, directory, sizeof directory)
                                  : local_directory_of(down.common.config, directory,
                                                       sizeof directory);
    if (!known || !local_exists(directory)) {
        cli_fail("there is no cluster to stop%s%s: name its directory with --dir", known ? " in " : "",
                 known ? directory : "");
        goto out;
    }
    local = local_load(directory);
    if (local == NULL)
        goto out;
    if (!stop_all(local)) {
        cli_fail("some processes of %s did not end", directory);
        goto out;
    }
    if (down.destroy && !destroy(local)) {
        cli_fail("cannot delete all of %s: %s", directory, strerror(errno));
        goto out;
    }
    status = EXIT_DONE;
    if (down.common.json)
        status = cli_print_json(json_pack("{s:s, s:b}", "directory", directory, "destroyed",
                                          (int)down.destroy));
    else
        printf("%s the cluster in %s.\n", down.destroy ? "Deleted" : "Stopped", directory);
out:
    local_free(local);
    options_free(&down_command, &down);
    return status;
}
