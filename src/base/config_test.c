/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/config.h"
#include "base/file.h"
#include "shoal/error.h"

struct settings {
    char *name;
    uint64_t cache_size;
    uint64_t wait;
    char *ca;
    bool tls;
    struct value_list devices;
};

static const struct value_spec specs[] = {
    {"name", VALUE_STRING, offsetof(struct settings, name), "node", 1, 16, NULL, "Its name."},
    {"cache_size", VALUE_SIZE, offsetof(struct settings, cache_size), "64M", 4096, 0, NULL,
     "Memory for blobs."},
    {"wait", VALUE_DURATION, offsetof(struct settings, wait), "5s", 0, 0, NULL, "Patience."},
    {"tls.ca", VALUE_STRING, offsetof(struct settings, ca), NULL, 0, 0, NULL, "Who we trust."},
    {"tls.on", VALUE_BOOL, offsetof(struct settings, tls), "yes", 0, 0, NULL, "Whether we do."},
    {"devices", VALUE_LIST, offsetof(struct settings, devices), NULL, 0, 3, NULL, "Drives."},
};
static const struct config_table table = {"node.yaml", specs, ARRAY_LEN(specs)};

static struct settings settings;
static struct value_error error;

static int parse(const char *text)
{
    return config_parse(&table, &settings, "node.yaml", text, strlen(text), &error);
}

static void refused(const char *text, const char *message)
{
    assert_int_equal(parse(text), SHOAL_E_CONFIG);
    assert_string_equal(error.text, message);
}

static void an_empty_file_is_all_defaults(void **state)
{
    (void)state;
    assert_int_equal(parse(""), 0);
    assert_string_equal(settings.name, "node");
    assert_int_equal(settings.cache_size, 64 << 20);
    assert_null(settings.ca);
    assert_true(settings.tls);
    config_free(&table, &settings);
}

static void every_kind_of_entry_is_read(void **state)
{
    (void)state;
    assert_int_equal(parse("# comment\n"
                           "name: a\n"
                           "cache_size: 1.5G\n"
                           "wait: 10ms\n"
                           "tls:\n"
                           "  ca: /etc/ca.pem\n"
                           "  on: no\n"
                           "devices: [/dev/a, '/dev/b']\n"),
                     0);
    assert_string_equal(settings.name, "a");
    assert_int_equal(settings.cache_size, UINT64_C(3) << 29);
    assert_int_equal(settings.wait, 10000000);
    assert_string_equal(settings.ca, "/etc/ca.pem");
    assert_false(settings.tls);
    assert_int_equal(settings.devices.count, 2);
    assert_string_equal(settings.devices.items[1], "/dev/b");
    config_free(&table, &settings);
}

static void a_mistake_is_named_with_file_and_line(void **state)
{
    (void)state;
    refused("name: a\ncache_size: 3\n",
            "node.yaml:2: 'cache_size' is '3', must be a size such as 64K or 1.5G, at least 4K");
    refused("\n\ncache: 3\n", "node.yaml:3: no entry is called 'cache'; there are: name, "
                              "cache_size, wait, tls.ca, tls.on, devices");
    refused("tls:\n  co: 1\n", "node.yaml:2: no entry is called 'tls.co'; there are: name, "
                               "cache_size, wait, tls.ca, tls.on, devices");
    refused("name: a\nname: b\n", "node.yaml:2: 'name' is given twice");
    refused("name: [a]\n", "node.yaml:1: 'name' must be one plain value");
    refused("devices: a\n", "node.yaml:1: 'devices' must be a list");
    refused("devices: [[a]]\n", "node.yaml:1: 'devices' must be a list of plain values");
    refused("- a\n", "node.yaml:1: expected lines of the form 'name: value'");
    refused("name: \"a\\0b\"\n", "node.yaml:1: 'name' contains a zero byte");
}

static void what_is_not_yaml_is_refused_with_its_line(void **state)
{
    (void)state;
    assert_int_equal(parse("name: a\nwait: [\n"), SHOAL_E_CONFIG);
    assert_non_null(strstr(error.text, "node.yaml:"));
    assert_int_equal(parse("a: &x {b: *x}\n"), SHOAL_E_CONFIG);
}

static void a_list_is_bounded(void **state)
{
    (void)state;
    assert_int_equal(parse("devices: [a, b, c, d]\n"), SHOAL_E_CONFIG);
    assert_non_null(strstr(error.text, "'devices'"));
}

static void what_is_written_loads_again(void **state)
{
    (void)state;
    assert_int_equal(parse("name: 'a \"b\\'\ntls: {ca: x, on: no}\ndevices: [d1, 'd: 2']\n"), 0);
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    config_write(&table, &settings, out);
    fclose(out);
    config_free(&table, &settings);
    assert_string_equal(text, "name: \"a \\\"b\\\\\"\n"
                              "tls:\n  ca: \"x\"\n  on: false\n"
                              "devices:\n    - \"d1\"\n    - \"d: 2\"\n");
    assert_int_equal(parse(text), 0);
    assert_string_equal(settings.name, "a \"b\\");
    assert_string_equal(settings.devices.items[1], "d: 2");
    config_free(&table, &settings);
    free(text);
}

static void the_reference_is_a_configuration_of_defaults(void **state)
{
    (void)state;
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    config_reference(&table, out);
    fclose(out);
    assert_non_null(strstr(text, "# Memory for blobs.\n"));
    assert_non_null(strstr(text, "cache_size: 64M\n"));
    assert_int_equal(parse(text), 0);
    assert_int_equal(settings.cache_size, 64 << 20);
    config_free(&table, &settings);
    free(text);
}

static void what_has_no_default_must_be_given(void **state)
{
    static const struct value_spec needed[] = {
        {"name", VALUE_STRING, offsetof(struct settings, name), NULL, 1, 16, NULL, "Its name."},
        {"tls.ca", VALUE_STRING, offsetof(struct settings, ca), NULL, 0, 0, NULL, "Who we trust."},
        {"devices", VALUE_LIST, offsetof(struct settings, devices), NULL, 1, 3, NULL, "Drives."},
    };
    static const struct config_table strict = {"node.yaml", needed, ARRAY_LEN(needed)};
    static const char *const texts[][2] = {
        {"devices: [a]", "f: 'name' is missing"},
        {"name: x", "f: 'devices' is missing"},
        {"name: x\ndevices: [a]", ""},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        int rc = config_parse(&strict, &settings, "f", texts[i][0], strlen(texts[i][0]), &error);
        assert_int_equal(rc, texts[i][1][0] == 0 ? 0 : SHOAL_E_CONFIG);
        assert_string_equal(error.text, texts[i][1]);
        if (rc == 0)
            config_free(&strict, &settings);
    }
}

static void a_file_is_loaded_and_a_missing_one_is_named(void **state)
{
    (void)state;
    char path[] = "/tmp/shoal-config-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(file_write_atomic(path, "name: x\n", 8, 0600), 0);
    assert_int_equal(config_load(&table, &settings, path, &error), 0);
    assert_string_equal(settings.name, "x");
    config_free(&table, &settings);
    unlink(path);
    assert_int_equal(config_load(&table, &settings, path, &error), SHOAL_E_NOT_FOUND);
    assert_non_null(strstr(error.text, path));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_file_is_all_defaults),
        cmocka_unit_test(every_kind_of_entry_is_read),
        cmocka_unit_test(a_mistake_is_named_with_file_and_line),
        cmocka_unit_test(what_is_not_yaml_is_refused_with_its_line),
        cmocka_unit_test(a_list_is_bounded),
        cmocka_unit_test(what_is_written_loads_again),
        cmocka_unit_test(the_reference_is_a_configuration_of_defaults),
        cmocka_unit_test(what_has_no_default_must_be_given),
        cmocka_unit_test(a_file_is_loaded_and_a_missing_one_is_named),
    };
    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
