#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Each wrong that history.py looks for, made up, is seen; and what may happen passes."""
import unittest

import history


def op(kind, value, called, returned, status="OK", version=(), client="c", key="k"):
    return history.Operation(client, kind, key, value, version, called, returned, status)


class Histories(unittest.TestCase):
    def good(self, *operations):
        self.assertEqual([], history.judge(operations))

    def bad(self, words, *operations):
        found = history.judge(operations)
        self.assertTrue(any(words in problem for problem in found), found)

    def test_a_line_of_the_journal_is_understood(self):
        one = history.parse("c-1 get pool/r/live-1 7 12.3.4 1000000000 2500000000 OK\n")
        self.assertEqual(op("get", "7", 1.0, 2.5, version=(12, 3, 4), client="c-1",
                            key="pool/r/live-1"), one)

    def test_reads_of_the_newest_value_pass(self):
        self.good(op("put", "1", 0, 1), op("get", "1", 1, 2), op("put", "2", 2, 3), op("get", "2", 3, 4))

    def test_a_read_beside_a_put_may_give_either(self):
        self.good(op("put", "1", 0, 1), op("put", "2", 2, 5), op("get", "1", 2, 3), op("get", "2", 3, 4))

    def test_a_read_of_what_was_replaced_is_seen(self):
        self.bad("no order", op("put", "1", 0, 1), op("put", "2", 2, 3), op("get", "1", 4, 5))

    def test_so_it_is_when_only_another_read_had_told_of_the_newer(self):
        self.bad("no order", op("put", "1", 0, 1), op("put", "2", 2, 9, "TIMEOUT"),
                 op("get", "2", 3, 4), op("get", "1", 5, 6))

    def test_reads_that_go_back_and_forth_are_seen(self):
        self.bad("no order", op("put", "1", 0, 9), op("put", "2", 0, 9), op("get", "1", 1, 2),
                 op("get", "2", 3, 4), op("get", "1", 5, 6))

    def test_a_put_within_the_reign_of_another_value_is_seen(self):
        self.bad("no order", op("put", "1", 0, 1), op("put", "2", 2, 3), op("get", "1", 4, 5))
        self.bad("no order", op("put", "1", 0, 1), op("get", "1", 6, 7), op("put", "2", 2, 5))

    def test_a_put_of_unknown_outcome_may_come_late_or_never(self):
        self.good(op("put", "1", 0, 1), op("put", "2", 2, 3, "TIMEOUT"), op("put", "3", 4, 5),
                  op("get", "3", 6, 7), op("get", "2", 8, 9))
        self.good(op("put", "1", 0, 1), op("put", "2", 2, 3, "TIMEOUT"), op("get", "1", 8, 9))

    def test_but_not_before_it_was_called(self):
        self.bad("nobody had put", op("put", "1", 0, 1), op("get", "2", 1, 2),
                 op("put", "2", 3, 4, "TIMEOUT"))

    def test_a_refused_put_is_never_read(self):
        self.bad("nobody had put", op("put", "1", 0, 1), op("put", "2", 2, 3, "FULL"), op("get", "2", 4, 5))

    def test_bytes_of_no_put_are_seen(self):
        self.bad("nobody had put", op("put", "1", 0, 1), op("get", "wrong", 2, 3))

    def test_a_lost_value_is_seen(self):
        self.bad("nobody had put", op("put", "1", 0, 1), op("get", "0", 2, 3, "NOT_FOUND"))

    def test_what_was_removed_is_gone_once_anybody_knows(self):
        self.good(op("put", "1", 0, 1), op("remove", "0", 2, 4), op("get", "1", 2, 3),
                  op("get", "0", 3, 5, "NOT_FOUND"), op("remove", "0", 6, 7, "NOT_FOUND"))
        self.bad("no order", op("put", "1", 0, 1), op("remove", "0", 2, 3), op("get", "1", 4, 5))
        self.bad("no order", op("put", "1", 0, 1), op("remove", "0", 2, 3, "TIMEOUT"),
                 op("get", "0", 4, 5, "NOT_FOUND"), op("get", "1", 6, 7))

    def test_an_older_version_than_known_is_seen(self):
        one, two = (1, 1, 9), (2, 1, 1)
        self.good(op("put", "1", 0, 1, version=one), op("put", "2", 2, 3, version=two),
                  op("stat", "0", 2, 5, version=one), op("stat", "0", 5, 6, version=two))
        self.bad("older", op("put", "1", 0, 1, version=one), op("put", "2", 2, 3, version=two),
                 op("stat", "0", 4, 5, version=one))

    def test_a_version_used_twice_is_seen(self):
        self.bad("older", op("put", "1", 0, 1, version=(1, 1, 1)), op("put", "2", 2, 3, version=(1, 1, 1)))
        self.bad("this version had", op("put", "1", 0, 1, version=(1, 1, 1)),
                 op("put", "2", 0, 1, version=(1, 1, 1)))

    def test_an_operation_that_outlives_its_deadline_is_seen(self):
        self.bad("outlived", op("put", "1", 0, history.TIMEOUT_S + history.LATE_S + 1))

    def test_registers_do_not_judge_each_other(self):
        self.good(op("put", "1", 0, 1), op("put", "2", 2, 3, key="other"), op("get", "1", 4, 5))


if __name__ == "__main__":
    unittest.main()
