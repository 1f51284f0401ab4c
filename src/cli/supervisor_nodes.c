/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes of a local cluster as processes: started, taken over, fenced, and their deaths published. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/process.h"
#include "cli/supervisor.h"
#include "cluster/cluster.h"

static void died_fiber(void *arg)
{
    struct watched *watched = arg;
    struct supervisor *supervisor = watched->supervisor;
    LOG_INFO("%s is dead", watched->node->name);
    int rc = authority_node_died(supervisor->authority, watched->node->name);
    if (rc != 0 && rc != SHOAL_E_NOT_FOUND) /* removed: nobody needs to know */
        LOG_ERROR("cannot publish that %s is dead: %s", watched->node->name, shoal_error_text(rc));
    watched->told++;
}

static void died_delivered(struct mail *mail)
{
    struct watched *watched = container_of(mail, struct watched, died_mail);
    if (fiber_spawn(watched->supervisor->fibers, died_fiber, watched) != 0)
        LOG_ERROR("no fiber to publish a death with");
}

bool supervisor_is_alive(struct watched *watched)
{
    pthread_mutex_lock(&watched->supervisor->lock);
    bool alive = watched->pidfd >= 0;
    pthread_mutex_unlock(&watched->supervisor->lock);
    return alive;
}

bool supervisor_told_all(struct watched *watched)
{
    pthread_mutex_lock(&watched->supervisor->lock);
    bool all = watched->deaths == watched->told;
    pthread_mutex_unlock(&watched->supervisor->lock);
    return all;
}

void supervisor_signal(struct watched *watched, int signal)
{
    pthread_mutex_lock(&watched->supervisor->lock);
    if (watched->pidfd >= 0)
        (void)syscall(SYS_pidfd_send_signal, watched->pidfd, signal, NULL, 0);
    pthread_mutex_unlock(&watched->supervisor->lock);
}

static void watch(struct watched *watched, int pidfd, pid_t pid)
{
    struct supervisor *supervisor = watched->supervisor;
    pthread_mutex_lock(&supervisor->lock);
    watched->pidfd = pidfd;
    watched->pid = pid;
    pthread_mutex_unlock(&supervisor->lock);
    (void)!write(supervisor->wake[1], "w", 1);
}

bool supervisor_adopt(struct watched *watched)
{
    pid_t pid;
    int pidfd = process_open(watched->node->pid_file, &pid);
    if (pidfd < 0)
        return false;
    watch(watched, pidfd, pid);
    return true;
}

int supervisor_spawn(struct watched *watched)
{
    char program[CLI_PATH_MAX];
    if (process_program("shoald", program, sizeof program) == NULL) {
        LOG_ERROR("there is no program shoald beside shoal or on the PATH");
        return SHOAL_E_NOT_FOUND;
    }
    char *argv[] = {program, "--config", watched->node->config_path, NULL};
    pid_t pid = process_spawn(argv, watched->node->log);
    if (pid < 0) {
        LOG_ERROR("cannot start %s: %s", program, strerror(errno));
        return SHOAL_E_SYSTEM;
    }
    LOG_INFO("started %s as process %d", watched->node->name, (int)pid);
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0); /* a child not waited for: surely this one */
    if (pidfd < 0)
        return SHOAL_E_SYSTEM;
    const struct map_node *node = supervisor_node_in_map(watched);
    watched->replaces = node != NULL ? node->incarnation : 0;
    watch(watched, pidfd, pid);
    return 0;
}

const struct map_node *supervisor_node_in_map(struct watched *watched)
{
    const struct cluster_map *map = authority_map(watched->supervisor->authority);
    return cluster_map_node_named(map, watched->node->name);
}

struct watched *supervisor_find(struct supervisor *supervisor, const char *name)
{
    for (unsigned i = 0; i < supervisor->watched_count; i++)
        if (strcmp(supervisor->watched[i].node->name, name) == 0)
            return &supervisor->watched[i];
    return NULL;
}

void supervisor_watch_node(struct supervisor *supervisor, struct local_node *node)
{
    struct watched *watched = &supervisor->watched[supervisor->watched_count];
    *watched = (struct watched){.supervisor = supervisor, .pidfd = -1, .node = node,
                                .died_mail.deliver = died_delivered};
    pthread_mutex_lock(&supervisor->lock);
    supervisor->watched_count++;
    pthread_mutex_unlock(&supervisor->lock);
}

/*
 * A process that is stopped, or hangs, holds up the writes of its slots; it may be declared down only when
 * it is dead (R3), so it is killed, and the watcher sees that. Of the life that the map means the process
 * may be dead already, and another one about to enrol.
 */
void supervisor_fence(void *ctx, const char *name)
{
    struct watched *watched = supervisor_find(ctx, name);
    if (watched == NULL)
        return; /* it runs elsewhere */
    const struct map_node *node = supervisor_node_in_map(watched);
    bool alive = supervisor_is_alive(watched) || supervisor_adopt(watched);
    if (alive && (watched->replaces == 0 || watched->replaces != node->incarnation)) {
        LOG_WARN("%s does not answer: killing process %d; 'shoal node start %s' starts it anew", name,
                 (int)watched->pid, name);
        supervisor_signal(watched, SIGKILL);
    } else if (supervisor_told_all(watched)) {
        (void)authority_node_died(watched->supervisor->authority, name);
    }
}
