/* SPDX-License-Identifier: Apache-2.0 */
#include "local_cluster.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"
#include "bench.h"
#include "client/client.h"
#include "cluster/cluster.h"
#include "shoal/shoal.h"

#define AWAIT_NS UINT64_C(120000000000)
#define LOOK_US 1000u

void shoal_command(const char *format, ...)
{
    char command[512];
    va_list arguments;

    va_start(arguments, format);
    int len = vsnprintf(command, sizeof command, format, arguments);
    va_end(arguments);
    CHECK(len > 0 && (size_t)len < sizeof command - 16);
    strcat(command, " >/dev/null");
    CHECK_MSG(system(command) == 0, "'%s' failed; is out/bin in PATH?", command);
}

void local_cluster_start(struct local_cluster *cluster, const char *options)
{
    char parent[] = "/var/tmp/shoal-bench-XXXXXX";

    CHECK(mkdtemp(parent) != NULL);
    /* The note of which cluster was started last is for people, and theirs stays. */
    CHECK(setenv("XDG_STATE_HOME", parent, 1) == 0);
    snprintf(cluster->directory, sizeof cluster->directory, "%s/c", parent);
    shoal_command("shoal up --dir %s %s", cluster->directory, options);
}

void local_cluster_end(struct local_cluster *cluster)
{
    shoal_command("shoal down --dir %s --destroy", cluster->directory);
    *strrchr(cluster->directory, '/') = 0;
    CHECK(file_remove_tree(cluster->directory) == 0);
}

pid_t local_cluster_begin(const struct local_cluster *cluster, const char *command)
{
    char line[512];

    snprintf(line, sizeof line, "SHOAL_CONFIG=%s/client.yaml exec shoal %s >/dev/null",
             cluster->directory, command);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", line, (char *)NULL);
        _exit(127);
    }
    return pid;
}

void local_cluster_finish(pid_t command)
{
    int status;

    CHECK(waitpid(command, &status, 0) == command);
    CHECK_MSG(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a command of the shoal binary failed");
}

struct shoal *open_client(const char *directory)
{
    char path[256];
    struct shoal *shoal = NULL;

    snprintf(path, sizeof path, "%s/client.yaml", directory);
    CHECK_MSG(shoal_open(path, NULL, &shoal) == 0, "%s", shoal_message());
    return shoal;
}

struct shoal *local_cluster_open(const struct local_cluster *cluster)
{
    return open_client(cluster->directory);
}

pid_t local_cluster_pid(const struct local_cluster *cluster, unsigned node)
{
    char path[128];
    int pid = 0;

    snprintf(path, sizeof path, "%s/node-%u/pid", cluster->directory, node);
    FILE *file = fopen(path, "r");
    CHECK_MSG(file != NULL && fscanf(file, "%d", &pid) == 1 && pid > 1, "%s names no process", path);
    fclose(file);
    return pid;
}

void local_cluster_kill(const struct local_cluster *cluster, unsigned node)
{
    CHECK(kill(local_cluster_pid(cluster, node), SIGKILL) == 0);
}

struct look {
    struct shoal *shoal;
    unsigned node;
    enum node_phase phase;
};

static void look_fiber(void *arg)
{
    struct look *look = arg;
    struct client *client = shoal_client(look->shoal);

    (void)client_refresh(client, bench_now_ns() + 1000000000);
    const struct cluster_map *map = client_map(client);
    CHECK(look->node >= 1 && look->node <= map->nodes_count);
    for (uint32_t i = 0; i < map->targets_count; i++) {
        const struct map_target *target = &map->targets[i];
        if (target->node != look->node - 1)
            continue;
        look->phase = !target->up                        ? NODE_GONE
                      : target->state == TARGET_LEARNER ? NODE_LEARNS
                                                        : NODE_SERVES;
    }
}

enum node_phase local_cluster_phase(struct shoal *shoal, unsigned node)
{
    struct look look = {.shoal = shoal, .node = node};

    CHECK(shoal_run_fiber(shoal, look_fiber, &look) == 0);
    return look.phase;
}

uint64_t local_cluster_await(struct shoal *shoal, unsigned node, enum node_phase phase)
{
    const uint64_t until = bench_now_ns() + AWAIT_NS;

    while (local_cluster_phase(shoal, node) != phase) {
        CHECK_MSG(bench_now_ns() < until, "node-%u did not come to phase %d", node, (int)phase);
        usleep(LOOK_US);
    }
    return bench_now_ns();
}
