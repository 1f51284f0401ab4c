/* SPDX-License-Identifier: Apache-2.0 */
#include "hosts_cluster.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "local_cluster.h"

static void read_line(struct hosts_cluster *cluster, char *line, size_t size)
{
    CHECK_MSG(fgets(line, (int)size, cluster->from) != NULL, "the cluster's script has ended");
    line[strcspn(line, "\n")] = 0;
}

void hosts_cluster_start(struct hosts_cluster *cluster)
{
    int ours[2], theirs[2];

    CHECK(pipe(ours) == 0 && pipe(theirs) == 0);
    cluster->process = fork();
    CHECK(cluster->process >= 0);
    if (cluster->process == 0) {
        dup2(ours[0], STDIN_FILENO);
        dup2(theirs[1], STDOUT_FILENO);
        close(ours[0]);
        close(ours[1]);
        close(theirs[0]);
        close(theirs[1]);
        execlp("python3", "python3", BENCH_ELECTED, (char *)NULL);
        _exit(127);
    }
    close(ours[0]);
    close(theirs[1]);
    cluster->to = fdopen(ours[1], "w");
    cluster->from = fdopen(theirs[0], "r");
    CHECK(cluster->to != NULL && cluster->from != NULL);
    read_line(cluster, cluster->directory, sizeof cluster->directory);
}

void hosts_cluster_end(struct hosts_cluster *cluster)
{
    int status;

    fclose(cluster->to);
    CHECK(waitpid(cluster->process, &status, 0) == cluster->process);
    CHECK_MSG(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the cluster ended badly");
    fclose(cluster->from);
}

static void ask(struct hosts_cluster *cluster, const char *what, char *answer, size_t size)
{
    fprintf(cluster->to, "%s\n", what);
    fflush(cluster->to);
    read_line(cluster, answer, size);
}

static void tell(struct hosts_cluster *cluster, const char *verb, unsigned node)
{
    char what[32], answer[16];

    snprintf(what, sizeof what, "%s %u", verb, node);
    ask(cluster, what, answer, sizeof answer);
    CHECK(strcmp(answer, "ok") == 0);
}

struct shoal *hosts_cluster_open(const struct hosts_cluster *cluster)
{
    return open_client(cluster->directory);
}

unsigned hosts_cluster_leader(struct hosts_cluster *cluster)
{
    char answer[16];

    ask(cluster, "leader", answer, sizeof answer);
    return (unsigned)strtoul(answer, NULL, 10);
}

void hosts_cluster_kill(struct hosts_cluster *cluster, unsigned node)
{
    tell(cluster, "kill", node);
}

void hosts_cluster_restart(struct hosts_cluster *cluster, unsigned node)
{
    tell(cluster, "start", node);
}
