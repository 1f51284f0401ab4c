/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Assertions that stay on in production.
 *
 * CHECK states what only our own code could have got wrong; when it does not hold the process stops
 * at once, because a storage node that goes on with a broken invariant destroys data. What comes
 * from a disk, a wire or a person is never checked so: it is refused with an error.
 */
#ifndef BASE_CHECK_H
#define BASE_CHECK_H

#include "base/macros.h"

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (UNLIKELY(!(cond)))                                                                     \
            check_failed(#cond, __FILE__, __LINE__, __func__);                                     \
    } while (0)

/* As CHECK, with the values that a person needs to see what went wrong. */
#define CHECK_MSG(cond, ...)                                                                       \
    do {                                                                                           \
        if (UNLIKELY(!(cond)))                                                                     \
            check_failed_with(#cond, __FILE__, __LINE__, __func__, __VA_ARGS__);                   \
    } while (0)

/* Print expression, place and message to stderr, then abort. */
_Noreturn void check_failed(const char *expression, const char *file, int line,
                            const char *function);
_Noreturn void check_failed_with(const char *expression, const char *file, int line,
                                 const char *function, const char *format, ...) PRINTF_LIKE(5, 6);

#endif
