/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor of a local cluster: its authority, and the one who starts nodes and notices their
 * deaths. It watches processes through pidfds, children or not, so that when it dies itself and is
 * started anew it takes over the nodes that ran on. Its death stops neither reads nor writes.
 */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "cli/local.h"
#include "cli/process.h"
#include "cli/supervisor.h"
#include "net/net.h"

#define FENCE_NS UINT64_C(3000000000) /* of silence */

/* ---- the watcher's thread ---- */

static void drain(int fd)
{
    char bytes[64];
    while (read(fd, bytes, sizeof bytes) > 0)
        continue;
}

static void note_death(struct watched *watched)
{
    struct supervisor *supervisor = watched->supervisor;
    pthread_mutex_lock(&supervisor->lock);
    close(watched->pidfd);
    watched->pidfd = -1;
    watched->deaths++;
    (void)waitpid(watched->pid, NULL, WNOHANG);
    pthread_mutex_unlock(&supervisor->lock);
    mailbox_post(supervisor->reactor, &watched->died_mail);
}

static void *watcher_thread(void *arg)
{
    struct supervisor *supervisor = arg;
    struct pollfd fds[LOCAL_NODES_MAX + 2];
    int signals = signalfd(-1, &supervisor->signals, SFD_CLOEXEC | SFD_NONBLOCK);
    for (;;) {
        pthread_mutex_lock(&supervisor->lock);
        unsigned nodes = supervisor->watched_count;
        for (unsigned i = 0; i < nodes; i++)
            fds[i] = (struct pollfd){.fd = supervisor->watched[i].pidfd, .events = POLLIN};
        pthread_mutex_unlock(&supervisor->lock);
        fds[nodes] = (struct pollfd){.fd = supervisor->wake[0], .events = POLLIN};
        fds[nodes + 1] = (struct pollfd){.fd = signals, .events = POLLIN};
        if (poll(fds, nodes + 2, -1) < 0)
            continue;
        if (fds[nodes].revents != 0)
            drain(supervisor->wake[0]);
        for (unsigned i = 0; i < nodes; i++)
            if (fds[i].fd >= 0 && (fds[i].revents & POLLIN) != 0)
                note_death(&supervisor->watched[i]);
        if (fds[nodes + 1].revents != 0) {
            struct signalfd_siginfo info;
            if (read(signals, &info, sizeof info) == sizeof info && info.ssi_signo != SIGCHLD) {
                mailbox_post(supervisor->reactor, &supervisor->stop_mail);
                close(signals);
                return NULL;
            }
        }
    }
}

/* ---- start ---- */

static int save_map(void *ctx, const void *map, size_t len)
{
    struct supervisor *supervisor = ctx;
    char path[CLI_PATH_MAX];
    return file_write_atomic(local_path(supervisor->local, "authority/map", path, sizeof path), map,
                             len, 0600);
}

static int open_authority(struct supervisor *supervisor)
{
    static char certificate[CLI_PATH_MAX], key[CLI_PATH_MAX], ca[CLI_PATH_MAX];
    struct net_tcp_config tcp = {
        .certificate = local_path(supervisor->local, "certs/authority.crt", certificate,
                                  sizeof certificate),
        .key = local_path(supervisor->local, "certs/authority.key", key, sizeof key),
        .ca = local_path(supervisor->local, "certs/ca.crt", ca, sizeof ca),
    };
    /* Of nodes elsewhere only their silence is heard; those here can be killed, and are seen to end. */
    bool elsewhere = supervisor->local->nodes_count == 0;
    struct authority_config config = {.reactor = supervisor->reactor, .save = save_map,
                                      .wish = supervisor_wish, .ctx = supervisor,
                                      .fence_ns = FENCE_NS,
                                      .fence = elsewhere ? NULL : supervisor_fence};
    int rc = local_load_map(supervisor->local, &config.map);
    if (rc == 0)
        rc = net_tcp_create(supervisor->reactor, &tcp, &supervisor->net);
    config.net = supervisor->net;
    if (rc == 0)
        rc = authority_create(&config, &supervisor->authority);
    if (rc == 0) {
        rc = authority_listen(supervisor->authority, supervisor->local->client.authority);
        if (rc != 0)
            LOG_ERROR("cannot listen on %s: %s; does another program use the port?",
                      supervisor->local->client.authority, shoal_error_text(rc));
    }
    return rc;
}

/* A node that was removed is not started again, and ended where the one before did not come to it. */
static void start_node(struct watched *watched)
{
    const struct map_node *node = supervisor_node_in_map(watched);
    bool member = node != NULL && !node->removed;
    if (supervisor_adopt(watched)) {
        LOG_INFO("%s runs already as process %d", watched->node->name, (int)watched->pid);
        if (!member)
            supervisor_signal(watched, SIGTERM);
    } else if (member) {
        (void)supervisor_spawn(watched);
    }
}

/* One that was up in the map and is not running died while nobody looked; it is about to enrol. */
static void start_fiber(void *arg)
{
    struct supervisor *supervisor = arg;
    supervisor->rc = open_authority(supervisor);
    for (unsigned i = 0; i < supervisor->watched_count && supervisor->rc == 0; i++)
        start_node(&supervisor->watched[i]);
    if (supervisor->rc != 0)
        reactor_stop(supervisor->reactor);
    else
        LOG_INFO("the authority listens at %s", supervisor->local->client.authority);
}

static void end_fiber(void *arg)
{
    struct supervisor *supervisor = arg;
    if (supervisor->authority != NULL)
        authority_stop(supervisor->authority);
    LOG_INFO("the supervisor ends; nodes run on");
    reactor_stop(supervisor->reactor);
}

static void stop_delivered(struct mail *mail)
{
    struct supervisor *supervisor = container_of(mail, struct supervisor, stop_mail);
    if (fiber_spawn(supervisor->fibers, end_fiber, supervisor) != 0)
        reactor_stop(supervisor->reactor);
}

static int supervise(struct supervisor *supervisor)
{
    struct reactor_config config = {.name = "supervisor", .cpu = -1, .uring_entries = 256};
    int rc = reactor_create(&config, &supervisor->reactor);
    if (rc == 0)
        rc = fiber_pool_create(supervisor->reactor, "supervisor", LOCAL_NODES_MAX * 2 + 8, 256 << 10,
                               &supervisor->fibers);
    if (rc != 0)
        return rc;
    pthread_mutex_init(&supervisor->lock, NULL);
    supervisor->stop_mail.deliver = stop_delivered;
    if (pipe2(supervisor->wake, O_CLOEXEC | O_NONBLOCK) != 0)
        return SHOAL_E_SYSTEM;
    for (unsigned i = 0; i < supervisor->local->nodes_count; i++)
        supervisor_watch_node(supervisor, &supervisor->local->nodes[i]);
    if (pthread_create(&supervisor->watcher, NULL, watcher_thread, supervisor) != 0)
        return SHOAL_E_SYSTEM;
    pthread_detach(supervisor->watcher); /* it ends with the process */
    (void)fiber_spawn(supervisor->fibers, start_fiber, supervisor);
    reactor_run(supervisor->reactor);
    /* All state is on disk, and the kernel takes back the rest. */
    return supervisor->rc;
}

struct arguments {
    char *dir;
};

static const struct option_spec options[] = {
    {{"dir", VALUE_STRING, offsetof(struct arguments, dir), NULL, 1, 0, NULL,
      "The cluster's directory."}, 'd', "DIR"},
};
static const struct options_command command = {
    .name = "shoal supervise", .arguments = "",
    .summary = "Run the authority of a local cluster, and its nodes. 'shoal up' starts it.",
    .example = "shoal supervise --dir /srv/shoal",
    .options = options, .option_count = ARRAY_LEN(options),
};

int cli_supervise(int argc, char **argv)
{
    static struct supervisor supervisor;
    struct arguments arguments;
    struct options_arguments positional;
    char path[CLI_PATH_MAX];
    int status = cli_parse(&command, argc, argv, &arguments, &positional);
    if (status >= 0)
        return status;
    log_set_level(LOG_LEVEL_INFO);
    log_set_component("supervisor");
    supervisor.local = arguments.dir != NULL ? local_load(arguments.dir) : NULL;
    if (supervisor.local == NULL)
        return EXIT_FAILED;
    supervisor.lock_fd =
        process_claim(local_path(supervisor.local, "authority/pid", path, sizeof path));
    if (supervisor.lock_fd < 0)
        return cli_fail("a supervisor runs in %s already", arguments.dir);
    sigemptyset(&supervisor.signals);
    sigaddset(&supervisor.signals, SIGTERM);
    sigaddset(&supervisor.signals, SIGINT);
    sigaddset(&supervisor.signals, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &supervisor.signals, NULL);
    int rc = supervise(&supervisor);
    if (rc != 0)
        LOG_ERROR("the supervisor cannot run: %s", shoal_error_text(rc));
    options_free(&command, &arguments);
    return rc == 0 ? EXIT_DONE : EXIT_FAILED;
}
