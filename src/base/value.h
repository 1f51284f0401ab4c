/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Typed values from text that a person wrote: what config files and command lines share.
 *
 * A table of struct value_spec describes the members of a plain structure: how each is called, what
 * it may be, what it is by default, and where it lives. Member types:
 *
 *   VALUE_STRING    char *             NULL when the default is NULL; owned
 *   VALUE_U64       uint64_t
 *   VALUE_BOOL      bool               true/false, yes/no, on/off
 *   VALUE_SIZE      uint64_t, bytes    4096, 4K, 4KiB, 1.5G (powers of 1024)
 *   VALUE_DURATION  uint64_t, ns       500us, 10ms, 5s, 2m, 1h; a number alone is seconds
 *   VALUE_LIST      struct value_list  strings; owned
 */
#ifndef BASE_VALUE_H
#define BASE_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

enum value_type { VALUE_STRING, VALUE_U64, VALUE_BOOL, VALUE_SIZE, VALUE_DURATION, VALUE_LIST };

struct value_list {
    char **items;
    size_t count;
};

struct value_spec {
    const char *name; /* "cache_size"; in a config file "tls.ca" is ca inside tls */
    enum value_type type;
    size_t offset;            /* offsetof() the member */
    const char *default_text; /* NULL: zero, false, no string, empty list */
    uint64_t min;             /* of the number, the string's length, or the list's count */
    uint64_t max;             /* 0: no upper bound */
    const char *choices;      /* for strings: "tls|plain", or NULL for any */
    const char *help;         /* one sentence */
};

/* A message for a person; empty when there is none. */
struct value_error {
    char text[512];
};

/*
 * value_set() - Parses @text and stores it in the member of @target.
 * A list gains an item. Returns 0, SHOAL_E_CONFIG with @error saying what was found and what is
 * allowed, or SHOAL_E_NO_MEMORY; the member is then unchanged.
 */
int value_set(const struct value_spec *spec, void *target, const char *text,
              struct value_error *error) NODISCARD;

/*
 * value_set_defaults() - Fills @target, whose members so described may hold anything before.
 * A default that does not parse is our own mistake and stops the process.
 */
int value_set_defaults(const struct value_spec *specs, size_t count, void *target) NODISCARD;

/* Frees strings and lists, and zeroes all described members. */
void value_free(const struct value_spec *specs, size_t count, void *target);

/* The member as text that value_set() takes (not for lists). Returns @out. */
const char *value_print(const struct value_spec *spec, const void *target, char *out, size_t size);

/* "a size from 4 KiB to 1 GiB", "one of tls, plain": what the value may be. Returns @out. */
const char *value_describe(const struct value_spec *spec, char *out, size_t size);

/* The parsers alone: 0 or SHOAL_E_INVALID. */
int value_parse_u64(const char *text, uint64_t *value) NODISCARD;
int value_parse_size(const char *text, uint64_t *bytes) NODISCARD;
int value_parse_duration(const char *text, uint64_t *ns) NODISCARD;
int value_parse_bool(const char *text, bool *value) NODISCARD;

#endif
