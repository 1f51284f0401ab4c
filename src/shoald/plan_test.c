/* SPDX-License-Identifier: Apache-2.0 */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "shoald/shoald.h"

static unsigned cores;

static int plan(unsigned devices, unsigned reactors, const char *cpus, struct shoald_plan *out)
{
    struct value_error why;
    char text[256];
    struct shoald_config config = {.devices.count = devices, .reactors = reactors,
                                   .spin_ns = 1000, .cpus = strcpy(text, cpus)};
    return shoald_plan(&config, out, &why);
}

static int prepare(void **state)
{
    cpu_set_t usable;
    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof usable, &usable), 0);
    cores = (unsigned)CPU_COUNT(&usable);
    return 0;
}

static void there_are_as_many_reactors_as_devices_and_no_more_than_cores(void **state)
{
    struct shoald_plan out;
    (void)state;
    assert_int_equal(plan(1, 0, "", &out), 0);
    assert_int_equal(out.workers, 1);
    assert_int_equal(plan(32, 0, "", &out), 0);
    assert_int_equal(out.workers, MIN(cores, 32));
    assert_int_equal(plan(4, 9, "", &out), 0);
    assert_int_equal(out.workers, 4);
    assert_int_equal(out.cpus[3], -1);
}

static void more_reactors_than_cores_neither_spin_nor_are_pinned(void **state)
{
    struct shoald_plan out;
    (void)state;
    if (cores >= NODE_TARGETS_MAX) {
        print_message("this machine has too many cores to have fewer than reactors\n");
        skip();
    }
    assert_int_equal(plan(NODE_TARGETS_MAX, cores + 1, "0-31", &out), 0);
    assert_int_equal(out.workers, cores + 1);
    assert_int_equal(out.spin_ns, 0);
    assert_int_equal(out.cpus[0], -1);
    assert_int_equal(plan(cores, 0, "", &out), 0);
    assert_int_equal(out.spin_ns, 1000);
}

static void each_reactor_has_a_cpu_of_the_list(void **state)
{
    struct shoald_plan out;
    cpu_set_t usable;
    unsigned cpu = 0;
    char text[32];
    (void)state;
    sched_getaffinity(0, sizeof usable, &usable);
    while (!CPU_ISSET(cpu, &usable))
        cpu++;
    snprintf(text, sizeof text, "%u", cpu);
    assert_int_equal(plan(1, 0, text, &out), 0);
    assert_int_equal(out.cpus[0], cpu);
    assert_int_equal(plan(1, 0, "1023", &out), 0);
    assert_int_equal(out.cpus[0], -1);
}

static void what_is_no_list_is_refused(void **state)
{
    static const char *const lists[] = {"x", "1,", ",1", "3-1", "1-", "-1", "1 2", "1024", "1--2"};
    struct shoald_plan out;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        assert_int_equal(plan(2, 2, lists[i], &out), SHOAL_E_CONFIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_are_as_many_reactors_as_devices_and_no_more_than_cores),
        cmocka_unit_test(more_reactors_than_cores_neither_spin_nor_are_pinned),
        cmocka_unit_test(each_reactor_has_a_cpu_of_the_list),
        cmocka_unit_test(what_is_no_list_is_refused),
    };
    return cmocka_run_group_tests_name("plan", tests, prepare, NULL);
}
