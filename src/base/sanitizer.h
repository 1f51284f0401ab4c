/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the sanitizers must be told, as nothing at all in a build without them.
 *
 * SHOAL_ASAN and SHOAL_TSAN are 1 or 0. sanitizer_poison() makes any touch of the range an error
 * until sanitizer_unpoison(): pools use it for objects that nobody owns.
 */
#ifndef BASE_SANITIZER_H
#define BASE_SANITIZER_H

#include <stddef.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SHOAL_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define SHOAL_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) && !defined(SHOAL_ASAN)
#define SHOAL_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__) && !defined(SHOAL_TSAN)
#define SHOAL_TSAN 1
#endif
#ifndef SHOAL_ASAN
#define SHOAL_ASAN 0
#endif
#ifndef SHOAL_TSAN
#define SHOAL_TSAN 0
#endif

#if SHOAL_ASAN
#include <sanitizer/asan_interface.h>
#endif

static inline void sanitizer_poison(const void *at, size_t size)
{
#if SHOAL_ASAN
    __asan_poison_memory_region(at, size);
#else
    (void)at;
    (void)size;
#endif
}

static inline void sanitizer_unpoison(const void *at, size_t size)
{
#if SHOAL_ASAN
    __asan_unpoison_memory_region(at, size);
#else
    (void)at;
    (void)size;
#endif
}

#endif
