/* SPDX-License-Identifier: Apache-2.0 */
#include "base/options.h"

#include <stdarg.h>
#include <string.h>

#include "base/check.h"
#include "shoal/error.h"

#define HELP_COLUMN 28

enum options_result options_usage_error(const struct options_command *command, const char *format,
                                        ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s: ", command->name);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\nTry '%s --help'.\n", command->name);
    va_end(arguments);
    return OPTIONS_USAGE;
}

static void option_name(const struct option_spec *option, char *out, size_t size)
{
    snprintf(out, size, "%s", option->value.name);
    for (char *at = out; *at != '\0'; at++) {
        if (*at == '_')
            *at = '-';
    }
}

static const char *value_name(const struct option_spec *option)
{
    static const char *const names[] = {
        [VALUE_STRING] = "TEXT", [VALUE_U64] = "N",         [VALUE_BOOL] = "",
        [VALUE_SIZE] = "SIZE",   [VALUE_DURATION] = "TIME", [VALUE_LIST] = "TEXT"};
    return option->value_name != NULL ? option->value_name : names[option->value.type];
}

static void help_option(const struct option_spec *option, FILE *out)
{
    char name[64];
    char left[128];
    option_name(option, name, sizeof name);
    const char *value = value_name(option);
    char letter[8] = "    ";
    if (option->short_name != 0)
        snprintf(letter, sizeof letter, "-%c, ", option->short_name);
    snprintf(left, sizeof left, "  %s--%s%s%s", letter, name, value[0] != '\0' ? " " : "", value);
    fprintf(out, "%-*s", HELP_COLUMN, left);
    if (strlen(left) >= HELP_COLUMN)
        fprintf(out, "\n%*s", HELP_COLUMN, "");
    fprintf(out, "%s", option->value.help);
    if (option->value.choices != NULL)
        fprintf(out, " [%s]", option->value.choices);
    if (option->value.default_text != NULL && option->value.type != VALUE_BOOL)
        fprintf(out, " (default: %s)", option->value.default_text);
    fputc('\n', out);
}

void options_help(const struct options_command *command, FILE *out)
{
    const char *space = command->arguments[0] != '\0' ? " " : "";
    fprintf(out, "%s\n\nUsage: %s [OPTIONS]%s%s\n\nOptions:\n", command->summary, command->name,
            space, command->arguments);
    for (size_t i = 0; i < command->option_count; i++)
        help_option(&command->options[i], out);
    fprintf(out, "%-*s%s\n", HELP_COLUMN, "  -h, --help", "Show this text.");
    fprintf(out, "%-*s%s\n", HELP_COLUMN, "      --version", "Show the version.");
    if (command->example == NULL)
        return;
    fputs("\nExample:\n", out);
    for (const char *at = command->example; *at != '\0';) {
        size_t length = strcspn(at, "\n");
        fprintf(out, "  %.*s\n", (int)length, at);
        at += length + (at[length] == '\n');
    }
}

size_t options_index(const struct options_command *command, const char *name)
{
    size_t index = 0;
    while (index < command->option_count && strcmp(command->options[index].value.name, name) != 0)
        index++;
    CHECK_MSG(index < command->option_count, "no option '%s'", name);
    return index;
}

struct parse {
    const struct options_command *command;
    void *target;
    struct options_arguments *arguments;
    int argc;
    char **argv;
    int next; /* the next word of argv */
};

/* Name of an option as typed: dashes and underscores are one. */
static bool same_name(const char *name, const char *typed, size_t length)
{
    if (strlen(name) != length)
        return false;
    for (size_t i = 0; i < length; i++) {
        char byte = typed[i] == '-' ? '_' : typed[i];
        if (byte != name[i])
            return false;
    }
    return true;
}

static const struct option_spec *find_long(const struct options_command *command, const char *typed,
                                           size_t length)
{
    for (size_t i = 0; i < command->option_count; i++) {
        if (same_name(command->options[i].value.name, typed, length))
            return &command->options[i];
    }
    return NULL;
}

static const struct option_spec *find_short(const struct options_command *command, char letter)
{
    for (size_t i = 0; i < command->option_count; i++) {
        if (command->options[i].short_name == letter)
            return &command->options[i];
    }
    return NULL;
}

/* @inline_value: what stands behind "=" or the short letter, or NULL. */
static enum options_result set_option(struct parse *parse, const struct option_spec *option,
                                      const char *inline_value)
{
    const char *text = inline_value;
    char name[64];
    option_name(option, name, sizeof name);
    if (text == NULL && option->value.type == VALUE_BOOL)
        text = "true";
    if (text == NULL) {
        if (parse->next >= parse->argc)
            return options_usage_error(parse->command, "--%s needs a value: --%s %s", name, name,
                                       value_name(option));
        text = parse->argv[parse->next++];
    }
    size_t index = (size_t)(option - parse->command->options);
    uint64_t bit = UINT64_C(1) << index;
    if ((parse->arguments->given & bit) != 0 && option->value.type != VALUE_LIST)
        return options_usage_error(parse->command, "--%s is given twice", name);
    parse->arguments->given |= bit;
    char allowed[192];
    struct value_error error;
    int rc = value_set(&option->value, parse->target, text, &error);
    if (rc == SHOAL_E_CONFIG)
        return options_usage_error(parse->command, "--%s is '%s', must be %s", name, text,
                                   value_describe(&option->value, allowed, sizeof allowed));
    if (rc != 0)
        return options_usage_error(parse->command, "%s", shoal_error_text(rc));
    return OPTIONS_RUN;
}

static enum options_result take_long(struct parse *parse, const char *word)
{
    const char *typed = word + 2;
    size_t length = strcspn(typed, "=");
    if (strcmp(typed, "help") == 0) {
        options_help(parse->command, stdout);
        return OPTIONS_DONE;
    }
    if (strcmp(typed, "version") == 0) {
        printf("shoal %s\n", SHOAL_VERSION);
        return OPTIONS_DONE;
    }
    const struct option_spec *option = find_long(parse->command, typed, length);
    if (option == NULL)
        return options_usage_error(parse->command, "there is no option '--%.*s'", (int)length,
                                   typed);
    return set_option(parse, option, typed[length] == '=' ? typed + length + 1 : NULL);
}

/* -v, -vq for booleans together, -nVALUE or -n VALUE. */
static enum options_result take_short(struct parse *parse, const char *word)
{
    for (const char *at = word + 1; *at != '\0'; at++) {
        const struct option_spec *option = find_short(parse->command, *at);
        if (option == NULL && *at == 'h') {
            options_help(parse->command, stdout);
            return OPTIONS_DONE;
        }
        if (option == NULL)
            return options_usage_error(parse->command, "there is no option '-%c'", *at);
        bool flag = option->value.type == VALUE_BOOL;
        enum options_result result =
            set_option(parse, option, flag || at[1] == '\0' ? NULL : at + 1);
        if (!flag || result != OPTIONS_RUN)
            return result;
    }
    return OPTIONS_RUN;
}

static enum options_result take_words(struct parse *parse)
{
    struct options_arguments *arguments = parse->arguments;
    bool options_ended = false;
    while (parse->next < parse->argc) {
        char *word = parse->argv[parse->next++];
        enum options_result result = OPTIONS_RUN;
        if (options_ended || word[0] != '-' || word[1] == '\0')
            arguments->values[arguments->count++] = word; /* never ahead of the reader */
        else if (strcmp(word, "--") == 0)
            options_ended = true;
        else if (word[1] == '-')
            result = take_long(parse, word);
        else
            result = take_short(parse, word);
        if (result != OPTIONS_RUN)
            return result;
    }
    return OPTIONS_RUN;
}

static enum options_result check_count(const struct options_command *command,
                                       const struct options_arguments *arguments)
{
    if (arguments->count < command->min_arguments)
        return options_usage_error(command, "too few arguments; expected: %s %s", command->name,
                                   command->arguments);
    if (command->max_arguments >= 0 && arguments->count > command->max_arguments)
        return options_usage_error(command, "'%s' is one argument too many; expected: %s%s%s",
                                   arguments->values[command->max_arguments], command->name,
                                   command->arguments[0] != '\0' ? " " : "", command->arguments);
    return OPTIONS_RUN;
}

enum options_result options_parse(const struct options_command *command, int argc, char **argv,
                                  void *target, struct options_arguments *arguments)
{
    CHECK(command->option_count <= OPTIONS_MAX && argc > 0);
    *arguments = (struct options_arguments){.values = argv + 1};
    for (size_t i = 0; i < command->option_count; i++) {
        if (value_set_defaults(&command->options[i].value, 1, target) != 0)
            return options_usage_error(command, "%s", shoal_error_text(SHOAL_E_NO_MEMORY));
    }
    struct parse parse = {
        .command = command,
        .target = target,
        .arguments = arguments,
        .argc = argc,
        .argv = argv,
        .next = 1,
    };
    enum options_result result = take_words(&parse);
    if (result == OPTIONS_RUN)
        result = check_count(command, arguments);
    if (result != OPTIONS_RUN)
        options_free(command, target);
    return result;
}

void options_free(const struct options_command *command, void *target)
{
    for (size_t i = 0; i < command->option_count; i++)
        value_free(&command->options[i].value, 1, target);
}
