/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/metrics.h"
#include "shoal/error.h"

static char *render(struct metrics *metrics)
{
    char *text = NULL;
    size_t length = 0;
    assert_int_equal(metrics_render(metrics, &text, &length), 0);
    assert_int_equal(strlen(text), length);
    return text;
}

static void a_family_is_described_once_and_lists_its_labels(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_create();
    struct counter *first =
        metric_counter(metrics, "shoal_engine_puts_total", "Puts taken.", "target=\"1\"");
    struct gauge *depth = metric_gauge(metrics, "shoal_depth", "Queue depth.", NULL);
    struct counter *second =
        metric_counter(metrics, "shoal_engine_puts_total", "Puts taken.", "target=\"2\"");
    counter_add(first, 3);
    counter_add(second, 4);
    counter_add(second, 1);
    gauge_set(depth, 2.5);
    char *text = render(metrics);
    assert_string_equal(text, "# HELP shoal_engine_puts_total Puts taken.\n"
                              "# TYPE shoal_engine_puts_total counter\n"
                              "shoal_engine_puts_total{target=\"1\"} 3\n"
                              "shoal_engine_puts_total{target=\"2\"} 5\n"
                              "# HELP shoal_depth Queue depth.\n"
                              "# TYPE shoal_depth gauge\n"
                              "shoal_depth 2.5\n");
    free(text);
    metrics_destroy(metrics);
}

static void the_same_name_and_labels_are_the_same_metric(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_create();
    struct counter *one = metric_counter(metrics, "a_total", "A.", "x=\"1\"");
    assert_ptr_equal(metric_counter(metrics, "a_total", "A.", "x=\"1\""), one);
    assert_ptr_not_equal(metric_counter(metrics, "a_total", "A.", "x=\"2\""), one);
    metrics_destroy(metrics);
}

static void a_latency_is_shown_in_seconds_with_cumulative_buckets(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_create();
    struct histogram *latency =
        metric_histogram(metrics, "shoal_get_seconds", "Gets.", "op=\"get\"");
    histogram_record(latency, 1024);
    histogram_record(latency, 1025);
    histogram_record(latency, UINT64_C(100000000000));
    char *text = render(metrics);
    assert_non_null(strstr(text, "shoal_get_seconds_bucket{op=\"get\",le=\"1.024e-06\"} 1\n"));
    assert_non_null(strstr(text, "shoal_get_seconds_bucket{op=\"get\",le=\"2.048e-06\"} 2\n"));
    assert_non_null(strstr(text, "shoal_get_seconds_bucket{op=\"get\",le=\"+Inf\"} 3\n"));
    assert_non_null(strstr(text, "shoal_get_seconds_count{op=\"get\"} 3\n"));
    assert_non_null(strstr(text, "shoal_get_seconds_sum{op=\"get\"} 100.000002"));
    free(text);
    metrics_destroy(metrics);
}

static void a_label_from_outside_is_escaped(void **state)
{
    (void)state;
    char label[64];
    assert_int_equal(metrics_label(label, sizeof label, "pool", "a\"b\\c\nd"),
                     (int)strlen("pool=\"a\\\"b\\\\c\\nd\""));
    assert_string_equal(label, "pool=\"a\\\"b\\\\c\\nd\"");
    for (size_t size = 1; size < 18; size++)
        assert_int_equal(metrics_label(label, size, "pool", "a\"b\\c\nd"), SHOAL_E_TOO_LARGE);
}

static void *count_up(void *arg)
{
    struct metrics *metrics = arg;
    struct counter *counter = metric_counter(metrics, "up_total", "Up.", NULL);
    struct histogram *histogram = metric_histogram(metrics, "up_bytes", "Up.", NULL);
    for (int i = 0; i < 20000; i++) {
        counter_add(counter, 1);
        histogram_record(histogram, (uint64_t)i);
    }
    return NULL;
}

static void rendering_beside_a_writer_is_safe_and_loses_nothing(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_create();
    pthread_t writer;
    assert_int_equal(pthread_create(&writer, NULL, count_up, metrics), 0);
    for (int i = 0; i < 50; i++)
        free(render(metrics));
    pthread_join(writer, NULL);
    assert_int_equal(counter_get(metric_counter(metrics, "up_total", "Up.", NULL)), 20000);
    metrics_destroy(metrics);
}

static void promtool_accepts_the_text(void **state)
{
    (void)state;
    if (access("/usr/bin/promtool", X_OK) != 0) {
        print_message("promtool is not installed\n");
        skip();
    }
    struct metrics *metrics = metrics_create();
    counter_add(metric_counter(metrics, "shoal_puts_total", "Puts: \"a\\b\"\nand more.", NULL), 7);
    gauge_set(metric_gauge(metrics, "shoal_used_bytes", "Used.", "target=\"0\""), 1e18);
    histogram_record(metric_histogram(metrics, "shoal_get_seconds", "Gets.", "op=\"a\""), 5000);
    histogram_record(metric_histogram(metrics, "shoal_get_seconds", "Gets.", "op=\"b\""), 5000);
    histogram_record(metric_histogram(metrics, "shoal_get_bytes", "Sizes.", NULL), 5000);
    char *text = render(metrics);
    FILE *promtool = popen("/usr/bin/promtool check metrics >&2", "w");
    assert_non_null(promtool);
    fputs(text, promtool);
    assert_int_equal(pclose(promtool), 0);
    free(text);
    metrics_destroy(metrics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_family_is_described_once_and_lists_its_labels),
        cmocka_unit_test(the_same_name_and_labels_are_the_same_metric),
        cmocka_unit_test(a_latency_is_shown_in_seconds_with_cumulative_buckets),
        cmocka_unit_test(a_label_from_outside_is_escaped),
        cmocka_unit_test(rendering_beside_a_writer_is_safe_and_loses_nothing),
        cmocka_unit_test(promtool_accepts_the_text),
    };
    return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
