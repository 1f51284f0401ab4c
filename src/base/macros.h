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
                            ? -1                                                                   \
                            : 1;                                                                   \
     }))

/* Both sides must have one type, as the kernel has it: no silent sign or width change. */
#define MIN(a, b)                                                                                  \
    __extension__({                                                                                \
        __auto_type min_a_ = (a);                                                                  \
        __typeof__(min_a_) min_b_ = (b);                                                           \
        min_a_ < min_b_ ? min_a_ : min_b_;                                                         \
    })

#define MAX(a, b)                                                                                  \
    __extension__({                                                                                \
        __auto_type max_a_ = (a);                                                                  \
        __typeof__(max_a_) max_b_ = (b);                                                           \
        max_a_ > max_b_ ? max_a_ : max_b_;                                                         \
    })

/* The structure around a member; refuses a pointer of another type than the member's. */
#define container_of(pointer, type, member)                                                        \
    __extension__({                                                                                \
        __typeof__(((type *)0)->member) *member_ = (pointer);                                      \
        (type *)(void *)((char *)member_ - offsetof(type, member));                                \
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
