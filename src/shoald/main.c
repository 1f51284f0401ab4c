/* SPDX-License-Identifier: Apache-2.0 */
/* shoald's start and end: configuration, lock, signals, and what workers do when. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/options.h"
#include "node/node.h"
#include "shoald/shoald.h"

#define FILE_MAP_MAX (64u << 20)

struct shoald {
    struct shoald_config config;
    int lock_fd, signals, done;
    struct metrics *metrics;
    struct metrics_page *page;
    struct shoald_plan plan;
    struct worker workers[NODE_TARGETS_MAX];
    struct node_config parts[NODE_TARGETS_MAX];
    struct node_group *group;
    bool stop_wanted, reload_wanted;
};

/* Not on a stack: large. One process, one node. */
static struct shoald daemon_state;

/* ---- what the node keeps ---- */

static int map_path(const struct shoald *shoald, char *path, size_t size)
{
    int len = snprintf(path, size, "%s/map", shoald->config.directory);
    return len < 0 || (size_t)len >= size ? SHOAL_E_TOO_LARGE : 0;
}

static int store_load(void *ctx, void **bytes, size_t *len)
{
    char path[4096], *text;
    int rc = map_path(ctx, path, sizeof path);
    if (rc == 0)
        rc = file_read(path, FILE_MAP_MAX, &text, len);
    if (rc == 0)
        *bytes = text;
    return rc;
}

static int store_save(void *ctx, const void *bytes, size_t len)
{
    char path[4096];
    int rc = map_path(ctx, path, sizeof path);
    return rc == 0 ? file_write_atomic(path, bytes, len, 0600) : rc;
}

/* The lock says that this process lives; the pid inside, which one it is. */
static int take_lock(struct shoald *shoald)
{
    char path[4096];
    const char *directory = shoald->config.directory;
    if (file_make_directories(directory, 0700) != 0) {
        LOG_ERROR("cannot make the directory %s: %s", directory, strerror(errno));
        return SHOAL_E_SYSTEM;
    }
    snprintf(path, sizeof path, "%s/pid", directory);
    shoald->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (shoald->lock_fd < 0) {
        LOG_ERROR("cannot open %s: %s", path, strerror(errno));
        return SHOAL_E_SYSTEM;
    }
    if (flock(shoald->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        LOG_ERROR("a shoald runs in %s already", directory);
        return SHOAL_E_EXISTS;
    }
    if (ftruncate(shoald->lock_fd, 0) != 0 || dprintf(shoald->lock_fd, "%d\n", (int)getpid()) < 0) {
        LOG_ERROR("cannot write %s: %s", path, strerror(errno));
        return SHOAL_E_SYSTEM;
    }
    return 0;
}

/* ---- signals ---- */

static int open_signals(struct shoald *shoald, const sigset_t *set)
{
    shoald->signals = signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK);
    shoald->done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return shoald->signals < 0 || shoald->done < 0 ? SHOAL_E_SYSTEM : 0;
}

static void take_signals(struct shoald *shoald)
{
    struct signalfd_siginfo info;
    while (read(shoald->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGHUP) {
            shoald->reload_wanted = true;
        } else if (shoald->stop_wanted) {
            LOG_WARN("stopping at once: what is acknowledged is safe all the same");
            _exit(1);
        } else {
            LOG_INFO("stopping");
            shoald->stop_wanted = true;
        }
    }
}

/* Sleeps until something happened. Return: how many workers have said that they are done. */
static unsigned wait_events(struct shoald *shoald)
{
    struct pollfd fds[] = {{.fd = shoald->signals, .events = POLLIN},
                           {.fd = shoald->done, .events = POLLIN}};
    uint64_t done = 0;
    (void)poll(fds, ARRAY_LEN(fds), -1);
    take_signals(shoald);
    if (read(shoald->done, &done, sizeof done) != (ssize_t)sizeof done)
        return 0;
    return (unsigned)done;
}

/* ---- workers ---- */

/* Tell @count of them, wait for all. Return: 0 or what went wrong with one. */
static int conduct(struct shoald *shoald, unsigned first, unsigned count, enum worker_step step)
{
    int rc = 0;
    for (unsigned i = first; i < first + count; i++)
        worker_tell(&shoald->workers[i], step);
    for (unsigned pending = count; pending > 0;)
        pending -= wait_events(shoald);
    for (unsigned i = first; i < first + count && rc == 0; i++)
        rc = shoald->workers[i].rc;
    return rc;
}

static int create_workers(struct shoald *shoald, unsigned *created)
{
    struct value_error why;
    int rc = shoald_plan(&shoald->config, &shoald->plan, &why);
    if (rc != 0)
        LOG_ERROR("%s", why.text);
    for (*created = 0; rc == 0 && *created < shoald->plan.workers; *created += rc == 0) {
        struct worker *worker = &shoald->workers[*created];
        worker->config = &shoald->config;
        worker->metrics = shoald->metrics;
        worker->part = &shoald->parts[*created];
        worker->done = shoald->done;
        rc = worker_create(worker, *created, &shoald->plan);
    }
    return rc;
}

static void set_addresses(struct node_config *part, const char *data, const char *replication)
{
    snprintf(part->data_address, sizeof part->data_address, "%s", data);
    snprintf(part->replication_address, sizeof part->replication_address, "%s", replication);
}

/* The first worker listens before the others: their address is where it really does. */
static int start_node(struct shoald *shoald)
{
    unsigned count = shoald->plan.workers;
    struct node_config *leads = &shoald->parts[0];
    leads->store = (struct node_store){store_load, store_save, shoald};
    set_addresses(leads, shoald->config.data, shoald->config.replication);
    int rc = node_group_create(shoald->parts, count, &shoald->group);
    if (rc != 0) {
        LOG_ERROR("cannot make one node of %u reactors: %s", count, shoal_error_text(rc));
        return rc;
    }
    rc = conduct(shoald, 0, 1, WORKER_START);
    if (rc != 0)
        return rc;
    const struct node *node = shoald->workers[0].node;
    for (unsigned i = 1; i < count; i++)
        set_addresses(&shoald->parts[i], node_data_address(node), node_replication_address(node));
    rc = conduct(shoald, 1, count - 1, WORKER_START);
    if (rc == 0)
        LOG_INFO("%s serves clients at %s and nodes at %s with %u reactor%s", shoald->config.name,
                 node_data_address(node), node_replication_address(node), count,
                 count == 1 ? "" : "s");
    return rc;
}

static void serve(struct shoald *shoald)
{
    while (!shoald->stop_wanted) {
        if (shoald->reload_wanted) {
            shoald->reload_wanted = false;
            if (conduct(shoald, 0, shoald->plan.workers, WORKER_RELOAD) == 0)
                LOG_INFO("read the certificates again");
        } else {
            (void)wait_events(shoald);
        }
    }
}

static int run_workers(struct shoald *shoald)
{
    unsigned created;
    int rc = create_workers(shoald, &created);
    if (rc == 0)
        rc = conduct(shoald, 0, created, WORKER_OPEN);
    if (rc == 0 && !shoald->stop_wanted)
        rc = start_node(shoald);
    if (rc == 0)
        serve(shoald);
    (void)conduct(shoald, 0, created, WORKER_STOP);
    (void)conduct(shoald, 0, created, WORKER_CLOSE);
    for (unsigned i = 0; i < created; i++)
        worker_join(&shoald->workers[i]);
    node_group_destroy(shoald->group);
    if (rc == 0)
        LOG_INFO("stopped");
    return rc;
}

/* ---- main ---- */

static int run(struct shoald *shoald, const sigset_t *set)
{
    int rc = take_lock(shoald);
    if (rc == 0)
        rc = open_signals(shoald, set);
    if (rc == 0 && (shoald->metrics = metrics_create()) == NULL)
        rc = SHOAL_E_NO_MEMORY;
    if (rc == 0 && shoald->config.management != NULL)
        rc = metrics_page_start(shoald->config.management, shoald->metrics, &shoald->page);
    if (rc != 0)
        return rc;
    rc = run_workers(shoald);
    metrics_page_stop(shoald->page);
    metrics_destroy(shoald->metrics);
    return rc;
}

struct arguments {
    char *config;
    bool check;
};

static const struct option_spec options[] = {
    {{"config", VALUE_STRING, offsetof(struct arguments, config), NULL, 1, 0, NULL,
      "The node's configuration, node.yaml."}, 'c', "FILE"},
    {{"check_config", VALUE_BOOL, offsetof(struct arguments, check), NULL, 0, 0, NULL,
      "Say what is wrong with it and with what it names, and start nothing."}, 0, NULL},
};
static const struct options_command command = {
    .name = "shoald", .arguments = "", .summary = "A storage node of a Shoal cluster.",
    .example = "shoald --config /etc/shoal/node.yaml",
    .options = options, .option_count = ARRAY_LEN(options),
};

int main(int argc, char **argv)
{
    struct shoald *shoald = &daemon_state;
    struct arguments arguments;
    struct options_arguments positional;
    struct value_error why;
    enum options_result parsed = options_parse(&command, argc, argv, &arguments, &positional);
    if (parsed != OPTIONS_RUN)
        return parsed == OPTIONS_DONE ? 0 : 2;
    if (arguments.config == NULL) {
        (void)options_usage_error(&command, "--config FILE is needed");
        return 2;
    }
    if (shoald_config_load(arguments.config, &shoald->config, &why) != 0) {
        fprintf(stderr, "shoald: %s\n", why.text[0] != 0 ? why.text : arguments.config);
        return 1;
    }
    if (arguments.check) {
        unsigned problems = shoald_check(&shoald->config, stdout);
        shoald_config_free(&shoald->config);
        options_free(&command, &arguments);
        return problems == 0 ? 0 : 1;
    }
    enum log_level level;
    if (log_level_parse(shoald->config.log_level, &level))
        log_set_level(level);
    log_set_component(shoald->config.name);

    /* Before any thread, so that all inherit it. */
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    int rc = run(shoald, &signals);
    shoald_config_free(&shoald->config);
    options_free(&command, &arguments);
    return rc == 0 ? 0 : 1;
}
