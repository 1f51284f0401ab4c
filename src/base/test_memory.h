/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that runs out, for tests. A program that links failing_memory_dep and includes this in one
 * of its files decides which allocation of the rooms in it fails; shared libraries keep theirs.
 *
 *   do {
 *       memory_fail_after(++nth);
 *       error = what_allocates();
 *   } while (memory_fail_fired());
 */
#ifndef SHOAL_BASE_TEST_MEMORY_H
#define SHOAL_BASE_TEST_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

static uint64_t memory_left; /* allocations until one fails; 0: none does */
static bool memory_failed;

/* Let the @nth allocation from now on fail, once; 0 disarms. */
static inline void memory_fail_after(uint64_t nth)
{
    memory_left = nth;
    memory_failed = false;
}

/* Did it? Disarms. */
static inline bool memory_fail_fired(void)
{
    memory_left = 0;
    return memory_failed;
}

static bool memory_fails_now(void)
{
    if (memory_left == 0 || --memory_left > 0)
        return false;
    memory_failed = true;
    return true;
}

/* The linker names them so. */
#define MEMORY_WRAP(name, parameters, arguments, failure)                                          \
    void *__real_##name parameters;                                                                \
    void *__wrap_##name parameters;                                                                \
    void *__wrap_##name parameters                                                                 \
    {                                                                                              \
        return memory_fails_now() ? (failure) : __real_##name arguments;                           \
    }

MEMORY_WRAP(malloc, (size_t size), (size), NULL)
MEMORY_WRAP(calloc, (size_t count, size_t size), (count, size), NULL)
MEMORY_WRAP(realloc, (void *old, size_t size), (old, size), NULL)
MEMORY_WRAP(aligned_alloc, (size_t alignment, size_t size), (alignment, size), NULL)
MEMORY_WRAP(mmap, (void *at, size_t size, int protection, int flags, int fd, off_t offset),
            (at, size, protection, flags, fd, offset), (void *)-1 /* MAP_FAILED */)

#undef MEMORY_WRAP

#endif
