/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers for people. Each function returns its text by value, so it can stand in an argument list:
 *
 *   printf("%s in %s\n", format_bytes(n).text, format_duration(ns).text);
 */
#ifndef BASE_FORMAT_H
#define BASE_FORMAT_H

#include <stdint.h>

struct format_text {
    char text[32];
};

struct format_text format_bytes(uint64_t bytes);                     /* "1.5 GiB" */
struct format_text format_duration(uint64_t ns);                     /* "230 us", "1 h 12 min" */
struct format_text format_rate(uint64_t bytes, uint64_t elapsed_ns); /* "1.2 GiB/s" */
struct format_text format_count(uint64_t count);                     /* "1,234,567" */

#endif
