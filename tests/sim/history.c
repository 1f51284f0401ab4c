/* SPDX-License-Identifier: Apache-2.0 */
#include "history.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "shoal/error.h"

static struct operation *add(struct history *history, unsigned key, enum operation_kind kind,
                             unsigned client, unsigned room)
{
    CHECK(key < HISTORY_KEYS_MAX);
    if (history->counts[key] >= room)
        return NULL;
    struct operation *operation = &history->operations[key][history->counts[key]++];
    *operation = (struct operation){
        .kind = kind, .client = client, .called = ++history->clock, .returned = UINT64_MAX};
    return operation;
}

struct operation *history_call(struct history *history, unsigned key, enum operation_kind kind,
                               unsigned client)
{
    return add(history, key, kind, client, HISTORY_PER_KEY_MAX - HISTORY_KEPT);
}

struct operation *history_call_last(struct history *history, unsigned key, unsigned client)
{
    return add(history, key, OPERATION_GET, client, HISTORY_PER_KEY_MAX);
}

void history_return(struct history *history, struct operation *operation,
                    enum operation_outcome outcome, int error)
{
    operation->outcome = outcome;
    operation->error = error;
    operation->returned = ++history->clock;
}

/* ---- the search ---- */

/* Ways to reach: these operations have taken effect, and this is the value. */
struct tried {
    uint64_t *done;
    uint32_t *value;
    size_t room, count;
};

struct search {
    const struct operation *operations[HISTORY_PER_KEY_MAX];
    unsigned count;
    struct tried tried;
};

static size_t slot_of(const struct tried *tried, uint64_t done, uint32_t value)
{
    uint64_t hash = (done ^ (uint64_t)value << 32 ^ value) * 0x9e3779b97f4a7c15u;

    size_t slot = (size_t)(hash >> 20) & (tried->room - 1);
    while (tried->done[slot] != UINT64_MAX &&
           (tried->done[slot] != done || tried->value[slot] != value))
        slot = (slot + 1) & (tried->room - 1);
    return slot;
}

static void grow(struct tried *tried)
{
    struct tried old = *tried;

    tried->room = old.room == 0 ? 1024 : old.room * 2;
    tried->done = malloc(tried->room * sizeof *tried->done);
    tried->value = malloc(tried->room * sizeof *tried->value);
    CHECK(tried->done != NULL && tried->value != NULL);
    memset(tried->done, 0xff, tried->room * sizeof *tried->done);
    for (size_t i = 0; i < old.room; i++) {
        if (old.done[i] == UINT64_MAX)
            continue;
        size_t slot = slot_of(tried, old.done[i], old.value[i]);
        tried->done[slot] = old.done[i];
        tried->value[slot] = old.value[i];
    }
    free(old.done);
    free(old.value);
}

/* Return: false when it was tried before. */
static bool remember(struct tried *tried, uint64_t done, uint32_t value)
{
    if (tried->count * 2 >= tried->room)
        grow(tried);
    size_t slot = slot_of(tried, done, value);
    if (tried->done[slot] != UINT64_MAX)
        return false;
    tried->done[slot] = done;
    tried->value[slot] = value;
    tried->count++;
    return true;
}

/* Would this operation give its answer if it took effect now? Then *@after is the new value. */
static bool fits(const struct operation *operation, uint32_t now, uint32_t *after)
{
    bool known = operation->outcome == OUTCOME_DONE || operation->outcome == OUTCOME_REFUSED;
    bool done = operation->outcome != OUTCOME_REFUSED;
    bool would = true; /* be done rather than refused */

    *after = now;
    switch (operation->kind) {
    case OPERATION_PUT:
        *after = operation->value;
        break;
    case OPERATION_PUT_ABSENT:
        would = now == 0;
        *after = operation->value;
        break;
    case OPERATION_PUT_IF:
        would = now == operation->expected;
        *after = operation->value;
        break;
    case OPERATION_REMOVE:
        would = now != 0;
        *after = 0;
        break;
    case OPERATION_GET:
        return now == operation->value;
    case OPERATION_EXISTS:
        would = now != 0;
        break;
    }
    if (!would)
        *after = now;
    return !known || would == done;
}

static bool may_never_have_happened(const struct operation *operation)
{
    return operation->outcome == OUTCOME_UNKNOWN || operation->outcome == OUTCOME_PENDING;
}

static bool explain(struct search *search, uint64_t done, uint32_t value)
{
    uint64_t first_return = UINT64_MAX;
    bool all = true;

    for (unsigned i = 0; i < search->count; i++) {
        if (done >> i & 1)
            continue;
        all = all && may_never_have_happened(search->operations[i]);
        if (!may_never_have_happened(search->operations[i]) &&
            search->operations[i]->returned < first_return)
            first_return = search->operations[i]->returned;
    }
    if (all)
        return true;
    if (!remember(&search->tried, done, value))
        return false;
    for (unsigned i = 0; i < search->count; i++) {
        uint32_t after;
        if (done >> i & 1 || search->operations[i]->called > first_return)
            continue;
        if (fits(search->operations[i], value, &after) &&
            explain(search, done | UINT64_C(1) << i, after))
            return true;
    }
    return false;
}

/* A read or a test without an answer says nothing. */
static bool says_something(const struct operation *operation)
{
    bool reads = operation->kind == OPERATION_GET || operation->kind == OPERATION_EXISTS;

    return !reads || !may_never_have_happened(operation);
}

bool history_explains(const struct history *history, unsigned key)
{
    struct search search = {0};

    for (unsigned i = 0; i < history->counts[key]; i++)
        if (says_something(&history->operations[key][i]))
            search.operations[search.count++] = &history->operations[key][i];
    bool explained = explain(&search, 0, 0);
    free(search.tried.done);
    free(search.tried.value);
    return explained;
}

void history_print(const struct history *history, unsigned key)
{
    static const char *const kinds[] = {"put",    "put if absent", "put if version",
                                        "remove", "get",           "exists"};
    static const char *const outcomes[] = {"pending", "done", "refused", "unknown"};

    for (unsigned i = 0; i < history->counts[key]; i++) {
        const struct operation *operation = &history->operations[key][i];
        printf("  %5" PRIu64 "..%-5" PRIu64 " client %u %-14s value %-5u", operation->called,
               operation->returned == UINT64_MAX ? 0 : operation->returned, operation->client,
               kinds[operation->kind], operation->value);
        if (operation->kind == OPERATION_PUT_IF)
            printf(" expected %-5u", operation->expected);
        printf(" %s", outcomes[operation->outcome]);
        if (operation->error != 0)
            printf(" (%s)", shoal_error_name(operation->error));
        printf("\n");
    }
}
