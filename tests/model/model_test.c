/* SPDX-License-Identifier: Apache-2.0 */
/* Many random operations on an engine beside its model, on good drives and on bad ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/macros.h"
#include "trial.h"

#define SEED 4711u
#define OPERATIONS_WANTED 2000000u

static uint64_t operations_in_all;

static void run(uint64_t device_bytes, uint64_t seed, unsigned rounds, unsigned round_operations,
                const struct dev_sim_faults *faults)
{
    if (getenv("SHOAL_TEST_LONG") != NULL)
        rounds *= 20;
    /* At most every operation prepares something; each round makes some of its own. */
    uint64_t versions = (uint64_t)rounds * (round_operations * TRIAL_LANES + 16);
    struct trial *trial = trial_create(device_bytes, seed, versions);

    trial->strict = faults == NULL;
    trial->rounds = rounds;
    trial->round_operations = round_operations;
    if (faults != NULL)
        trial->faults = *faults;
    trial_run(trial);
    if (trial->wrong[0] != '\0')
        printf("seed %" PRIu64 "\n", seed);
    operations_in_all += trial_end(trial);
}

static void the_engine_does_what_the_model_does(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++)
        run(16u << 20, SEED + i, 600, 120, NULL);
}

static void so_it_does_on_a_device_of_4_mib(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++)
        run(ENGINE_DEVICE_MIN, SEED + 100 + i, 300, 100, NULL);
}

static void run_faulty(uint64_t seed, const struct dev_sim_faults *faults)
{
    for (unsigned i = 0; i < 12; i++)
        run(i % 3 == 0 ? ENGINE_DEVICE_MIN : 16u << 20, seed + i, 20, 40, faults);
}

#define FAULT_TEST(name, seed, ...)                                                                \
    static void name(void **state)                                                                 \
    {                                                                                              \
        (void)state;                                                                               \
        run_faulty(SEED + (seed)*1000u, &(struct dev_sim_faults){__VA_ARGS__});                    \
    }

FAULT_TEST(a_bit_that_flips_while_reading_is_never_returned, 1, .rot_read_ppm = 20000)
FAULT_TEST(a_bit_that_flips_on_the_medium_is_never_returned, 2, .rot_rest_ppm = 5000)
FAULT_TEST(a_torn_write_is_never_returned, 3, .torn_ppm = 3000)
FAULT_TEST(a_misdirected_write_is_never_returned, 4, .misdirected_ppm = 3000)
FAULT_TEST(a_lost_write_is_never_returned, 5, .lost_ppm = 3000)
FAULT_TEST(failing_reads_are_told, 6, .read_error_ppm = 20000)
FAULT_TEST(failing_writes_are_told, 7, .write_error_ppm = 2000)
FAULT_TEST(failing_flushes_are_told, 8, .flush_error_ppm = 2000)
FAULT_TEST(a_full_medium_is_told, 9, .full_ppm = 5000)
FAULT_TEST(operations_that_take_long_change_nothing, 10, .stuck_ppm = 20000)
FAULT_TEST(all_faults_together_never_give_a_wrong_byte, 11, .rot_read_ppm = 2000,
           .rot_rest_ppm = 500, .torn_ppm = 500, .misdirected_ppm = 500, .lost_ppm = 500,
           .read_error_ppm = 2000, .write_error_ppm = 300, .flush_error_ppm = 300, .full_ppm = 300,
           .stuck_ppm = 1000)

static void millions_of_operations_were_compared(void **state)
{
    (void)state;
    printf("%" PRIu64 " operations went to the engine and to the model\n", operations_in_all);
    assert_true(operations_in_all >= OPERATIONS_WANTED);
}

static void discard(void *arg, enum log_level level, const char *line)
{
    (void)arg, (void)level, (void)line;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_engine_does_what_the_model_does),
        cmocka_unit_test(so_it_does_on_a_device_of_4_mib),
        cmocka_unit_test(a_bit_that_flips_while_reading_is_never_returned),
        cmocka_unit_test(a_bit_that_flips_on_the_medium_is_never_returned),
        cmocka_unit_test(a_torn_write_is_never_returned),
        cmocka_unit_test(a_misdirected_write_is_never_returned),
        cmocka_unit_test(a_lost_write_is_never_returned),
        cmocka_unit_test(failing_reads_are_told),
        cmocka_unit_test(failing_writes_are_told),
        cmocka_unit_test(failing_flushes_are_told),
        cmocka_unit_test(a_full_medium_is_told),
        cmocka_unit_test(operations_that_take_long_change_nothing),
        cmocka_unit_test(all_faults_together_never_give_a_wrong_byte),
        cmocka_unit_test(millions_of_operations_were_compared),
    };

    log_set_sink(discard, NULL); /* every injected fault is told */
    cmocka_set_test_filter(getenv("CASE"));
    return cmocka_run_group_tests_name("model", tests, NULL, NULL);
}
