/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration files: YAML read into a plain structure through one table of entries.
 *
 *   static const struct value_spec specs[] = {
 *       {"cache_size", VALUE_SIZE, offsetof(struct node_config, cache_size), "64M", 4096, 0, NULL,
 *        "Memory for blobs that were read lately."},
 *   };
 *   static const struct config_table table = {"node.yaml", specs, ARRAY_LEN(specs)};
 *
 * The table is all there is: it fills in defaults, refuses unknown and repeated entries and wrong
 * values with file and line, wants what has no default and a lower bound above 0, and prints the
 * reference that the documentation shows.
 */
#ifndef BASE_CONFIG_H
#define BASE_CONFIG_H

#include <stddef.h>
#include <stdio.h>

#include "base/value.h"

#define CONFIG_FILE_MAX ((size_t)1024 * 1024)

struct config_table {
    const char *title; /* heading of the reference */
    const struct value_spec *specs;
    size_t count;
};

/*
 * config_load() - Defaults, then the file at @path.
 * Returns 0; SHOAL_E_NOT_FOUND, SHOAL_E_CONFIG or SHOAL_E_NO_MEMORY with @error saying why; @target
 * then holds nothing to free. config_free() after success.
 */
int config_load(const struct config_table *table, void *target, const char *path,
                struct value_error *error) NODISCARD;

/* The same from memory; @name stands for the path in messages. */
int config_parse(const struct config_table *table, void *target, const char *name, const char *text,
                 size_t length, struct value_error *error) NODISCARD;

void config_free(const struct config_table *table, void *target);

/* Writes the entries of @target that differ from their defaults, as YAML that loads again. */
void config_write(const struct config_table *table, const void *target, FILE *out);

/* Writes every entry with its help, bounds and default, as commented YAML. */
void config_reference(const struct config_table *table, FILE *out);

#endif
