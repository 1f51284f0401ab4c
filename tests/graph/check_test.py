#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Each rule of check.py, broken on purpose, is seen; and clean sources pass."""
import unittest

import check

LICENCE = "/* SPDX-License-Identifier: Apache-2.0 */\n"


class Rules(unittest.TestCase):
    def problems(self, **files):
        texts = {name.replace("__", "/").replace("_c", ".c").replace("_h", ".h"): LICENCE + text
                 for name, text in files.items()}
        return check.check(texts)

    def test_clean_sources_pass(self):
        self.assertEqual([], self.problems(src__wire__a_c='#include "base/list.h"\n',
                                           src__base__list_h=""))

    def test_a_room_above_is_refused(self):
        found = self.problems(src__wire__a_c='#include "engine/engine.h"\n')
        self.assertTrue(any("may not include" in p for p in found), found)

    def test_a_cycle_is_refused(self):
        found = self.problems(src__wire__a_h='#include "net/net.h"\n',
                              src__net__net_h='#include "wire/wire.h"\n')
        self.assertTrue(any("cycle" in p for p in found), found)

    def test_a_second_header_is_refused(self):
        found = self.problems(src__node__a_c='#include "engine/engine.h"\n',
                              src__node__b_c='#include "engine/journal.h"\n')
        self.assertTrue(any("more than one header" in p for p in found), found)

    def test_a_test_may_look_deeper(self):
        texts = {"src/engine/x_test.c": LICENCE + '#include "dev/sim.h"\n#include "dev/dev.h"\n'}
        self.assertEqual([], check.check(texts))

    def test_sockets_outside_their_rooms_are_refused(self):
        found = self.problems(src__engine__a_c="#include <sys/socket.h>\n")
        self.assertTrue(any("belongs behind" in p for p in found), found)

    def test_the_clock_outside_its_door_is_refused(self):
        found = self.problems(src__engine__a_c="long now = time(0);\n")
        self.assertEqual(["src/engine/a.c:2: time() comes through a door only"], found)

    def test_a_comment_may_speak_of_time(self):
        self.assertEqual([], self.problems(src__engine__a_c="/* takes time (ns) */\n",
                                           src__engine__b_c="int reactor_time(void);\n"))

    def test_a_file_without_licence_is_refused(self):
        found = check.check({"src/base/a.c": "int a;\n"})
        self.assertTrue(any("SPDX" in p for p in found), found)

    def test_a_long_file_is_refused(self):
        found = check.check({"src/base/a.c": LICENCE + "\n" * 800})
        self.assertTrue(any("split it" in p for p in found), found)


if __name__ == "__main__":
    unittest.main()
