/* SPDX-License-Identifier: Apache-2.0 */
#include "base/config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/bitmap.h"
#include "base/check.h"
#include "base/file.h"
#include "shoal/error.h"

#define NAME_MAX_BYTES 128
#define DEPTH_MAX 4

struct reader {
    const struct config_table *table;
    void *target;
    const char *file;
    struct value_error *error;
    yaml_document_t document;
    struct bitmap seen; /* entries met so far */
};

static int fail(struct reader *reader, yaml_mark_t mark, const char *format, ...) PRINTF_LIKE(3, 4);

static int fail(struct reader *reader, yaml_mark_t mark, const char *format, ...)
{
    char message[sizeof reader->error->text];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    snprintf(reader->error->text, sizeof reader->error->text, "%.150s:%zu: %.340s", reader->file,
             mark.line + 1, message);
    return SHOAL_E_CONFIG;
}

static const struct value_spec *find_spec(const struct config_table *table, const char *name)
{
    for (size_t i = 0; i < table->count; i++) {
        if (strcmp(table->specs[i].name, name) == 0)
            return &table->specs[i];
    }
    return NULL;
}

static int set_scalar(struct reader *reader, const struct value_spec *spec, const yaml_node_t *node)
{
    const char *text = (const char *)node->data.scalar.value;
    if (strlen(text) != node->data.scalar.length)
        return fail(reader, node->start_mark, "'%s' contains a zero byte", spec->name);
    struct value_error error;
    int rc = value_set(spec, reader->target, text, &error);
    return rc == SHOAL_E_CONFIG ? fail(reader, node->start_mark, "%s", error.text) : rc;
}

static int set_list(struct reader *reader, const struct value_spec *spec, const yaml_node_t *node)
{
    struct value_spec alone = *spec;
    /* What the file lists replaces the default. */
    value_free(&alone, 1, reader->target);
    size_t count = 0;
    for (yaml_node_item_t *item = node->data.sequence.items.start;
         item < node->data.sequence.items.top; item++, count++) {
        const yaml_node_t *value = yaml_document_get_node(&reader->document, *item);
        if (value == NULL || value->type != YAML_SCALAR_NODE)
            return fail(reader, node->start_mark, "'%s' must be a list of plain values",
                        spec->name);
        int rc = set_scalar(reader, spec, value);
        if (rc != 0)
            return rc;
    }
    char allowed[192];
    if (count < spec->min)
        return fail(reader, node->start_mark, "'%s' has %zu items, must be %s", spec->name, count,
                    value_describe(spec, allowed, sizeof allowed));
    return 0;
}

static int set_entry(struct reader *reader, const struct value_spec *spec, const yaml_node_t *key,
                     const yaml_node_t *value)
{
    uint64_t index = (uint64_t)(spec - reader->table->specs);
    if (bitmap_test(&reader->seen, index))
        return fail(reader, key->start_mark, "'%s' is given twice", spec->name);
    bitmap_set(&reader->seen, index);
    if (spec->type == VALUE_LIST) {
        if (value->type != YAML_SEQUENCE_NODE)
            return fail(reader, value->start_mark, "'%s' must be a list", spec->name);
        return set_list(reader, spec, value);
    }
    if (value->type != YAML_SCALAR_NODE)
        return fail(reader, value->start_mark, "'%s' must be one plain value", spec->name);
    return set_scalar(reader, spec, value);
}

/* The entries' names of the table that begin with the letter of a wrong one help a person most. */
static int unknown_entry(struct reader *reader, const yaml_node_t *key, const char *name)
{
    char known[300] = "";
    size_t at = 0;
    for (size_t i = 0; i < reader->table->count && at < sizeof known; i++) {
        int length = snprintf(known + at, sizeof known - at, "%s%s", i > 0 ? ", " : "",
                              reader->table->specs[i].name);
        at += (size_t)length;
    }
    return fail(reader, key->start_mark, "no entry is called '%s'; there are: %s", name, known);
}

static int read_mapping(struct reader *reader, const yaml_node_t *mapping, const char *prefix,
                        int depth)
{
    if (mapping->type != YAML_MAPPING_NODE)
        return fail(reader, mapping->start_mark, "expected lines of the form 'name: value'");
    if (depth > DEPTH_MAX)
        return fail(reader, mapping->start_mark, "too deeply nested");
    for (yaml_node_pair_t *pair = mapping->data.mapping.pairs.start;
         pair < mapping->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = yaml_document_get_node(&reader->document, pair->key);
        const yaml_node_t *value = yaml_document_get_node(&reader->document, pair->value);
        if (key == NULL || value == NULL || key->type != YAML_SCALAR_NODE)
            return fail(reader, mapping->start_mark, "names must be plain words");
        char name[NAME_MAX_BYTES];
        int length = snprintf(name, sizeof name, "%s%s%s", prefix, prefix[0] != '\0' ? "." : "",
                              (const char *)key->data.scalar.value);
        if (length < 0 || (size_t)length >= sizeof name)
            return fail(reader, key->start_mark, "the name is too long");
        const struct value_spec *spec = find_spec(reader->table, name);
        int rc;
        if (spec != NULL)
            rc = set_entry(reader, spec, key, value);
        else if (value->type == YAML_MAPPING_NODE)
            rc = read_mapping(reader, value, name, depth + 1);
        else
            rc = unknown_entry(reader, key, name);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int read_document(struct reader *reader, const char *text, size_t length)
{
    yaml_parser_t parser;
    if (yaml_parser_initialize(&parser) == 0)
        return SHOAL_E_NO_MEMORY;
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, length);
    int rc = 0;
    if (yaml_parser_load(&parser, &reader->document) == 0) {
        rc = fail(reader, parser.problem_mark, "%s",
                  parser.problem != NULL ? parser.problem : "not YAML");
    } else {
        yaml_node_t *root = yaml_document_get_root_node(&reader->document);
        if (root != NULL) /* an empty file is all defaults */
            rc = read_mapping(reader, root, "", 1);
        yaml_document_delete(&reader->document);
    }
    yaml_parser_delete(&parser);
    return rc;
}

/* An entry that has no default and may not be empty is one that the file must give. */
static bool is_required(const struct value_spec *spec)
{
    return spec->default_text == NULL && spec->min > 0;
}

static int check_required(const struct reader *reader)
{
    for (size_t i = 0; i < reader->table->count; i++) {
        const struct value_spec *spec = &reader->table->specs[i];
        if (!is_required(spec) || bitmap_test(&reader->seen, i))
            continue;
        snprintf(reader->error->text, sizeof reader->error->text, "%.300s: '%s' is missing",
                 reader->file, spec->name);
        return SHOAL_E_CONFIG;
    }
    return 0;
}

int config_parse(const struct config_table *table, void *target, const char *name, const char *text,
                 size_t length, struct value_error *error)
{
    struct reader reader = {.table = table, .target = target, .file = name, .error = error};
    error->text[0] = '\0';
    int rc = value_set_defaults(table->specs, table->count, target);
    if (rc != 0)
        return rc;
    rc = bitmap_alloc(&reader.seen, table->count);
    if (rc == 0) {
        rc = read_document(&reader, text, length);
        if (rc == 0)
            rc = check_required(&reader);
        bitmap_free(&reader.seen);
    }
    if (rc != 0)
        value_free(table->specs, table->count, target);
    return rc;
}

int config_load(const struct config_table *table, void *target, const char *path,
                struct value_error *error)
{
    char *text = NULL;
    size_t length = 0;
    int rc = file_read(path, CONFIG_FILE_MAX, &text, &length);
    if (rc != 0) {
        snprintf(error->text, sizeof error->text, "cannot read '%.300s': %s", path,
                 strerror(errno));
        return rc == SHOAL_E_NOT_FOUND || rc == SHOAL_E_NO_MEMORY ? rc : SHOAL_E_CONFIG;
    }
    rc = config_parse(table, target, path, text, length, error);
    free(text);
    return rc;
}

void config_free(const struct config_table *table, void *target)
{
    value_free(table->specs, table->count, target);
}

/* Double quotes, the one YAML style in which every text can be written. */
static void write_quoted(FILE *out, const char *text)
{
    fputc('"', out);
    for (const char *at = text; *at != '\0'; at++) {
        unsigned char byte = (unsigned char)*at;
        if (byte == '"' || byte == '\\')
            fprintf(out, "\\%c", byte);
        else if (byte < 0x20 || byte == 0x7f)
            fprintf(out, "\\x%02x", byte);
        else
            fputc(byte, out);
    }
    fputc('"', out);
}

/* Nested names are written flat under their dotted parents, one block for each run of them. */
static const char *write_parent(FILE *out, const char *name, char *open, size_t size)
{
    const char *dot = strrchr(name, '.');
    size_t length = dot != NULL ? (size_t)(dot - name) : 0;
    CHECK_MSG(memchr(name, '.', length) == NULL, "'%s': one level of nesting is written", name);
    if (strlen(open) != length || strncmp(open, name, length) != 0) {
        snprintf(open, size, "%.*s", (int)length, name);
        if (length > 0)
            fprintf(out, "%s:\n", open);
    }
    if (length > 0)
        fputs("  ", out);
    return dot != NULL ? dot + 1 : name;
}

static bool is_default(const struct value_spec *spec, const void *target)
{
    if (spec->type == VALUE_LIST) {
        const struct value_list *list = (const void *)((const uint8_t *)target + spec->offset);
        return list->count == 0 && spec->default_text == NULL;
    }
    struct value_spec alone = *spec;
    alone.offset = 0;
    union {
        char *string;
        uint64_t number;
        bool truth;
    } fallback;
    char set[4096];
    char usual[4096];
    if (value_set_defaults(&alone, 1, &fallback) != 0)
        return false;
    value_print(spec, target, set, sizeof set);
    value_print(&alone, &fallback, usual, sizeof usual);
    value_free(&alone, 1, &fallback);
    return strcmp(set, usual) == 0;
}

void config_write(const struct config_table *table, const void *target, FILE *out)
{
    char open[NAME_MAX_BYTES] = "";
    char text[4096];
    for (size_t i = 0; i < table->count; i++) {
        const struct value_spec *spec = &table->specs[i];
        if (is_default(spec, target))
            continue;
        const char *name = write_parent(out, spec->name, open, sizeof open);
        const void *at = (const uint8_t *)target + spec->offset;
        if (spec->type == VALUE_LIST) {
            const struct value_list *list = at;
            fprintf(out, "%s:%s\n", name, list->count == 0 ? " []" : "");
            for (size_t item = 0; item < list->count; item++) {
                fputs("    - ", out);
                write_quoted(out, list->items[item]);
                fputc('\n', out);
            }
        } else if (spec->type == VALUE_STRING) {
            const char *string = *(char *const *)at;
            fprintf(out, "%s: ", name);
            write_quoted(out, string != NULL ? string : "");
            fputc('\n', out);
        } else {
            fprintf(out, "%s: %s\n", name, value_print(spec, target, text, sizeof text));
        }
    }
}

void config_reference(const struct config_table *table, FILE *out)
{
    char open[NAME_MAX_BYTES] = "";
    char allowed[192];
    fprintf(out, "# %s\n", table->title);
    for (size_t i = 0; i < table->count; i++) {
        const struct value_spec *spec = &table->specs[i];
        fprintf(out, "\n# %s\n# %s: %s%s.\n", spec->help, spec->name,
                value_describe(spec, allowed, sizeof allowed),
                is_required(spec) ? "; must be given" : "");
        const char *name = write_parent(out, spec->name, open, sizeof open);
        if (spec->type == VALUE_LIST)
            fprintf(out, "%s: []\n", name);
        else
            fprintf(out, "%s:%s%s\n", name, spec->default_text != NULL ? " " : "",
                    spec->default_text != NULL ? spec->default_text : "");
    }
}
