/* SPDX-License-Identifier: Apache-2.0 */
#include "base/value.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/check.h"
#include "base/format.h"
#include "shoal/error.h"

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit size_units[] = {
    {"", 1},
    {"B", 1},
    {"K", UINT64_C(1) << 10},
    {"KiB", UINT64_C(1) << 10},
    {"M", UINT64_C(1) << 20},
    {"MiB", UINT64_C(1) << 20},
    {"G", UINT64_C(1) << 30},
    {"GiB", UINT64_C(1) << 30},
    {"T", UINT64_C(1) << 40},
    {"TiB", UINT64_C(1) << 40},
};

static const struct unit duration_units[] = {
    {"", UINT64_C(1000000000)},
    {"ns", 1},
    {"us", 1000},
    {"ms", 1000000},
    {"s", UINT64_C(1000000000)},
    {"m", 60 * UINT64_C(1000000000)},
    {"min", 60 * UINT64_C(1000000000)},
    {"h", 3600 * UINT64_C(1000000000)},
    {"d", 86400 * UINT64_C(1000000000)},
};

int value_parse_u64(const char *text, uint64_t *value)
{
    if (*text < '0' || *text > '9')
        return SHOAL_E_INVALID; /* strtoull() would take " -1" */
    char *end = NULL;
    errno = 0;
    unsigned long long parsed = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0')
        return SHOAL_E_INVALID;
    *value = parsed;
    return 0;
}

static bool is_digit(char byte)
{
    return byte >= '0' && byte <= '9';
}

/*
 * digits[.digits][ unit], exactly, without floating point: 64 bits of bytes do not fit a double.
 */
static int parse_scaled(const char *text, const struct unit *units, size_t unit_count,
                        uint64_t *value)
{
    char whole_text[24];
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits >= sizeof whole_text)
        return SHOAL_E_INVALID;
    memcpy(whole_text, text, digits);
    whole_text[digits] = '\0';
    uint64_t whole = 0;
    if (value_parse_u64(whole_text, &whole) != 0)
        return SHOAL_E_INVALID;
    text += digits;

    uint64_t fraction = 0;
    uint64_t fraction_scale = 1;
    if (*text == '.') {
        text++;
        if (!is_digit(*text))
            return SHOAL_E_INVALID;
        for (; is_digit(*text); text++) {
            if (fraction_scale >= 1000000)
                return SHOAL_E_INVALID;
            fraction = fraction * 10 + (uint64_t)(*text - '0');
            fraction_scale *= 10;
        }
    }
    while (*text == ' ')
        text++;
    for (size_t i = 0; i < unit_count; i++) {
        if (strcasecmp(text, units[i].name) != 0)
            continue;
        uint64_t factor = units[i].factor;
        uint64_t scaled;
        uint64_t part = (uint64_t)((unsigned __int128)fraction * factor / fraction_scale);
        if (__builtin_mul_overflow(whole, factor, &scaled) ||
            __builtin_add_overflow(scaled, part, value))
            return SHOAL_E_INVALID;
        return 0;
    }
    return SHOAL_E_INVALID;
}

int value_parse_size(const char *text, uint64_t *bytes)
{
    return parse_scaled(text, size_units, ARRAY_LEN(size_units), bytes);
}

int value_parse_duration(const char *text, uint64_t *ns)
{
    return parse_scaled(text, duration_units, ARRAY_LEN(duration_units), ns);
}

int value_parse_bool(const char *text, bool *value)
{
    static const char *const names[][2] = {
        {"no", "yes"}, {"false", "true"}, {"off", "on"}, {"0", "1"}};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        for (int truth = 0; truth < 2; truth++) {
            if (strcasecmp(text, names[i][truth]) == 0) {
                *value = truth == 1;
                return 0;
            }
        }
    }
    return SHOAL_E_INVALID;
}

static void *member(const struct value_spec *spec, void *target)
{
    return (uint8_t *)target + spec->offset;
}

static const void *member_const(const struct value_spec *spec, const void *target)
{
    return (const uint8_t *)target + spec->offset;
}

static bool is_choice(const char *choices, const char *text)
{
    size_t length = strlen(text);
    if (strchr(text, '|') != NULL)
        return false;
    for (const char *at = choices; at != NULL; at = strchr(at, '|')) {
        if (*at == '|')
            at++;
        if (strncmp(at, text, length) == 0 && (at[length] == '|' || at[length] == '\0'))
            return true;
    }
    return false;
}

static bool in_bounds(const struct value_spec *spec, uint64_t value)
{
    return value >= spec->min && (spec->max == 0 || value <= spec->max);
}

static int list_append(struct value_list *list, const char *text)
{
    char **items = realloc(list->items, (list->count + 1) * sizeof *items);
    if (items == NULL)
        return SHOAL_E_NO_MEMORY;
    list->items = items;
    items[list->count] = strdup(text);
    if (items[list->count] == NULL)
        return SHOAL_E_NO_MEMORY;
    list->count++;
    return 0;
}

static int refuse(const struct value_spec *spec, const char *text, struct value_error *error)
{
    char allowed[192];
    snprintf(error->text, sizeof error->text, "'%s' is '%.100s', must be %s", spec->name, text,
             value_describe(spec, allowed, sizeof allowed));
    return SHOAL_E_CONFIG;
}

static int set_text(const struct value_spec *spec, void *target, const char *text,
                    struct value_error *error)
{
    if (spec->choices != NULL && !is_choice(spec->choices, text))
        return refuse(spec, text, error);
    if (spec->type == VALUE_LIST) {
        struct value_list *list = member(spec, target);
        if (spec->max != 0 && list->count >= spec->max)
            return refuse(spec, text, error);
        return list_append(list, text);
    }
    if (!in_bounds(spec, strlen(text)))
        return refuse(spec, text, error);
    char *copy = strdup(text);
    if (copy == NULL)
        return SHOAL_E_NO_MEMORY;
    char **string = member(spec, target);
    free(*string);
    *string = copy;
    return 0;
}

int value_set(const struct value_spec *spec, void *target, const char *text,
              struct value_error *error)
{
    uint64_t number = 0;
    bool truth = false;
    int rc = 0;
    error->text[0] = '\0';
    switch (spec->type) {
    case VALUE_STRING:
    case VALUE_LIST:
        return set_text(spec, target, text, error);
    case VALUE_BOOL:
        rc = value_parse_bool(text, &truth);
        if (rc != 0)
            return refuse(spec, text, error);
        *(bool *)member(spec, target) = truth;
        return 0;
    case VALUE_U64:
        rc = value_parse_u64(text, &number);
        break;
    case VALUE_SIZE:
        rc = value_parse_size(text, &number);
        break;
    case VALUE_DURATION:
        rc = value_parse_duration(text, &number);
        break;
    }
    if (rc != 0 || !in_bounds(spec, number))
        return refuse(spec, text, error);
    *(uint64_t *)member(spec, target) = number;
    return 0;
}

static void clear(const struct value_spec *spec, void *target)
{
    switch (spec->type) {
    case VALUE_STRING:
        *(char **)member(spec, target) = NULL;
        break;
    case VALUE_BOOL:
        *(bool *)member(spec, target) = false;
        break;
    case VALUE_LIST:
        *(struct value_list *)member(spec, target) = (struct value_list){0};
        break;
    default:
        *(uint64_t *)member(spec, target) = 0;
        break;
    }
}

int value_set_defaults(const struct value_spec *specs, size_t count, void *target)
{
    for (size_t i = 0; i < count; i++)
        clear(&specs[i], target);
    for (size_t i = 0; i < count; i++) {
        if (specs[i].default_text == NULL)
            continue;
        struct value_error error;
        int rc = value_set(&specs[i], target, specs[i].default_text, &error);
        CHECK_MSG(rc != SHOAL_E_CONFIG, "default of %s", error.text);
        if (rc != 0) {
            value_free(specs, count, target);
            return rc;
        }
    }
    return 0;
}

void value_free(const struct value_spec *specs, size_t count, void *target)
{
    for (size_t i = 0; i < count; i++) {
        if (specs[i].type == VALUE_STRING)
            free(*(char **)member(&specs[i], target));
        if (specs[i].type == VALUE_LIST) {
            struct value_list *list = member(&specs[i], target);
            for (size_t item = 0; item < list->count; item++)
                free(list->items[item]);
            free(list->items);
        }
        clear(&specs[i], target);
    }
}

/* The largest unit that leaves no rest, so that the text reads back to the same number. */
static void print_exact(uint64_t value, const struct unit *units, size_t count, char *out,
                        size_t size)
{
    const struct unit *best = NULL;
    for (size_t i = 1; i < count; i++) {
        if (value % units[i].factor == 0 && (best == NULL || units[i].factor > best->factor))
            best = &units[i];
    }
    if (value == 0 || best == NULL)
        snprintf(out, size, "0");
    else if (best->factor == 1 && units == size_units)
        snprintf(out, size, "%llu", (unsigned long long)value);
    else
        snprintf(out, size, "%llu%s", (unsigned long long)(value / best->factor), best->name);
}

const char *value_print(const struct value_spec *spec, const void *target, char *out, size_t size)
{
    const void *at = member_const(spec, target);
    switch (spec->type) {
    case VALUE_STRING: {
        const char *text = *(char *const *)at;
        snprintf(out, size, "%s", text != NULL ? text : "");
        break;
    }
    case VALUE_BOOL:
        snprintf(out, size, "%s", *(const bool *)at ? "true" : "false");
        break;
    case VALUE_U64:
        snprintf(out, size, "%llu", (unsigned long long)*(const uint64_t *)at);
        break;
    case VALUE_SIZE:
        print_exact(*(const uint64_t *)at, size_units, ARRAY_LEN(size_units), out, size);
        break;
    case VALUE_DURATION:
        print_exact(*(const uint64_t *)at, duration_units, ARRAY_LEN(duration_units), out, size);
        break;
    case VALUE_LIST:
        snprintf(out, size, "%zu items", ((const struct value_list *)at)->count);
        break;
    }
    return out;
}

static void print_bound(const struct value_spec *spec, uint64_t bound, char *out, size_t size)
{
    struct value_spec alone = {.type = spec->type};
    if (spec->type == VALUE_STRING || spec->type == VALUE_LIST)
        alone.type = VALUE_U64;
    value_print(&alone, &bound, out, size);
}

const char *value_describe(const struct value_spec *spec, char *out, size_t size)
{
    static const char *const nouns[] = {[VALUE_STRING] = "a text",
                                        [VALUE_U64] = "a number",
                                        [VALUE_BOOL] = "true or false",
                                        [VALUE_SIZE] = "a size such as 64K or 1.5G",
                                        [VALUE_DURATION] = "a duration such as 500us, 10ms or 5s",
                                        [VALUE_LIST] = "a list"};
    if (spec->choices != NULL) {
        int length = snprintf(out, size, "one of %s", spec->choices);
        for (int i = 0; i < length && (size_t)i + 1 < size; i++) {
            if (out[i] == '|')
                out[i] = '/';
        }
        return out;
    }
    char low[32];
    char high[32];
    print_bound(spec, spec->min, low, sizeof low);
    print_bound(spec, spec->max, high, sizeof high);
    const char *of = spec->type == VALUE_STRING ? " of a length" : "";
    const char *items = spec->type == VALUE_LIST ? " items" : "";
    if (spec->type == VALUE_BOOL || (spec->min == 0 && spec->max == 0))
        snprintf(out, size, "%s", nouns[spec->type]);
    else if (spec->max == 0)
        snprintf(out, size, "%s%s, at least %s%s", nouns[spec->type], of, low, items);
    else
        snprintf(out, size, "%s%s from %s to %s%s", nouns[spec->type], of, low, high, items);
    return out;
}
