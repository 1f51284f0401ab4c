/* SPDX-License-Identifier: Apache-2.0 */
/* The table of subcommands. */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "cli/cli.h"

struct subcommand {
    const char *name, *summary;
    int (*run)(int argc, char **argv);
    bool hidden;
};

static const struct subcommand subcommands[] = {
    {"up", "Start a cluster on this machine, or resume it.", cli_up, false},
    {"down", "Stop the cluster; --destroy also deletes it.", cli_down, false},
    {"status", "Show nodes, targets, pools and their health.", cli_status, false},
    {"map", "Show the cluster's map, and what moves.", cli_map, false},
    {"node", "Add, drain, remove, weigh or move nodes; stop and start them.", cli_node, false},
    {"pool", "Create, list and remove pools.", cli_pool, false},
    {"scrub", "How far the check of all stored data is.", cli_scrub, false},
    {"put", "Store a file, a directory or standard input.", cli_put, false},
    {"get", "Fetch a blob, a range of it, or many.", cli_get, false},
    {"stat", "Describe a blob.", cli_stat, false},
    {"rm", "Remove a blob.", cli_rm, false},
    {"ls", "List the blobs of a pool.", cli_ls, false},
    {"bench", "Measure puts and gets.", cli_bench, false},
    {"replay", "Play a KV-cache trace against a pool.", cli_replay, false},
    {"cluster", "Make a cluster of many hosts, and let nodes join it.", cli_cluster, false},
    {"cert", "Show, request, issue and renew certificates.", cli_cert, false},
    {"format", "Make a device empty and ready (offline).", cli_format, false},
    {"inspect", "Show what a device holds (offline).", cli_inspect, false},
    {"fsck", "Check a device, and mend it (offline).", cli_fsck, false},
    {"supervise", "The authority of a local cluster; started by 'up'.", cli_supervise, true},
};

static void usage(FILE *out)
{
    fprintf(out, "Usage: shoal COMMAND [OPTIONS]\n\nShoal stores blobs for AI clusters.\n\n");
    for (size_t i = 0; i < ARRAY_LEN(subcommands); i++)
        if (!subcommands[i].hidden)
            fprintf(out, "  %-10s%s\n", subcommands[i].name, subcommands[i].summary);
    fprintf(out, "\nEvery command has --help with an example, most have --json; --version prints "
                 "the version.\n\nExample:\n  shoal up\n  shoal put durable/greeting README.md\n"
                 "  shoal get durable/greeting -\n");
}

int main(int argc, char **argv)
{
    enum log_level level = LOG_LEVEL_ERROR;
    const char *wanted = getenv("SHOAL_LOG");
    if (wanted != NULL)
        (void)log_level_parse(wanted, &level);
    log_set_level(level);
    log_set_component("shoal");
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2) {
        usage(stderr);
        return EXIT_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        usage(stdout);
        return EXIT_DONE;
    }
    if (strcmp(name, "--version") == 0) {
        printf("shoal %s\n", SHOAL_VERSION);
        return EXIT_DONE;
    }
    for (size_t i = 0; i < ARRAY_LEN(subcommands); i++)
        if (strcmp(subcommands[i].name, name) == 0)
            return subcommands[i].run(argc - 1, argv + 1);
    if (name[0] == '-')
        fprintf(stderr, "shoal: '%s' comes before the command; options come after it, as in "
                        "'shoal status --json'\nTry 'shoal --help'.\n", name);
    else
        fprintf(stderr, "shoal: there is no command '%s'\nTry 'shoal --help'.\n", name);
    return EXIT_USAGE;
}

int cli_parse(const struct options_command *command, int argc, char **argv, void *target,
              struct options_arguments *arguments)
{
    switch (options_parse(command, argc, argv, target, arguments)) {
    case OPTIONS_RUN:
        return -1;
    case OPTIONS_DONE:
        return EXIT_DONE;
    default:
        return EXIT_USAGE;
    }
}

int cli_fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("shoal: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    return EXIT_FAILED;
}

int cli_fail_shoal(void)
{
    return cli_fail("%s", shoal_message());
}

int cli_print_json(json_t *json)
{
    json_dumpf(json, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(json);
    return EXIT_DONE;
}

void cli_remove_work(const char *directory)
{
    if (file_remove_tree(directory) != 0)
        cli_fail("cannot remove %s: %s; remove it by hand", directory, strerror(errno));
}

bool cli_blob(char *text, struct shoal_request *request)
{
    char *slash = strchr(text, '/');
    if (slash == NULL || slash == text || slash[1] == 0) {
        cli_fail("'%s' names no blob: it is POOL/NAME, or POOL/@HEX for a raw key", text);
        return false;
    }
    *slash = 0;
    request->pool = text;
    if (slash[1] != '@') {
        request->name = slash + 1;
        if (strlen(request->name) <= SHOAL_NAME_MAX)
            return true;
        cli_fail("the name has %zu bytes, and at most %d are possible", strlen(request->name),
                 SHOAL_NAME_MAX);
        return false;
    }
    request->name = NULL;
    const char *hex = slash + 2;
    if (hex_decode(hex, strlen(hex), request->key.bytes, SHOAL_KEY_BYTES) == 0)
        return true;
    cli_fail("'@%s' is no key: it takes %d hex digits, and this has %zu", hex, 2 * SHOAL_KEY_BYTES,
             strlen(hex));
    return false;
}

void cli_key_hex(const struct shoal_key *key, char out[2 * SHOAL_KEY_BYTES + 1])
{
    hex_encode(key->bytes, SHOAL_KEY_BYTES, out);
}

const char *cli_time(uint64_t seconds, char *out, size_t size)
{
    time_t when = (time_t)seconds;
    struct tm local;
    localtime_r(&when, &local);
    strftime(out, size, "%Y-%m-%d %H:%M:%S", &local);
    return out;
}

uint64_t cli_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
