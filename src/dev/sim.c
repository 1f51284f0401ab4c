/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/macros.h"
#include "base/random.h"
#include "core/reactor.h"
#include "core/timer.h"
#include "dev/backend.h"
#include "dev/sim_store.h"
#include "shoal/error.h"

#define MILLION 1000000u

struct dev_sim {
    struct dev dev;
    struct dev_sim_store *store;
    struct prng prng;
    struct dev_sim_faults faults;
    uint64_t latency_min_ns;
    uint64_t latency_max_ns;
    uint64_t operations;
    uint64_t fail_at; /* the operation of this number fails; 0: none */
    int fail_error;
    bool gone; /* crashed or killed */
    struct list pending; /* waiting for their time */
    struct list stuck;
};

/* What lies in dev_io.backend until the operation's time has come. */
struct sim_io {
    struct timer timer;
    struct dev_sim *sim;
    uint64_t flush_before; /* a flush covers the writes completed before this */
    int forced_error;
};

_Static_assert(sizeof(struct sim_io) <= sizeof(((struct dev_io *)0)->backend),
              "an operation's private part does not fit");

static struct sim_io *private_of(struct dev_io *io)
{
    return (struct sim_io *)(void *)io->backend;
}

static struct dev_sim *sim_of(const struct dev *dev)
{
    return (struct dev_sim *)(void *)((char *)(uintptr_t)dev - offsetof(struct dev_sim, dev));
}

static bool strikes(struct dev_sim *sim, uint32_t ppm)
{
    /* Nothing is drawn for a fault that is off: switching one on leaves the others' draws alone. */
    return ppm > 0 && prng_chance(&sim->prng, ppm, MILLION);
}

/* ---- the medium ---- */

static bool may_damage(const struct dev_sim *sim, const struct dev_io *io)
{
    return io->offset_bytes >= sim->faults.damage_from_bytes;
}

static void gather(const struct dev_io *io, uint8_t *to)
{
    for (unsigned i = 0; i < io->iov_count; i++) {
        memcpy(to, io->iov[i].iov_base, io->iov[i].iov_len);
        to += io->iov[i].iov_len;
    }
}

static void flip_random_bit(struct dev_sim *sim, uint8_t *bytes, size_t len)
{
    bytes[prng_below(&sim->prng, len)] ^= (uint8_t)(1u << prng_below(&sim->prng, 8));
}

static int do_read(struct dev_sim *sim, struct dev_io *io)
{
    if (strikes(sim, sim->faults.read_error_ppm))
        return SHOAL_E_IO;
    if (may_damage(sim, io) && strikes(sim, sim->faults.rot_rest_ppm))
        dev_sim_store_flip_bit(sim->store,
                               io->offset_bytes + prng_below(&sim->prng, dev_io_bytes(io)),
                               (unsigned)prng_below(&sim->prng, 8));
    uint64_t at = io->offset_bytes;
    for (unsigned i = 0; i < io->iov_count; i++) {
        dev_sim_store_read(sim->store, at, io->iov[i].iov_base, io->iov[i].iov_len);
        at += io->iov[i].iov_len;
    }
    if (strikes(sim, sim->faults.rot_read_ppm)) {
        const struct iovec *iov = &io->iov[prng_below(&sim->prng, io->iov_count)];
        flip_random_bit(sim, iov->iov_base, iov->iov_len);
    }
    return 0;
}

struct torn_write {
    struct dev_sim *sim;
    uint64_t offset_bytes;
    const uint8_t *bytes;
};

static void keep_torn(void *arg, size_t from, size_t to)
{
    const struct torn_write *torn = arg;
    if (to > from)
        sim_store_write_cached(torn->sim->store, torn->offset_bytes + from, torn->bytes + from,
                               to - from);
}

static void write_torn(struct dev_sim *sim, struct prng *prng, uint64_t offset_bytes,
                       const uint8_t *bytes, size_t len)
{
    struct torn_write torn = {.sim = sim, .offset_bytes = offset_bytes, .bytes = bytes};
    sim_store_tear(sim->store, prng, len, keep_torn, &torn);
}

static uint64_t other_offset(struct dev_sim *sim, uint64_t len)
{
    uint64_t from = sim->faults.damage_from_bytes;
    return from + prng_below(&sim->prng, (sim->dev.size_bytes - from - len) / DEV_BLOCK_BYTES + 1) *
                      DEV_BLOCK_BYTES;
}

static int write_with_faults(struct dev_sim *sim, const struct dev_io *io, const uint8_t *bytes,
                             size_t len)
{
    if (strikes(sim, sim->faults.full_ppm))
        return SHOAL_E_FULL;
    if (strikes(sim, sim->faults.write_error_ppm)) {
        write_torn(sim, &sim->prng, io->offset_bytes, bytes, len);
        return SHOAL_E_IO;
    }
    bool damage = may_damage(sim, io);
    if (damage && strikes(sim, sim->faults.lost_ppm))
        return 0;
    if (damage && strikes(sim, sim->faults.torn_ppm))
        write_torn(sim, &sim->prng, io->offset_bytes, bytes, len);
    else if (damage && strikes(sim, sim->faults.misdirected_ppm))
        sim_store_write_cached(sim->store, other_offset(sim, len), bytes, len);
    else
        sim_store_write_cached(sim->store, io->offset_bytes, bytes, len);
    return 0;
}

/* A vectored write is put together first: it is one to the device, and torn as one. */
static int do_write(struct dev_sim *sim, const struct dev_io *io)
{
    size_t len = dev_io_bytes(io);

    if (io->iov_count == 1)
        return write_with_faults(sim, io, io->iov[0].iov_base, len);
    uint8_t *bytes = malloc(len);
    CHECK_MSG(bytes != NULL, "the simulated device is out of memory");
    gather(io, bytes);
    int result = write_with_faults(sim, io, bytes, len);
    free(bytes);
    return result;
}

static int do_flush(struct dev_sim *sim, const struct sim_io *mine)
{
    if (strikes(sim, sim->faults.flush_error_ppm)) {
        uint64_t upto = mine->flush_before;
        sim_store_sync(sim->store, prng_below(&sim->prng, upto + 1));
        return SHOAL_E_IO;
    }
    sim_store_sync(sim->store, mine->flush_before);
    return 0;
}

static int forced_failure(struct dev_sim *sim, const struct dev_io *io, int error)
{
    /* Nothing is known of what a failed write did, so it does some of it. */
    if (io->op == DEV_WRITE && io->iov_count == 1 && error == SHOAL_E_IO)
        write_torn(sim, &sim->prng, io->offset_bytes, io->iov[0].iov_base, io->iov[0].iov_len);
    return error;
}

static int perform(struct dev_sim *sim, struct dev_io *io)
{
    const struct sim_io *mine = private_of(io);

    if (sim->gone)
        return SHOAL_E_SHUTDOWN;
    if (sim->faults.dead)
        return SHOAL_E_IO;
    if (mine->forced_error != 0)
        return forced_failure(sim, io, mine->forced_error);
    switch (io->op) {
    case DEV_READ:
        return do_read(sim, io);
    case DEV_WRITE:
        return do_write(sim, io);
    case DEV_FLUSH:
        return do_flush(sim, mine);
    }
    return SHOAL_E_INVALID;
}

/* ---- operations ---- */

static void due(struct timer *timer)
{
    struct sim_io *mine = container_of(timer, struct sim_io, timer);
    struct dev_io *io = (struct dev_io *)(void *)((char *)mine - offsetof(struct dev_io, backend));
    struct dev_sim *sim = mine->sim;

    list_remove(&io->node);
    dev_finish(&sim->dev, io, perform(sim, io));
}

static void submit(struct dev *dev, struct dev_io *io)
{
    struct dev_sim *sim = sim_of(dev);
    struct sim_io *mine = private_of(io);

    *mine = (struct sim_io){.sim = sim, .flush_before = sim->store->next_sequence};
    if (++sim->operations == sim->fail_at)
        mine->forced_error = sim->fail_error;
    if (!sim->gone && strikes(sim, sim->faults.stuck_ppm)) {
        list_push_back(&sim->stuck, &io->node);
        return;
    }
    if (sim->latency_max_ns == 0) {
        /* The memory may be lent for no longer than now: a reply can only be seen later. */
        dev_finish_later(dev, io, perform(sim, io));
        return;
    }
    uint64_t latency_ns = prng_between(&sim->prng, sim->latency_min_ns, sim->latency_max_ns);
    list_push_back(&sim->pending, &io->node);
    timer_arm(dev->reactor, &mine->timer, io->submitted_ns + latency_ns, due);
}

static void close_device(struct dev *dev)
{
    struct dev_sim *sim = sim_of(dev);

    sim->store->open = false;
    free(sim);
}

static const struct dev_ops sim_ops = {.submit = submit, .close = close_device};

int dev_sim_open(struct reactor *reactor, struct dev_sim_store *store,
                 const struct dev_sim_config *config, struct dev **out)
{
    CHECK(config->latency_min_ns <= config->latency_max_ns);
    CHECK(config->sector_bytes == 0 || config->sector_bytes == 512 ||
          config->sector_bytes == DEV_BLOCK_BYTES);
    if (store->open)
        return SHOAL_E_BUSY;
    if (config->volatile_cache) {
        int error = sim_store_use_cache(store);
        if (error != 0)
            return error;
    } else {
        sim_store_drop_cache(store);
    }
    struct dev_sim *sim = calloc(1, sizeof(*sim));
    if (sim == NULL)
        return SHOAL_E_NO_MEMORY;
    dev_init(&sim->dev, &sim_ops, reactor, config->name == NULL ? "sim" : config->name,
             store->size_bytes);
    sim->dev.volatile_cache = config->volatile_cache;
    sim->store = store;
    store->open = true;
    store->sector_bytes = config->sector_bytes == 0 ? 512 : config->sector_bytes;
    prng_seed(&sim->prng, config->seed == 0 ? prng_next(reactor_prng(reactor)) : config->seed);
    sim->faults = config->faults;
    sim->latency_min_ns = config->latency_min_ns;
    sim->latency_max_ns = config->latency_max_ns;
    list_init(&sim->pending);
    list_init(&sim->stuck);
    *out = &sim->dev;
    return 0;
}

/* ---- controls ---- */

void dev_sim_set_faults(struct dev *dev, const struct dev_sim_faults *faults)
{
    sim_of(dev)->faults = *faults;
}

void dev_sim_set_latency(struct dev *dev, uint64_t min_ns, uint64_t max_ns)
{
    CHECK(min_ns <= max_ns);
    sim_of(dev)->latency_min_ns = min_ns;
    sim_of(dev)->latency_max_ns = max_ns;
}

void dev_sim_fail_nth(struct dev *dev, uint64_t nth, int error)
{
    struct dev_sim *sim = sim_of(dev);

    sim->fail_at = nth == 0 ? 0 : sim->operations + nth;
    sim->fail_error = error;
}

uint64_t dev_sim_operations(const struct dev *dev)
{
    return sim_of(dev)->operations;
}

void dev_sim_unstick(struct dev *dev)
{
    struct dev_sim *sim = sim_of(dev);
    struct list_node *node;

    while ((node = list_pop_front(&sim->stuck)) != NULL) {
        struct dev_io *io = list_entry(node, struct dev_io, node);
        dev_finish_later(dev, io, perform(sim, io));
    }
}

/* An operation under way when the end came: any part of it may have been done. */
static void abandon(struct dev_sim *sim, struct dev_io *io, struct prng *prng)
{
    timer_cancel(&private_of(io)->timer);
    if (io->op == DEV_WRITE) {
        size_t len = dev_io_bytes(io);
        uint8_t *bytes = malloc(len);
        CHECK_MSG(bytes != NULL, "the simulated device is out of memory");
        gather(io, bytes);
        switch (prng_below(prng, 3)) {
        case 0:
            break;
        case 1:
            sim_store_write_cached(sim->store, io->offset_bytes, bytes, len);
            break;
        default:
            write_torn(sim, prng, io->offset_bytes, bytes, len);
            break;
        }
        free(bytes);
    }
    dev_finish_later(&sim->dev, io, SHOAL_E_SHUTDOWN);
}

void dev_sim_kill(struct dev *dev, struct prng *prng)
{
    struct dev_sim *sim = sim_of(dev);
    struct list under_way;

    list_init(&under_way);
    list_splice_back(&under_way, &sim->pending);
    list_splice_back(&under_way, &sim->stuck);
    /* In random order: what is under way at once may reach the medium in any. */
    for (size_t left = list_count(&under_way); left > 0; left--) {
        struct list_node *node = list_first(&under_way);
        for (uint64_t skip = prng_below(prng, left); skip > 0; skip--)
            node = node->next;
        list_remove(node);
        abandon(sim, list_entry(node, struct dev_io, node), prng);
    }
    sim->gone = true;
}

void dev_sim_crash(struct dev *dev, struct prng *prng)
{
    dev_sim_kill(dev, prng);
    dev_sim_store_lose_power(sim_of(dev)->store, prng);
}
