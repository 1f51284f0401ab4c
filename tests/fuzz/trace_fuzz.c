/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of KV-cache traces: read within the bounds or refused with a sentence, and nothing leaks. */
#include <stdint.h>

#include "base/check.h"
#include "cli/trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct trace_request request = {0};
    char why[128] = "";

    int rc = trace_parse((const char *)data, size, &request, why);
    if (rc != 0)
        CHECK(why[0] != '\0');
    else
        CHECK(request.count <= TRACE_BLOCKS_MAX && request.count <= request.room);
    trace_request_free(&request);
    return 0;
}
