/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the backends of dev share, private to the room. A backend embeds struct dev first, calls
 * dev_init(), gets only valid operations through dev_ops.submit, and ends each with exactly one of
 * dev_finish() and dev_finish_later().
 */
#ifndef SHOAL_DEV_BACKEND_H
#define SHOAL_DEV_BACKEND_H

#include "dev/dev.h"

void dev_init(struct dev *dev, const struct dev_ops *ops, struct reactor *reactor, const char *name,
              uint64_t size_bytes);

/* On the reactor's stack only, and not from within submit. */
void dev_finish(struct dev *dev, struct dev_io *io, int result);

/* From anywhere: done() is called in this or the next poll, in the order of the calls. */
void dev_finish_later(struct dev *dev, struct dev_io *io, int result);

/* Bytes that the operation moves. */
uint64_t dev_io_bytes(const struct dev_io *io);

#endif
