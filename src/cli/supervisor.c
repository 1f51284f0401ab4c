/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor of a local cluster: its authority, and the one who starts nodes and notices their
 * deaths. It watches processes through pidfds, children or not, so that when it dies itself and is
 * started anew it takes over the nodes that ran on. Its death stops neither reads nor writes.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "cli/local.h"
#include "cli/process.h"
#include "core/fiber.h"
#include "core/mailbox.h"
#include "core/reactor.h"
#include "net/net.h"

#define MAP_MAX (64u << 20)
#define START_NS UINT64_C(30000000000)
#define STOP_NS UINT64_C(15000000000)
#define LOOK_NS UINT64_C(10000000)

struct supervisor;

/* A node as the watcher sees it; fields under the lock. */
struct watched {
    struct supervisor *supervisor;
    struct local_node *node;
    struct mail died_mail; /* at most one under way: nobody watches a dead one */
    int pidfd;             /* -1: not watched */
    pid_t pid;
    unsigned deaths;       /* of watched processes; told to the authority when equal to `told` */
    unsigned told;         /* the reactor's */
};

struct supervisor {
    struct local *local;
    int lock_fd;
    struct reactor *reactor;
    struct fiber_pool *fibers;
    struct net *net;
    struct authority *authority;
    struct watched *watched;

    pthread_mutex_t lock;
    pthread_t watcher;
    int wake[2]; /* the watcher's set has changed */
    sigset_t signals;
    struct mail stop_mail;
    int rc;
};

/* ---- the watcher's thread ---- */

static void died_delivered(struct mail *mail);

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
    unsigned nodes = supervisor->local->nodes_count;
    struct pollfd fds[LOCAL_NODES_MAX + 2];
    int signals = signalfd(-1, &supervisor->signals, SFD_CLOEXEC | SFD_NONBLOCK);
    for (;;) {
        pthread_mutex_lock(&supervisor->lock);
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

/* ---- nodes ---- */

static void died_fiber(void *arg)
{
    struct watched *watched = arg;
    struct supervisor *supervisor = watched->supervisor;
    LOG_INFO("%s is dead", watched->node->name);
    int rc = authority_node_died(supervisor->authority, watched->node->name);
    if (rc != 0)
        LOG_ERROR("cannot publish that %s is dead: %s", watched->node->name, shoal_error_text(rc));
    watched->told++;
}

static void died_delivered(struct mail *mail)
{
    struct watched *watched = container_of(mail, struct watched, died_mail);
    if (fiber_spawn(watched->supervisor->fibers, died_fiber, watched) != 0)
        LOG_ERROR("no fiber to publish a death with");
}

static bool is_alive(struct watched *watched)
{
    pthread_mutex_lock(&watched->supervisor->lock);
    bool alive = watched->pidfd >= 0;
    pthread_mutex_unlock(&watched->supervisor->lock);
    return alive;
}

static unsigned deaths(struct watched *watched)
{
    pthread_mutex_lock(&watched->supervisor->lock);
    unsigned count = watched->deaths;
    pthread_mutex_unlock(&watched->supervisor->lock);
    return count;
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

/* Take over the process that runs already, if there is one. */
static bool adopt(struct watched *watched)
{
    pid_t pid;
    int pidfd = process_open(watched->node->pid_file, &pid);
    if (pidfd < 0)
        return false;
    watch(watched, pidfd, pid);
    return true;
}

static int spawn(struct watched *watched)
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
    watch(watched, pidfd, pid);
    return 0;
}

static const struct map_node *node_in_map(struct watched *watched)
{
    const struct cluster_map *map = authority_map(watched->supervisor->authority);
    return cluster_map_node_named(map, watched->node->name);
}

static struct watched *find_watched(struct supervisor *supervisor, const char *name)
{
    for (unsigned i = 0; i < supervisor->local->nodes_count; i++)
        if (name != NULL && strcmp(supervisor->local->nodes[i].name, name) == 0)
            return &supervisor->watched[i];
    return NULL;
}

/* ---- wishes ---- */

static char *answer_ok(void)
{
    return strdup("{\"ok\": true}");
}

static char *answer_error(int error, const char *format, ...) PRINTF_LIKE(2, 3);
static char *answer_error(int error, const char *format, ...)
{
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    json_t *json = json_pack("{s:b, s:s, s:s}", "ok", 0, "error", shoal_error_name(error),
                             "message", message);
    char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    return text;
}

static char *wish_end(struct watched *watched, int signal)
{
    struct supervisor *supervisor = watched->supervisor;
    uint64_t kill_at = reactor_now_ns(supervisor->reactor) + STOP_NS;
    if (!is_alive(watched))
        return answer_error(SHOAL_E_NOT_FOUND, "%s is not running", watched->node->name);
    unsigned before = watched->told;
    pthread_mutex_lock(&supervisor->lock);
    if (watched->pidfd >= 0)
        (void)syscall(SYS_pidfd_send_signal, watched->pidfd, signal, NULL, 0);
    pthread_mutex_unlock(&supervisor->lock);
    /* The death is published before it is answered, so that what follows sees it. */
    while (watched->told == before) {
        if (signal != SIGKILL && reactor_now_ns(supervisor->reactor) > kill_at) {
            LOG_WARN("%s did not stop in time: killing it", watched->node->name);
            return wish_end(watched, SIGKILL);
        }
        fiber_sleep(LOOK_NS);
    }
    return answer_ok();
}

static char *wish_start(struct watched *watched)
{
    struct supervisor *supervisor = watched->supervisor;
    char words[400];
    if (is_alive(watched) || adopt(watched))
        return answer_error(SHOAL_E_EXISTS, "%s is running already", watched->node->name);
    /* An earlier death is published first, or it would be taken for that of the new process. */
    while (deaths(watched) != watched->told)
        fiber_sleep(LOOK_NS);
    const struct map_node *node = node_in_map(watched);
    uint32_t before = node != NULL ? node->incarnation : 0;
    int rc = spawn(watched);
    if (rc != 0)
        return answer_error(rc, "cannot start %s: %s; the supervisor's log says more",
                            watched->node->name, shoal_error_text(rc));
    uint64_t deadline = reactor_now_ns(supervisor->reactor) + START_NS;
    while (reactor_now_ns(supervisor->reactor) < deadline) {
        node = node_in_map(watched);
        if (node != NULL && node->up && node->incarnation != before)
            return answer_ok();
        if (!is_alive(watched))
            return answer_error(SHOAL_E_SYSTEM, "%s ended at once: %s", watched->node->name,
                                process_last_words(watched->node->log, words, sizeof words));
        fiber_sleep(LOOK_NS);
    }
    return answer_error(SHOAL_E_TIMEOUT, "%s runs but has not joined within %llu s; its log is %s",
                        watched->node->name, (unsigned long long)(START_NS / 1000000000u),
                        watched->node->log);
}

static int on_wish(void *ctx, const char *wish, char **answer)
{
    struct supervisor *supervisor = ctx;
    json_t *json = json_loads(wish, 0, NULL);
    const char *name = json_string_value(json_object_get(json, "wish"));
    const char *node = json_string_value(json_object_get(json, "node"));
    int rc = 0;
    bool stop = name != NULL && strcmp(name, "node_stop") == 0;
    bool end = name != NULL && strcmp(name, "node_kill") == 0;
    bool start = name != NULL && strcmp(name, "node_start") == 0;
    struct watched *watched = find_watched(supervisor, node);
    if (!stop && !end && !start)
        rc = SHOAL_E_UNSUPPORTED;
    else if (watched == NULL)
        *answer = answer_error(SHOAL_E_NOT_FOUND, "there is no node '%s'", node ? node : "");
    else
        *answer = start ? wish_start(watched) : wish_end(watched, stop ? SIGTERM : SIGKILL);
    json_decref(json);
    return rc;
}

/* ---- start ---- */

static int save_map(void *ctx, const void *map, size_t len)
{
    struct supervisor *supervisor = ctx;
    char path[CLI_PATH_MAX];
    return file_write_atomic(local_path(supervisor->local, "authority/map", path, sizeof path), map,
                             len, 0600);
}

static int load_map(struct supervisor *supervisor, struct cluster_map **map)
{
    char path[CLI_PATH_MAX], *bytes;
    size_t len;
    local_path(supervisor->local, "authority/map", path, sizeof path);
    int rc = file_read(path, MAP_MAX, &bytes, &len);
    if (rc == 0) {
        rc = cluster_map_decode(bytes, len, map);
        free(bytes);
    }
    if (rc != 0)
        LOG_ERROR("cannot read the cluster's map %s: %s", path, shoal_error_text(rc));
    return rc;
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
    struct authority_config config = {.reactor = supervisor->reactor, .save = save_map,
                                      .wish = on_wish, .ctx = supervisor};
    int rc = load_map(supervisor, &config.map);
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

/* One that was up in the map and is not running died while nobody looked; it is about to enrol. */
static void start_fiber(void *arg)
{
    struct supervisor *supervisor = arg;
    supervisor->rc = open_authority(supervisor);
    for (unsigned i = 0; i < supervisor->local->nodes_count && supervisor->rc == 0; i++) {
        struct watched *watched = &supervisor->watched[i];
        if (adopt(watched))
            LOG_INFO("%s runs already as process %d", watched->node->name, (int)watched->pid);
        else
            (void)spawn(watched);
    }
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
    unsigned nodes = supervisor->local->nodes_count;
    int rc = reactor_create(&config, &supervisor->reactor);
    if (rc == 0)
        rc = fiber_pool_create(supervisor->reactor, "supervisor", nodes * 2 + 8, 256 << 10,
                               &supervisor->fibers);
    if (rc != 0)
        return rc;
    pthread_mutex_init(&supervisor->lock, NULL);
    supervisor->stop_mail.deliver = stop_delivered;
    supervisor->watched = calloc(nodes, sizeof *supervisor->watched);
    if (supervisor->watched == NULL || pipe2(supervisor->wake, O_CLOEXEC | O_NONBLOCK) != 0)
        return SHOAL_E_NO_MEMORY;
    for (unsigned i = 0; i < nodes; i++)
        supervisor->watched[i] = (struct watched){.supervisor = supervisor, .pidfd = -1,
                                                  .node = &supervisor->local->nodes[i],
                                                  .died_mail.deliver = died_delivered};
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
    if (supervisor.local == NULL || supervisor.local->nodes_count > LOCAL_NODES_MAX)
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
