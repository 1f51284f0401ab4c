/* SPDX-License-Identifier: Apache-2.0 */
#include "place/table_test.h"

#include <math.h>

#include "place/score.h"
#include "shoal/error.h"

static void a_pool_without_distinct_targets_is_refused(void **state)
{
    struct cluster c = cluster_new(5, 1, 1);
    struct place_verdict v;
    (void)state;

    assert_int_equal(place_check(&v, c.targets, c.count, 4, 2), SHOAL_E_UNAVAILABLE);
    assert_int_equal(v.targets, 5);
    assert_int_equal(place_check(&v, c.targets, c.count, 3, 2), 0);
    assert_true(v.survives_a_node);
    cluster_set_node(&c, 2, false);
    assert_int_equal(place_check(&v, c.targets, c.count, 3, 2), SHOAL_E_UNAVAILABLE);
    cluster_free(&c);
}

static void a_node_with_more_than_m_shards_is_flagged(void **state)
{
    (void)state;

    for (unsigned nodes = 1; nodes <= 8; nodes++) {
        struct cluster c = cluster_new(nodes, 12, 1);
        struct place_verdict v;
        assert_int_equal(place_check(&v, c.targets, c.count, 4, 2), 0);
        assert_int_equal(v.nodes, nodes);
        assert_int_equal(v.most_on_a_node, (6 + nodes - 1) / nodes);
        assert_int_equal(v.survives_a_node, nodes >= 3);
        cluster_free(&c);
    }
}

static void a_domain_with_more_than_m_shards_is_flagged(void **state)
{
    (void)state;

    for (unsigned domains = 2; domains <= 8; domains++) {
        struct cluster c = cluster_new(8 * domains, 1, 1);
        struct place_verdict v;
        for (size_t i = 0; i < c.count; i++)
            c.targets[i].domain = c.targets[i].node % domains + 1;
        assert_int_equal(place_check(&v, c.targets, c.count, 4, 2), 0);
        assert_int_equal(v.domains, domains);
        assert_int_equal(v.most_on_a_node, 1);
        assert_int_equal(v.most_in_a_domain, (6 + domains - 1) / domains);
        assert_int_equal(v.survives_a_domain, domains >= 3);
        cluster_free(&c);
    }
}

static void a_zone_with_more_than_m_shards_is_flagged(void **state)
{
    (void)state;

    for (unsigned zones = 2; zones <= 6; zones++) {
        struct cluster c = cluster_new(24, 1, 1);
        struct place_verdict v;
        c.zones = zones;
        /* Racks of two, each in a zone. */
        for (unsigned node = 0; node < 24; node++) {
            cluster_set_domain(&c, node, 1 + node / 2);
            c.targets[node].zone = 1 + node / 2 % zones;
        }
        assert_int_equal(place_check(&v, c.targets, c.count, 4, 2), 0);
        assert_int_equal(v.domains, 12);
        assert_int_equal(v.zones, zones);
        assert_int_equal(v.most_in_a_domain, 1);
        assert_int_equal(v.most_in_a_zone, (6 + zones - 1) / zones);
        assert_int_equal(v.survives_a_zone, zones >= 3);
        cluster_free(&c);
    }
}

static void a_redundancy_out_of_bounds_is_refused(void **state)
{
    struct cluster c = cluster_new(20, 1, 1);
    struct place_verdict v;
    (void)state;

    assert_int_equal(place_check(&v, c.targets, c.count, 0, 2), SHOAL_E_INVALID);
    assert_int_equal(place_check(&v, c.targets, c.count, 11, 2), SHOAL_E_INVALID);
    assert_int_equal(place_check(&v, c.targets, c.count, 1, 12), SHOAL_E_INVALID);
    assert_int_equal(place_check(&v, c.targets, c.count, UINT32_MAX, 1), SHOAL_E_INVALID);
    assert_int_equal(place_check(&v, c.targets, c.count, 1, UINT32_MAX), SHOAL_E_INVALID);
    assert_int_equal(place_check(&v, c.targets, c.count, 1, 11), 0);
    cluster_free(&c);
}

static void the_logarithm_is_right_to_seven_digits(void **state)
{
    static struct score_table table;
    struct prng prng;
    (void)state;

    prng_seed(&prng, 3);
    score_table_init(&table);
    for (int i = 0; i < 100000; i++) {
        const uint64_t hash = prng_next(&prng) >> prng_below(&prng, 60) | 1;
        const double ours = (double)score_negative_log2(&table, hash) / (1 << SCORE_FRACTION_BITS);
        const double exact = 64 - log2((double)hash);
        assert_true(fabs(ours - exact) < 1e-7);
    }
    assert_int_equal(score_negative_log2(&table, 0), (uint64_t)64 << SCORE_FRACTION_BITS);
    assert_true(score_negative_log2(&table, UINT64_MAX) <= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pool_without_distinct_targets_is_refused),
        cmocka_unit_test(a_node_with_more_than_m_shards_is_flagged),
        cmocka_unit_test(a_domain_with_more_than_m_shards_is_flagged),
        cmocka_unit_test(a_zone_with_more_than_m_shards_is_flagged),
        cmocka_unit_test(a_redundancy_out_of_bounds_is_refused),
        cmocka_unit_test(the_logarithm_is_right_to_seven_digits),
    };
    return cmocka_run_group_tests_name("place_check", tests, NULL, NULL);
}
