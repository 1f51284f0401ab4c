/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <string.h>

#include "base/bitmap.h"
#include "base/random.h"

#define BITS 517

static bool truth[BITS];

static void bits_are_set_and_cleared_one_by_one(void **state)
{
    (void)state;
    struct bitmap bitmap;
    assert_int_equal(bitmap_alloc(&bitmap, 130), 0);
    bitmap_set(&bitmap, 0);
    bitmap_set(&bitmap, 63);
    bitmap_set(&bitmap, 64);
    bitmap_set(&bitmap, 129);
    assert_true(bitmap_test(&bitmap, 129));
    assert_false(bitmap_test(&bitmap, 128));
    assert_int_equal(bitmap_count(&bitmap), 4);
    bitmap_clear(&bitmap, 64);
    assert_int_equal(bitmap_find_set(&bitmap, 64), 129);
    assert_int_equal(bitmap_find_set(&bitmap, 130), BITMAP_NONE);
    bitmap_free(&bitmap);
}

static void a_full_bitmap_has_nothing_clear_and_its_tail_stays_clear(void **state)
{
    (void)state;
    struct bitmap bitmap;
    assert_int_equal(bitmap_alloc(&bitmap, 70), 0);
    bitmap_set_range(&bitmap, 0, 70);
    assert_int_equal(bitmap_find_clear(&bitmap, 0), BITMAP_NONE);
    assert_int_equal(bitmap.words[1], 63);
    assert_int_equal(bitmap_find_clear_run(&bitmap, 0, 1), BITMAP_NONE);
    bitmap_free(&bitmap);
}

static void an_empty_bitmap_holds_nothing(void **state)
{
    (void)state;
    struct bitmap bitmap;
    assert_int_equal(bitmap_alloc(&bitmap, 0), 0);
    assert_int_equal(bitmap_find_clear(&bitmap, 0), BITMAP_NONE);
    assert_int_equal(bitmap_count(&bitmap), 0);
    bitmap_free(&bitmap);
}

static uint64_t slow_find(uint64_t from, uint64_t run, bool wanted)
{
    for (uint64_t start = from; start + run <= BITS; start++) {
        uint64_t length = 0;
        while (length < run && truth[start + length] == wanted)
            length++;
        if (length == run)
            return start;
    }
    return BITMAP_NONE;
}

static void a_random_history_agrees_with_an_array(void **state)
{
    (void)state;
    struct bitmap bitmap;
    struct prng prng;
    prng_seed(&prng, 5);
    memset(truth, 0, sizeof truth);
    assert_int_equal(bitmap_alloc(&bitmap, BITS), 0);
    for (int step = 0; step < 20000; step++) {
        uint64_t first = prng_below(&prng, BITS + 1);
        uint64_t count = prng_below(&prng, MIN(BITS - first, UINT64_C(140)) + 1);
        bool value = prng_chance(&prng, 1, 2);
        if (value)
            bitmap_set_range(&bitmap, first, count);
        else
            bitmap_clear_range(&bitmap, first, count);
        for (uint64_t i = first; i < first + count; i++)
            truth[i] = value;

        uint64_t from = prng_below(&prng, BITS);
        uint64_t run = prng_between(&prng, 1, 150);
        assert_int_equal(bitmap_find_set(&bitmap, from), slow_find(from, 1, true));
        assert_int_equal(bitmap_find_clear(&bitmap, from), slow_find(from, 1, false));
        assert_int_equal(bitmap_find_clear_run(&bitmap, from, run), slow_find(from, run, false));
        uint64_t set = 0;
        for (uint64_t i = first; i < first + count; i++)
            set += truth[i];
        assert_int_equal(bitmap_count_range(&bitmap, first, count), set);
    }
    bitmap_free(&bitmap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_are_set_and_cleared_one_by_one),
        cmocka_unit_test(a_full_bitmap_has_nothing_clear_and_its_tail_stays_clear),
        cmocka_unit_test(an_empty_bitmap_holds_nothing),
        cmocka_unit_test(a_random_history_agrees_with_an_array),
    };
    return cmocka_run_group_tests_name("bitmap", tests, NULL, NULL);
}
