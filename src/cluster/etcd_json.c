/* SPDX-License-Identifier: Apache-2.0 */
/*
 * etcd's messages as its JSON gateway has them: keys and values in base64, numbers of 64 bits as
 * strings, and whatever is zero, false or empty left out.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/etcd.h"
#include "shoal/error.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* ---- base64 ---- */

static char *base64_encode(const void *data, size_t len)
{
    const uint8_t *in = data;
    char *text = malloc((len + 2) / 3 * 4 + 1), *out = text;
    if (text == NULL)
        return NULL;
    for (size_t i = 0; i < len; i += 3) {
        uint32_t group = (uint32_t)in[i] << 16;
        group |= i + 1 < len ? (uint32_t)in[i + 1] << 8 : 0;
        group |= i + 2 < len ? in[i + 2] : 0;
        *out++ = digits[group >> 18];
        *out++ = digits[group >> 12 & 63];
        *out++ = i + 1 < len ? digits[group >> 6 & 63] : '=';
        *out++ = i + 2 < len ? digits[group & 63] : '=';
    }
    *out = 0;
    return text;
}

static int digit_value(char c)
{
    const char *at = c == 0 ? NULL : strchr(digits, c);
    return at == NULL ? -1 : (int)(at - digits);
}

/* Strict: whole groups, padding at the end only, no bits beyond the last byte. */
static int base64_decode(const char *text, size_t text_len, char **out, size_t *len)
{
    if (text_len % 4 != 0)
        return SHOAL_E_INVALID;
    size_t padding = 0;
    while (padding < 2 && padding < text_len && text[text_len - padding - 1] == '=')
        padding++;
    *len = text_len / 4 * 3 - padding;
    char *bytes = malloc(*len + 1);
    if (bytes == NULL)
        return SHOAL_E_NO_MEMORY;
    uint32_t bits = 0;
    unsigned held = 0;
    size_t done = 0;
    for (size_t i = 0; i < text_len - padding; i++) {
        int value = digit_value(text[i]);
        if (value < 0) {
            free(bytes);
            return SHOAL_E_INVALID;
        }
        bits = bits << 6 | (uint32_t)value;
        held += 6;
        if (held >= 8) {
            held -= 8;
            bytes[done++] = (char)(bits >> held & 0xff);
        }
    }
    if ((bits & ((1u << held) - 1)) != 0) {
        free(bytes);
        return SHOAL_E_INVALID;
    }
    bytes[done] = 0;
    *out = bytes;
    return 0;
}

/* ---- asking ---- */

static json_t *json_base64(const void *data, size_t len)
{
    char *text = base64_encode(data, len);
    json_t *json = text == NULL ? NULL : json_string_nocheck(text);
    free(text);
    return json;
}

static json_t *json_key(const char *key)
{
    return json_base64(key, strlen(key));
}

static json_t *json_i64(int64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)value);
    return json_string_nocheck(text);
}

static char *render(json_t *json)
{
    char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
    json_decref(json);
    return text;
}

/* Adds one, or gives the list up: what lacks a compare would be done without it. */
static json_t *list_with(json_t *list, json_t *item)
{
    if (json_array_append_new(list, item) == 0)
        return list;
    json_decref(list);
    return NULL;
}

static json_t *compares_json(const struct etcd_txn *txn)
{
    static const char *const targets[] = {
        [ETCD_CREATED] = "CREATE", [ETCD_MODIFIED] = "MOD", [ETCD_LEASE] = "LEASE"};
    static const char *const fields[] = {[ETCD_CREATED] = "create_revision",
                                         [ETCD_MODIFIED] = "mod_revision", [ETCD_LEASE] = "lease"};
    json_t *list = json_array();
    for (unsigned i = 0; i < txn->compares_count; i++) {
        const struct etcd_compare *compare = &txn->compares[i];
        list = list_with(list, json_pack("{s:o, s:s, s:s, s:o}", "key", json_key(compare->key),
                                         "target", targets[compare->field], "result", "EQUAL",
                                         fields[compare->field], json_i64(compare->value)));
    }
    return list;
}

static json_t *reads_json(const struct etcd_txn *txn)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < txn->reads_count; i++)
        list = list_with(list, json_pack("{s:{s:o, s:b}}", "request_range", "key",
                                         json_key(txn->reads[i].key), "keys_only",
                                         (int)txn->reads[i].stamps_only));
    return list;
}

static json_t *put_json(const struct etcd_txn *txn)
{
    return json_pack("[{s:{s:o, s:o, s:o}}]", "request_put", "key", json_key(txn->put_key), "value",
                     json_base64(txn->put_bytes, txn->put_len), "lease", json_i64(txn->put_lease));
}

char *etcd_txn_json(const struct etcd_txn *txn)
{
    return render(json_pack("{s:o, s:o, s:o}", "compare", compares_json(txn), "success",
                            txn->put_key != NULL ? put_json(txn) : reads_json(txn), "failure",
                            reads_json(txn)));
}

char *etcd_watch_json(const char *key, int64_t after)
{
    return render(json_pack("{s:{s:o, s:o}}", "create_request", "key", json_key(key),
                            "start_revision", json_i64(after + 1)));
}

char *etcd_leader_json(const struct etcd_leader *leader)
{
    return render(json_pack("{s:s, s:s}", "name", leader->name, "address", leader->address));
}

/* ---- answers ---- */

/* A number of 64 bits: a string of digits, or left out for 0. */
static int64_t read_i64(const json_t *object, const char *name, bool *bad)
{
    const json_t *field = json_object_get(object, name);
    if (field == NULL)
        return 0;
    const char *text = json_string_value(field);
    char *end = NULL;
    if (text == NULL || json_string_length(field) > 20 || text[0] < '0' || text[0] > '9') {
        *bad = true;
        return 0;
    }
    long long value = strtoll(text, &end, 10);
    if (end != text + json_string_length(field) || value == INT64_MAX)
        *bad = true;
    return value;
}

static json_t *load(const char *text, size_t len)
{
    json_error_t where;
    return json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
}

static int64_t read_revision(const json_t *object, bool *bad)
{
    return read_i64(json_object_get(object, "header"), "revision", bad);
}

/* One answer to a range: no key, or the one that was asked for. */
static int read_value(const json_t *response, const struct etcd_read *read, struct etcd_value *value)
{
    const json_t *range = json_object_get(response, "response_range");
    const json_t *kvs = json_object_get(range, "kvs");
    if (!json_is_object(range) || (kvs != NULL && !json_is_array(kvs)) || json_array_size(kvs) > 1)
        return SHOAL_E_INVALID;
    if (json_array_size(kvs) == 0)
        return 0;
    const json_t *kv = json_array_get(kvs, 0);
    const json_t *key = json_object_get(kv, "key"), *bytes = json_object_get(kv, "value");
    bool bad = !json_is_string(key) || (bytes != NULL && !json_is_string(bytes));
    value->created = read_i64(kv, "create_revision", &bad);
    value->modified = read_i64(kv, "mod_revision", &bad);
    value->lease = read_i64(kv, "lease", &bad);
    if (bad || value->created == 0 || value->modified < value->created)
        return SHOAL_E_INVALID;
    char *name;
    size_t len;
    int error = base64_decode(json_string_value(key), json_string_length(key), &name, &len);
    if (error != 0)
        return error;
    bool same = len == strlen(read->key) && memcmp(name, read->key, len) == 0;
    free(name);
    if (!same)
        return SHOAL_E_INVALID;
    if (read->stamps_only)
        return 0;
    const char *text = bytes == NULL ? "" : json_string_value(bytes);
    size_t text_len = bytes == NULL ? 0 : json_string_length(bytes);
    return base64_decode(text, text_len, &value->bytes, &value->len);
}

static int read_responses(const json_t *json, const struct etcd_txn *txn,
                          struct etcd_answer *answer)
{
    const json_t *responses = json_object_get(json, "responses");
    bool put = answer->succeeded && txn->put_key != NULL;
    if (json_array_size(responses) != (put ? 1 : txn->reads_count))
        return SHOAL_E_INVALID;
    if (put)
        return json_is_object(json_object_get(json_array_get(responses, 0), "response_put"))
                   ? 0 : SHOAL_E_INVALID;
    int error = 0;
    for (unsigned i = 0; i < txn->reads_count && error == 0; i++)
        error = read_value(json_array_get(responses, i), &txn->reads[i], &answer->values[i]);
    return error;
}

int etcd_txn_parse(const char *text, size_t len, const struct etcd_txn *txn,
                   struct etcd_answer *answer)
{
    json_t *json = load(text, len);
    bool bad = !json_is_object(json);
    *answer = (struct etcd_answer){
        .succeeded = json_is_true(json_object_get(json, "succeeded")),
        .revision = read_revision(json, &bad),
    };
    int error = bad || answer->revision == 0 ? SHOAL_E_INVALID : 0;
    if (error == 0)
        error = read_responses(json, txn, answer);
    if (error != 0)
        etcd_answer_free(answer);
    json_decref(json);
    return error;
}

void etcd_answer_free(struct etcd_answer *answer)
{
    for (unsigned i = 0; i < ETCD_READS_MAX; i++)
        free(answer->values[i].bytes);
    *answer = (struct etcd_answer){0};
}

int etcd_lease_parse(const char *text, size_t len, bool keep_alive, int64_t *lease, int64_t *ttl_s)
{
    json_t *json = load(text, len);
    const json_t *said = keep_alive ? json_object_get(json, "result") : json;
    bool bad = !json_is_object(said);
    *lease = read_i64(said, "ID", &bad);
    *ttl_s = read_i64(said, "TTL", &bad);
    json_decref(json);
    return bad || *lease == 0 ? SHOAL_E_INVALID : 0;
}

int etcd_watch_parse(const char *line, size_t len, bool *changed)
{
    json_t *json = load(line, len);
    const json_t *result = json_object_get(json, "result");
    bool valid = json_is_object(result);
    /* Cancelled: what was after that revision is compacted away, so there was something. */
    *changed = valid && (json_array_size(json_object_get(result, "events")) > 0 ||
                         json_is_true(json_object_get(result, "canceled")));
    json_decref(json);
    return valid ? 0 : SHOAL_E_INVALID;
}

int etcd_error_parse(const char *text, size_t len, char *message, size_t size)
{
    enum { UNKNOWN = 2, CODE_MAX = 16 };
    json_t *json = load(text, len);
    const json_t *code = json_object_get(json, "code");
    const char *words = json_string_value(json_object_get(json, "error"));
    json_int_t number = json_is_integer(code) ? json_integer_value(code) : UNKNOWN;
    snprintf(message, size, "%s", words != NULL ? words : "an answer that is not etcd's");
    json_decref(json);
    return number > 0 && number <= CODE_MAX ? (int)number : UNKNOWN;
}

static bool copy_text(const json_t *json, const char *name, char *out, size_t size)
{
    const json_t *field = json_object_get(json, name);
    size_t len = json_string_length(field);
    if (!json_is_string(field) || len == 0 || len >= size ||
        strlen(json_string_value(field)) != len)
        return false;
    memcpy(out, json_string_value(field), len + 1);
    return true;
}

int etcd_leader_parse(const char *text, size_t len, struct etcd_leader *leader)
{
    json_t *json = load(text, len);
    bool good = copy_text(json, "name", leader->name, sizeof leader->name) &&
                copy_text(json, "address", leader->address, sizeof leader->address);
    json_decref(json);
    return good ? 0 : SHOAL_E_INVALID;
}
