/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/histogram.h"
#include "base/random.h"

static struct histogram histogram;
static struct histogram other;

static void an_empty_histogram_is_all_zero(void **state)
{
    (void)state;
    histogram_init(&histogram);
    assert_int_equal(histogram_count(&histogram), 0);
    assert_int_equal(histogram_min(&histogram), 0);
    assert_int_equal(histogram_max(&histogram), 0);
    assert_int_equal(histogram_percentile(&histogram, 50), 0);
}

static void percentiles_are_within_two_percent(void **state)
{
    (void)state;
    /* A single value between a smaller and a larger one is found again at the median. */
    for (uint64_t value = 1; value < UINT64_C(1) << 44; value += value / 7 + 1) {
        histogram_init(&histogram);
        histogram_record(&histogram, 0);
        histogram_record(&histogram, value);
        histogram_record(&histogram, UINT64_C(1) << 44);
        uint64_t median = histogram_percentile(&histogram, 50);
        uint64_t error = median > value ? median - value : value - median;
        if (error * 100 > value * 2)
            fail_msg("%llu was given as %llu", (unsigned long long)value,
                     (unsigned long long)median);
    }
}

static void percentiles_of_a_ramp_are_where_they_must_be(void **state)
{
    (void)state;
    histogram_init(&histogram);
    for (uint64_t value = 1; value <= 100000; value++)
        histogram_record(&histogram, value);
    assert_in_range(histogram_percentile(&histogram, 50), 49000, 51000);
    assert_in_range(histogram_percentile(&histogram, 99), 97100, 100000);
    assert_int_equal(histogram_percentile(&histogram, 100), 100000);
    assert_int_equal(histogram_percentile(&histogram, 0), 1);
    assert_int_equal(histogram_sum(&histogram), UINT64_C(100000) * 100001 / 2);
    assert_true(histogram_mean(&histogram) == 50000.5);
}

static void min_and_max_are_exact(void **state)
{
    (void)state;
    histogram_init(&histogram);
    histogram_record(&histogram, 1234567);
    histogram_record(&histogram, 89);
    assert_int_equal(histogram_min(&histogram), 89);
    assert_int_equal(histogram_max(&histogram), 1234567);
    histogram_record(&histogram, 0);
    assert_int_equal(histogram_min(&histogram), 0);
}

static void a_value_beyond_the_range_is_counted(void **state)
{
    (void)state;
    histogram_init(&histogram);
    histogram_record(&histogram, UINT64_MAX);
    histogram_record(&histogram, UINT64_C(1) << 50);
    assert_int_equal(histogram_count(&histogram), 2);
    assert_int_equal(histogram_max(&histogram), UINT64_MAX);
    assert_int_equal(histogram_percentile(&histogram, 100), UINT64_MAX);
}

static void counts_up_to_a_power_of_two_are_exact(void **state)
{
    (void)state;
    for (unsigned power = 0; power < 44; power++) {
        uint64_t bound = UINT64_C(1) << power;
        histogram_init(&histogram);
        histogram_record(&histogram, bound - 1);
        histogram_record(&histogram, bound);
        histogram_record(&histogram, bound + 1);
        assert_int_equal(histogram_count_to_power(&histogram, power), 2);
    }
}

static void merging_equals_recording_all_in_one(void **state)
{
    (void)state;
    static struct histogram both;
    struct prng prng;
    prng_seed(&prng, 7);
    histogram_init(&histogram);
    histogram_init(&other);
    histogram_init(&both);
    for (int i = 0; i < 10000; i++) {
        uint64_t value = prng_next(&prng) >> prng_below(&prng, 64);
        histogram_record(i % 3 == 0 ? &histogram : &other, value);
        histogram_record(&both, value);
    }
    histogram_merge(&histogram, &other);
    assert_memory_equal(&histogram, &both, sizeof both);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_histogram_is_all_zero),
        cmocka_unit_test(percentiles_are_within_two_percent),
        cmocka_unit_test(percentiles_of_a_ramp_are_where_they_must_be),
        cmocka_unit_test(min_and_max_are_exact),
        cmocka_unit_test(a_value_beyond_the_range_is_counted),
        cmocka_unit_test(counts_up_to_a_power_of_two_are_exact),
        cmocka_unit_test(merging_equals_recording_all_in_one),
    };
    return cmocka_run_group_tests_name("histogram", tests, NULL, NULL);
}
