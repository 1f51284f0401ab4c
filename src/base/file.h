/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small whole files: configuration, certificates, the cluster map kept by a node. Blocking; for
 * start-up and tools, never on a reactor's data path.
 *
 * Errors: SHOAL_E_NOT_FOUND, SHOAL_E_DENIED, SHOAL_E_EXISTS, SHOAL_E_FULL, SHOAL_E_TOO_LARGE,
 * SHOAL_E_NO_MEMORY, or SHOAL_E_SYSTEM; errno is left as the system set it.
 */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stddef.h>
#include <sys/types.h>

#include "base/macros.h"

/*
 * file_read() - The whole file, at most @max bytes.
 * @data: memory that the caller frees, zero-terminated beyond @length.
 */
int file_read(const char *path, size_t max, char **data, size_t *length) NODISCARD;

/*
 * file_write_atomic() - The file holds all of @data or what it held before, also after a crash:
 * temporary file, fsync, rename, fsync of the directory.
 */
int file_write_atomic(const char *path, const void *data, size_t length, mode_t mode) NODISCARD;

/* mkdir -p. */
int file_make_directories(const char *path, mode_t mode) NODISCARD;

/* rm -r, without following links; a path that is not there is no error. */
int file_remove_tree(const char *path) NODISCARD;

/* The error for an errno value. */
int file_error(int system_errno);

#endif
