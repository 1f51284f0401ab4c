/* SPDX-License-Identifier: Apache-2.0 */
/* The uring backend on real files. */
#include <fcntl.h>
#include <linux/loop.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "core/dma.h"
#include "core/test_reactor.h"
#include "dev/dev.h"
#include "shoal/error.h"

#define BLOCK DEV_BLOCK_BYTES
#define MIB (1u << 20)

static char directory[] = "/tmp/shoal-dev-test-XXXXXX";
static char path[64];
static struct reactor *reactor;
static struct fiber_pool *pool;
static struct dma_arena *arena;
static struct dev *dev;

static char last_line[512];

static void keep_line(void *arg, enum log_level level, const char *line)
{
    (void)arg;
    (void)level;
    snprintf(last_line, sizeof(last_line), "%s", line);
}

static int setup(void **state)
{
    (void)state;
    static const struct dma_class classes[] = {{65536, 4}};
    snprintf(path, sizeof(path), "%s/device", directory);
    log_set_sink(keep_line, NULL);
    reactor = test_reactor_real();
    assert_int_equal(fiber_pool_create(reactor, "test", 4, 0, &pool), 0);
    assert_int_equal(dma_arena_create(reactor, classes, 1, &arena), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    dma_arena_destroy(arena);
    fiber_pool_destroy(pool);
    reactor_destroy(reactor);
    log_set_sink(NULL, NULL);
    unlink(path);
    return 0;
}

static int open_file(uint64_t size_bytes, bool read_only)
{
    return dev_uring_open(reactor, path, size_bytes, read_only, &dev);
}

static void in_fiber(void (*run)(void *arg))
{
    assert_int_equal(fiber_spawn(pool, run, NULL), 0);
    test_run_fibers(reactor, pool);
}

static void write_and_read(void *arg)
{
    (void)arg;
    static _Alignas(4096) uint8_t plain[2][65536];
    uint8_t *fixed = dma_get(arena, 65536);

    memset(fixed, 0x5a, 65536);
    assert_int_equal(dev_write(dev, 65536, fixed, 65536), 0);
    memset(plain[0], 0xa5, sizeof(plain[0]));
    assert_int_equal(dev_write(dev, 2 * 65536, plain[0], 65536), 0);
    struct iovec iov[2] = {{fixed, BLOCK}, {plain[0], BLOCK}};
    assert_int_equal(dev_writev(dev, 0, iov, 2), 0);
    assert_int_equal(dev_flush(dev), 0);

    assert_int_equal(dev_read(dev, 0, fixed, 65536), 0);
    assert_int_equal(fixed[0], 0x5a);
    assert_int_equal(fixed[BLOCK], 0xa5);
    assert_int_equal(fixed[2 * BLOCK], 0);
    assert_int_equal(dev_read(dev, 65536, plain[1], 65536), 0);
    for (unsigned i = 0; i < 65536; i++)
        assert_int_equal(plain[1][i], 0x5a);
    assert_int_equal(dev_read(dev, MIB, plain[1], BLOCK), SHOAL_E_INVALID);
    dma_put(arena, fixed);
}

static void a_file_keeps_what_was_written(void **state)
{
    (void)state;
    assert_int_equal(open_file(MIB, false), 0);
    assert_true(dev->volatile_cache);
    assert_int_equal(dev->size_bytes, MIB);
    assert_string_equal(dev->name, "device");
    in_fiber(write_and_read);
    dev_close(dev);

    /* As another program sees it. */
    uint8_t bytes[BLOCK];
    int fd = open(path, O_RDONLY);
    assert_int_equal(pread(fd, bytes, BLOCK, 65536), BLOCK);
    assert_int_equal(bytes[17], 0x5a);
    close(fd);
}

static void a_new_file_is_allocated_and_written(void **state)
{
    (void)state;
    struct stat status;
    assert_int_equal(open_file(20 * MIB + BLOCK, false), 0);
    dev_close(dev);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_size, 20 * MIB + BLOCK);
    assert_true((uint64_t)status.st_blocks * 512 >= 20 * MIB + BLOCK);
    assert_int_equal(status.st_mode & 0777, 0600);
}

static void a_file_grows_and_keeps_its_bytes(void **state)
{
    (void)state;
    assert_int_equal(open_file(MIB, false), 0);
    in_fiber(write_and_read);
    dev_close(dev);
    assert_int_equal(open_file(2 * MIB, false), 0);
    assert_int_equal(dev->size_bytes, 2 * MIB);
    dev_close(dev);
    assert_int_equal(open_file(MIB, false), 0); /* smaller than it is: as it is */
    assert_int_equal(dev->size_bytes, 2 * MIB);
    dev_close(dev);
    assert_int_equal(open_file(0, true), 0);
    assert_int_equal(dev->size_bytes, 2 * MIB);
    dev_close(dev);
}

static void two_nodes_cannot_share_a_device(void **state)
{
    (void)state;
    struct dev *first;
    assert_int_equal(open_file(MIB, false), 0);
    first = dev;
    assert_int_equal(open_file(0, false), SHOAL_E_BUSY);
    assert_non_null(strstr(last_line, "in use by another process"));
    assert_int_equal(open_file(0, true), SHOAL_E_BUSY);
    dev_close(first);
    assert_int_equal(open_file(0, false), 0);
    dev_close(dev);
}

static void what_is_no_device_is_refused_with_its_reason(void **state)
{
    (void)state;
    assert_int_equal(open_file(0, false), SHOAL_E_NOT_FOUND);
    assert_non_null(strstr(last_line, "No such file"));
    assert_int_equal(open_file(MIB + 1, false), SHOAL_E_INVALID);
    assert_non_null(strstr(last_line, "multiple of 4096"));
    assert_int_equal(open_file(0, false), SHOAL_E_INVALID);
    assert_non_null(strstr(last_line, "empty file"));
    assert_int_equal(open_file(UINT64_C(1) << 50, false), SHOAL_E_FULL);
    assert_non_null(strstr(last_line, "cannot grow"));
    assert_int_equal(open_file(MIB, true), SHOAL_E_INVALID);
    assert_int_equal(dev_uring_open(reactor, directory, 0, false, &dev), SHOAL_E_UNSUPPORTED);
    assert_int_equal(dev_uring_open(reactor, "/dev/null", 0, false, &dev), SHOAL_E_UNSUPPORTED);
    assert_non_null(strstr(last_line, "neither a regular file nor a block device"));
}

static void write_read_only(void *arg)
{
    (void)arg;
    static _Alignas(4096) uint8_t block[BLOCK];
    assert_int_equal(dev_write(dev, 0, block, BLOCK), SHOAL_E_INVALID);
    assert_int_equal(dev_read(dev, 0, block, BLOCK), 0);
}

static void a_read_only_device_takes_no_writes(void **state)
{
    (void)state;
    struct dev *second;
    assert_int_equal(open_file(MIB, false), 0);
    dev_close(dev);
    assert_int_equal(open_file(0, true), 0);
    in_fiber(write_read_only);
    assert_int_equal(dev_uring_open(reactor, path, 0, true, &second), 0);
    dev_close(second);
    dev_close(dev);
}

static void read_past_the_cut(void *arg)
{
    (void)arg;
    static _Alignas(4096) uint8_t block[2 * BLOCK];
    assert_int_equal(dev_read(dev, MIB / 2 - BLOCK, block, 2 * BLOCK), SHOAL_E_IO);
    assert_int_equal(dev_read(dev, MIB - BLOCK, block, BLOCK), SHOAL_E_IO);
    assert_non_null(strstr(last_line, "short transfer"));
}

static void a_file_cut_short_under_us_is_an_io_error(void **state)
{
    (void)state;
    assert_int_equal(open_file(MIB, false), 0);
    assert_int_equal(truncate(path, MIB / 2), 0);
    in_fiber(read_past_the_cut);
    dev_close(dev);
}

/* ---- block devices ---- */

static char loop_path[32];

/* Puts the file behind a loop device, where the machine and our rights allow it. */
static bool attach_loop(int *loop_fd)
{
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    int backing = open(path, O_RDWR | O_CLOEXEC);
    int number = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
    struct loop_config config = {.fd = (__u32)backing, .info.lo_flags = LO_FLAGS_AUTOCLEAR};

    snprintf(loop_path, sizeof(loop_path), "/dev/loop%d", number);
    *loop_fd = number < 0 ? -1 : open(loop_path, O_RDWR | O_CLOEXEC);
    bool attached = *loop_fd >= 0 && ioctl(*loop_fd, LOOP_CONFIGURE, &config) == 0;
    if (!attached && *loop_fd >= 0)
        close(*loop_fd);
    if (control >= 0)
        close(control);
    if (backing >= 0)
        close(backing);
    return attached;
}

static void a_block_device_is_taken_as_large_as_it_is(void **state)
{
    (void)state;
    int loop_fd;
    assert_int_equal(open_file(MIB, false), 0);
    dev_close(dev);
    if (!attach_loop(&loop_fd))
        skip(); /* no loop devices here, or no right to them */
    assert_int_equal(dev_uring_open(reactor, loop_path, 2 * MIB, false, &dev), SHOAL_E_INVALID);
    assert_non_null(strstr(last_line, "2097152 were asked for"));
    assert_int_equal(dev_uring_open(reactor, loop_path, MIB / 2, false, &dev), 0);
    assert_int_equal(dev->size_bytes, MIB);
    assert_true(dev->volatile_cache); /* a loop device caches in its file */
    in_fiber(write_and_read);
    dev_close(dev);
    close(loop_fd);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_file_keeps_what_was_written),
        TEST(a_new_file_is_allocated_and_written),
        TEST(a_file_grows_and_keeps_its_bytes),
        TEST(two_nodes_cannot_share_a_device),
        TEST(what_is_no_device_is_refused_with_its_reason),
        TEST(a_read_only_device_takes_no_writes),
        TEST(a_file_cut_short_under_us_is_an_io_error),
        TEST(a_block_device_is_taken_as_large_as_it_is),
    };
    if (mkdtemp(directory) == NULL)
        return 1;
    int failed = cmocka_run_group_tests_name("dev_file", tests, NULL, NULL);
    rmdir(directory);
    return failed;
}
