/* SPDX-License-Identifier: Apache-2.0 */
#include "base/check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void check_failed(const char *expression, const char *file, int line, const char *function)
{
    fprintf(stderr, "CHECK failed: %s at %s:%d in %s()\n", expression, file, line, function);
    abort();
}

void check_failed_with(const char *expression, const char *file, int line, const char *function,
                       const char *format, ...)
{
    char message[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    fprintf(stderr, "CHECK failed: %s at %s:%d in %s(): %s\n", expression, file, line, function,
            message);
    abort();
}
