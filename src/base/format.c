/* SPDX-License-Identifier: Apache-2.0 */
#include "base/format.h"

#include <stdio.h>
#include <string.h>

#include "base/macros.h"

#define SECOND UINT64_C(1000000000)

/* Three digits that matter: 1.25, 12.5, 125. */
static int decimals(double value)
{
    return value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
}

static struct format_text scaled_bytes(double value, const char *after)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    struct format_text out;
    size_t unit = 0;
    /* 1023.6 would print as "1024 KiB". */
    while (value >= 1023.5 && unit + 1 < ARRAY_LEN(units)) {
        value /= 1024;
        unit++;
    }
    int digits = unit == 0 ? 0 : decimals(value);
    char number[24];
    snprintf(number, sizeof number, "%.*f", digits, value);
    /* "2.00 KiB" says no more than "2 KiB". */
    if (strchr(number, '.') != NULL) {
        size_t end = strlen(number);
        while (number[end - 1] == '0')
            end--;
        if (number[end - 1] == '.')
            end--;
        number[end] = '\0';
    }
    snprintf(out.text, sizeof out.text, "%.16s %s%s", number, units[unit], after);
    return out;
}

struct format_text format_bytes(uint64_t bytes)
{
    return scaled_bytes((double)bytes, "");
}

struct format_text format_rate(uint64_t bytes, uint64_t elapsed_ns)
{
    double seconds = (double)MAX(elapsed_ns, UINT64_C(1)) / (double)SECOND;
    return scaled_bytes((double)bytes / seconds, "/s");
}

struct format_text format_duration(uint64_t ns)
{
    struct format_text out;
    double value = (double)ns;
    if (ns < 1000) {
        snprintf(out.text, sizeof out.text, "%u ns", (unsigned)ns);
    } else if (value < 999.5e3) {
        snprintf(out.text, sizeof out.text, "%.*f us", decimals(value / 1e3), value / 1e3);
    } else if (value < 999.5e6) {
        snprintf(out.text, sizeof out.text, "%.*f ms", decimals(value / 1e6), value / 1e6);
    } else if (ns < 100 * SECOND) {
        snprintf(out.text, sizeof out.text, "%.*f s", decimals(value / 1e9), value / 1e9);
    } else if (ns < 3600 * SECOND) {
        unsigned seconds = (unsigned)(ns / SECOND);
        snprintf(out.text, sizeof out.text, "%u min %u s", seconds / 60, seconds % 60);
    } else {
        unsigned long long minutes = ns / (60 * SECOND);
        snprintf(out.text, sizeof out.text, "%llu h %llu min", minutes / 60, minutes % 60);
    }
    return out;
}

struct format_text format_count(uint64_t count)
{
    struct format_text out;
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%llu", (unsigned long long)count);
    size_t at = 0;
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            out.text[at++] = ',';
        out.text[at++] = digits[i];
    }
    out.text[at] = '\0';
    return out;
}
