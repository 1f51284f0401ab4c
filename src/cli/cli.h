/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The `shoal` command: what its subcommands share. Each is a function of (argc, argv) that returns
 * the exit status: 0 done, 1 failed (said on stderr), 2 usage. Names and JSON are an interface.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"
#include "base/options.h"
#include "client/client.h"
#include "shoal/shoal.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

#define CLI_PATH_MAX 4096

int cli_up(int argc, char **argv);
int cli_down(int argc, char **argv);
int cli_supervise(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_node(int argc, char **argv);
int cli_pool(int argc, char **argv);
int cli_scrub(int argc, char **argv);
int cli_map(int argc, char **argv);
int cli_put(int argc, char **argv);
int cli_get(int argc, char **argv);
int cli_stat(int argc, char **argv);
int cli_rm(int argc, char **argv);
int cli_ls(int argc, char **argv);
int cli_bench(int argc, char **argv);
int cli_replay(int argc, char **argv);
int cli_format(int argc, char **argv);
int cli_inspect(int argc, char **argv);
int cli_fsck(int argc, char **argv);
int cli_cluster(int argc, char **argv);
int cli_cert(int argc, char **argv);

/* The options that every command has which talks to a cluster. */
struct cli_common {
    char *config;
    bool json;
};
#define CLI_COMMON_OPTIONS(type, member)                                                           \
    {{"config", VALUE_STRING, offsetof(type, member.config), NULL, 1, 0, NULL,                     \
      "The cluster's client.yaml; else SHOAL_CONFIG, else the cluster started last."},             \
     'c', "FILE"},                                                                                 \
    {{"json", VALUE_BOOL, offsetof(type, member.json), NULL, 0, 0, NULL, "Print JSON."}, 0, NULL}

/*
 * cli_parse() - Options and arguments of a command.
 * Return: -1 to go on, else the exit status.
 */
int cli_parse(const struct options_command *command, int argc, char **argv, void *target,
              struct options_arguments *arguments);

/* "shoal: MESSAGE" on stderr; returns EXIT_FAILED. */
int cli_fail(const char *format, ...) PRINTF_LIKE(1, 2);
/* The last message of libshoal. */
int cli_fail_shoal(void);

/* Print and free. Returns EXIT_DONE. */
int cli_print_json(json_t *json);

/* Takes a directory of temporary files away; says so if it cannot. */
void cli_remove_work(const char *directory);

/*
 * cli_blob() - "POOL/NAME" or "POOL/@HEX" into a request. The text is cut in place and lent to it.
 * Return: false when it is neither, with a message.
 */
bool cli_blob(char *text, struct shoal_request *request);
void cli_key_hex(const struct shoal_key *key, char out[2 * SHOAL_KEY_BYTES + 1]);

/* "2026-11-22 13:05:09" in local time. @out: 32 bytes. */
const char *cli_time(uint64_t seconds, char *out, size_t size);
uint64_t cli_now_ns(void);

/*
 * cli_wish() - Ask the authority, with the administrator's certificate.
 * @wish: consumed
 * @answer: the caller's to free; NULL on failure, which has been said on stderr
 * Return: true when it was granted.
 */
bool cli_wish(const char *config, json_t *wish, json_t **answer);

/*
 * cli_ask_authority() - [fiber] The same, over what is open already: one of @addresses, with commas
 * between, or whom that one names; for a while longer where there are several, for one of them may be
 * about to be elected. Return: 0 and *@answer, to be freed, or why there is none.
 */
int cli_ask_authority(struct client *client, const char *addresses, const char *wish, char **answer);

/*
 * cli_ask() - The same, of whoever listens at @address, as the holder of these absolute paths.
 */
struct cli_credentials {
    const char *ca, *certificate, *key;
};
bool cli_ask(const struct cli_credentials *who, const char *address, json_t *wish, json_t **answer);

#endif
