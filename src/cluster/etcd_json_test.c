/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <jansson.h>

#include "base/macros.h"
#include "base/test_memory.h"
#include "cluster/etcd.h"
#include "shoal/error.h"

#define HEADER                                                                                     \
    "\"header\":{\"cluster_id\":\"324952591200643719\",\"member_id\":\"3319814642761637952\","     \
    "\"revision\":\"7\",\"raft_term\":\"2\"}"
#define KV(value)                                                                                  \
    "{\"response_range\":{\"header\":{\"revision\":\"7\"},\"kvs\":[{\"key\":\"cC9sZWFkZXI=\","     \
    "\"create_revision\":\"2\",\"mod_revision\":\"5\",\"version\":\"1\"," value                    \
    "\"lease\":\"1234567890123456789\"}],\"count\":\"1\"}}"
#define RANGE(what)                                                                                \
    "{" HEADER ",\"responses\":[{\"response_range\":" what "}," NONE "]}"
#define NONE "{\"response_range\":{\"header\":{\"revision\":\"7\"}}}"

static const struct etcd_txn reading = {
    .reads = {{"p/leader", false}, {"p/map", true}}, .reads_count = 2};
static const struct etcd_txn writing = {
    .compares = {{"p/map", ETCD_MODIFIED, 9}, {"p/leader", ETCD_CREATED, 0}},
    .compares_count = 2, .put_key = "p/map", .put_bytes = "\0\1\xff\xfe", .put_len = 4,
    .put_lease = INT64_MAX - 1, .reads = {{"p/leader", false}}, .reads_count = 1};

static int parse(const char *text, const struct etcd_txn *txn, struct etcd_answer *answer)
{
    return etcd_txn_parse(text, strlen(text), txn, answer);
}

static void a_transaction_is_said_as_the_gateway_wants_it(void **state)
{
    (void)state;
    char *text = etcd_txn_json(&writing);
    assert_string_equal(
        text, "{\"compare\":[{\"key\":\"cC9tYXA=\",\"target\":\"MOD\",\"result\":\"EQUAL\","
              "\"mod_revision\":\"9\"},{\"key\":\"cC9sZWFkZXI=\",\"target\":\"CREATE\","
              "\"result\":\"EQUAL\",\"create_revision\":\"0\"}],\"success\":[{\"request_put\":"
              "{\"key\":\"cC9tYXA=\",\"value\":\"AAH//g==\",\"lease\":\"9223372036854775806\"}}],"
              "\"failure\":[{\"request_range\":{\"key\":\"cC9sZWFkZXI=\",\"keys_only\":false}}]}");
    free(text);
    text = etcd_watch_json("p/leader", 41);
    assert_string_equal(
        text, "{\"create_request\":{\"key\":\"cC9sZWFkZXI=\",\"start_revision\":\"42\"}}");
    free(text);
}

static void what_was_read_comes_back_with_its_stamps(void **state)
{
    (void)state;
    struct etcd_answer answer;
    assert_int_equal(parse("{" HEADER ",\"succeeded\":true,\"responses\":[" KV(
                               "\"value\":\"aGVsbG8=\",") "," NONE "]}",
                           &reading, &answer), 0);
    assert_true(answer.succeeded);
    assert_int_equal(answer.revision, 7);
    assert_int_equal(answer.values[0].created, 2);
    assert_int_equal(answer.values[0].modified, 5);
    assert_int_equal(answer.values[0].lease, 1234567890123456789);
    assert_int_equal(answer.values[0].len, 5);
    assert_string_equal(answer.values[0].bytes, "hello");
    assert_int_equal(answer.values[1].created, 0);
    assert_null(answer.values[1].bytes);
    etcd_answer_free(&answer);
    assert_null(answer.values[0].bytes);
}

static void a_put_answers_with_its_revision_and_a_refused_one_with_what_is_there(void **state)
{
    (void)state;
    struct etcd_answer answer;
    assert_int_equal(parse("{" HEADER ",\"succeeded\":true,\"responses\":[{\"response_put\":{}}]}",
                           &writing, &answer), 0);
    assert_true(answer.succeeded && answer.revision == 7);
    assert_int_equal(parse("{" HEADER ",\"responses\":[" KV("") "]}", &writing, &answer), 0);
    assert_false(answer.succeeded);
    assert_int_equal(answer.values[0].len, 0);
    etcd_answer_free(&answer);
}

static void hostile_answers_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", "null", "[]", "{}", "{\"header\":5}", "\xff\xfe", "{" HEADER "}",
        "{\"header\":{\"revision\":7},\"responses\":[" NONE "," NONE "]}",
        "{\"header\":{\"revision\":\"-7\"},\"responses\":[" NONE "," NONE "]}",
        "{\"header\":{\"revision\":\"7x\"},\"responses\":[" NONE "," NONE "]}",
        "{\"header\":{\"revision\":\"99999999999999999999\"},\"responses\":[" NONE "," NONE "]}",
        "{" HEADER ",\"responses\":[" NONE "]}",
        "{" HEADER ",\"responses\":[" NONE "," NONE "," NONE "]}",
        "{" HEADER ",\"responses\":[" NONE ",{\"response_put\":{}}]}",
        "{" HEADER ",\"responses\":{\"0\":" NONE "}}",
        /* A key other than the one asked for. */
        "{" HEADER ",\"responses\":[" NONE "," KV("") "]}",
        "{" HEADER ",\"responses\":[" KV("\"value\":5,") "," NONE "]}",
        "{" HEADER ",\"responses\":[" KV("\"value\":\"aGVsbG8\",") "," NONE "]}",
        "{" HEADER ",\"responses\":[" KV("\"value\":\"aG=sbG8=\",") "," NONE "]}",
        "{" HEADER ",\"responses\":[" KV("\"value\":\"====\",") "," NONE "]}",
        "{" HEADER ",\"responses\":[" KV("\"value\":\"aGVsbG9=\",") "," NONE "]}",
        "{" HEADER ",\"responses\":[" KV("\"lease\":\"1\",") "," NONE "]}",
        "{\"header\":{\"revision\":\"123456789012345678901\"},\"responses\":[" NONE "," NONE "]}",
        "{\"header\":{\"revision\":\"\"},\"responses\":[" NONE "," NONE "]}",
        RANGE("{\"kvs\":5}"), RANGE("5"), RANGE("{\"kvs\":[5]}"), RANGE("{\"kvs\":[{},{}]}"),
        RANGE("{\"kvs\":[{}]}"), RANGE("{\"kvs\":[{\"key\":5}]}"),
        /* No creation, changed before it was created, no base64. */
        RANGE("{\"kvs\":[{\"key\":\"cC9sZWFkZXI=\"}]}"),
        RANGE("{\"kvs\":[{\"key\":\"cC9sZWFkZXI=\",\"create_revision\":\"5\","
              "\"mod_revision\":\"4\"}]}"),
        RANGE("{\"kvs\":[{\"key\":\"cC9sZWFkZXI\",\"create_revision\":\"4\","
              "\"mod_revision\":\"4\"}]}"),
        RANGE("{\"kvs\":[{\"key\":\"cC9sZWFkZXIx\",\"create_revision\":\"4\","
              "\"mod_revision\":\"4\"}]}"),
        RANGE("{\"kvs\":[{\"key\":\"cC9sZWFkZXI=\",\"create_revision\":\"4\","
              "\"mod_revision\":\"4\",\"lease\":7}]}"),
    };
    struct etcd_answer answer;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (parse(bad[i], &reading, &answer) != SHOAL_E_INVALID)
            fail_msg("taken: %s", bad[i]);
        assert_null(answer.values[0].bytes);
    }
    static const char *const unput[] = {
        "{" HEADER ",\"succeeded\":true,\"responses\":[{}]}",
        "{" HEADER ",\"succeeded\":true,\"responses\":[{\"response_put\":1}]}",
        "{" HEADER ",\"succeeded\":true,\"responses\":[]}",
        "{" HEADER ",\"succeeded\":true}",
    };
    for (size_t i = 0; i < ARRAY_LEN(unput); i++)
        assert_int_equal(parse(unput[i], &writing, &answer), SHOAL_E_INVALID);
    enum { DEEP = 100000 };
    char *deep = malloc(DEEP);
    memset(deep, '[', DEEP);
    assert_int_equal(etcd_txn_parse(deep, DEEP, &reading, &answer), SHOAL_E_INVALID);
    free(deep);
}

static void leases_are_told_apart_from_lapsed_ones(void **state)
{
    (void)state;
    static const char granted[] = "{" HEADER ",\"ID\":\"77\",\"TTL\":\"5\"}";
    static const char kept[] = "{\"result\":{" HEADER ",\"ID\":\"77\",\"TTL\":\"5\"}}\n";
    static const char lapsed[] = "{\"result\":{" HEADER ",\"ID\":\"77\"}}\n";
    int64_t lease, ttl;
    assert_int_equal(etcd_lease_parse(granted, strlen(granted), false, &lease, &ttl), 0);
    assert_true(lease == 77 && ttl == 5);
    assert_int_equal(etcd_lease_parse(kept, strlen(kept), true, &lease, &ttl), 0);
    assert_true(lease == 77 && ttl == 5);
    assert_int_equal(etcd_lease_parse(lapsed, strlen(lapsed), true, &lease, &ttl), 0);
    assert_true(lease == 77 && ttl == 0);
    assert_int_equal(etcd_lease_parse("{}", 2, false, &lease, &ttl), SHOAL_E_INVALID);
    assert_int_equal(etcd_lease_parse(granted, strlen(granted), true, &lease, &ttl),
                     SHOAL_E_INVALID);
}

static void a_watch_tells_changes_from_its_own_beginning(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        int result;
        bool changed;
    } lines[] = {
        {"{\"result\":{" HEADER ",\"created\":true}}", 0, false},
        {"{\"result\":{" HEADER ",\"events\":[{\"type\":\"DELETE\",\"kv\":{\"key\":\"cA==\"}}]}}",
         0, true},
        {"{\"result\":{" HEADER ",\"canceled\":true,\"compact_revision\":\"3\"}}", 0, true},
        {"{\"error\":{\"grpc_code\":14}}", SHOAL_E_INVALID, false},
        {"", SHOAL_E_INVALID, false},
        {"{\"result\":[]}", SHOAL_E_INVALID, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        bool changed = !lines[i].changed;
        assert_int_equal(etcd_watch_parse(lines[i].line, strlen(lines[i].line), &changed),
                         lines[i].result);
        assert_int_equal(changed, lines[i].changed);
    }
}

static void errors_say_what_etcd_said(void **state)
{
    (void)state;
    char words[64];
    static const char text[] = "{\"error\":\"etcdserver: requested lease not found\",\"code\":5}";
    assert_int_equal(etcd_error_parse(text, strlen(text), words, sizeof words), 5);
    assert_string_equal(words, "etcdserver: requested lease not found");
    assert_int_equal(etcd_error_parse("Not Found", 9, words, sizeof words), 2);
    assert_int_equal(etcd_error_parse("{\"code\":-5}", 11, words, sizeof words), 2);
    assert_int_equal(etcd_error_parse("{\"code\":17}", 11, words, sizeof words), 2);
    assert_int_equal(etcd_error_parse("{\"code\":\"5\"}", 12, words, sizeof words), 2);
}

static void a_leader_is_read_back_and_nonsense_is_not(void **state)
{
    (void)state;
    struct etcd_leader leader = {"node-1", "10.0.0.1:7400"}, back;
    char *text = etcd_leader_json(&leader);
    assert_int_equal(etcd_leader_parse(text, strlen(text), &back), 0);
    assert_string_equal(back.name, "node-1");
    assert_string_equal(back.address, "10.0.0.1:7400");
    free(text);
    static const char *const bad[] = {
        "", "{}", "{\"name\":\"n\"}", "{\"name\":\"\",\"address\":\"a:1\"}",
        "{\"name\":5,\"address\":\"a:1\"}", "{\"name\":\"n\\u0000\",\"address\":\"a:1\"}",
        ("{\"name\":\"n\",\"address\":\"0123456789012345678901234567890123456789012345678901234567890"
         "123456789:1\"}")};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(etcd_leader_parse(bad[i], strlen(bad[i]), &back), SHOAL_E_INVALID);
}

static char *request(unsigned which)
{
    static const struct etcd_leader leader = {"n1", "n1:7"};
    switch (which) {
    case 0:
        return etcd_txn_json(&reading);
    case 1:
        return etcd_txn_json(&writing);
    case 2:
        return etcd_watch_json("p/leader", 41);
    default:
        return etcd_leader_json(&leader);
    }
}

static json_t *load(const char *text)
{
    json_error_t where;
    return text == NULL ? NULL : json_loads(text, 0, &where);
}

/*
 * All of it, or nothing that etcd understands. Above all, no transaction that lacks one of its
 * compares: it would be done regardless.
 */
static void a_request_without_memory_is_none(void **state)
{
    (void)state;
    json_set_alloc_funcs(malloc, free);
    for (unsigned which = 0; which < 4; which++) {
        char *text = request(which);
        json_t *whole = load(text);
        uint64_t nth = 0;
        free(text);
        assert_non_null(whole);
        for (bool fired = true; fired;) {
            memory_fail_after(++nth);
            text = request(which);
            fired = memory_fail_fired();
            json_t *said = load(text);
            assert_true(said == NULL ? fired : json_equal(said, whole));
            json_decref(said);
            free(text);
        }
        assert_true(nth > 10);
        json_decref(whole);
    }
}

static void an_answer_without_memory_is_refused(void **state)
{
    (void)state;
    static const char text[] =
        "{" HEADER ",\"succeeded\":true,\"responses\":[" KV("\"value\":\"aGVsbG8=\",") "," NONE "]}";
    json_set_alloc_funcs(malloc, free);
    uint64_t nth = 0;
    for (bool fired = true; fired;) {
        struct etcd_answer answer;
        memory_fail_after(++nth);
        int error = parse(text, &reading, &answer);
        fired = memory_fail_fired();
        assert_true(error == 0 || fired);
        if (error == 0)
            assert_string_equal(answer.values[0].bytes, "hello");
        else
            assert_null(answer.values[0].bytes);
        etcd_answer_free(&answer);
    }
    assert_true(nth > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_transaction_is_said_as_the_gateway_wants_it),
        cmocka_unit_test(what_was_read_comes_back_with_its_stamps),
        cmocka_unit_test(a_put_answers_with_its_revision_and_a_refused_one_with_what_is_there),
        cmocka_unit_test(hostile_answers_are_refused),
        cmocka_unit_test(leases_are_told_apart_from_lapsed_ones),
        cmocka_unit_test(a_watch_tells_changes_from_its_own_beginning),
        cmocka_unit_test(errors_say_what_etcd_said),
        cmocka_unit_test(a_leader_is_read_back_and_nonsense_is_not),
        cmocka_unit_test(a_request_without_memory_is_none),
        cmocka_unit_test(an_answer_without_memory_is_refused),
    };
    return cmocka_run_group_tests_name("etcd_json", tests, NULL, NULL);
}
