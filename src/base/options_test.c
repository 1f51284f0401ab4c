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

#include "base/options.h"

struct put {
    char *config;
    uint64_t size;
    bool json;
    bool if_absent;
    struct value_list tags;
};

static const struct option_spec options[] = {
    {{"config", VALUE_STRING, offsetof(struct put, config), NULL, 0, 0, NULL, "Where it is."},
     'c',
     "FILE"},
    {{"size", VALUE_SIZE, offsetof(struct put, size), "64K", 1, 0, NULL, "How large."}, 's', NULL},
    {{"json", VALUE_BOOL, offsetof(struct put, json), NULL, 0, 0, NULL, "For machines."},
     'j',
     NULL},
    {{"if_absent", VALUE_BOOL, offsetof(struct put, if_absent), NULL, 0, 0, NULL, "Only new."},
     0,
     NULL},
    {{"tag", VALUE_LIST, offsetof(struct put, tags), NULL, 0, 0, NULL, "Words."}, 't', NULL},
};
static const struct options_command command = {
    .name = "shoal put",
    .arguments = "POOL/NAME FILE|-",
    .summary = "Stores a file.",
    .example = "shoal put kv/a file\nshoal put kv/b -",
    .min_arguments = 2,
    .max_arguments = 2,
    .options = options,
    .option_count = ARRAY_LEN(options),
};

static struct put put;
static struct options_arguments arguments;

/* What was printed goes into @said; the words are those after "put". */
static enum options_result parse_saying(char *said, size_t size, const char *const *words,
                                        int count)
{
    static char *argv[16]; /* arguments.values points into it */
    argv[0] = (char *)"put";
    for (int i = 0; i < count; i++)
        argv[i + 1] = (char *)words[i];
    FILE *file = tmpfile();
    fflush(stdout);
    fflush(stderr);
    int saved_out = dup(STDOUT_FILENO);
    int saved_err = dup(STDERR_FILENO);
    dup2(fileno(file), STDOUT_FILENO);
    dup2(fileno(file), STDERR_FILENO);
    enum options_result result = options_parse(&command, count + 1, argv, &put, &arguments);
    fflush(stdout);
    fflush(stderr);
    dup2(saved_out, STDOUT_FILENO);
    dup2(saved_err, STDERR_FILENO);
    close(saved_out);
    close(saved_err);
    rewind(file);
    size_t got = fread(said, 1, size - 1, file);
    said[got] = '\0';
    fclose(file);
    return result;
}

static char said[4096];

#define PARSE(...)                                                                                 \
    parse_saying(said, sizeof said, (const char *const[]){__VA_ARGS__},                            \
                 (int)ARRAY_LEN(((const char *const[]){__VA_ARGS__})))

static void defaults_hold_where_nothing_is_said(void **state)
{
    (void)state;
    assert_int_equal(PARSE("kv/a", "-"), OPTIONS_RUN);
    assert_null(put.config);
    assert_int_equal(put.size, 65536);
    assert_int_equal(arguments.count, 2);
    assert_string_equal(arguments.values[1], "-");
    assert_int_equal(arguments.given, 0);
    options_free(&command, &put);
}

static void options_stand_anywhere_and_in_each_form(void **state)
{
    (void)state;
    assert_int_equal(
        PARSE("--if-absent", "kv/a", "-s", "4K", "--config=x", "f", "-t", "a", "--tag", "b", "-j"),
        OPTIONS_RUN);
    assert_true(put.if_absent && put.json);
    assert_int_equal(put.size, 4096);
    assert_string_equal(put.config, "x");
    assert_int_equal(put.tags.count, 2);
    assert_string_equal(arguments.values[0], "kv/a");
    assert_string_equal(arguments.values[1], "f");
    assert_true((arguments.given >> options_index(&command, "size") & 1) != 0);
    options_free(&command, &put);

    assert_int_equal(PARSE("-js4K", "a", "b"), OPTIONS_RUN);
    assert_true(put.json);
    assert_int_equal(put.size, 4096);
    options_free(&command, &put);

    assert_int_equal(PARSE("--json=no", "--", "-a", "--b"), OPTIONS_RUN);
    assert_false(put.json);
    assert_string_equal(arguments.values[0], "-a");
    assert_string_equal(arguments.values[1], "--b");
    options_free(&command, &put);
}

static void a_mistake_says_what_and_where_to_look(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--color", "a", "b"), OPTIONS_USAGE);
    assert_string_equal(said, "shoal put: there is no option '--color'\n"
                              "Try 'shoal put --help'.\n");
    assert_int_equal(PARSE("-x", "a", "b"), OPTIONS_USAGE);
    assert_non_null(strstr(said, "there is no option '-x'"));
    assert_int_equal(PARSE("--size", "big", "a", "b"), OPTIONS_USAGE);
    assert_non_null(strstr(said, "--size is 'big', must be a size such as 64K or 1.5G"));
    assert_int_equal(PARSE("a", "b", "--config"), OPTIONS_USAGE);
    assert_non_null(strstr(said, "--config needs a value: --config FILE"));
    assert_int_equal(PARSE("-s", "1", "--size", "2", "a", "b"), OPTIONS_USAGE);
    assert_non_null(strstr(said, "--size is given twice"));
    assert_int_equal(PARSE("a"), OPTIONS_USAGE);
    assert_non_null(strstr(said, "too few arguments; expected: shoal put POOL/NAME FILE|-"));
    assert_int_equal(PARSE("a", "b", "c"), OPTIONS_USAGE);
    assert_non_null(strstr(said, "'c' is one argument too many"));
}

static void a_mistake_after_a_string_leaks_nothing(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--config", "x", "-t", "y", "--color"), OPTIONS_USAGE);
    assert_null(put.config);
}

static void help_shows_usage_options_and_example(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--help"), OPTIONS_DONE);
    assert_non_null(
        strstr(said, "Stores a file.\n\nUsage: shoal put [OPTIONS] POOL/NAME FILE|-\n"));
    assert_non_null(strstr(said, "  -c, --config FILE         Where it is.\n"));
    assert_non_null(strstr(said, "      --if-absent           Only new.\n"));
    assert_non_null(strstr(said, "How large. (default: 64K)\n"));
    assert_non_null(strstr(said, "Example:\n  shoal put kv/a file\n  shoal put kv/b -\n"));
    assert_int_equal(PARSE("-h"), OPTIONS_DONE);
}

static void version_is_one_line(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--version"), OPTIONS_DONE);
    assert_string_equal(said, "shoal " SHOAL_VERSION "\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_hold_where_nothing_is_said),
        cmocka_unit_test(options_stand_anywhere_and_in_each_form),
        cmocka_unit_test(a_mistake_says_what_and_where_to_look),
        cmocka_unit_test(a_mistake_after_a_string_leaks_nothing),
        cmocka_unit_test(help_shows_usage_options_and_example),
        cmocka_unit_test(version_is_one_line),
    };
    return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
