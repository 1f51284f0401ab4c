/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing a handle, and taking turns. */
#include "client/handle.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/log.h"

#define OPEN_PATIENCE_MS 5000u
#define POLLS_A_TURN 64u /* of shoal_poll(): it must return even when there is always more */

static _Thread_local char last_message[1024];

const char *shoal_message(void)
{
    return last_message[0] != 0 ? last_message : "no error";
}

int shoal_fail(int error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(last_message, sizeof last_message, format, arguments);
    va_end(arguments);
    return error;
}

const char *shoal_version_string(void)
{
    return SHOAL_VERSION;
}

struct client *shoal_client(struct shoal *shoal)
{
    return shoal->client;
}

const struct client_file *shoal_file(const struct shoal *shoal)
{
    return &shoal->file;
}

uint64_t shoal_deadline_ns(const struct shoal *shoal, uint32_t timeout_ms)
{
    uint32_t ms = timeout_ms != 0 ? timeout_ms : shoal->options.timeout_ms;
    return reactor_now_ns(shoal->reactor) + (uint64_t)ms * 1000000u;
}

/* ---- turns ---- */

static void task_fiber(void *arg)
{
    struct handle_task *task = arg;
    struct shoal *shoal = task->shoal;
    task->run(task->arg);
    if (task->submitted) {
        pthread_mutex_lock(&shoal->lock);
        list_push_back(&shoal->ended, &task->node);
        pthread_mutex_unlock(&shoal->lock);
    }
    shoal->news = true;
    /* The last touch: the owner may take the memory back from here on. */
    atomic_store_explicit(&task->done, true, memory_order_release);
}

static void task_begin(struct handle_task *task)
{
    if (fiber_spawn(task->shoal->fibers, task_fiber, task) == 0)
        return;
    task->refused = true;
    task->run = NULL;
    struct shoal *shoal = task->shoal;
    if (task->submitted) {
        pthread_mutex_lock(&shoal->lock);
        list_push_back(&shoal->ended, &task->node);
        pthread_mutex_unlock(&shoal->lock);
    }
    shoal->news = true;
    atomic_store_explicit(&task->done, true, memory_order_release);
}

static void task_deliver(struct mail *mail)
{
    task_begin(container_of(mail, struct handle_task, mail));
}

void handle_start(struct shoal *shoal, struct handle_task *task)
{
    task->shoal = shoal;
    task->mail.deliver = task_deliver;
    list_node_init(&task->node);
    mailbox_post(shoal->reactor, &task->mail);
}

/* Under the lock. */
static void turn_leave(struct shoal *shoal)
{
    shoal->turn_taken = false;
    if (shoal->event_fd_used) {
        reactor_event_arm(shoal->reactor);
        if (!list_empty(&shoal->ended))
            reactor_wake(shoal->reactor);
    }
    if (shoal->waiting > 0)
        pthread_cond_broadcast(&shoal->moved);
}

/* What ended meanwhile may be waited for by others. */
static void tell_others(struct shoal *shoal)
{
    if (!shoal->news)
        return;
    shoal->news = false;
    pthread_mutex_lock(&shoal->lock);
    if (shoal->waiting > 0)
        pthread_cond_broadcast(&shoal->moved);
    pthread_mutex_unlock(&shoal->lock);
}

static bool is_done(struct handle_task *task)
{
    return atomic_load_explicit(&task->done, memory_order_acquire);
}

void handle_wait(struct shoal *shoal, struct handle_task *task)
{
    pthread_mutex_lock(&shoal->lock);
    while (!is_done(task)) {
        if (shoal->turn_taken) {
            shoal->waiting++;
            pthread_cond_wait(&shoal->moved, &shoal->lock);
            shoal->waiting--;
            continue;
        }
        shoal->turn_taken = true;
        pthread_mutex_unlock(&shoal->lock);
        while (!is_done(task)) {
            (void)reactor_poll_before_wait(shoal->reactor);
            if (is_done(task))
                break;
            tell_others(shoal);
            reactor_wait(shoal->reactor, UINT64_MAX);
        }
        pthread_mutex_lock(&shoal->lock);
        shoal->news = false;
        turn_leave(shoal);
    }
    pthread_mutex_unlock(&shoal->lock);
}

uint64_t handle_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void wait_for_turn(struct shoal *shoal, uint64_t limit_ns)
{
    /* Never for ever: the turn's holder sleeps on behalf of its own work only. */
    uint64_t at = MIN(limit_ns, handle_now_ns() + 100000000u);
    struct timespec until = {.tv_sec = (time_t)(at / 1000000000u),
                             .tv_nsec = (long)(at % 1000000000u)};
    shoal->waiting++;
    pthread_cond_timedwait(&shoal->moved, &shoal->lock, &until);
    shoal->waiting--;
}

void handle_turn(struct shoal *shoal, bool wait, uint64_t limit_ns)
{
    pthread_mutex_lock(&shoal->lock);
    if (shoal->turn_taken) {
        if (wait && list_empty(&shoal->ended))
            wait_for_turn(shoal, limit_ns);
        pthread_mutex_unlock(&shoal->lock);
        return;
    }
    shoal->turn_taken = true;
    pthread_mutex_unlock(&shoal->lock);
    for (unsigned i = 0; i < POLLS_A_TURN; i++) {
        unsigned did = reactor_poll_once(shoal->reactor);
        bool ended = shoal->news;
        tell_others(shoal);
        if (ended && did == 0)
            break;
        if (did == 0 && !(wait && i == 0))
            break;
        if (did == 0)
            reactor_wait(shoal->reactor, limit_ns);
    }
    pthread_mutex_lock(&shoal->lock);
    turn_leave(shoal);
    pthread_mutex_unlock(&shoal->lock);
}

int shoal_run_fiber(struct shoal *shoal, void (*run)(void *arg), void *arg)
{
    struct handle_task task = {.run = run, .arg = arg};
    handle_start(shoal, &task);
    handle_wait(shoal, &task);
    return task.refused ? SHOAL_E_BUSY : 0;
}

int shoal_fd(const struct shoal *shoal)
{
    struct shoal *mine = (struct shoal *)shoal;
    int fd = reactor_event_fd(shoal->reactor);
    if (fd < 0)
        return shoal_fail(fd, "no file descriptor to wait on: %s", shoal_error_text(fd));
    pthread_mutex_lock(&mine->lock);
    mine->event_fd_used = true;
    if (!mine->turn_taken)
        turn_leave(mine);
    pthread_mutex_unlock(&mine->lock);
    return fd;
}

/* ---- opening ---- */

struct open_step {
    struct shoal *shoal;
    bool connect;
    int rc;
};

static void open_fiber(void *arg)
{
    struct open_step *step = arg;
    struct shoal *shoal = step->shoal;
    const char *seeds[256];
    for (size_t i = 0; i < shoal->file.nodes.count; i++)
        seeds[i] = shoal->file.nodes.items[i];
    struct client_config config = {
        .seeds = seeds, .seeds_count = (unsigned)shoal->file.nodes.count,
        .timeout_ns = (uint64_t)shoal->options.timeout_ms * 1000000u,
        .hedge_ns = (uint64_t)shoal->options.hedge_us * 1000u,
        .operations_max = shoal->options.requests_max + 4,
    };
    step->rc = client_create(shoal->reactor, shoal->net, &config, &shoal->client);
    if (step->rc == 0 && step->connect)
        step->rc = client_connect(shoal->client, shoal_deadline_ns(shoal, OPEN_PATIENCE_MS));
}

static void close_fiber(void *arg)
{
    struct shoal *shoal = arg;
    if (shoal->client != NULL)
        client_close(shoal->client);
    net_destroy(shoal->net);
}

static int open_net(struct shoal *shoal, bool admin)
{
    const struct client_file *file = &shoal->file;
    if (admin && (file->admin_certificate == NULL || file->admin_key == NULL))
        return shoal_fail(SHOAL_E_DENIED, "changing the cluster takes an administrator's "
                          "certificate: client.yaml has no admin.certificate and admin.key");
    struct net_tcp_config config = {
        .certificate = admin ? file->admin_certificate : file->certificate,
        .key = admin ? file->admin_key : file->key, .ca = file->ca,
        .plain = strcmp(file->data_plane, "plain") == 0,
    };
    int rc = net_tcp_create(shoal->reactor, &config, &shoal->net);
    if (rc != 0)
        shoal_fail(rc, "cannot use the certificate %s with its key and %s: %s", config.certificate,
                   config.ca, shoal_error_text(rc));
    return rc;
}

static int open_reactor(struct shoal *shoal)
{
    struct reactor_config config = {
        .name = "libshoal", .cpu = -1, .uring_entries = 256, .roaming = true};
    int rc = reactor_create(&config, &shoal->reactor);
    if (rc != 0)
        return shoal_fail(rc, rc == SHOAL_E_SYSTEM
                          ? "io_uring is not available: a container's seccomp profile or "
                            "/proc/sys/kernel/io_uring_disabled may forbid it (%s)"
                          : "no event loop: %s", shoal_error_text(rc));
    rc = fiber_pool_create(shoal->reactor, "libshoal", shoal->options.requests_max + 4, 0,
                           &shoal->fibers);
    if (rc != 0)
        shoal_fail(rc, "out of memory for %u requests", shoal->options.requests_max);
    return rc;
}

static void explain_connect(const struct shoal *shoal, int rc)
{
    const char *first = shoal->file.nodes.items[0];
    size_t more = shoal->file.nodes.count - 1;
    switch (rc) {
    case SHOAL_E_DENIED:
        shoal_fail(rc, "the nodes refuse our certificate %s, or theirs is of another cluster: take "
                   "the client.yaml of this cluster", shoal->file.certificate);
        break;
    case SHOAL_E_VERSION:
        shoal_fail(rc, "the cluster speaks another version of the protocol than this shoal %s: use "
                   "programs of one release", SHOAL_VERSION);
        break;
    default:
        shoal_fail(rc, "no cluster is running: none of its nodes answers at %s%s (%zu more asked): "
                   "%s; 'shoal up' starts it", first, more > 0 ? ", ..." : "", more,
                   shoal_error_text(rc));
    }
}

static void handle_free(struct shoal *shoal)
{
    if (shoal->fibers != NULL && shoal->net != NULL)
        (void)shoal_run_fiber(shoal, close_fiber, shoal);
    if (shoal->client != NULL)
        client_destroy(shoal->client);
    if (shoal->fibers != NULL)
        fiber_pool_destroy(shoal->fibers);
    if (shoal->reactor != NULL)
        reactor_destroy(shoal->reactor);
    client_file_free(&shoal->file);
    pthread_mutex_destroy(&shoal->lock);
    pthread_cond_destroy(&shoal->moved);
    free(shoal);
}

static void options_defaults(struct shoal_options *options)
{
    if (options->timeout_ms == 0)
        options->timeout_ms = 30000;
    if (options->requests_max == 0)
        options->requests_max = 64;
    if (options->requests_max > SHOAL_REQUESTS_MAX)
        options->requests_max = SHOAL_REQUESTS_MAX;
    if (options->hedge_us == 0)
        options->hedge_us = 20000;
}

int shoal_open_as(const char *config, const struct shoal_options *options, bool admin,
                  struct shoal **out)
{
    struct value_error why;
    struct client_file file;
    int rc = client_file_load(config, &file, &why);
    if (rc != 0)
        return shoal_fail(rc, "%s", why.text[0] != 0 ? why.text : shoal_error_text(rc));
    struct shoal *shoal = calloc(1, sizeof *shoal);
    if (shoal == NULL) {
        client_file_free(&file);
        return shoal_fail(SHOAL_E_NO_MEMORY, "out of memory");
    }
    shoal->file = file;
    if (options != NULL)
        shoal->options = *options;
    options_defaults(&shoal->options);
    list_init(&shoal->ended);
    pthread_mutex_init(&shoal->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&shoal->moved, &monotonic);
    pthread_condattr_destroy(&monotonic);

    rc = open_reactor(shoal);
    if (rc == 0)
        rc = open_net(shoal, admin);
    if (rc == 0) {
        struct open_step step = {.shoal = shoal, .connect = !admin};
        rc = shoal_run_fiber(shoal, open_fiber, &step);
        rc = rc == 0 ? step.rc : rc;
        if (rc != 0)
            explain_connect(shoal, rc);
    }
    if (rc != 0) {
        handle_free(shoal);
        return rc;
    }
    *out = shoal;
    return 0;
}

int shoal_open(const char *config, const struct shoal_options *options, struct shoal **out)
{
    return shoal_open_as(config, options, false, out);
}

static void cancel_fiber(void *arg)
{
    struct shoal *shoal = arg;
    client_cancel_all(shoal->client);
}

void shoal_close(struct shoal *shoal)
{
    if (shoal == NULL)
        return;
    pthread_mutex_lock(&shoal->lock);
    bool busy = shoal->under_way > 0;
    pthread_mutex_unlock(&shoal->lock);
    if (busy && shoal->client != NULL)
        (void)shoal_run_fiber(shoal, cancel_fiber, shoal);
    while (busy) {
        struct shoal_request *ended[16];
        (void)shoal_wait(shoal, ended, ARRAY_LEN(ended), -1);
        pthread_mutex_lock(&shoal->lock);
        busy = shoal->under_way > 0;
        pthread_mutex_unlock(&shoal->lock);
    }
    handle_free(shoal);
}
