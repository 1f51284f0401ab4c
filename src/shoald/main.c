/* SPDX-License-Identifier: Apache-2.0 */
/* shoald's start and end: configuration, devices, planes, signals. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/options.h"
#include "core/fiber.h"
#include "core/mailbox.h"
#include "core/reactor.h"
#include "net/net.h"
#include "node/node.h"
#include "shoald/shoald.h"

#define FILE_MAP_MAX (64u << 20)
#define URING_ENTRIES 1024

struct shoald {
    struct shoald_config config;
    int lock_fd;
    struct reactor *reactor;
    struct fiber_pool *fibers;
    struct metrics *metrics;
    struct metrics_page *page;
    struct dma_arena *arena;
    struct net *data, *replication;
    struct authority_remote *authority;
    unsigned targets_count;
    struct dev *devs[NODE_TARGETS_MAX];
    struct engine *engines[NODE_TARGETS_MAX];
    struct engine_report reports[NODE_TARGETS_MAX];
    struct node_config node_config;
    struct node *node;
    int rc;

    sigset_t signals;
    pthread_t signal_thread;
    struct mail stop_mail, reload_mail;
    bool stopping;
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

/* ---- buffers ---- */

/*
 * Payload under way is a stripe with its parity on a primary, a shard on a member, a small blob
 * anywhere; each kind has its share. The sizes leave room for descriptions and alignment.
 */
static int make_arena(struct shoald *shoald)
{
    static const struct {
        size_t size;
        unsigned percent;
    } shares[] = {{24u << 10, 4}, {160u << 10, 8}, {1152u << 10, 28}, {4224u << 10, 28},
                  {8448u << 10, 32}};
    struct dma_class classes[ARRAY_LEN(shares)];
    for (size_t i = 0; i < ARRAY_LEN(shares); i++) {
        uint64_t count = shoald->config.memory / 100 * shares[i].percent / shares[i].size;
        classes[i] = (struct dma_class){shares[i].size, (unsigned)MAX(count, UINT64_C(1))};
    }
    int rc = dma_arena_create(shoald->reactor, classes, ARRAY_LEN(classes), &shoald->arena);
    if (rc != 0)
        LOG_ERROR("no memory for buffers of %llu MiB: lower 'memory' in the configuration",
                  (unsigned long long)(shoald->config.memory >> 20));
    return rc;
}

/* ---- opening ---- */

static void explain_device(const char *path, int rc, const struct engine_report *report)
{
    switch (rc) {
    case SHOAL_E_BUSY:
    case SHOAL_E_EXISTS:
        LOG_ERROR("%s is in use by another process: stop it first", path);
        break;
    case SHOAL_E_FORMAT:
        LOG_ERROR("%s holds no format that this shoald %s knows (%s): 'shoal inspect' says what is "
                  "there, 'shoal format' makes it empty", path, SHOAL_VERSION,
                  report->problem[0] != 0 ? report->problem : "nothing of Shoal");
        break;
    case SHOAL_E_CORRUPT:
        LOG_ERROR("%s is damaged (%s): 'shoal fsck --repair %s' may mend it; else "
                  "'shoal node replace-device' rebuilds it from the other nodes", path,
                  report->problem, path);
        break;
    case SHOAL_E_NOT_FOUND:
        LOG_ERROR("%s does not exist: was the disk mounted? 'shoal node replace-device' makes a new "
                  "one and rebuilds it from the other nodes", path);
        break;
    default:
        LOG_ERROR("%s cannot be opened: %s%s%s", path, shoal_error_text(rc),
                  report->problem[0] != 0 ? ": " : "", report->problem);
    }
}

static int open_device(struct shoald *shoald, unsigned i)
{
    const char *path = shoald->config.devices.items[i];
    struct engine_report *report = &shoald->reports[i];
    struct engine_config config = {.index_max_objects = shoald->config.index_objects,
                                   .metrics = shoald->metrics};
    int rc = dev_uring_open(shoald->reactor, path, 0, false, &shoald->devs[i]);
    if (rc == 0)
        rc = engine_open(shoald->devs[i], shoald->arena, &config, &shoald->engines[i], report);
    if (rc != 0) {
        explain_device(path, rc, report);
        return rc;
    }
    LOG_INFO("%s: target %u, %llu objects%s%s%s", path, report->target,
             (unsigned long long)report->objects, report->stale ? ", stale" : "",
             report->problem[0] != 0 ? ": " : "", report->problem);
    return 0;
}

static int open_devices(struct shoald *shoald)
{
    shoald->targets_count = (unsigned)shoald->config.devices.count;
    for (unsigned i = 0; i < shoald->targets_count; i++) {
        int rc = open_device(shoald, i);
        if (rc != 0)
            return rc;
        struct node_target_config *target = &shoald->node_config.targets[i];
        target->id = shoald->reports[i].target;
        target->engine = shoald->engines[i];
        target->stale = shoald->reports[i].stale;
    }
    return 0;
}

static int open_planes(struct shoald *shoald)
{
    const struct shoald_config *config = &shoald->config;
    struct net_tcp_config tcp = {.certificate = config->certificate, .key = config->key,
                                 .ca = config->ca,
                                 .plain = strcmp(config->data_plane, "plain") == 0};
    int rc = net_tcp_create(shoald->reactor, &tcp, &shoald->data);
    if (rc == 0)
        rc = net_tcp_create(shoald->reactor, &tcp, &shoald->replication);
    if (rc != 0) {
        LOG_ERROR("cannot use the certificate %s: %s", config->certificate, shoal_error_text(rc));
        return rc;
    }
    return authority_remote_create(shoald->reactor, shoald->replication, config->authority,
                                   &shoald->authority);
}

static int open_node(struct shoald *shoald)
{
    const struct shoald_config *config = &shoald->config;
    struct node_config *node = &shoald->node_config;
    snprintf(node->name, sizeof node->name, "%s", config->name);
    snprintf(node->data_address, sizeof node->data_address, "%s", config->data);
    snprintf(node->replication_address, sizeof node->replication_address, "%s",
             config->replication);
    node->reactor = shoald->reactor;
    node->data = shoald->data;
    node->replication = shoald->replication;
    node->arena = shoald->arena;
    node->metrics = shoald->metrics;
    node->authority = authority_remote_door(shoald->authority);
    node->store = (struct node_store){store_load, store_save, shoald};
    node->targets_count = shoald->targets_count;
    node->scrub_bytes_per_s = config->scrub_rate;
    node->catch_up_bytes_per_s = config->catch_up_rate;
    int rc = node_create(node, &shoald->node);
    if (rc != 0) {
        LOG_ERROR("cannot start the node: %s", shoal_error_text(rc));
        return rc;
    }
    rc = node_start(shoald->node);
    if (rc != 0)
        LOG_ERROR("cannot listen on %s and %s: %s; another program may use the port", config->data,
                  config->replication, shoal_error_text(rc));
    return rc;
}

static void close_all(struct shoald *shoald)
{
    if (shoald->node != NULL) {
        node_stop(shoald->node);
        node_destroy(shoald->node);
    }
    for (unsigned i = 0; i < shoald->targets_count; i++) {
        if (shoald->engines[i] != NULL)
            engine_close(shoald->engines[i], false);
        if (shoald->devs[i] != NULL)
            dev_close(shoald->devs[i]);
    }
    if (shoald->authority != NULL)
        authority_remote_destroy(shoald->authority);
    if (shoald->replication != NULL)
        net_destroy(shoald->replication);
    if (shoald->data != NULL)
        net_destroy(shoald->data);
}

static void stop_fiber(void *arg)
{
    struct shoald *shoald = arg;
    close_all(shoald);
    reactor_stop(shoald->reactor);
}

static void start_fiber(void *arg)
{
    struct shoald *shoald = arg;
    int rc = open_devices(shoald);
    if (rc == 0)
        rc = open_planes(shoald);
    if (rc == 0)
        rc = open_node(shoald);
    shoald->rc = rc;
    if (rc != 0) {
        close_all(shoald);
        reactor_stop(shoald->reactor);
        return;
    }
    LOG_INFO("%s serves clients at %s and nodes at %s", shoald->config.name,
             node_data_address(shoald->node), node_replication_address(shoald->node));
}

/* ---- signals ---- */

static void stop_delivered(struct mail *mail)
{
    struct shoald *shoald = container_of(mail, struct shoald, stop_mail);
    if (shoald->stopping)
        return;
    shoald->stopping = true;
    if (fiber_spawn(shoald->fibers, stop_fiber, shoald) != 0)
        reactor_stop(shoald->reactor);
}

static void reload_delivered(struct mail *mail)
{
    struct shoald *shoald = container_of(mail, struct shoald, reload_mail);
    if (shoald->data != NULL && shoald->replication != NULL &&
        net_tcp_reload(shoald->data) == 0 && net_tcp_reload(shoald->replication) == 0)
        LOG_INFO("read the certificates again");
}

static void *signal_thread(void *arg)
{
    struct shoald *shoald = arg;
    bool told = false;
    for (;;) {
        int signal = 0;
        if (sigwait(&shoald->signals, &signal) != 0)
            continue;
        if (signal == SIGHUP) {
            mailbox_post(shoald->reactor, &shoald->reload_mail);
        } else if (signal == SIGUSR1) {
            return NULL; /* main is done with us */
        } else if (told) {
            LOG_WARN("stopping at once: what is acknowledged is safe all the same");
            _exit(1);
        } else {
            LOG_INFO("stopping");
            told = true;
            mailbox_post(shoald->reactor, &shoald->stop_mail);
        }
    }
}

static int start_signals(struct shoald *shoald)
{
    shoald->stop_mail.deliver = stop_delivered;
    shoald->reload_mail.deliver = reload_delivered;
    return pthread_create(&shoald->signal_thread, NULL, signal_thread, shoald) == 0
               ? 0 : SHOAL_E_SYSTEM;
}

/* ---- main ---- */

static int run(struct shoald *shoald)
{
    struct reactor_config reactor_config = {.name = shoald->config.name, .cpu = -1,
                                            .spin_ns = shoald->config.spin_ns,
                                            .uring_entries = URING_ENTRIES};
    int rc = take_lock(shoald);
    if (rc == 0)
        rc = reactor_create(&reactor_config, &shoald->reactor);
    if (rc == 0)
        rc = fiber_pool_create(shoald->reactor, "daemon", 4, 256 << 10, &shoald->fibers);
    if (rc == 0)
        rc = make_arena(shoald);
    if (rc == 0 && (shoald->metrics = metrics_create()) == NULL)
        rc = SHOAL_E_NO_MEMORY;
    if (rc == 0 && shoald->config.management != NULL)
        rc = metrics_page_start(shoald->config.management, shoald->metrics, &shoald->page);
    if (rc == 0)
        rc = start_signals(shoald);
    if (rc != 0)
        return rc;
    rc = fiber_spawn(shoald->fibers, start_fiber, shoald);
    if (rc == 0)
        reactor_run(shoald->reactor);
    metrics_page_stop(shoald->page);
    pthread_kill(shoald->signal_thread, SIGUSR1);
    pthread_join(shoald->signal_thread, NULL);
    if (shoald->rc == 0)
        LOG_INFO("stopped");
    /* The fiber that stopped us may still be on its way out. */
    while (fiber_pool_in_use(shoald->fibers) > 0)
        reactor_poll_once(shoald->reactor);
    dma_arena_destroy(shoald->arena);
    fiber_pool_destroy(shoald->fibers);
    reactor_destroy(shoald->reactor);
    metrics_destroy(shoald->metrics);
    return rc != 0 ? rc : shoald->rc;
}

struct arguments {
    char *config;
};

static const struct option_spec options[] = {
    {{"config", VALUE_STRING, offsetof(struct arguments, config), NULL, 1, 0, NULL,
      "The node's configuration, node.yaml."}, 'c', "FILE"},
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
    enum log_level level;
    if (log_level_parse(shoald->config.log_level, &level))
        log_set_level(level);
    log_set_component(shoald->config.name);

    /* Before any thread, so that all inherit it. */
    sigemptyset(&shoald->signals);
    sigaddset(&shoald->signals, SIGTERM);
    sigaddset(&shoald->signals, SIGINT);
    sigaddset(&shoald->signals, SIGHUP);
    sigaddset(&shoald->signals, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &shoald->signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    int rc = run(shoald);
    shoald_config_free(&shoald->config);
    options_free(&command, &arguments);
    return rc == 0 ? 0 : 1;
}
