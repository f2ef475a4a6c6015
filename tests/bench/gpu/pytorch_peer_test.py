#!/usr/bin/env python3
"""PyTorch's measuring programs speak the protocol; what it measures is tried on the CPU, where torch is.

usage: pytorch_peer_test.py ROOT
"""
import os
import subprocess
import sys
import unittest

ROOT = os.path.abspath(sys.argv.pop(1))
sys.path.insert(0, os.path.join(ROOT, "bench/gpu"))
from program import NoDevice, Program  # noqa: E402

FOLDER = os.path.join(ROOT, "bench/gpu")
CASE = {"norm": "BatchNorm", "dtype": "f32", "channels_last": True, "n": 2, "channels": 3, "height": 4,
        "width": 5, "groups": 1, "repetitions": 4}
HAS_TORCH = subprocess.run([sys.executable, "-c", "import torch"], capture_output=True).returncode == 0


class PyTorchPeerTest(unittest.TestCase):
    def start(self, script, *arguments):
        program = Program([sys.executable, os.path.join(FOLDER, script), *arguments])
        self.addCleanup(program.close)
        return program

    def test_without_torch_or_its_cuda_it_says_so(self):
        for script in ("pytorch_peer.py", "pytorch_sync_peer.py"):
            try:
                self.assertIn("version", self.start(script).greeting)  # a machine that has both
            except NoDevice as reason:
                self.assertRegex(str(reason), "has no torch|sees no CUDA device")

    @unittest.skipUnless(HAS_TORCH, "this Python has no torch")
    def test_batch_norm_is_measured_forward_and_backward(self):
        results = self.start("pytorch_peer.py", "--device", "cpu").ask(CASE)["results"]
        self.assertEqual([(r["variant"], r["passes"], len(r["times_us"])) for r in results],
                         [("torch.native_batch_norm", 3, 4), ("torch.native_batch_norm_backward", 5, 4)])
        self.assertGreater(min(results[0]["times_us"] + results[1]["times_us"]), 0)

    @unittest.skipUnless(HAS_TORCH, "this Python has no torch")
    def test_what_it_does_not_have_is_skipped_and_says_so(self):
        program = self.start("pytorch_peer.py", "--device", "cpu")
        self.assertEqual(program.ask(CASE | {"norm": "PowerNorm"}), {"skipped": "it has no PowerNorm"})
        self.assertIn("results", program.ask(CASE | {"dtype": "f64"}))

    @unittest.skipUnless(HAS_TORCH, "this Python has no torch")
    def test_two_processes_go_through_the_same_cases(self):
        program = self.start("pytorch_sync_peer.py", "--device", "cpu")
        self.assertIn("two processes over gloo", program.greeting["version"])
        for dtype in ("f32", "f64"):
            results = program.ask(CASE | {"dtype": dtype})["results"]
            self.assertEqual([(r["variant"], len(r["times_us"])) for r in results],
                             [("torch.BatchNorm2d.forward", 4), ("torch.BatchNorm2d.backward", 4)])
        self.assertEqual(program.ask(CASE | {"norm": "PowerNorm"}), {"skipped": "it has no PowerNorm"})


if __name__ == "__main__":
    unittest.main()
