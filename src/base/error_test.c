/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shoal/error.h"

static void each_error_has_a_name_and_a_text(void **state)
{
    (void)state;
#define EXPECT(name, number, text)                                                                 \
    assert_int_equal(SHOAL_E_##name, -(number));                                                   \
    assert_string_equal(shoal_error_name(SHOAL_E_##name), #name);                                  \
    assert_string_equal(shoal_error_text(SHOAL_E_##name), text);
    SHOAL_ERRORS(EXPECT)
#undef EXPECT
}

static void a_foreign_number_is_named_unknown(void **state)
{
    (void)state;
    assert_string_equal(shoal_error_name(-9999), "UNKNOWN");
    assert_string_equal(shoal_error_name(5), "UNKNOWN");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_error_has_a_name_and_a_text),
        cmocka_unit_test(a_foreign_number_is_named_unknown),
    };
    return cmocka_run_group_tests_name("error", tests, NULL, NULL);
}
