/* SPDX-License-Identifier: Apache-2.0 */
/*
 * etcd's client for a test: client CA CERTIFICATE KEY ENDPOINT..., then one command a line on stdin,
 * one line of answer for each on stdout, with the milliseconds that it took:
 *
 *   create KEY VALUE LEASE    change KEY REVISION VALUE    get KEY
 *   grant LEASE TTL           keep LEASE                   revoke LEASE
 *   watch KEY AFTER SECONDS   unwatch
 *
 * Every command runs at once, as a fiber of its own; answers carry its number.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "cluster/cluster.h"
#include "cluster/etcd.h"
#include "core/fiber.h"
#include "core/reactor.h"
#include "shoal/error.h"

#define WORDS 4

struct command {
    unsigned number;
    char line[512];
    char *words[WORDS];
};

static struct reactor *reactor;
static struct fiber_pool *fibers;
static struct etcd_client *client;
static struct etcd_door etcd;

static int64_t number_of(const char *word)
{
    return word == NULL ? 0 : strtoll(word, NULL, 10);
}

static void txn(const struct command *command, int64_t *details, char *value, int *result)
{
    const char *key = command->words[1];
    bool change = strcmp(command->words[0], "change") == 0;
    struct etcd_txn txn = {.reads = {{key, false}}, .reads_count = 1};
    if (strcmp(command->words[0], "get") != 0) {
        txn.compares_count = 1;
        txn.compares[0] = (struct etcd_compare){key, change ? ETCD_MODIFIED : ETCD_CREATED,
                                                change ? number_of(command->words[2]) : 0};
        txn.put_key = key;
        txn.put_bytes = command->words[change ? 3 : 2];
        txn.put_len = strlen(txn.put_bytes);
        txn.put_lease = change ? 0 : number_of(command->words[3]);
    }
    struct etcd_answer answer;
    *result = etcd.ops->txn(etcd.ctx, &txn, &answer);
    details[0] = answer.succeeded;
    details[1] = answer.succeeded && txn.put_key != NULL ? answer.revision
                                                         : answer.values[0].modified;
    snprintf(value, 256, "%s", answer.values[0].bytes == NULL ? "-" : answer.values[0].bytes);
    etcd_answer_free(&answer);
}

static void run(void *arg)
{
    struct command *command = arg;
    const char *what = command->words[0];
    uint64_t began = reactor_now_ns(reactor);
    int64_t details[2] = {0};
    char value[256] = "-";
    int result = 0;
    if (strcmp(what, "grant") == 0)
        result = etcd.ops->grant(etcd.ctx, number_of(command->words[1]),
                                 (unsigned)number_of(command->words[2]));
    else if (strcmp(what, "keep") == 0)
        result = etcd.ops->keep_alive(etcd.ctx, number_of(command->words[1]));
    else if (strcmp(what, "revoke") == 0)
        result = etcd.ops->revoke(etcd.ctx, number_of(command->words[1]));
    else if (strcmp(what, "watch") == 0)
        result = etcd.ops->watch(etcd.ctx, command->words[1], number_of(command->words[2]),
                                 began + (uint64_t)number_of(command->words[3]) * 1000000000u);
    else if (strcmp(what, "unwatch") == 0)
        etcd.ops->unwatch(etcd.ctx);
    else
        txn(command, details, value, &result);
    printf("%u %s %lld %lld %s %llu\n", command->number, shoal_error_name(result),
           (long long)details[0], (long long)details[1], value,
           (unsigned long long)(reactor_now_ns(reactor) - began) / 1000000);
    fflush(stdout);
    free(command);
}

static void start(const char *line, size_t len)
{
    static unsigned number;
    struct command *command = calloc(1, sizeof *command);
    CHECK(command != NULL && len < sizeof command->line);
    memcpy(command->line, line, len);
    command->number = ++number;
    char *rest = command->line;
    for (unsigned i = 0; i < WORDS; i++)
        command->words[i] = strsep(&rest, " ");
    CHECK(fiber_spawn(fibers, run, command) == 0);
}

static void conduct(void *arg)
{
    char line[512];
    size_t len = 0;
    for (;;) {
        ssize_t got = read(STDIN_FILENO, line + len, 1);
        if (got == 0)
            break;
        if (got < 0)
            fiber_sleep(5000000);
        else if (line[len] == '\n')
            start(line, len), len = 0;
        else if (++len == sizeof line)
            break;
    }
    etcd_client_stop(client);
    reactor_stop(reactor);
    (void)arg;
}

int main(int argc, char **argv)
{
    CHECK(argc > 4);
    struct reactor_config reactor_config = {.name = "client", .cpu = -1, .uring_entries = 8};
    struct etcd_config config = {.endpoints = (const char *const *)argv + 4,
                                 .endpoints_count = (unsigned)argc - 4,
                                 .ca = argv[1], .certificate = argv[2], .key = argv[3]};
    fcntl(STDIN_FILENO, F_SETFL, fcntl(STDIN_FILENO, F_GETFL) | O_NONBLOCK);
    if (reactor_create(&reactor_config, &reactor) != 0 ||
        fiber_pool_create(reactor, "client", 32, 256u << 10, &fibers) != 0 ||
        etcd_client_create(reactor, &config, &client) != 0)
        return 1;
    etcd = etcd_client_door(client);
    CHECK(fiber_spawn(fibers, conduct, NULL) == 0);
    reactor_run(reactor);
    while (fiber_pool_in_use(fibers) > 0)
        reactor_poll_once(reactor);
    etcd_client_destroy(client);
    fiber_pool_destroy(fibers);
    reactor_destroy(reactor);
    return 0;
}
