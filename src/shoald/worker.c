/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "core/fiber.h"
#include "core/reactor.h"
#include "net/net.h"
#include "shoald/shoald.h"

#define URING_ENTRIES 1024

/* ---- buffers ---- */

/*
 * Payload under way is a stripe with its parity on a primary, a shard on a member, a small blob
 * anywhere; each kind has its share. The sizes leave room for descriptions and alignment.
 */
static int make_arena(struct worker *w)
{
    static const struct {
        size_t size;
        unsigned percent;
    } shares[] = {{24u << 10, 4}, {160u << 10, 8}, {1152u << 10, 28}, {4224u << 10, 28},
                  {8448u << 10, 32}};
    struct dma_class classes[ARRAY_LEN(shares)];
    for (size_t i = 0; i < ARRAY_LEN(shares); i++) {
        uint64_t count = w->config->memory / 100 * shares[i].percent / shares[i].size;
        classes[i] = (struct dma_class){shares[i].size, (unsigned)MAX(count, UINT64_C(1))};
    }
    int rc = dma_arena_create(w->reactor, classes, ARRAY_LEN(classes), &w->arena);
    if (rc != 0)
        LOG_ERROR("no memory for buffers of %llu MiB: lower 'memory' in the configuration",
                  (unsigned long long)(w->config->memory >> 20));
    return rc;
}

/* ---- devices ---- */

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

static int open_device(struct worker *w, unsigned i)
{
    const char *path = w->paths[i];
    struct engine_report report = {0};
    struct engine_config config = {.index_max_objects = w->config->index_objects,
                                   .metrics = w->metrics};
    int rc = dev_uring_open(w->reactor, path, 0, false, &w->devs[i]);
    if (rc == 0)
        rc = engine_open(w->devs[i], w->arena, &config, &w->engines[i], &report);
    if (rc != 0) {
        explain_device(path, rc, &report);
        return rc;
    }
    LOG_INFO("%s: target %u, %llu objects%s%s%s", path, report.target,
             (unsigned long long)report.objects, report.stale ? ", stale" : "",
             report.problem[0] != 0 ? ": " : "", report.problem);
    w->part->targets[i] = (struct node_target_config){
        .id = report.target,
                                                         .device = report.device,
                                                         .engine = w->engines[i],
                                                         .stale = report.stale};
    return 0;
}

/* ---- planes ---- */

static int open_planes(struct worker *w)
{
    const struct shoald_config *config = w->config;
    struct net_tcp_config tcp = {.certificate = config->certificate, .key = config->key,
                                 .ca = config->ca,
                                 .plain = strcmp(config->data_plane, "plain") == 0,
                                 .share = w->share};
    int rc = net_tcp_create(w->reactor, &tcp, &w->data);
    if (rc == 0)
        rc = net_tcp_create(w->reactor, &tcp, &w->replication);
    if (rc != 0) {
        LOG_ERROR("cannot use the certificate %s: %s", config->certificate, shoal_error_text(rc));
        return rc;
    }
    return w->share == NET_SHARE_JOIN /* another worker leads */
               ? 0
               : shoald_authority_open(config, w->reactor, w->replication, &w->node,
                                       &w->authority);
}

static int reload(struct worker *w)
{
    int rc = net_tcp_reload(w->data);
    return rc == 0 ? net_tcp_reload(w->replication) : rc;
}

/* ---- steps ---- */

static int open_all(struct worker *w)
{
    struct node_config *part = w->part;
    int rc = make_arena(w);
    for (unsigned i = 0; i < w->devices_count && rc == 0; i++)
        rc = open_device(w, i);
    if (rc == 0)
        rc = open_planes(w);
    if (rc != 0)
        return rc;
    snprintf(part->name, sizeof part->name, "%s", w->config->name);
    part->reactor = w->reactor;
    part->data = w->data;
    part->replication = w->replication;
    part->arena = w->arena;
    part->metrics = w->metrics;
    if (w->authority != NULL)
        part->authority = shoald_authority_door(w->authority);
    part->targets_count = w->devices_count;
    part->scrub_bytes_per_s = w->config->scrub_rate;
    part->scrub_pause_ns = w->config->scrub_pause_ns;
    part->catch_up_bytes_per_s = w->config->catch_up_rate;
    return 0;
}

static int start_node(struct worker *w)
{
    const struct node_config *part = w->part;
    int rc = node_create(part, &w->node);
    if (rc != 0) {
        LOG_ERROR("cannot start the node: %s", shoal_error_text(rc));
        return rc;
    }
    rc = node_start(w->node);
    if (rc != 0)
        LOG_ERROR("cannot listen on %s and %s: %s; another program may use the port",
                  part->data_address, part->replication_address, shoal_error_text(rc));
    return rc;
}

static void close_all(struct worker *w)
{
    struct node *node = w->node;
    w->node = NULL; /* the authority looks at it */
    if (node != NULL)
        node_destroy(node);
    shoald_authority_close(w->authority);
    for (unsigned i = 0; i < w->devices_count; i++) {
        if (w->engines[i] != NULL)
            engine_close(w->engines[i], false);
        if (w->devs[i] != NULL)
            dev_close(w->devs[i]);
    }
    if (w->replication != NULL)
        net_destroy(w->replication);
    if (w->data != NULL)
        net_destroy(w->data);
}

static void step_done(struct worker *w, int rc)
{
    uint64_t one = 1;
    w->rc = rc;
    (void)!write(w->done, &one, sizeof one);
}

static void step_fiber(void *arg)
{
    struct worker *w = arg;
    int rc = 0;
    switch (w->step) {
    case WORKER_OPEN:
        rc = open_all(w);
        break;
    case WORKER_START:
        rc = start_node(w);
        break;
    case WORKER_STOP:
        if (w->node != NULL)
            node_stop(w->node);
        break;
    case WORKER_RELOAD:
        rc = reload(w);
        break;
    case WORKER_CLOSE:
        close_all(w);
        reactor_stop(w->reactor);
        return; /* the thread says that it is done */
    }
    step_done(w, rc);
}

static void told(struct mail *mail)
{
    struct worker *w = container_of(mail, struct worker, mail);
    CHECK(fiber_spawn(w->fibers, step_fiber, w) == 0);
}

void worker_tell(struct worker *w, enum worker_step step)
{
    w->step = step;
    w->mail.deliver = told;
    mailbox_post(w->reactor, &w->mail);
}

/* ---- the thread ---- */

static void *worker_thread(void *arg)
{
    struct worker *w = arg;
    log_set_component(w->name);
    char name[16]; /* what the kernel keeps, and top shows */
    snprintf(name, sizeof name, "%.15s", w->name);
    (void)pthread_setname_np(pthread_self(), name);
    reactor_run(w->reactor);
    /* The fiber that stopped us may still be on its way out. */
    while (fiber_pool_in_use(w->fibers) > 0)
        reactor_poll_once(w->reactor);
    if (w->arena != NULL)
        dma_arena_destroy(w->arena);
    fiber_pool_destroy(w->fibers);
    step_done(w, 0);
    return NULL;
}

int worker_create(struct worker *w, unsigned index, const struct shoald_plan *plan)
{
    struct reactor_config config = {.name = w->name, .cpu = plan->cpus[index],
                                    .spin_ns = plan->spin_ns, .uring_entries = URING_ENTRIES};
    if (plan->workers == 1)
        snprintf(w->name, sizeof w->name, "%s", w->config->name);
    else
        snprintf(w->name, sizeof w->name, "%.56s/%u", w->config->name, index);
    w->share = plan->workers == 1 ? NET_SHARE_NO : index == 0 ? NET_SHARE_FIRST : NET_SHARE_JOIN;
    for (size_t i = index; i < w->config->devices.count; i += plan->workers)
        w->paths[w->devices_count++] = w->config->devices.items[i];
    int rc = reactor_create(&config, &w->reactor);
    if (rc != 0)
        return rc;
    /* Two: when a step comes the one before has said that it is done, and may be on its way out. */
    rc = fiber_pool_create(w->reactor, "steps", 2, 256 << 10, &w->fibers);
    if (rc == 0 && pthread_create(&w->thread, NULL, worker_thread, w) != 0) {
        fiber_pool_destroy(w->fibers);
        rc = SHOAL_E_SYSTEM;
    }
    if (rc != 0)
        reactor_destroy(w->reactor);
    return rc;
}

void worker_join(struct worker *w)
{
    pthread_join(w->thread, NULL);
    reactor_destroy(w->reactor);
}
