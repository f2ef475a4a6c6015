#!/usr/bin/env python3
"""The numpy reference is the C++ workload and fold, bit for bit.

usage: reference_test.py PRINT_WORKLOAD
Exit status 77: skipped (says which module is missing).
"""
import subprocess
import sys
import unittest

try:
    import reference
except ImportError as e:
    print(f"SKIP: {e} (Debian: python3-numpy)")
    sys.exit(77)

PROGRAM = None


class ReferenceTest(unittest.TestCase):
    def compare(self, seed, channels, world, steps, layers):
        text = subprocess.run(
            [PROGRAM, *map(str, (seed, channels, world, steps, layers))],
            capture_output=True, text=True, check=True).stdout
        expected = []
        empty = 0
        for step in range(steps):
            for layer in range(layers):
                for direction in (reference.FORWARD, reference.BACKWARD):
                    parts = {}
                    for rank in range(world):
                        parts[rank] = reference.contribution(seed, channels, rank, layer, direction,
                                                             step)
                        empty += parts[rank].count == 0
                    everything = [("part", parts[r]) for r in range(world)]
                    everything.append(("fold", reference.fold(parts, ["h"] * world)))
                    expected += [f"{who} {step} {layer} {direction} {m.count} {m.digest()}"
                                 for who, m in everything]
        self.assertEqual(text.splitlines(), expected)
        return empty

    def test_parts_and_folds_are_those_of_the_library(self):
        empty = self.compare(seed=1, channels=5, world=5, steps=8, layers=4)
        self.assertGreater(empty, 0, "empty slices are among them")
        self.compare(seed=2**64 - 1, channels=64, world=2, steps=2, layers=3)
        self.compare(seed=7, channels=1, world=1, steps=20, layers=1)

    def test_the_order_of_the_fold_counts(self):
        parts = {r: reference.contribution(3, 64, r, 0, reference.FORWARD, 1) for r in range(3)}
        self.assertTrue(all(part.count > 0 for part in parts.values()))
        swapped = {0: parts[2], 1: parts[1], 2: parts[0]}
        self.assertNotEqual(reference.fold(parts, "aaa").digest(),
                            reference.fold(swapped, "aaa").digest())
        self.assertNotEqual(reference.fold(parts, "aba").digest(),
                            reference.fold(parts, "aaa").digest())


if __name__ == "__main__":
    PROGRAM = sys.argv[1]
    unittest.main(argv=sys.argv[:1] + sys.argv[2:])
