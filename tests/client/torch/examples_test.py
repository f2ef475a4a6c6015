#!/usr/bin/env python3
"""The examples and the demo, in short form, with real processes.

usage: examples_test.py SOURCE_DIR BUILD_DIR
"""
import os
import re
import subprocess
import sys
import tempfile
import unittest

DATA = "/usr/share/datasets/fashion-mnist"
SOURCE, BUILD = sys.argv[1:3]


def demo(out, *arguments):
    """Two workers, float64: a difference beyond rounding has nowhere to hide."""
    return subprocess.run(
        [sys.executable, os.path.join(SOURCE, "tools/demo/run"), BUILD, out, "--workers=2",
         "--dtype=float64", "--final-test-images=500", "--eval-every=0", "--no-plot", *arguments],
        capture_output=True, text=True, timeout=120)


def processes_that_name(folder):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as f:
                command = f.read()
        except OSError:
            continue
        if folder in command and int(pid) != os.getpid():
            found.append(command.replace("\0", " "))
    return found


class DemoTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.out = folder.name

    def test_two_workers_train_the_network_that_one_process_trains(self):
        result = demo(self.out, "--steps=25", "--early=1,10", "--bound=1e-10")
        self.assertEqual(result.returncode, 0, result.stderr + result.stdout)
        self.assertRegex(result.stdout, r"sync +2 x 2 ")
        differences = {int(step): float(value) for step, value in
                       re.findall(r"after +(\d+) steps +(\S+)", result.stdout)}
        self.assertEqual(sorted(differences), [1, 10, 25])
        # Local statistics are another network already after the first steps.
        local = re.search(r"local .* (\S+)$", result.stdout, re.MULTILINE)
        self.assertGreater(float(local.group(1)), 1e-3)
        for name in ("local.csv", "sync.csv", "whole.csv", "sync.rank1.log"):
            self.assertTrue(os.path.exists(os.path.join(self.out, name)), name)
        self.assertEqual(processes_that_name(self.out), [])

    def test_a_difference_beyond_the_bound_fails_the_demo(self):
        result = demo(self.out, "--steps=2", "--runs=sync,whole", "--bound=0", "--early=")
        self.assertEqual(result.returncode, 1, result.stdout)
        self.assertIn("demo failed: after 2 steps sync differs from whole", result.stderr)

    def test_a_trainer_that_fails_fails_the_demo_and_leaves_no_process(self):
        result = demo(self.out, "--steps=2", "--runs=sync", f"--data={self.out}")
        self.assertEqual(result.returncode, 1, result.stdout)
        self.assertIn("ended with status 1", result.stderr)
        self.assertIn("train-images-idx3-ubyte.gz", result.stderr)
        self.assertEqual(processes_that_name(self.out), [])


class HelloTest(unittest.TestCase):
    def test_two_ranks_print_numbers_normalised_together(self):
        with tempfile.TemporaryDirectory() as folder:
            ranks = [subprocess.Popen(
                [os.path.join(BUILD, "examples/syncnorm-hello")], text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                env=dict(os.environ, SYNCNORM_RANK=str(rank), SYNCNORM_WORLD_SIZE="2",
                         SYNCNORM_ADDR=f"unix:{folder}/hello.sock",
                         SYNCNORM_CONNECT_TIMEOUT="30s")) for rank in (0, 1)]
            texts = [process.communicate(timeout=60)[0] for process in ranks]
        self.assertEqual([process.returncode for process in ranks], [0, 0], texts)
        values = [float(v) for text in texts for v in re.findall(r"-> (\S+)", text)]
        self.assertEqual(len(values), 8)
        self.assertAlmostEqual(sum(values), 0, places=3)
        self.assertAlmostEqual(sum(v * v for v in values) / 8, 1, places=3)


if __name__ == "__main__":
    if not os.path.isdir(DATA):
        print(f"skipped: no folder {DATA} (Debian: dataset-fashion-mnist)")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1])
