/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients that put, get, remove and test a few keys, side by side, and note what they were told.
 *
 * The bytes of a blob are made from its key's number and its value, and begin with the value; so
 * whatever a read returns says which put it came from, and every byte of it can be judged.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/macros.h"
#include "shoal/error.h"
#include "sim.h"

#define LONGEST_NS (600 * SECOND)
#define LATE_NS (3 * SECOND) /* an operation that ends later than its deadline by this is stuck */

/* ---- values ---- */

static uint32_t value_len(unsigned key, uint32_t value)
{
    struct prng prng;

    prng_seed(&prng, (uint64_t)value << 8 | key);
    switch (prng_below(&prng, 8)) {
    case 0:
    case 1:
    case 2:
        return 4 + (uint32_t)prng_below(&prng, 3000);
    case 3:
    case 4:
        return 4 + (uint32_t)prng_below(&prng, 16u << 10);
    case 5:
    case 6:
        return 4 + (uint32_t)prng_below(&prng, SIM_STRIPE_BYTES - 4);
    default:
        return 4 + (uint32_t)prng_below(&prng, SIM_BLOB_MAX - 4);
    }
}

static void value_fill(uint8_t *bytes, uint32_t len, unsigned key, uint32_t value)
{
    struct prng prng;

    prng_seed(&prng, (uint64_t)value << 16 | key);
    prng_bytes(&prng, bytes, len);
    memcpy(bytes, &value, sizeof value);
}

/* Which value these bytes are; complains when they are none. */
static uint32_t value_of(struct sim *sim, unsigned key, const uint8_t *bytes, size_t len)
{
    uint32_t value = 0;
    uint8_t *expected = malloc(SIM_BLOB_MAX);

    CHECK(expected != NULL);
    if (len >= sizeof value)
        memcpy(&value, bytes, sizeof value);
    if (value == 0 || value >= sim->next_value || value_len(key, value) != len) {
        sim_complain(sim, "key %u: %zu bytes that begin with %" PRIu32 " were never put", key, len,
                     value);
    } else {
        value_fill(expected, (uint32_t)len, key, value);
        if (memcmp(bytes, expected, len) != 0)
            sim_complain(sim, "key %u: bytes of value %" PRIu32 " are not those that were put", key,
                         value);
    }
    free(expected);
    return value;
}

/* ---- one operation ---- */

struct worker {
    struct sim_client *client;
    unsigned number;
    struct prng prng;
    uint8_t *bytes; /* SIM_BLOB_MAX */
    char name[32];
    struct blob_version version;
};

static struct client_blob blob_of(struct worker *worker, unsigned key)
{
    const struct sim *sim = worker->client->sim;
    /* Even keys are coded, odd ones are copied. */
    int len = snprintf(worker->name, sizeof worker->name, "blob/%u", key);

    return (struct client_blob){
        .pool = sim->frail && key % 3 == 0 ? "thin" : key % 2 == 0 ? "durable" : "replicated",
        .name = worker->name,
        .name_len = (size_t)len,
        .deadline_ns = reactor_now_ns(worker->client->host.reactor) + SIM_DEADLINE_NS,
    };
}

static bool is_definite_refusal(enum operation_kind kind, int error)
{
    switch (kind) {
    case OPERATION_PUT_ABSENT:
        return error == SHOAL_E_EXISTS || error == SHOAL_E_CONDITION;
    case OPERATION_PUT_IF:
        return error == SHOAL_E_CONDITION || error == SHOAL_E_NOT_FOUND;
    case OPERATION_REMOVE:
        return error == SHOAL_E_NOT_FOUND;
    default:
        return false;
    }
}

/* Errors that no fault explains are bugs. */
static bool is_expected(int error)
{
    switch (error) {
    case SHOAL_E_UNAVAILABLE:
    case SHOAL_E_BUSY:
    case SHOAL_E_TIMEOUT:
    case SHOAL_E_CONNECTION:
    case SHOAL_E_CHANGED:
    case SHOAL_E_STALE_EPOCH:
    case SHOAL_E_NEWER_EPOCH:
    case SHOAL_E_NOT_PRIMARY:
    case SHOAL_E_NOT_SERVING:
    case SHOAL_E_PREPARED:
    case SHOAL_E_IO:
    case SHOAL_E_FULL:
        return true;
    default:
        return false;
    }
}

static void finish(struct worker *worker, unsigned key, struct operation *operation, int error)
{
    struct sim *sim = worker->client->sim;
    enum operation_outcome outcome = error == 0 ? OUTCOME_DONE : OUTCOME_UNKNOWN;

    if (is_definite_refusal(operation->kind, error))
        outcome = OUTCOME_REFUSED;
    else if (error != 0 && !is_expected(error))
        sim_complain(sim, "key %u: operation %u answered %s", key, (unsigned)operation->kind,
                     shoal_error_name(error));
    history_return(&sim->history, operation, outcome, error);
    if (outcome == OUTCOME_UNKNOWN)
        sim->unanswered++;
    else
        sim->answered++;
    sim_event(sim, "client%u.%u key %u operation %u value %" PRIu32 ": %s", worker->client->index,
              worker->number, key, (unsigned)operation->kind, operation->value,
              shoal_error_name(error));
}

static void learn_version(struct worker *worker, unsigned key, const struct blob_version *version,
                          uint32_t value)
{
    struct sim *sim = worker->client->sim;

    sim->versions[key] = *version;
    sim->version_values[key] = value;
}

static void do_put(struct worker *worker, unsigned key, struct operation *operation)
{
    struct sim *sim = worker->client->sim;
    struct client_put_options options = {.condition = WIRE_IF_ANY};
    struct client_put_result result = {0};
    struct client_blob blob = blob_of(worker, key);

    operation->value = sim->next_value++;
    uint32_t value = operation->value, len = value_len(key, value);
    value_fill(worker->bytes, len, key, value);
    if (operation->kind == OPERATION_PUT_ABSENT)
        options.condition = WIRE_IF_ABSENT;
    if (operation->kind == OPERATION_PUT_IF) {
        options.condition = WIRE_IF_VERSION;
        options.expected = sim->versions[key];
        operation->expected = sim->version_values[key];
    }
    const struct iovec iov = {worker->bytes, len};
    int error = client_put(worker->client->client, &blob, &iov, 1, &options, &result);
    if (error == 0)
        learn_version(worker, key, &result.version, value);
    finish(worker, key, operation, error);
}

static void do_get(struct worker *worker, unsigned key, struct operation *operation)
{
    struct sim *sim = worker->client->sim;
    struct client_info info = {0};
    struct client_blob blob = blob_of(worker, key);
    const struct iovec iov = {worker->bytes, SIM_BLOB_MAX};

    int error = client_get(worker->client->client, &blob, 0, &iov, 1, false, &info);
    if (error == 0) {
        operation->value = value_of(sim, key, worker->bytes, info.bytes);
        learn_version(worker, key, &info.version, operation->value);
    }
    /* "There is none" is an answer too. */
    finish(worker, key, operation, error == SHOAL_E_NOT_FOUND ? 0 : error);
}

/* A part of a blob: its bytes must be those of some value that was put; no order is checked. */
static void do_get_range(struct worker *worker, unsigned key)
{
    struct sim *sim = worker->client->sim;
    struct client_info info = {0};
    struct client_blob blob = blob_of(worker, key);
    uint32_t offset = (uint32_t)prng_below(&worker->prng, SIM_STRIPE_BYTES);
    const struct iovec iov = {worker->bytes, 1 + prng_below(&worker->prng, SIM_STRIPE_BYTES)};

    int error = client_get(worker->client->client, &blob, offset, &iov, 1, false, &info);
    if (error != 0 || info.bytes == 0)
        return;
    uint8_t *expected = malloc(SIM_BLOB_MAX);
    CHECK(expected != NULL);
    bool known = false;
    for (unsigned i = 0; i < sim->history.counts[key] && !known; i++) {
        uint32_t value = sim->history.operations[key][i].value;
        if (value == 0 || value_len(key, value) != info.size || offset + info.bytes > info.size)
            continue;
        value_fill(expected, (uint32_t)info.size, key, value);
        known = memcmp(expected + offset, worker->bytes, info.bytes) == 0;
    }
    free(expected);
    if (!known)
        sim_complain(sim, "key %u: %" PRIu64 " bytes at %u are of nothing that was put", key,
                     info.bytes, offset);
}

static void do_remove(struct worker *worker, unsigned key, struct operation *operation)
{
    struct client_blob blob = blob_of(worker, key);
    struct blob_version version;

    finish(worker, key, operation,
           client_remove(worker->client->client, &blob, NULL, &version));
}

static void do_exists(struct worker *worker, unsigned key, struct operation *operation)
{
    struct client_blob blob = blob_of(worker, key);
    struct blob_key name_key = blob_key_of_name(blob.name, blob.name_len);
    uint8_t present = 0;

    int error = client_exists(worker->client->client, blob.pool, &name_key, 1, false,
                              blob.deadline_ns, &present);
    if (error == 0 && present == 0) {
        history_return(&worker->client->sim->history, operation, OUTCOME_REFUSED, 0);
        return;
    }
    finish(worker, key, operation, error);
}

/*
 * A cache may forget at any time, so no order is checked: what it does return must be what some put
 * of that key wrote. Its keys are numbered beyond the others.
 */
static void do_cache(struct worker *worker)
{
    struct sim *sim = worker->client->sim;
    unsigned key = SIM_KEYS + (unsigned)prng_below(&worker->prng, sim->options.keys);
    struct client_blob blob = blob_of(worker, key);
    struct client_info info = {0};
    struct client_put_result result;
    int error;

    blob.pool = "cache";
    if (prng_chance(&worker->prng, 1, 2)) {
        uint32_t value = sim->next_value++, len = value_len(key, value);
        value_fill(worker->bytes, len, key, value);
        const struct iovec iov = {worker->bytes, len};
        error = client_put(worker->client->client, &blob, &iov, 1, NULL, &result);
    } else {
        const struct iovec iov = {worker->bytes, SIM_BLOB_MAX};
        error = client_get(worker->client->client, &blob, 0, &iov, 1, false, &info);
        if (error == 0)
            (void)value_of(sim, key, worker->bytes, info.bytes);
    }
    /* CONDITION: the record of the upload went with a drive, so the head was refused. */
    if (error != 0 && error != SHOAL_E_NOT_FOUND && error != SHOAL_E_CONDITION &&
        !is_expected(error))
        sim_complain(sim, "cache key %u: %s", key, shoal_error_name(error));
    sim_event(sim, "client%u.%u cache key %u: %s", worker->client->index, worker->number, key,
              shoal_error_name(error));
}

static enum operation_kind random_kind(struct worker *worker, unsigned key)
{
    switch (prng_below(&worker->prng, 20)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
    case 5:
        return OPERATION_PUT;
    case 6:
    case 7:
        return OPERATION_PUT_ABSENT;
    case 8:
    case 9:
        return worker->client->sim->version_values[key] != 0 ? OPERATION_PUT_IF : OPERATION_PUT;
    case 10:
    case 11:
        return OPERATION_REMOVE;
    case 12:
        return OPERATION_EXISTS;
    default:
        return OPERATION_GET;
    }
}

static void run_operation(struct worker *worker, unsigned key, enum operation_kind kind)
{
    struct sim *sim = worker->client->sim;
    uint64_t began_ns = sim->now_ns;
    struct operation *operation =
        history_call(&sim->history, key, kind, worker->client->index * 10 + worker->number);

    if (operation == NULL)
        return;
    switch (kind) {
    case OPERATION_PUT:
    case OPERATION_PUT_ABSENT:
    case OPERATION_PUT_IF:
        do_put(worker, key, operation);
        break;
    case OPERATION_GET:
        do_get(worker, key, operation);
        break;
    case OPERATION_REMOVE:
        do_remove(worker, key, operation);
        break;
    case OPERATION_EXISTS:
        do_exists(worker, key, operation);
        break;
    }
    if (sim->now_ns > began_ns + SIM_DEADLINE_NS + LATE_NS)
        sim_complain(sim, "key %u: an operation took %.1f s of the %.1f s it was given", key,
                     (double)(sim->now_ns - began_ns) / 1e9, (double)SIM_DEADLINE_NS / 1e9);
}

/* ---- workers ---- */

/* A run that is short of faults goes on, within reason. */
static bool may_go_on(const struct sim *sim)
{
    bool wanting = sim->options.faults == SIM_FAULTS_ALL &&
                   sim->faults_injected < SIM_FAULTS_LEAST && sim->now_ns < LONGEST_NS;

    return (sim->operations_left > 0 || wanting) && !sim->ending;
}

static void worker_fiber(void *arg)
{
    struct worker *worker = arg;
    struct sim *sim = worker->client->sim;

    while (may_go_on(sim) && sim->wrong[0] == '\0') {
        sim->operations_left -= sim->operations_left > 0;
        unsigned key = (unsigned)prng_below(&worker->prng, sim->options.keys);
        if (prng_chance(&worker->prng, 1, 8))
            do_cache(worker);
        else if (prng_chance(&worker->prng, 1, 16))
            do_get_range(worker, key);
        else
            run_operation(worker, key, random_kind(worker, key));
        fiber_sleep(prng_below(&worker->prng, sim->pause_ns));
    }
    worker->client->busy--;
    free(worker->bytes);
    free(worker);
}

static void read_all_fiber(void *arg)
{
    struct worker *worker = arg;
    struct sim *sim = worker->client->sim;

    for (unsigned key = 0; key < sim->options.keys && sim->wrong[0] == '\0' && !sim->ending; key++) {
        struct operation *operation = history_call_last(&sim->history, key, 90);
        CHECK(operation != NULL);
        do_get(worker, key, operation);
        if (operation->outcome == OUTCOME_UNKNOWN)
            sim_complain(sim, "key %u cannot be read after everything healed: %s", key,
                         shoal_error_name(operation->error));
    }
    worker->client->busy--;
    free(worker->bytes);
    free(worker);
}

static void spawn(struct sim_client *client, unsigned number, void (*run)(void *arg))
{
    struct worker *worker = calloc(1, sizeof *worker);

    CHECK(worker != NULL);
    worker->client = client;
    worker->number = number;
    prng_seed(&worker->prng, sim_seed(client->sim, "worker", client->index << 8 | number));
    worker->bytes = malloc(SIM_BLOB_MAX);
    CHECK(worker->bytes != NULL);
    client->busy++;
    CHECK(fiber_spawn(client->host.fibers, run, worker) == 0);
}

void clients_create(struct sim *sim)
{
    static const char *const seeds[] = {"node0:1", "node1:1", "node2:1",
                                        "node3:1", "node4:1", "node5:1"};
    const struct client_config config = {
        .seeds = seeds,
        .seeds_count = ARRAY_LEN(seeds),
        .stripe_max = SIM_STRIPE_BYTES,
        .operations_max = 8,
    };

    for (unsigned i = 0; i < SIM_CLIENTS; i++) {
        struct sim_client *client = &sim->clients[i];
        char name[16];
        client->sim = sim;
        client->index = i;
        snprintf(name, sizeof name, "client%u", i);
        host_create(sim, &client->host, name, NET_ROLE_CLIENT, 1);
        CHECK(client_create(client->host.reactor, client->host.net, &config, &client->client) == 0);
    }
}

static void client_end_fiber(void *arg)
{
    struct sim_client *client = arg;

    client_close(client->client);
}

static bool clients_are_gone(struct sim *sim)
{
    for (unsigned i = 0; i < SIM_CLIENTS; i++)
        if (fiber_pool_in_use(sim->clients[i].host.fibers) > 0)
            return false;
    return true;
}

void clients_destroy(struct sim *sim)
{
    sim->operations_left = 0;
    for (unsigned i = 0; i < SIM_CLIENTS; i++)
        client_cancel_all(sim->clients[i].client);
    CHECK(sim_until(sim, clients_are_idle, sim->now_ns + 600 * SECOND));
    for (unsigned i = 0; i < SIM_CLIENTS; i++)
        CHECK(fiber_spawn(sim->clients[i].host.fibers, client_end_fiber, &sim->clients[i]) == 0);
    CHECK(sim_until(sim, clients_are_gone, sim->now_ns + 600 * SECOND));
    for (unsigned i = 0; i < SIM_CLIENTS; i++) {
        client_destroy(sim->clients[i].client);
        host_destroy(&sim->clients[i].host);
    }
}

void clients_start(struct sim *sim, uint64_t operations)
{
    sim->operations_left = operations;
    for (unsigned i = 0; i < SIM_CLIENTS; i++)
        for (unsigned fiber = 0; fiber < sim->options.workers; fiber++)
            spawn(&sim->clients[i], fiber, worker_fiber);
}

bool clients_are_idle(struct sim *sim)
{
    for (unsigned i = 0; i < SIM_CLIENTS; i++)
        if (sim->clients[i].busy > 0)
            return false;
    return true;
}

void clients_read_all(struct sim *sim)
{
    spawn(&sim->clients[0], 0, read_all_fiber);
    if (!sim_until(sim, clients_are_idle, sim->now_ns + 600 * SECOND))
        sim_complain(sim, "reading every key took more than ten minutes");
}
