/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one parser of command lines, over the same table as config files.
 *
 * --name VALUE, --name=VALUE, -n VALUE; booleans --name or --name=no; lists by repetition; "--"
 * ends options; "-" is a positional argument. Underscores in a table's names are dashes on the
 * command line. --help and --version are always there.
 *
 *   int rc = options_parse(&put_command, argc, argv, &put, &args);
 *   if (rc != OPTIONS_RUN)
 *       return rc == OPTIONS_DONE ? 0 : 2;
 */
#ifndef BASE_OPTIONS_H
#define BASE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/value.h"

#define OPTIONS_MAX 64

struct option_spec {
    struct value_spec value;
    char short_name;        /* 'p', or 0 */
    const char *value_name; /* "POOL" in the usage; NULL: by type */
};

struct options_command {
    const char *name;      /* "shoal put" */
    const char *arguments; /* "POOL/NAME FILE|-", or "" */
    const char *summary;   /* one sentence */
    const char *example;   /* lines of commands, without indent */
    int min_arguments;
    int max_arguments; /* -1: any number */
    const struct option_spec *options;
    size_t option_count; /* at most OPTIONS_MAX */
};

struct options_arguments {
    int count;      /* positional arguments */
    char **values;  /* they lie at the front of argv */
    uint64_t given; /* bit i: option i was on the command line */
};

enum options_result {
    OPTIONS_RUN,   /* go on; options_free() when done with the target */
    OPTIONS_DONE,  /* help or version was printed: exit 0 */
    OPTIONS_USAGE, /* the mistake was explained on stderr: exit 2 */
};

/*
 * options_parse() - Defaults, then the command line.
 * @argv: argv[0] is the (sub)command's own name and is skipped; reordered in place.
 */
enum options_result options_parse(const struct options_command *command, int argc, char **argv,
                                  void *target, struct options_arguments *arguments) NODISCARD;

void options_free(const struct options_command *command, void *target);
void options_help(const struct options_command *command, FILE *out);

/* "shoal put: MESSAGE" and where to find help, to stderr; returns OPTIONS_USAGE. */
enum options_result options_usage_error(const struct options_command *command, const char *format,
                                        ...) PRINTF_LIKE(2, 3);

/* The index of an option by its table name, for options_arguments.given; CHECKs that it exists. */
size_t options_index(const struct options_command *command, const char *name);

#endif
