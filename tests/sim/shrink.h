/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A shorter history that fails in the same way: fewer operations, keys, workers and faults.
 */
#ifndef SHOAL_TESTS_SIM_SHRINK_H
#define SHOAL_TESTS_SIM_SHRINK_H

#include "runner.h"

/* @found: in: a run that fails; out: the smallest that was found and fails in the same way. */
void shrink(struct outcome *found, unsigned jobs, bool talk);

#endif
