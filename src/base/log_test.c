/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/log.h"

static char lines[64][512];
static int line_count;
static uint64_t virtual_ns;

static void keep(void *arg, enum log_level level, const char *line)
{
    (void)arg;
    (void)level;
    if (line_count < 64)
        snprintf(lines[line_count], sizeof lines[0], "%s", line);
    line_count++;
}

static uint64_t virtual_now(void *arg)
{
    return *(uint64_t *)arg;
}

static void begin(uint64_t now_ns)
{
    line_count = 0;
    virtual_ns = now_ns;
    log_set_time_source(virtual_now, &virtual_ns);
    log_set_sink(keep, NULL);
    log_set_level(LOG_LEVEL_INFO);
    log_context_set((struct log_context){0});
}

static void complain(int number)
{
    LOG_WARN("trouble %d", number);
}

static void a_line_carries_time_level_component_and_request(void **state)
{
    (void)state;
    begin(UINT64_C(12000000345));
    log_set_component("node-2/0");
    log_set_request(0x1f, 0x2);
    LOG_INFO("stored %d bytes", 7);
    assert_int_equal(line_count, 1);
    assert_string_equal(lines[0], "12.000000345 INFO  node-2/0 "
                                  "[000000000000001f0000000000000002] stored 7 bytes");
}

static void a_warning_says_where_it_was_made(void **state)
{
    (void)state;
    begin(1);
    LOG_WARN("slow");
    assert_non_null(strstr(lines[0], "WARN  - slow (log_test.c:"));
}

static void lines_below_the_level_are_not_made(void **state)
{
    (void)state;
    begin(1);
    LOG_DEBUG("hidden");
    assert_int_equal(line_count, 0);
    log_set_level(LOG_LEVEL_DEBUG);
    LOG_DEBUG("shown");
    assert_int_equal(line_count, 1);
    log_set_level(LOG_LEVEL_ERROR);
    LOG_WARN("hidden");
    assert_int_equal(line_count, 1);
}

static void a_site_that_repeats_itself_is_silenced_and_counted(void **state)
{
    (void)state;
    begin(UINT64_C(100000000000));
    for (int i = 0; i < 100; i++)
        complain(i);
    assert_int_equal(line_count, LOG_BURST);
    virtual_ns += LOG_WINDOW_NS;
    complain(100);
    assert_int_equal(line_count, LOG_BURST + 1);
    assert_non_null(strstr(lines[LOG_BURST], "(and 90 more from here)"));
    virtual_ns += LOG_WINDOW_NS;
    complain(101);
    assert_null(strstr(lines[LOG_BURST + 1], "more from here"));
}

static void time_that_starts_anew_ends_the_silence(void **state)
{
    (void)state;
    begin(UINT64_C(900000000000));
    for (int i = 0; i < 100; i++)
        complain(i);
    begin(5);
    complain(0);
    assert_int_equal(line_count, 1);
}

static void another_site_speaks_while_one_is_silenced(void **state)
{
    (void)state;
    begin(UINT64_C(2000000000000));
    for (int i = 0; i < 100; i++)
        complain(i);
    LOG_WARN("other");
    assert_int_equal(line_count, LOG_BURST + 1);
}

static void a_message_stays_on_one_line(void **state)
{
    (void)state;
    begin(1);
    LOG_INFO("a\nb\033[2Jc");
    assert_non_null(strstr(lines[0], "a b [2Jc"));
}

static void a_message_without_end_is_cut(void **state)
{
    (void)state;
    static char huge[8192];
    begin(1);
    memset(huge, 'x', sizeof huge - 1);
    LOG_INFO("%s", huge);
    assert_int_equal(line_count, 1);
}

static void context_is_saved_and_restored_whole(void **state)
{
    (void)state;
    begin(1);
    log_set_component("a");
    log_set_request(1, 2);
    struct log_context saved = log_context_get();
    log_context_set((struct log_context){.component = "b"});
    LOG_INFO("x");
    log_context_set(saved);
    LOG_INFO("y");
    assert_string_equal(lines[0], "0.000000001 INFO  b x");
    assert_string_equal(lines[1], "0.000000001 INFO  a [00000000000000010000000000000002] y");
}

static void wall_time_is_printed_as_utc(void **state)
{
    (void)state;
    begin(1);
    log_set_time_source(NULL, NULL);
    LOG_INFO("x");
    int year, month, day, hour, minute;
    double second;
    assert_int_equal(
        sscanf(lines[0], "%d-%d-%dT%d:%d:%lfZ INFO", &year, &month, &day, &hour, &minute, &second),
        6);
    assert_true(year >= 2024);
}

static void levels_are_read_by_name(void **state)
{
    (void)state;
    enum log_level level = LOG_LEVEL_INFO;
    assert_true(log_level_parse("debug", &level));
    assert_int_equal(level, LOG_LEVEL_DEBUG);
    assert_false(log_level_parse("loud", &level));
    assert_int_equal(level, LOG_LEVEL_DEBUG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_carries_time_level_component_and_request),
        cmocka_unit_test(a_warning_says_where_it_was_made),
        cmocka_unit_test(lines_below_the_level_are_not_made),
        cmocka_unit_test(a_site_that_repeats_itself_is_silenced_and_counted),
        cmocka_unit_test(time_that_starts_anew_ends_the_silence),
        cmocka_unit_test(another_site_speaks_while_one_is_silenced),
        cmocka_unit_test(a_message_stays_on_one_line),
        cmocka_unit_test(a_message_without_end_is_cut),
        cmocka_unit_test(context_is_saved_and_restored_whole),
        cmocka_unit_test(wall_time_is_printed_as_utc),
        cmocka_unit_test(levels_are_read_by_name),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
