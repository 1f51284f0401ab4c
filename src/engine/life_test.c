/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a target: many fibers work on it at once, it loses power at any moment, comes back,
 * and must hold, for each object, a state it was in at or after the last one known to be durable.
 */
#include <sys/wait.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/log.h"
#include "engine/test_engine.h"

#define WORKERS 12u
#define OBJECTS_EACH 5u
#define STATES 4096u

/* What an object can be in: a committed and a prepared version, 0 for none. */
struct state {
    uint64_t committed, prepared;
    bool arriving; /* the prepare has not returned: its bytes may be missing */
};

struct object {
    uint64_t number;
    struct state states[STATES];
    size_t durable, last; /* states[durable] is certain; what came after it may be lost */
};

struct worker {
    struct test_device *t;
    struct object objects[OBJECTS_EACH];
    uint8_t *payload, *buffer;
    uint64_t next_version;
    struct prng prng;
    uint64_t done;
};

static struct worker workers[WORKERS];
static bool stop;
static unsigned running;

static uint32_t length_of(uint64_t n, uint64_t version)
{
    uint64_t x = hash_mix64(n * 77 + version);
    return (uint32_t)(x % 4 == 0 ? x / 4 % 40000 : x / 4 % 4500);
}

static struct state *push(struct object *object)
{
    CHECK(object->last + 1 < STATES);
    object->states[object->last + 1] = object->states[object->last];
    object->states[object->last + 1].arriving = false;
    return &object->states[++object->last];
}

static void certain(struct object *object)
{
    object->states[0] = object->states[object->last];
    object->states[0].arriving = false;
    object->durable = object->last = 0;
}

static void verify(struct worker *worker, struct object *object, uint64_t version)
{
    struct test_device *t = worker->t;
    struct blob_id id = test_id(object->number);
    struct blob_version v = test_version(version);
    uint32_t len = length_of(object->number, version);
    const uint8_t *data;
    int rc = engine_read(t->engine, &id, &v, 0, len, worker->buffer, &data, NULL, NULL);
    if (stop && rc != 0)
        return;
    CHECK_MSG(rc == 0, "object %llu version %llu: %s", (unsigned long long)object->number,
              (unsigned long long)version, shoal_error_name(rc));
    test_fill(worker->payload, object->number, version, len);
    CHECK(memcmp(data, worker->payload, len) == 0);
}

static bool prepare(struct worker *worker, struct object *object)
{
    uint64_t version = ++worker->next_version;
    uint32_t len = length_of(object->number, version);
    struct blob_desc desc = test_desc(object->number, version, len);
    test_fill(worker->payload, object->number, version, len);
    struct iovec payload = {worker->payload, len};
    struct state *state = push(object);
    state->prepared = version;
    state->arriving = true;
    int rc = engine_prepare(worker->t->engine, &desc, &payload, 1, NULL);
    if (rc == SHOAL_E_FULL) {
        object->last--;
        return true;
    }
    if (rc != 0) {
        CHECK_MSG(stop, "prepare: %s", shoal_error_name(rc));
        return false;
    }
    certain(object);
    return true;
}

static bool change(struct worker *worker, struct object *object)
{
    struct engine *engine = worker->t->engine;
    struct state now = object->states[object->last];
    struct blob_id id = test_id(object->number);
    struct blob_version prepared = test_version(now.prepared);
    struct blob_version committed = test_version(now.committed);
    uint64_t dice = prng_below(&worker->prng, 10);
    if (now.prepared != 0 && dice < 6) {
        *push(object) = (struct state){.committed = now.prepared};
        return engine_commit(engine, &id, &prepared) == 0;
    }
    if (now.prepared != 0 && dice < 8) {
        *push(object) = (struct state){.committed = now.committed};
        if (engine_abort(engine, &id, &prepared) != 0)
            return false;
        certain(object);
        return true;
    }
    if (now.committed != 0 && dice == 8) {
        *push(object) = (struct state){.prepared = now.prepared};
        return engine_drop(engine, &id, &committed) == 0;
    }
    if (now.committed != 0 && dice == 9)
        verify(worker, object, now.committed);
    if (dice == 0) {
        if (engine_sync(engine) != 0)
            return false;
        certain(object);
    }
    return dice >= 2 || now.prepared != 0 || prepare(worker, object);
}

static void work(void *arg)
{
    struct worker *worker = arg;
    while (!stop) {
        struct object *object = &worker->objects[prng_below(&worker->prng, OBJECTS_EACH)];
        if (object->last + 4 > STATES ? engine_sync(worker->t->engine) != 0
                                      : !change(worker, object))
            break;
        if (object->last + 4 > STATES)
            certain(object);
        worker->done++;
    }
    running--;
}

static bool found_is(const struct state *state, const struct engine_entry *committed,
                     const struct engine_entry *prepared)
{
    struct blob_version c = test_version(state->committed), p = test_version(state->prepared);
    bool c_is = state->committed == 0 ? blob_version_is_none(&committed->version)
                                      : blob_version_compare(&committed->version, &c) == 0;
    bool p_is = state->prepared == 0 ? blob_version_is_none(&prepared->version)
                                     : blob_version_compare(&prepared->version, &p) == 0;
    return c_is && p_is;
}

static void check_object(struct worker *worker, struct object *object)
{
    struct test_device *t = worker->t;
    struct blob_id id = test_id(object->number);
    struct engine_entry committed = {0}, prepared = {0};
    (void)engine_find(t->engine, &id, &committed, &prepared);
    for (size_t i = object->durable; i <= object->last; i++) {
        struct state state = object->states[i];
        if (!found_is(&state, &committed, &prepared))
            continue;
        CHECK(!committed.hollow);
        CHECK(!prepared.hollow || state.arriving);
        CHECK(prepared.torn == prepared.hollow);
        if (state.committed != 0)
            verify(worker, object, state.committed);
        if (state.prepared != 0 && !prepared.hollow)
            verify(worker, object, state.prepared);
        if (prepared.hollow) {
            struct blob_version v = test_version(state.prepared);
            CHECK(engine_abort(t->engine, &id, &v) == 0);
            state.prepared = 0;
        }
        object->states[0] = state;
        object->states[0].arriving = false;
        object->durable = object->last = 0;
        return;
    }
    CHECK_MSG(false, "object %llu: found %llu and %llu, known to be durable: %llu and %llu",
              (unsigned long long)object->number, (unsigned long long)committed.version.counter,
              (unsigned long long)prepared.version.counter,
              (unsigned long long)object->states[object->durable].committed,
              (unsigned long long)object->states[object->durable].prepared);
}

static void check_all(struct test_device *t)
{
    (void)t;
    for (unsigned w = 0; w < WORKERS; w++)
        for (unsigned i = 0; i < OBJECTS_EACH; i++)
            check_object(&workers[w], &workers[w].objects[i]);
}

static void one_life(struct test_device *t, struct prng *prng)
{
    stop = false;
    running = WORKERS;
    for (unsigned w = 0; w < WORKERS; w++)
        CHECK(fiber_spawn(t->fibers, work, &workers[w]) == 0);
    fiber_sleep(prng_below(prng, 20000000));
    bool power = prng_chance(prng, 3, 4);
    stop = true;
    if (power)
        dev_sim_crash(t->dev, prng);
    else
        dev_sim_kill(t->dev, prng);
    while (running > 0)
        fiber_sleep(1000000);
    engine_close(t->engine, true);
    dev_close(t->dev);
    test_open_dev(t);
    test_open(t);
    CHECK_MSG(!t->report.stale, "%s", t->report.problem);
    check_all(t);
}

static void body_lives(struct test_device *t)
{
    struct prng prng;
    prng_seed(&prng, t->sim.seed);
    t->config.commit_delay_ns = 500000;
    test_start(t, 3);
    memset(workers, 0, sizeof workers);
    for (unsigned w = 0; w < WORKERS; w++) {
        workers[w].t = t;
        prng_seed(&workers[w].prng, t->sim.seed * 100 + w);
        workers[w].payload = t->payload + (size_t)w * 131072;
        workers[w].buffer = t->buffer + (size_t)w * 131072;
        for (unsigned i = 0; i < OBJECTS_EACH; i++)
            workers[w].objects[i].number = w * 100 + i;
    }
    for (unsigned life = 0; life < 25; life++)
        one_life(t, &prng);
    uint64_t done = 0;
    for (unsigned w = 0; w < WORKERS; w++)
        done += workers[w].done;
    CHECK_MSG(done > 2000 || t->config.break_rules != 0, "only %llu operations were done",
              (unsigned long long)done);
    engine_close(t->engine, false);
    struct engine_fsck_result result;
    CHECK(engine_fsck(t->dev, t->arena, false, stderr, &result) == 0);
    CHECK(result.errors == 0);
}

static struct test_device *create(uint64_t bytes, bool volatile_cache, uint64_t latency_ns,
                                  uint64_t seed)
{
    struct test_device *t = test_create(bytes);
    dev_close(t->dev);
    t->sim = (struct dev_sim_config){.name = "test",
                                     .seed = seed,
                                     .volatile_cache = volatile_cache,
                                     .latency_min_ns = 10000,
                                     .latency_max_ns = latency_ns};
    test_open_dev(t);
    log_set_level(LOG_LEVEL_ERROR);
    return t;
}

static void live(uint64_t bytes, bool volatile_cache, uint64_t latency_ns)
{
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct test_device *t = create(bytes, volatile_cache, latency_ns, seed);
        test_run(t, body_lives);
        test_destroy(t);
    }
}

static void a_target_with_a_volatile_cache_lives_through_losses_of_power(void **state)
{
    (void)state;
    live(4 << 20, true, 300000);
}

static void a_target_without_cache_lives_through_losses_of_power(void **state)
{
    (void)state;
    live(4 << 20, false, 300000);
}

static void a_slow_device_loses_nothing(void **state)
{
    (void)state;
    live(8 << 20, true, 3000000);
}

/* ---- each rule matters: without it a life is soon found wrong ---- */

static uint32_t broken_rule;

static void body_one_rule(struct test_device *t)
{
    t->config.break_rules = broken_rule;
    body_lives(t);
}

/* In a process of its own, for what is found wrong ends it. Return: was anything found? */
static bool notices(uint32_t rule, bool volatile_cache)
{
    (void)fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (freopen("/dev/null", "w", stderr) == NULL)
            _exit(0);
        broken_rule = rule;
        for (uint64_t seed = 1; seed <= 6; seed++) {
            struct test_device *t = create(4 << 20, volatile_cache, 300000, seed);
            test_run(t, body_one_rule);
            test_destroy(t);
        }
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

static void a_life_without_a_rule_is_found_wrong(void **state)
{
    (void)state;
    const uint32_t rules[] = {ENGINE_RULE_ONE_JOURNAL_WRITE,
                              ENGINE_RULE_NO_REWRITE,
                              ENGINE_RULE_EARLIER_WRITES,
                              ENGINE_RULE_WAIT_EXTENT,
                              ENGINE_RULE_FLUSH,
                              ENGINE_RULE_QUARANTINE,
                              ENGINE_RULE_HOLLOW,
                              ENGINE_RULE_CHECKPOINT_SEQUENCE,
                              ENGINE_RULE_CHECKPOINT_DURABLE};
    assert_false(notices(0, true));
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        print_message("rule 0x%x\n", rules[i]);
        assert_true(notices(rules[i], true));
    }
}

/* ---- two rules that only damage shows ---- */

static void flip(struct test_device *t, uint64_t block)
{
    dev_sim_store_flip_bit(t->store, block * LAYOUT_BLOCK + 100, 3);
}

static bool stale_again;

static void body_generation(struct test_device *t)
{
    t->config.break_rules = broken_rule;
    test_start(t, 3);
    for (uint64_t n = 0; n < 12; n++)
        test_put(t, n, n + 1, 100);
    engine_close(t->engine, true);
    flip(t, 1 + 6);
    test_open(t);
    assert_true(t->report.stale);
    assert_int_equal(engine_clear_stale(t->engine), 0);
    test_crash(t, false);
    test_open(t);
    stale_again = t->report.stale;
    engine_close(t->engine, true);
}

static void records_of_an_earlier_life_do_not_come_back(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        broken_rule = i == 0 ? 0 : ENGINE_RULE_GENERATION;
        test_on(4 << 20, body_generation);
        assert_int_equal(stale_again, broken_rule != 0);
    }
    broken_rule = 0;
}

static bool all_there;

static void body_retention(struct test_device *t)
{
    t->config.break_rules = broken_rule;
    test_start(t, 3);
    uint64_t n = 0, more = 40;
    while (t->engine->checkpoint.completed < 5 || more-- > 0) {
        test_put(t, n, n + 1, 100);
        n++;
    }
    unsigned newest = (unsigned)t->engine->checkpoint.newest;
    uint64_t area = t->engine->layout.checkpoint_start[newest];
    engine_close(t->engine, true);
    flip(t, area + 1);
    if (test_try_open(t) != 0) {
        all_there = false;
        return;
    }
    all_there = !t->report.stale;
    for (uint64_t i = 0; i < n && all_there; i++)
        all_there = test_committed(t, i, i + 1);
    engine_close(t->engine, true);
}

static void the_ring_keeps_what_the_older_checkpoint_needs(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        broken_rule = i == 0 ? 0 : ENGINE_RULE_RING_RETENTION;
        test_on(4 << 20, body_retention);
        assert_int_equal(all_there, broken_rule == 0);
    }
    broken_rule = 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_life_without_a_rule_is_found_wrong),
        cmocka_unit_test(records_of_an_earlier_life_do_not_come_back),
        cmocka_unit_test(the_ring_keeps_what_the_older_checkpoint_needs),
        cmocka_unit_test(a_target_with_a_volatile_cache_lives_through_losses_of_power),
        cmocka_unit_test(a_target_without_cache_lives_through_losses_of_power),
        cmocka_unit_test(a_slow_device_loses_nothing),
    };
    return cmocka_run_group_tests_name("engine life", tests, NULL, NULL);
}
