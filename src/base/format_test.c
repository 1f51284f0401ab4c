/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/format.h"
#include "base/progress.h"

#define SECOND UINT64_C(1000000000)

static void sizes_have_three_digits_that_matter(void **state)
{
    (void)state;
    assert_string_equal(format_bytes(0).text, "0 B");
    assert_string_equal(format_bytes(1023).text, "1023 B");
    assert_string_equal(format_bytes(1024).text, "1 KiB");
    assert_string_equal(format_bytes(1536).text, "1.5 KiB");
    assert_string_equal(format_bytes(UINT64_C(1048575)).text, "1 MiB");
    assert_string_equal(format_bytes(UINT64_C(123) << 20).text, "123 MiB");
    assert_string_equal(format_bytes(UINT64_C(100) << 30).text, "100 GiB");
    assert_string_equal(format_bytes(UINT64_MAX).text, "16 EiB");
}

static void durations_choose_their_unit(void **state)
{
    (void)state;
    assert_string_equal(format_duration(0).text, "0 ns");
    assert_string_equal(format_duration(230 * 1000).text, "230 us");
    assert_string_equal(format_duration(1500 * 1000).text, "1.50 ms");
    assert_string_equal(format_duration(12 * SECOND).text, "12.0 s");
    assert_string_equal(format_duration(999999999).text, "1.00 s");
    assert_string_equal(format_duration(192 * SECOND).text, "3 min 12 s");
    assert_string_equal(format_duration(4320 * SECOND).text, "1 h 12 min");
    assert_non_null(strstr(format_duration(UINT64_MAX).text, " h "));
}

static void rates_do_not_divide_by_zero(void **state)
{
    (void)state;
    assert_string_equal(format_rate(UINT64_C(3) << 29, SECOND).text, "1.5 GiB/s");
    assert_string_equal(format_rate(0, 0).text, "0 B/s");
}

static void counts_are_grouped(void **state)
{
    (void)state;
    assert_string_equal(format_count(0).text, "0");
    assert_string_equal(format_count(999).text, "999");
    assert_string_equal(format_count(1000).text, "1,000");
    assert_string_equal(format_count(UINT64_MAX).text, "18,446,744,073,709,551,615");
}

static void progress_shows_part_rate_and_time_left(void **state)
{
    (void)state;
    char line[256];
    struct progress progress = {.label = "put", .total = 4096, .done = 1024};
    progress_line(&progress, 10 * SECOND, 80, line, sizeof line);
    assert_string_equal(line, "put ####............  25 %  1 KiB of 4 KiB  102 B/s  30.0 s left");
}

static void progress_without_a_total_shows_what_is_done(void **state)
{
    (void)state;
    char line[256];
    struct progress progress = {.label = "get", .done = 2048};
    progress_line(&progress, SECOND, 80, line, sizeof line);
    assert_string_equal(line, "get  2 KiB  2 KiB/s");
}

static void progress_fits_a_narrow_terminal_and_more_than_all(void **state)
{
    (void)state;
    char line[256];
    struct progress progress = {.label = "put", .total = 10, .done = 20};
    progress_line(&progress, SECOND, 20, line, sizeof line);
    assert_non_null(strstr(line, "100 %"));
    assert_null(strstr(line, "left"));
}

static void progress_in_a_pipe_is_silent(void **state)
{
    (void)state;
    struct progress progress;
    progress_begin(&progress, "put", 100, false);
    assert_null(progress.out);
    progress_add(&progress, 60);
    progress_add(&progress, 40);
    assert_int_equal(progress.done, 100);
    progress_end(&progress);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_have_three_digits_that_matter),
        cmocka_unit_test(durations_choose_their_unit),
        cmocka_unit_test(rates_do_not_divide_by_zero),
        cmocka_unit_test(counts_are_grouped),
        cmocka_unit_test(progress_shows_part_rate_and_time_left),
        cmocka_unit_test(progress_without_a_total_shows_what_is_done),
        cmocka_unit_test(progress_fits_a_narrow_terminal_and_more_than_all),
        cmocka_unit_test(progress_in_a_pipe_is_silent),
    };
    return cmocka_run_group_tests_name("format", tests, NULL, NULL);
}
