/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The few macros that C lacks: typed, evaluated once, and none that hides control flow.
 */
#ifndef BASE_MACROS_H
#define BASE_MACROS_H

#include <stddef.h>
#include <stdint.h>

/* Number of elements of a true array; a pointer does not compile. */
#define ARRAY_LEN(array)                                                                           \
    (sizeof(array) / sizeof((array)[0]) +                                                          \
     0 * sizeof(struct {                                                                           \
         int is_array : __builtin_types_compatible_p(__typeof__(array), __typeof__(&(array)[0]))   \
                        ? -1                                                                       \
                        : 1;                                                                       \
     }))

#define MACROS_PASTE(a, b) a##b
#define MACROS_UNIQUE(name, number) MACROS_PASTE(name, number)

/*
 * The sides are evaluated once and compared in their own types; -Wconversion and -Wsign-compare
 * speak up where these differ. The names are unique, so that one may stand inside another.
 */
#define MIN(a, b) MACROS_SELECT(<, a, b, __COUNTER__)
#define MAX(a, b) MACROS_SELECT(>, a, b, __COUNTER__)
#define MACROS_SELECT(is, a, b, number)                                                            \
    MACROS_SELECT_NAMED(is, a, b, MACROS_UNIQUE(a_, number), MACROS_UNIQUE(b_, number))
#define MACROS_SELECT_NAMED(is, a, b, a_once, b_once)                                              \
    __extension__({                                                                                \
        __auto_type a_once = (a);                                                                  \
        __typeof__(a_once) b_once = (b);                                                           \
        a_once is b_once ? a_once : b_once;                                                        \
    })

/* The structure around a member; refuses a pointer of another type than the member's. */
#define container_of(pointer, type, member)                                                        \
    MACROS_CONTAINER(pointer, type, member, MACROS_UNIQUE(member_, __COUNTER__))
#define MACROS_CONTAINER(pointer, type, member, once)                                              \
    __extension__({                                                                                \
        __typeof__(((type *)0)->member) *once = (pointer);                                         \
        (type *)(void *)((char *)once - offsetof(type, member));                                   \
    })

#define LIKELY(cond) __builtin_expect(!!(cond), 1)
#define UNLIKELY(cond) __builtin_expect(!!(cond), 0)

#define PRINTF_LIKE(format_at, first_at) __attribute__((format(printf, format_at, first_at)))
#define NODISCARD __attribute__((warn_unused_result))

static inline uint64_t round_up_u64(uint64_t value, uint64_t power_of_two)
{
    return (value + power_of_two - 1) & ~(power_of_two - 1);
}

static inline uint64_t round_down_u64(uint64_t value, uint64_t power_of_two)
{
    return value & ~(power_of_two - 1);
}

static inline uint64_t div_round_up_u64(uint64_t value, uint64_t by)
{
    return value / by + (value % by != 0);
}

static inline int is_power_of_two(uint64_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

#endif
