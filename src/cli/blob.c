/* SPDX-License-Identifier: Apache-2.0 */
/* shoal stat, rm and ls. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/format.h"
#include "cli/cli.h"
#include "cli/tree.h"

/* ---- stat ---- */

struct stat_arguments {
    struct cli_common common;
};

static const struct option_spec stat_options[] = {
    CLI_COMMON_OPTIONS(struct stat_arguments, common)};
static const struct options_command stat_command = {
    .name = "shoal stat", .arguments = "POOL/NAME",
    .summary = "Describe a blob: its length, key, version and age.",
    .example = "shoal stat durable/models/a.bin\nshoal stat --json kv/@5e884898da28...",
    .min_arguments = 1, .max_arguments = 1,
    .options = stat_options, .option_count = ARRAY_LEN(stat_options),
};

static int print_stat(const struct shoal_request *request, bool json)
{
    char version[64], key[2 * SHOAL_KEY_BYTES + 1], when[32];
    cli_key_hex(&request->key, key);
    shoal_version_print(&request->version, version, sizeof version);
    if (json) {
        json_t *out = json_pack("{s:s, s:s, s:I, s:s, s:I}", "pool", request->pool, "key", key,
                                "size", (json_int_t)request->size, "version", version, "created_s",
                                (json_int_t)request->created_s);
        if (request->name != NULL)
            json_object_set_new(out, "name", json_string(request->name));
        if (request->expires_s != 0)
            json_object_set_new(out, "expires_s", json_integer((json_int_t)request->expires_s));
        return cli_print_json(out);
    }
    printf("blob     %s/%s%s\n", request->pool, request->name != NULL ? "" : "@",
           request->name != NULL ? request->name : key);
    printf("size     %llu (%s)\n", (unsigned long long)request->size,
           format_bytes(request->size).text);
    printf("key      %s\nversion  %s\n", key, version);
    printf("created  %s\n", cli_time(request->created_s, when, sizeof when));
    if (request->expires_s != 0)
        printf("expires  %s\n", cli_time(request->expires_s, when, sizeof when));
    return EXIT_DONE;
}

int cli_stat(int argc, char **argv)
{
    struct stat_arguments arguments;
    struct options_arguments positional;
    struct shoal_request request = {.op = SHOAL_OP_STAT};
    struct shoal *shoal = NULL;
    int status = cli_parse(&stat_command, argc, argv, &arguments, &positional);
    if (status >= 0)
        return status;
    if (!cli_blob(positional.values[0], &request))
        status = EXIT_FAILED;
    else if (shoal_open(arguments.common.config, NULL, &shoal) != 0 ||
             shoal_run(shoal, &request) != 0)
        status = cli_fail_shoal();
    else
        status = print_stat(&request, arguments.common.json);
    shoal_close(shoal);
    options_free(&stat_command, &arguments);
    return status;
}

/* ---- rm ---- */

struct rm_arguments {
    struct cli_common common;
    char *if_version;
    bool force;
};

static const struct option_spec rm_options[] = {
    CLI_COMMON_OPTIONS(struct rm_arguments, common),
    {{"if_version", VALUE_STRING, offsetof(struct rm_arguments, if_version), NULL, 1, 0, NULL,
      "Only if the blob has this version."}, 0, "VERSION"},
    {{"force", VALUE_BOOL, offsetof(struct rm_arguments, force), NULL, 0, 0, NULL,
      "A blob that is not there is no failure."}, 'f', NULL},
};
static const struct options_command rm_command = {
    .name = "shoal rm", .arguments = "POOL/NAME...",
    .summary = "Remove blobs.",
    .example = "shoal rm durable/models/a.bin\nshoal rm --if-version 3.1.42 durable/lock",
    .min_arguments = 1, .max_arguments = -1,
    .options = rm_options, .option_count = ARRAY_LEN(rm_options),
};

static bool rm_one(struct shoal *shoal, const struct rm_arguments *arguments, char *text,
                   json_t *removed)
{
    struct shoal_request request = {.op = SHOAL_OP_REMOVE};
    char *whole = strdup(text);
    bool ok = whole != NULL && cli_blob(text, &request);
    if (ok && arguments->if_version != NULL) {
        request.flags |= SHOAL_IF_VERSION;
        ok = shoal_version_parse(arguments->if_version, &request.expected) == 0;
        if (!ok)
            cli_fail_shoal();
    }
    if (ok) {
        int rc = shoal_run(shoal, &request);
        ok = rc == 0 || (rc == SHOAL_E_NOT_FOUND && arguments->force);
        if (!ok)
            cli_fail_shoal();
        else if (rc == 0)
            json_array_append_new(removed, json_string(whole));
    }
    free(whole);
    return ok;
}

int cli_rm(int argc, char **argv)
{
    struct rm_arguments arguments;
    struct options_arguments positional;
    struct shoal *shoal = NULL;
    int status = cli_parse(&rm_command, argc, argv, &arguments, &positional);
    if (status >= 0)
        return status;
    json_t *removed = json_array();
    status = EXIT_DONE;
    if (shoal_open(arguments.common.config, NULL, &shoal) != 0)
        status = cli_fail_shoal();
    for (int i = 0; i < positional.count && shoal != NULL; i++)
        if (!rm_one(shoal, &arguments, positional.values[i], removed))
            status = EXIT_FAILED;
    shoal_close(shoal);
    if (arguments.common.json)
        cli_print_json(json_pack("{s:O}", "removed", removed));
    json_decref(removed);
    options_free(&rm_command, &arguments);
    return status;
}

/* ---- ls ---- */

struct ls_arguments {
    struct cli_common common;
    bool longer, keys;
};

static const struct option_spec ls_options[] = {
    CLI_COMMON_OPTIONS(struct ls_arguments, common),
    {{"long", VALUE_BOOL, offsetof(struct ls_arguments, longer), NULL, 0, 0, NULL,
      "Size, time and version too."}, 'l', NULL},
    {{"keys", VALUE_BOOL, offsetof(struct ls_arguments, keys), NULL, 0, 0, NULL,
      "Also blobs without a name, as @HEX."}, 'k', NULL},
};
static const struct options_command ls_command = {
    .name = "shoal ls", .arguments = "POOL[/PREFIX]",
    .summary = "List the blobs whose names begin with PREFIX.",
    .example = "shoal ls durable\nshoal ls -l durable/models/\nshoal ls --keys kv",
    .min_arguments = 1, .max_arguments = 1,
    .options = ls_options, .option_count = ARRAY_LEN(ls_options),
};

static void print_listed(const struct ls_arguments *arguments, const struct listing_item *item)
{
    char version[64], when[32];
    if (arguments->longer) {
        shoal_version_print(&item->version, version, sizeof version);
        printf("%14llu  %s  %-14s  %s\n", (unsigned long long)item->size,
               cli_time(item->created_s, when, sizeof when), version, item->name);
    } else {
        printf("%s\n", item->name);
    }
}

static json_t *listed_json(const struct listing_item *item)
{
    char version[64], key[2 * SHOAL_KEY_BYTES + 1];
    shoal_version_print(&item->version, version, sizeof version);
    cli_key_hex(&item->key, key);
    json_t *json = json_pack("{s:s, s:I, s:s, s:I}", "key", key, "size", (json_int_t)item->size,
                             "version", version, "created_s", (json_int_t)item->created_s);
    if (item->named)
        json_object_set_new(json, "name", json_string(item->name));
    return json;
}

int cli_ls(int argc, char **argv)
{
    struct ls_arguments arguments;
    struct options_arguments positional;
    struct shoal *shoal = NULL;
    struct listing listing = {0};
    int status = cli_parse(&ls_command, argc, argv, &arguments, &positional);
    if (status >= 0)
        return status;
    char *pool = positional.values[0];
    char *prefix = strchr(pool, '/');
    if (prefix != NULL)
        *prefix++ = 0;
    status = EXIT_DONE;
    if (shoal_open(arguments.common.config, NULL, &shoal) != 0 ||
        !listing_take(shoal, pool, prefix, arguments.keys, &listing)) {
        status = cli_fail_shoal();
    } else if (arguments.common.json) {
        json_t *blobs = json_array();
        for (size_t i = 0; i < listing.count; i++)
            json_array_append_new(blobs, listed_json(&listing.items[i]));
        cli_print_json(json_pack("{s:s, s:o}", "pool", pool, "blobs", blobs));
    } else {
        for (size_t i = 0; i < listing.count; i++)
            print_listed(&arguments, &listing.items[i]);
    }
    listing_free(&listing);
    shoal_close(shoal);
    options_free(&ls_command, &arguments);
    return status;
}
