/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KV-cache traces in the public Mooncake format: one JSON object a line,
 *
 *   {"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47, 48]}
 *
 * hash_ids is the request's chain of prefix blocks: equal ids are equal prefixes. Lines come from
 * strangers, and everything about them is checked.
 */
#ifndef CLI_TRACE_H
#define CLI_TRACE_H

#include <stddef.h>
#include <stdint.h>

#define TRACE_LINE_MAX (4u << 20)
#define TRACE_BLOCKS_MAX 65536u

struct trace_request {
    uint32_t count, room;
    uint64_t *blocks;
};

/*
 * trace_parse() - One line without its newline.
 * @request: zeroed before the first use; its memory is reused from line to line
 * @why: a sentence when the line is refused; at least 128 bytes
 * Return: 0, SHOAL_E_INVALID, SHOAL_E_TOO_LARGE, SHOAL_E_NO_MEMORY.
 */
int trace_parse(const char *line, size_t len, struct trace_request *request, char *why);
void trace_request_free(struct trace_request *request);

#endif
