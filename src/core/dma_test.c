/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/pool.h"
#include "core/dma.h"
#include "core/test_reactor.h"
#include "shoal/error.h"

static const struct dma_class classes[] = {{65536, 2}, {4096, 4}};

static void the_smallest_free_buffer_that_fits_is_given(void **state)
{
    (void)state;
    struct reactor *reactor = test_reactor_real();
    struct dma_arena *arena;
    void *buffers[6];

    assert_int_equal(dma_arena_create(reactor, classes, 2, &arena), 0);
    assert_int_equal(dma_bytes_free(arena), 2 * 65536 + 4 * 4096);
    for (unsigned i = 0; i < 6; i++) {
        buffers[i] = dma_get(arena, 1);
        assert_non_null(buffers[i]);
        assert_int_equal((uintptr_t)buffers[i] % 4096, 0);
        assert_int_equal(dma_size(arena, buffers[i]), i < 4 ? 4096 : 65536);
        memset(buffers[i], (int)i, dma_size(arena, buffers[i]));
    }
    assert_null(dma_get(arena, 1));
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(((unsigned char *)buffers[i])[4095], i);
    assert_int_equal(dma_bytes_free(arena), 0);
    for (unsigned i = 0; i < 6; i++)
        dma_put(arena, buffers[i]);
    assert_null(dma_get(arena, 65537));
    assert_ptr_equal(dma_get(arena, 4097), buffers[5]);
    dma_put(arena, buffers[5]);
    dma_arena_destroy(arena);
    reactor_destroy(reactor);
}

static void buffers_are_registered_with_the_ring(void **state)
{
    (void)state;
    struct reactor *reactor = test_reactor_real();
    struct dma_arena *arenas[2];
    char outside[16];

    assert_int_equal(dma_arena_create(reactor, classes, 2, &arenas[0]), 0);
    assert_int_equal(dma_arena_create(reactor, classes, 1, &arenas[1]), 0);
    char *first = dma_get(arenas[0], 65536);
    char *second = dma_get(arenas[1], 65536);
    int index = dma_registered_index(reactor, first, 65536);
    if (index < 0)
        skip(); /* the limit of locked memory does not allow it here */
    assert_true(dma_registered_index(reactor, first + 4096, 4096) == index);
    assert_int_not_equal(dma_registered_index(reactor, second, 65536), index);
    assert_int_equal(dma_registered_index(reactor, outside, sizeof(outside)), -1);
    dma_put(arenas[0], first);
    dma_arena_destroy(arenas[0]);
    assert_int_equal(dma_registered_index(reactor, first, 65536), -1);
    assert_true(dma_registered_index(reactor, second, 65536) >= 0);
    dma_put(arenas[1], second);
    dma_arena_destroy(arenas[1]);
    reactor_destroy(reactor);
}

static void a_test_can_let_any_allocation_fail(void **state)
{
    (void)state;
    struct test_clock clock;
    struct reactor *reactor = test_reactor_virtual(&clock, 1);
    struct dma_arena *arena;

    assert_int_equal(dma_arena_create(reactor, classes, 2, &arena), 0);
    pool_fail_after(2);
    char *buffer = dma_get(arena, 1);
    assert_non_null(buffer);
    assert_null(dma_get(arena, 1));
    assert_true(pool_fail_fired());
    dma_put(arena, buffer);
    pool_fail_after(0);
    dma_arena_destroy(arena);
    reactor_destroy(reactor);
}

static void sizes_that_are_no_whole_pages_are_refused(void **state)
{
    (void)state;
    struct test_clock clock;
    struct reactor *reactor = test_reactor_virtual(&clock, 1);
    struct dma_arena *arena;
    const struct dma_class bad[] = {{4095, 1}, {0, 1}, {4096, 0}, {SIZE_MAX - 4095, 1}};

    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(dma_arena_create(reactor, &bad[i], 1, &arena), SHOAL_E_INVALID);
    assert_int_equal(dma_arena_create(reactor, classes, 0, &arena), SHOAL_E_INVALID);
    assert_int_equal(dma_arena_create(reactor, classes, 2, &arena), 0);
    char *buffer = dma_get(arena, 1);
    assert_int_equal(dma_registered_index(reactor, buffer, 1), -1);
    dma_put(arena, buffer);
    dma_arena_destroy(arena);
    reactor_destroy(reactor);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_smallest_free_buffer_that_fits_is_given),
        cmocka_unit_test(buffers_are_registered_with_the_ring),
        cmocka_unit_test(a_test_can_let_any_allocation_fail),
        cmocka_unit_test(sizes_that_are_no_whole_pages_are_refused),
    };
    return cmocka_run_group_tests_name("dma", tests, NULL, NULL);
}
