/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/test_engine.h"

static struct layout layout;
static struct alloc alloc;

static void start(uint64_t device_bytes)
{
    assert_int_equal(layout_compute(device_bytes, &layout), 0);
    assert_int_equal(alloc_init(&alloc, &layout), 0);
}

static void classes_waste_little(void **state)
{
    (void)state;
    start(1 << 30);
    for (uint32_t len = 4096; len <= ENGINE_PAYLOAD_MAX; len += 4096) {
        uint32_t blocks = extent_shape_of(len, false).blocks;
        unsigned class_id = alloc_class_for(&alloc, blocks);
        assert_true(class_id < alloc.class_count);
        uint32_t slot = alloc.class_blocks[class_id];
        assert_true(slot >= blocks);
        assert_true((uint64_t)(slot - blocks) * 4 <= blocks);
        if (is_power_of_two(len))
            assert_int_equal(slot, blocks);
    }
    alloc_free(&alloc);
}

/* Whatever is taken and given: no two extents overlap, and all of it comes back. */
static void extents_never_overlap(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 6; round++) {
        start(UINT64_C(4) << (20 + 2 * round));
        struct {
            struct extent_place place;
            uint32_t blocks;
        } held[512];
        size_t count = 0;
        struct bitmap taken;
        assert_int_equal(bitmap_alloc(&taken, layout.blocks), 0);
        struct prng prng;
        prng_seed(&prng, round);
        for (unsigned step = 0; step < 8000; step++) {
            if (count < ARRAY_LEN(held) && prng_chance(&prng, 3, 5)) {
                uint32_t len = 1u << prng_below(&prng, round < 2 ? 17 : 22);
                len += (uint32_t)prng_below(&prng, len);
                uint32_t blocks = extent_shape_of(len, false).blocks;
                struct extent_place place;
                if (alloc_take(&alloc, blocks, &place) != 0)
                    continue;
                assert_true(place.block >= layout.extent_start);
                assert_true(place.block + blocks <= layout.extent_start + layout.extent_blocks);
                assert_int_equal(bitmap_count_range(&taken, place.block, blocks), 0);
                bitmap_set_range(&taken, place.block, blocks);
                held[count].place = place;
                held[count++].blocks = blocks;
            } else if (count > 0) {
                size_t i = prng_below(&prng, count);
                bitmap_clear_range(&taken, held[i].place.block, held[i].blocks);
                alloc_give(&alloc, held[i].place.block);
                held[i] = held[--count];
            }
        }
        /* What is held can be derived again, and nothing can be marked twice. */
        struct alloc first = alloc;
        assert_int_equal(alloc_init(&alloc, &layout), 0);
        for (size_t i = 0; i < count; i++)
            assert_int_equal(alloc_mark(&alloc, &held[i].place, held[i].blocks), 0);
        assert_int_equal(alloc.blocks_used, first.blocks_used);
        for (size_t i = 0; i < count; i++)
            assert_int_equal(alloc_mark(&alloc, &held[i].place, held[i].blocks), SHOAL_E_CORRUPT);
        alloc_free(&first);
        while (count > 0)
            alloc_give(&alloc, held[--count].place.block);
        assert_int_equal(alloc.blocks_used, 0);
        assert_int_equal(bitmap_count(&alloc.free), alloc.segment_count);
        bitmap_free(&taken);
        alloc_free(&alloc);
    }
}

static void a_place_that_cannot_be_is_refused(void **state)
{
    (void)state;
    start(16 << 20);
    const struct extent_place wrong[] = {
        {layout.extent_start - 1, 0, 0},         {layout.extent_start + layout.extent_blocks, 0, 0},
        {layout.extent_start, ALLOC_CLASSES, 0}, {layout.extent_start, 0, 13},
        {layout.extent_start + 1, 1, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        assert_int_equal(alloc_mark(&alloc, &wrong[i], 1), SHOAL_E_CORRUPT);
    struct extent_place place = {layout.extent_start, 0, 0};
    assert_int_equal(alloc_mark(&alloc, &place, 2), SHOAL_E_CORRUPT);

    /* Beside one that is there: of another class or size, behind the last slot, in a run. */
    assert_int_equal(alloc_mark(&alloc, &place, 1), 0);
    assert_int_equal(alloc_mark(&alloc, &place, 1), SHOAL_E_CORRUPT);
    const struct extent_place beside[] = {
        {layout.extent_start + 2, 1, 0},
        {layout.extent_start + 2, 0, 1},
        {layout.extent_start + layout.segment_blocks, 0, 1},
        {layout.extent_start + layout.extent_blocks - layout.segment_blocks, 0, 12},
    };
    for (size_t i = 0; i < ARRAY_LEN(beside); i++)
        assert_int_equal(alloc_mark(&alloc, &beside[i], 1), SHOAL_E_CORRUPT);
    for (unsigned class_id = 0; class_id < alloc.class_count; class_id++) {
        /* What a slab has left over behind its last slot is no slot. */
        uint32_t size = alloc.class_blocks[class_id];
        uint32_t slots = layout.segment_blocks / size;
        struct extent_place last = {
            layout.extent_start + 3 * layout.segment_blocks + (uint64_t)slots * size,
            (uint8_t)class_id, 0};
        if (slots * size < layout.segment_blocks)
            assert_int_equal(alloc_mark(&alloc, &last, 1), SHOAL_E_CORRUPT);
    }
    assert_int_equal(alloc_take(&alloc, UINT32_MAX, &place), SHOAL_E_TOO_LARGE);
    alloc_free(&alloc);
}

static void a_small_device_still_takes_a_large_piece(void **state)
{
    (void)state;
    start(4 << 20);
    struct extent_place place;
    assert_int_equal(alloc_take(&alloc, extent_shape_of(1 << 20, false).blocks, &place), 0);
    assert_int_equal(alloc_take(&alloc, 1, &place), 0);
    assert_int_equal(alloc_take(&alloc, extent_shape_of(ENGINE_PAYLOAD_MAX, false).blocks, &place),
                     SHOAL_E_FULL);
    alloc_free(&alloc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes_waste_little),
        cmocka_unit_test(extents_never_overlap),
        cmocka_unit_test(a_place_that_cannot_be_is_refused),
        cmocka_unit_test(a_small_device_still_takes_a_large_piece),
    };
    return cmocka_run_group_tests_name("engine alloc", tests, NULL, NULL);
}
