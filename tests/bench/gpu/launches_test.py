#!/usr/bin/env python3
"""The launches of a layer's call that figures.md and the roofline count are those that it makes.

usage: launches_test.py ROOT PROGRAM     PROGRAM: count_launches
"""
import os
import subprocess
import sys
import unittest

PROGRAM = sys.argv.pop(2)
ROOT = os.path.abspath(sys.argv.pop(1))
sys.path.insert(0, os.path.join(ROOT, "bench/gpu"))
import traffic  # noqa: E402


class LaunchesTest(unittest.TestCase):
    def test_every_call_launches_as_many_kernels_as_are_counted_for_it(self):
        done = subprocess.run([PROGRAM], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        counted = {}
        for line in done.stdout.splitlines():
            norm, call, kernels, copies = line.split(";")
            counted[norm, call] = (int(kernels.split()[0]), int(copies.split()[0]))
        expected = {(norm, call.name): (call.kernels, call.copies)
                    for norm, calls in traffic.LAYER_CALLS.items() for call in calls
                    if "synchronised" not in call.name}
        self.assertEqual(counted, expected)


if __name__ == "__main__":
    unittest.main()
