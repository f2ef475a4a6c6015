#!/usr/bin/env python3
"""The whole of `./dev bench gpu`, on a device or its simulator: small shapes, every dtype, kernels and
layers, with the rounds.

usage: simulated_test.py ROOT BUILD
"""
import json
import os
import subprocess
import sys
import tempfile
import unittest

BUILD = os.path.abspath(sys.argv.pop(2))
ROOT = os.path.abspath(sys.argv.pop(1))
PROGRAM = os.path.join(ROOT, "bench/gpu/bench_gpu.py")
KERNELS = {"BatchNorm": {"MeanM2", "Affine", "GradSums", "Grad"},
           "PowerNorm": {"GroupScale", "PowerSums", "PowerApply", "PowerGradSums", "PowerGrad"}}
LANES = ("local", "two workers, local", "two workers, synchronised")


def bench(*arguments, **environment):
    return subprocess.run([sys.executable, PROGRAM, BUILD, "--sets", "tiny", "--repetitions", "2", *arguments],
                          capture_output=True, text=True, env=os.environ | environment)


class SimulatedTest(unittest.TestCase):
    def test_every_case_is_verified_and_blank_where_the_device_is_simulated(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "gpu.json")
            done = bench("--dtypes", "f32,f64,f16,bf16", "--json", path)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            print(done.stdout.splitlines()[0])
            with open(path, encoding="utf-8") as f:
                objects = json.load(f)
        self.assertIn("32 cases, all verified", done.stdout)
        simulated = done.stdout.startswith("cudasim")
        self.assertEqual("not measured: simulated device" in done.stdout, simulated)
        for norm, kernels in KERNELS.items():
            for dtype in ("f32", "f64", "f16", "bf16"):
                variants = {o["variant"] for o in objects
                            if o["params"]["norm"] == norm and o["params"]["dtype"] == dtype}
                self.assertLessEqual(kernels, variants)
                self.assertLessEqual({f"{lane}/{way}" for lane in LANES for way in ("forward", "backward")}, variants)
        for o in objects:
            self.assertTrue(o["verified"])
            for number in ("p50_us", "gb_per_s", "floor_us", "ratio_to_floor", "stream_waits"):
                if simulated:
                    self.assertIsNone(o[number], o["variant"])
            if o["variant"] in KERNELS["BatchNorm"] | KERNELS["PowerNorm"] and not simulated:
                self.assertGreater(o["gb_per_s"], 0)
            if o["variant"] == "two workers, synchronised/backward":
                # 8 layers, a forward and a backward each; 3 steps to warm up and 2 that count.
                self.assertEqual(o["rounds"], 8 * 2 * (3 + 2))

    def test_a_launch_that_fails_is_told_with_cudas_words(self):
        done = bench("--parts", "kernels", "--dtypes", "f32", CUDASIM_FAIL="cudaLaunchKernel:3")
        if not done.stdout.startswith("cudasim"):
            self.skipTest("a device does not fail when it is told to")
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertRegex(done.stdout, "bench_gpu_kernels: [A-Z][A-Za-z0-9]+: cudaError")

    def test_a_group_that_fails_is_told_and_nothing_hangs(self):
        done = bench("--parts", "layers", "--dtypes", "f32", CUDASIM_FAIL="cudaLaunchKernel:400")
        if not done.stdout.startswith("cudasim"):
            self.skipTest("a device does not fail when it is told to")
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("bench_gpu_layers: ", done.stdout)

    def test_without_a_device_nothing_was_measured(self):
        done = bench(CUDASIM_DEVICE_COUNT="0", CUDA_VISIBLE_DEVICES="")
        self.assertEqual(done.returncode, 77, done.stdout)
        self.assertIn("nothing was measured: no CUDA device (cudaErrorNoDevice", done.stdout)


if __name__ == "__main__":
    unittest.main()
