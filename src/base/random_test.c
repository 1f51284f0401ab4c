/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/random.h"

static void one_seed_gives_one_sequence(void **state)
{
    (void)state;
    struct prng a, b, c;
    prng_seed(&a, 42);
    prng_seed(&b, 42);
    prng_seed(&c, 43);
    int same = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t value = prng_next(&a);
        assert_int_equal(value, prng_next(&b));
        same += value == prng_next(&c);
    }
    assert_int_equal(same, 0);
}

static void the_sequence_of_a_seed_never_changes(void **state)
{
    (void)state;
    /* Seeds of failures are kept as regression tests; they are worth nothing otherwise. */
    struct prng prng;
    prng_seed(&prng, 0);
    assert_int_equal(prng_next(&prng), UINT64_C(0x99ec5f36cb75f2b4));
    assert_int_equal(prng_next(&prng), UINT64_C(0xbf6e1f784956452a));
}

static void below_stays_below_and_reaches_all(void **state)
{
    (void)state;
    struct prng prng;
    prng_seed(&prng, 1);
    int seen[7] = {0};
    for (int i = 0; i < 70000; i++)
        seen[prng_below(&prng, 7)]++;
    for (int i = 0; i < 7; i++)
        assert_in_range(seen[i], 9500, 10500);
    assert_int_equal(prng_below(&prng, 1), 0);
}

static void between_includes_both_ends(void **state)
{
    (void)state;
    struct prng prng;
    prng_seed(&prng, 2);
    int low = 0;
    int high = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t value = prng_between(&prng, 10, 12);
        assert_in_range(value, 10, 12);
        low += value == 10;
        high += value == 12;
    }
    assert_true(low > 250 && high > 250);
    assert_int_equal(prng_between(&prng, 5, 5), 5);
    (void)prng_between(&prng, 0, UINT64_MAX);
}

static void chance_is_about_right_and_certain_at_the_ends(void **state)
{
    (void)state;
    struct prng prng;
    prng_seed(&prng, 3);
    int hits = 0;
    for (int i = 0; i < 10000; i++) {
        hits += prng_chance(&prng, 1, 4);
        assert_false(prng_chance(&prng, 0, 4));
        assert_true(prng_chance(&prng, 4, 4));
    }
    assert_in_range(hits, 2300, 2700);
}

static void bytes_fill_exactly_their_length(void **state)
{
    (void)state;
    struct prng prng;
    for (size_t length = 0; length < 40; length++) {
        uint8_t bytes[41];
        memset(bytes, 0xaa, sizeof bytes);
        prng_seed(&prng, length);
        prng_bytes(&prng, bytes, length);
        for (size_t i = length; i < sizeof bytes; i++)
            assert_int_equal(bytes[i], 0xaa);
    }
}

static void the_system_gives_different_bytes_each_time(void **state)
{
    (void)state;
    uint8_t a[1000] = {0};
    uint8_t b[1000] = {0};
    random_os_bytes(a, sizeof a);
    random_os_bytes(b, sizeof b);
    assert_memory_not_equal(a, b, sizeof a);
    assert_int_not_equal(random_os_u64(), random_os_u64());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_seed_gives_one_sequence),
        cmocka_unit_test(the_sequence_of_a_seed_never_changes),
        cmocka_unit_test(below_stays_below_and_reaches_all),
        cmocka_unit_test(between_includes_both_ends),
        cmocka_unit_test(chance_is_about_right_and_certain_at_the_ends),
        cmocka_unit_test(bytes_fill_exactly_their_length),
        cmocka_unit_test(the_system_gives_different_bytes_each_time),
    };
    return cmocka_run_group_tests_name("random", tests, NULL, NULL);
}
