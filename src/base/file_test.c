/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "shoal/error.h"

static char root[64];

static const char *in_root(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", root, name);
    return path;
}

static int set_up(void **state)
{
    (void)state;
    strcpy(root, "/tmp/shoal-file-test-XXXXXX");
    return mkdtemp(root) != NULL ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return file_remove_tree(root);
}

static void a_written_file_reads_back(void **state)
{
    (void)state;
    static char big[10000];
    char *data = NULL;
    size_t length = 0;
    memset(big, 'b', sizeof big);
    assert_int_equal(file_write_atomic(in_root("a"), big, sizeof big, 0600), 0);
    assert_int_equal(file_read(in_root("a"), sizeof big, &data, &length), 0);
    assert_int_equal(length, sizeof big);
    assert_memory_equal(data, big, sizeof big);
    assert_int_equal(data[length], 0);
    free(data);
    struct stat status;
    assert_int_equal(stat(in_root("a"), &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
}

static void a_file_larger_than_the_bound_is_refused(void **state)
{
    (void)state;
    char *data = NULL;
    size_t length = 0;
    assert_int_equal(file_write_atomic(in_root("a"), "12345", 5, 0644), 0);
    assert_int_equal(file_read(in_root("a"), 4, &data, &length), SHOAL_E_TOO_LARGE);
    assert_null(data);
}

static void replacing_leaves_no_temporary_file(void **state)
{
    (void)state;
    char *data = NULL;
    size_t length = 0;
    assert_int_equal(file_write_atomic(in_root("a"), "old", 3, 0644), 0);
    assert_int_equal(file_write_atomic(in_root("a"), "new", 3, 0644), 0);
    assert_int_equal(file_read(in_root("a"), 10, &data, &length), 0);
    assert_string_equal(data, "new");
    free(data);
    assert_int_equal(unlink(in_root("a")), 0);
    assert_int_equal(rmdir(root), 0);
    assert_int_equal(mkdir(root, 0700), 0);
}

static void what_is_missing_is_said_to_be_missing(void **state)
{
    (void)state;
    char *data = NULL;
    size_t length = 0;
    assert_int_equal(file_read(in_root("none"), 10, &data, &length), SHOAL_E_NOT_FOUND);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(file_write_atomic(in_root("none/a"), "x", 1, 0644), SHOAL_E_NOT_FOUND);
}

static void directories_are_made_with_their_parents(void **state)
{
    (void)state;
    assert_int_equal(file_make_directories(in_root("x/y/z"), 0755), 0);
    assert_int_equal(file_make_directories(in_root("x/y/z/"), 0755), 0);
    assert_int_equal(access(in_root("x/y/z"), F_OK), 0);
    assert_int_equal(file_write_atomic(in_root("x/f"), "x", 1, 0644), 0);
    assert_int_equal(file_make_directories(in_root("x/f"), 0755), SHOAL_E_EXISTS);
    assert_int_equal(file_make_directories("", 0755), SHOAL_E_NOT_FOUND);
}

static void removing_a_tree_follows_no_links(void **state)
{
    (void)state;
    assert_int_equal(file_make_directories(in_root("keep"), 0755), 0);
    assert_int_equal(file_make_directories(in_root("gone/deep"), 0755), 0);
    assert_int_equal(symlink("../keep", in_root("gone/link")), 0);
    assert_int_equal(file_remove_tree(in_root("gone")), 0);
    assert_int_not_equal(access(in_root("gone"), F_OK), 0);
    assert_int_equal(access(in_root("keep"), F_OK), 0);
    assert_int_equal(file_remove_tree(in_root("gone")), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_written_file_reads_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_larger_than_the_bound_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(replacing_leaves_no_temporary_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_missing_is_said_to_be_missing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(directories_are_made_with_their_parents, set_up, tear_down),
        cmocka_unit_test_setup_teardown(removing_a_tree_follows_no_links, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("file", tests, NULL, NULL);
}
