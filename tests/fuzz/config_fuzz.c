/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration files: any bytes are read or refused with a message, and nothing leaks. */
#include <stdint.h>

#include "base/check.h"
#include "base/config.h"

struct settings {
    char *name;
    uint64_t size;
    uint64_t wait;
    bool on;
    struct value_list list;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct value_spec specs[] = {
        {"name", VALUE_STRING, offsetof(struct settings, name), "x", 1, 64, NULL, "A name."},
        {"size", VALUE_SIZE, offsetof(struct settings, size), "64K", 4096, 0, NULL, "A size."},
        {"net.wait", VALUE_DURATION, offsetof(struct settings, wait), "5s", 0, 0, NULL, "A time."},
        {"net.on", VALUE_BOOL, offsetof(struct settings, on), "yes", 0, 0, NULL, "A switch."},
        {"list", VALUE_LIST, offsetof(struct settings, list), NULL, 0, 8, NULL, "Some."},
    };
    static const struct config_table table = {"fuzz", specs, ARRAY_LEN(specs)};
    struct settings settings;
    struct value_error error;
    int rc = config_parse(&table, &settings, "fuzz", (const char *)data, size, &error);
    if (rc != 0) {
        CHECK(error.text[0] != '\0');
        return 0;
    }
    CHECK(settings.size >= 4096 && settings.list.count <= 8);
    config_free(&table, &settings);
    return 0;
}
