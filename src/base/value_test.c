/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/value.h"
#include "shoal/error.h"

struct target {
    char *text;
    uint64_t number;
    bool truth;
    struct value_list list;
};

static struct value_error error;

static void sizes_are_powers_of_1024(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        {"0", 0},
        {"4096", 4096},
        {"4K", 4096},
        {"4k", 4096},
        {"4KiB", 4096},
        {"1.5G", UINT64_C(3) << 29},
        {"64 MiB", 64 << 20},
        {"2T", UINT64_C(2) << 40},
        {"16777215T", UINT64_C(16777215) << 40},
        {"18446744073709551615", UINT64_MAX},
    };
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        uint64_t bytes = 7;
        assert_int_equal(value_parse_size(good[i].text, &bytes), 0);
        assert_int_equal(bytes, good[i].bytes);
    }
    static const char *const bad[] = {"",           "K",         "-1",
                                      "1X",         "1.",        "1.K",
                                      ".5K",        "4K4",       " 4K",
                                      "4KB4",       "16777216T", "18446744073709551616",
                                      "0.1234567K", "1e3",       "99999999999999999999999999"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        uint64_t bytes = 7;
        if (value_parse_size(bad[i], &bytes) != SHOAL_E_INVALID)
            fail_msg("'%s' was taken", bad[i]);
        assert_int_equal(bytes, 7);
    }
}

static void durations_are_nanoseconds_and_plain_numbers_seconds(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t ns;
    } good[] = {
        {"5", UINT64_C(5000000000)},
        {"500us", 500000},
        {"10ms", 10000000},
        {"7ns", 7},
        {"1.5s", 1500000000},
        {"2m", UINT64_C(120000000000)},
        {"1h", UINT64_C(3600000000000)},
    };
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        uint64_t ns = 0;
        assert_int_equal(value_parse_duration(good[i].text, &ns), 0);
        assert_int_equal(ns, good[i].ns);
    }
    uint64_t ns = 0;
    assert_int_equal(value_parse_duration("10 parsecs", &ns), SHOAL_E_INVALID);
    assert_int_equal(value_parse_duration("999999999999h", &ns), SHOAL_E_INVALID);
}

static void numbers_have_no_sign_and_no_rest(void **state)
{
    (void)state;
    uint64_t value = 7;
    assert_int_equal(value_parse_u64("18446744073709551615", &value), 0);
    assert_int_equal(value, UINT64_MAX);
    assert_int_equal(value_parse_u64("-1", &value), SHOAL_E_INVALID);
    assert_int_equal(value_parse_u64(" 1", &value), SHOAL_E_INVALID);
    assert_int_equal(value_parse_u64("1 ", &value), SHOAL_E_INVALID);
    assert_int_equal(value_parse_u64("0x10", &value), SHOAL_E_INVALID);
}

static void a_value_out_of_bounds_is_refused_with_what_is_allowed(void **state)
{
    (void)state;
    struct target target = {.number = 9};
    const struct value_spec spec = {.name = "cache_size",
                                    .type = VALUE_SIZE,
                                    .offset = offsetof(struct target, number),
                                    .min = 4096,
                                    .max = 1 << 30};
    assert_int_equal(value_set(&spec, &target, "3", &error), SHOAL_E_CONFIG);
    assert_string_equal(error.text, "'cache_size' is '3', must be a size such as 64K or 1.5G from "
                                    "4K to 1G");
    assert_int_equal(target.number, 9);
    assert_int_equal(value_set(&spec, &target, "1025M", &error), SHOAL_E_CONFIG);
    assert_int_equal(value_set(&spec, &target, "1G", &error), 0);
    assert_int_equal(target.number, 1 << 30);
    assert_string_equal(error.text, "");
}

static void a_choice_is_taken_whole(void **state)
{
    (void)state;
    struct target target = {0};
    const struct value_spec spec = {
        .name = "data_plane", .type = VALUE_STRING, .choices = "tls|plain"};
    assert_int_equal(value_set(&spec, &target, "tl", &error), SHOAL_E_CONFIG);
    assert_non_null(strstr(error.text, "must be one of tls/plain"));
    assert_int_equal(value_set(&spec, &target, "", &error), SHOAL_E_CONFIG);
    assert_int_equal(value_set(&spec, &target, "tls|plain", &error), SHOAL_E_CONFIG);
    assert_int_equal(value_set(&spec, &target, "tls", &error), 0);
    assert_int_equal(value_set(&spec, &target, "plain", &error), 0);
    assert_string_equal(target.text, "plain");
    value_free(&spec, 1, &target);
    assert_null(target.text);
}

static void a_list_grows_up_to_its_bound(void **state)
{
    (void)state;
    struct target target = {0};
    const struct value_spec spec = {
        .name = "peers", .type = VALUE_LIST, .offset = offsetof(struct target, list), .max = 2};
    assert_int_equal(value_set(&spec, &target, "a", &error), 0);
    assert_int_equal(value_set(&spec, &target, "b", &error), 0);
    assert_int_equal(value_set(&spec, &target, "c", &error), SHOAL_E_CONFIG);
    assert_int_equal(target.list.count, 2);
    assert_string_equal(target.list.items[1], "b");
    value_free(&spec, 1, &target);
    assert_int_equal(target.list.count, 0);
}

static void booleans_have_many_names(void **state)
{
    (void)state;
    struct target target = {0};
    const struct value_spec spec = {
        .name = "on", .type = VALUE_BOOL, .offset = offsetof(struct target, truth)};
    assert_int_equal(value_set(&spec, &target, "Yes", &error), 0);
    assert_true(target.truth);
    assert_int_equal(value_set(&spec, &target, "off", &error), 0);
    assert_false(target.truth);
    assert_int_equal(value_set(&spec, &target, "maybe", &error), SHOAL_E_CONFIG);
}

static void defaults_fill_memory_of_any_content(void **state)
{
    (void)state;
    static const struct value_spec specs[] = {
        {.name = "text",
         .type = VALUE_STRING,
         .offset = offsetof(struct target, text),
         .default_text = "hello"},
        {.name = "number",
         .type = VALUE_DURATION,
         .offset = offsetof(struct target, number),
         .default_text = "10ms"},
        {.name = "truth", .type = VALUE_BOOL, .offset = offsetof(struct target, truth)},
        {.name = "list", .type = VALUE_LIST, .offset = offsetof(struct target, list)},
    };
    struct target target;
    memset(&target, 0xee, sizeof target);
    assert_int_equal(value_set_defaults(specs, ARRAY_LEN(specs), &target), 0);
    assert_string_equal(target.text, "hello");
    assert_int_equal(target.number, 10000000);
    assert_false(target.truth);
    assert_int_equal(target.list.count, 0);
    value_free(specs, ARRAY_LEN(specs), &target);
}

static void what_is_printed_reads_back(void **state)
{
    (void)state;
    static const uint64_t numbers[] = {0, 1, 1023, 1024, 1536, 1 << 20, 1000000000, UINT64_MAX};
    static const enum value_type types[] = {VALUE_U64, VALUE_SIZE, VALUE_DURATION};
    for (size_t t = 0; t < ARRAY_LEN(types); t++) {
        for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
            struct value_spec spec = {.name = "n", .type = types[t]};
            uint64_t number = numbers[i];
            uint64_t again = 1;
            char text[64];
            value_print(&spec, &number, text, sizeof text);
            assert_int_equal(value_set(&spec, &again, text, &error), 0);
            assert_int_equal(again, number);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_powers_of_1024),
        cmocka_unit_test(durations_are_nanoseconds_and_plain_numbers_seconds),
        cmocka_unit_test(numbers_have_no_sign_and_no_rest),
        cmocka_unit_test(a_value_out_of_bounds_is_refused_with_what_is_allowed),
        cmocka_unit_test(a_choice_is_taken_whole),
        cmocka_unit_test(a_list_grows_up_to_its_bound),
        cmocka_unit_test(booleans_have_many_names),
        cmocka_unit_test(defaults_fill_memory_of_any_content),
        cmocka_unit_test(what_is_printed_reads_back),
    };
    return cmocka_run_group_tests_name("value", tests, NULL, NULL);
}
