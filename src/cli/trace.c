/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/trace.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "shoal/error.h"

#define WHY_BYTES 128

static int make_room(struct trace_request *request, size_t count)
{
    if (count <= request->room)
        return 0;
    uint64_t *blocks = realloc(request->blocks, count * sizeof *blocks);
    if (blocks == NULL)
        return SHOAL_E_NO_MEMORY;
    request->blocks = blocks;
    request->room = (uint32_t)count;
    return 0;
}

static int take_blocks(const json_t *ids, struct trace_request *request, char *why)
{
    size_t count = json_array_size(ids);
    if (!json_is_array(ids)) {
        snprintf(why, WHY_BYTES, "it has no list \"hash_ids\"");
        return SHOAL_E_INVALID;
    }
    if (count > TRACE_BLOCKS_MAX) {
        snprintf(why, WHY_BYTES, "%zu blocks, at most %u are possible", count, TRACE_BLOCKS_MAX);
        return SHOAL_E_TOO_LARGE;
    }
    if (make_room(request, count) != 0)
        return SHOAL_E_NO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        const json_t *id = json_array_get(ids, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0) {
            snprintf(why, WHY_BYTES, "hash_ids[%zu] is no whole number", i);
            return SHOAL_E_INVALID;
        }
        request->blocks[i] = (uint64_t)json_integer_value(id);
    }
    request->count = (uint32_t)count;
    return 0;
}

int trace_parse(const char *line, size_t len, struct trace_request *request, char *why)
{
    json_error_t where;
    request->count = 0;
    why[0] = 0;
    if (len > TRACE_LINE_MAX) {
        snprintf(why, WHY_BYTES, "a line of %zu bytes is too long", len);
        return SHOAL_E_TOO_LARGE;
    }
    json_t *json = json_loadb(line, len, JSON_REJECT_DUPLICATES, &where);
    if (!json_is_object(json)) {
        snprintf(why, WHY_BYTES, "no JSON object: %.90s",
                 json == NULL ? where.text : "something else");
        json_decref(json);
        return SHOAL_E_INVALID;
    }
    int rc = take_blocks(json_object_get(json, "hash_ids"), request, why);
    json_decref(json);
    return rc;
}

void trace_request_free(struct trace_request *request)
{
    free(request->blocks);
    *request = (struct trace_request){0};
}
