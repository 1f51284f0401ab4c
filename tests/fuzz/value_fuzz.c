/* SPDX-License-Identifier: Apache-2.0 */
/* Typed values: what is printed reads back to the same number. */
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "base/value.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[64] = {0};
    memcpy(text, data, MIN(size, sizeof text - 1));
    const enum value_type types[] = {VALUE_U64, VALUE_SIZE, VALUE_DURATION};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        struct value_spec spec = {.name = "x", .type = types[i]};
        struct value_error error;
        uint64_t number = 0;
        uint64_t again = 0;
        char printed[64];
        if (value_set(&spec, &number, text, &error) != 0)
            continue;
        value_print(&spec, &number, printed, sizeof printed);
        CHECK_MSG(value_set(&spec, &again, printed, &error) == 0, "%s", printed);
        CHECK_MSG(again == number, "'%s' gave '%s'", text, printed);
    }
    return 0;
}
