/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What clients asked and were told, and whether some order explains it.
 *
 * Each key is a register whose values are numbers that are never used twice; 0 is "no such blob". The
 * checker looks, key by key, for an order of the operations in which each takes effect at one moment
 * between its call and its return, and every answer is the right one (linearizability; the search is
 * Wing and Gong's, with Lowe's memory of what was tried). A write whose outcome is unknown may have
 * taken effect at any moment after its call, or never.
 */
#ifndef SHOAL_TESTS_SIM_HISTORY_H
#define SHOAL_TESTS_SIM_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HISTORY_KEYS_MAX 64u
#define HISTORY_PER_KEY_MAX 64u
#define HISTORY_KEPT 4u /* of them, for history_call_last() */

enum operation_kind {
    OPERATION_PUT,        /* becomes @value */
    OPERATION_PUT_ABSENT, /* done: was 0, becomes @value; refused: was not 0 */
    OPERATION_PUT_IF,     /* done: was @expected, becomes @value; refused: was not @expected */
    OPERATION_REMOVE,     /* done: was not 0, becomes 0; refused: was 0 */
    OPERATION_GET,        /* done: was @value; 0 when there was none */
    OPERATION_EXISTS,     /* done: was not 0; refused: was 0 */
};

enum operation_outcome { OUTCOME_PENDING, OUTCOME_DONE, OUTCOME_REFUSED, OUTCOME_UNKNOWN };

struct operation {
    enum operation_kind kind;
    enum operation_outcome outcome;
    uint32_t value, expected;
    uint64_t called, returned; /* of one counter for the whole run */
    unsigned client;
    int error;
};

struct history {
    uint64_t clock;
    unsigned counts[HISTORY_KEYS_MAX];
    struct operation operations[HISTORY_KEYS_MAX][HISTORY_PER_KEY_MAX];
};

/* NULL when the key has had as many operations as can be checked. */
struct operation *history_call(struct history *history, unsigned key, enum operation_kind kind,
                               unsigned client);
/* The same for reads at the end of a run, for which room is kept. */
struct operation *history_call_last(struct history *history, unsigned key, unsigned client);
void history_return(struct history *history, struct operation *operation,
                    enum operation_outcome outcome, int error);

/* Return: true when an order explains all answers of @key. */
bool history_explains(const struct history *history, unsigned key);

/* One line an operation, for a person who looks for the bug. */
void history_print(const struct history *history, unsigned key);

#endif
