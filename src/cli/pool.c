/* SPDX-License-Identifier: Apache-2.0 */
/* shoal pool create|set|ls|rm. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/format.h"
#include "base/value.h"
#include "cli/cli.h"
#include "ec/ec.h"

struct arguments {
    struct cli_common common;
    char *ec;
    uint64_t copies, ttl, quota;
    bool cache;
};

static const struct option_spec options[] = {
    CLI_COMMON_OPTIONS(struct arguments, common),
    {{"ec", VALUE_STRING, offsetof(struct arguments, ec), NULL, 3, 5, NULL,
      "Erasure code: K data and M parity shards; any M may be lost."}, 0, "K+M"},
    {{"copies", VALUE_U64, offsetof(struct arguments, copies), "0", 0, EC_MEMBERS_MAX, NULL,
      "Whole copies; all but one may be lost."}, 0, "N"},
    {{"cache", VALUE_BOOL, offsetof(struct arguments, cache), NULL, 0, 0, NULL,
      "What was used least recently may be evicted when space runs out."}, 0, NULL},
    {{"ttl", VALUE_U64, offsetof(struct arguments, ttl), "0", 0, UINT32_MAX, NULL,
      "Seconds that a blob of a cache lives; 0: for ever."}, 0, "S"},
    {{"quota", VALUE_SIZE, offsetof(struct arguments, quota), "0", 0, 0, NULL,
      "Bytes that the pool may hold; 0: no limit."}, 0, "BYTES"},
};
static const struct options_command command = {
    .name = "shoal pool", .arguments = "create|set|ls|rm [NAME]",
    .summary = "Pools: named policies of redundancy and retention.",
    .example = "shoal pool create models --ec 4+2\nshoal pool create blocks --copies 1 --cache "
               "--ttl 3600\nshoal pool set blocks --quota 1G\nshoal pool ls\nshoal pool rm models",
    .min_arguments = 1, .max_arguments = 2,
    .options = options, .option_count = ARRAY_LEN(options),
};

/* K+M; two digits each are more than there are members. */
static bool parse_ec(const char *text, unsigned *k, unsigned *m)
{
    char k_text[3];
    char m_text[3];
    uint64_t number[2];
    int end = 0;
    if (sscanf(text, "%2[0-9]+%2[0-9]%n", k_text, m_text, &end) != 2 || text[end] != 0 ||
        value_parse_u64(k_text, &number[0]) != 0 || value_parse_u64(m_text, &number[1]) != 0)
        return false;
    *k = (unsigned)number[0];
    *m = (unsigned)number[1];
    return *k >= 2 && *m >= 1 && ec_redundancy_check(*k, *m) == 0;
}

static int create(const struct arguments *arguments, const char *name)
{
    unsigned k = 1, m = 0;
    if ((arguments->ec != NULL) == (arguments->copies != 0)) {
        (void)options_usage_error(&command, "a new pool takes either --ec K+M or --copies N");
        return EXIT_USAGE;
    }
    if (arguments->ec != NULL) {
        if (!parse_ec(arguments->ec, &k, &m)) {
            (void)options_usage_error(&command, "--ec %s: it is K+M with K at least 2, M from 1 to "
                                      "%d, and at most %d in all, such as 4+2", arguments->ec,
                                      EC_PARITY_MAX, EC_MEMBERS_MAX);
            return EXIT_USAGE;
        }
    } else {
        m = (unsigned)arguments->copies - 1;
    }
    if (arguments->ttl != 0 && !arguments->cache) {
        (void)options_usage_error(&command, "--ttl is for caches: add --cache");
        return EXIT_USAGE;
    }
    json_t *answer;
    json_t *wish = json_pack("{s:s, s:s, s:b, s:i, s:i, s:b, s:I, s:I}", "wish", "pool_create",
                             "name", name, "erasure", (int)(arguments->ec != NULL), "k", (int)k,
                             "m", (int)m, "cache", (int)arguments->cache, "ttl_s",
                             (json_int_t)arguments->ttl, "quota_bytes",
                             (json_int_t)arguments->quota);
    if (!cli_wish(arguments->common.config, wish, &answer))
        return EXIT_FAILED;
    json_decref(answer);
    return EXIT_DONE;
}

static int set(const struct arguments *arguments, uint64_t given, const char *name)
{
    json_t *answer;
    json_t *wish = json_pack("{s:s, s:s}", "wish", "pool_set", "name", name);
    size_t quota = options_index(&command, "quota"), ttl = options_index(&command, "ttl");
    if ((given >> quota & 1) != 0)
        json_object_set_new(wish, "quota_bytes", json_integer((json_int_t)arguments->quota));
    if ((given >> ttl & 1) != 0)
        json_object_set_new(wish, "ttl_s", json_integer((json_int_t)arguments->ttl));
    if (!cli_wish(arguments->common.config, wish, &answer))
        return EXIT_FAILED;
    json_decref(answer);
    return EXIT_DONE;
}

static int removal(const struct arguments *arguments, const char *name)
{
    json_t *answer;
    if (!cli_wish(arguments->common.config, json_pack("{s:s, s:s}", "wish", "pool_remove", "name",
                                                      name), &answer))
        return EXIT_FAILED;
    json_decref(answer);
    return EXIT_DONE;
}

struct list_step {
    struct shoal *shoal;
    json_t *pools;
};

static void list_fiber(void *arg)
{
    struct list_step *step = arg;
    struct client *client = shoal_client(step->shoal);
    (void)client_refresh(client, shoal_deadline_ns(step->shoal, 2000));
    json_t *map = cluster_map_to_json(client_map(client));
    step->pools = json_incref(json_object_get(map, "pools"));
    json_decref(map);
}

static int list(const struct arguments *arguments)
{
    struct list_step step = {0};
    if (shoal_open(arguments->common.config, NULL, &step.shoal) != 0)
        return cli_fail_shoal();
    int rc = shoal_run_fiber(step.shoal, list_fiber, &step);
    shoal_close(step.shoal);
    if (rc != 0 || step.pools == NULL)
        return cli_fail("cannot list the pools: %s", shoal_error_text(rc));
    if (arguments->common.json)
        return cli_print_json(json_pack("{s:o}", "pools", step.pools));
    size_t i;
    json_t *pool;
    printf("%-16s %-10s %-6s %8s %12s\n", "POOL", "LAYOUT", "CACHE", "TTL", "QUOTA");
    json_array_foreach(step.pools, i, pool) {
        char layout[32];
        long long k = json_integer_value(json_object_get(pool, "k"));
        long long m = json_integer_value(json_object_get(pool, "m"));
        uint64_t quota = (uint64_t)json_integer_value(json_object_get(pool, "quota_bytes"));
        if (json_is_true(json_object_get(pool, "erasure")))
            snprintf(layout, sizeof layout, "ec %lld+%lld", k, m);
        else
            snprintf(layout, sizeof layout, "copies %lld", m + 1);
        printf("%-16s %-10s %-6s %8lld %12s%s\n", json_string_value(json_object_get(pool, "name")),
               layout, json_is_true(json_object_get(pool, "cache")) ? "yes" : "no",
               json_integer_value(json_object_get(pool, "ttl_s")),
               quota > 0 ? format_bytes(quota).text : "-",
               json_is_true(json_object_get(pool, "unsafe"))
                   ? "  ! one node's loss may take more shards than it can spare" : "");
    }
    json_decref(step.pools);
    return EXIT_DONE;
}

int cli_pool(int argc, char **argv)
{
    struct arguments arguments;
    struct options_arguments positional;
    int status = cli_parse(&command, argc, argv, &arguments, &positional);
    if (status >= 0)
        return status;
    const char *verb = positional.values[0];
    const char *name = positional.count > 1 ? positional.values[1] : NULL;
    const char *done = NULL;
    if (strcmp(verb, "ls") == 0 && name == NULL) {
        status = list(&arguments);
    } else if (name == NULL) {
        (void)options_usage_error(&command, "'%s' needs the name of a pool", verb);
        status = EXIT_USAGE;
    } else if (strcmp(verb, "create") == 0) {
        status = create(&arguments, name);
        done = "Created";
    } else if (strcmp(verb, "set") == 0) {
        status = set(&arguments, positional.given, name);
        done = "Changed";
    } else if (strcmp(verb, "rm") == 0) {
        status = removal(&arguments, name);
        done = "Removed";
    } else {
        (void)options_usage_error(&command, "'%s' is none of create, set, ls, rm", verb);
        status = EXIT_USAGE;
    }
    if (status == EXIT_DONE && done != NULL) {
        if (arguments.common.json)
            cli_print_json(json_pack("{s:s, s:s}", "pool", name, "done", verb));
        else
            printf("%s pool %s.\n", done, name);
    }
    options_free(&command, &arguments);
    return status;
}
