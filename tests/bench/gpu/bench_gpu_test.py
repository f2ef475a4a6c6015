#!/usr/bin/env python3
"""bench_gpu.py without a device: cases and their bytes, what is made of times, what is printed, and
that wrong results are refused.  Measuring programs are stood in for by scripts that speak their
protocol.

usage: bench_gpu_test.py ROOT
"""
import contextlib
import io
import json
import os
import stat
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.abspath(sys.argv.pop(1))
HERE = os.path.join(ROOT, "bench/gpu")
sys.path.insert(0, HERE)
import bench_gpu  # noqa: E402
import report  # noqa: E402
import shapes  # noqa: E402
import traffic  # noqa: E402
from program import Failed, NoDevice, Program  # noqa: E402

GREETING = {"device": "A100", "simulated": False, "compute_capability": "8.0", "multiprocessors": 108,
            "cache_bytes": 40 << 20, "memory_bytes": 1 << 35, "devices": 1, "cuda_driver": 13000,
            "cuda_runtime": 12040}
SIMULATED = GREETING | {"device": "cudasim", "simulated": True}
RESULTS = {"results": [{"variant": "MeanM2", "passes": 1, "times_us": [30, 10, 20]},
                       {"variant": "copy_1", "passes": 1, "times_us": [16, 18, 17]}]}
# A program that greets with argv[1] and answers everything with argv[2].
SCRIPT = f"""#!{sys.executable}
import sys
print({{greeting!r}}, flush=True)
for line in sys.stdin:
    if not {{answer!r}}:
        sys.exit(3)
    print({{answer!r}}, flush=True)
"""


def case_of(norm="BatchNorm", dtype="f32", channels_last=False, groups=1):
    return report.Case(shapes.Shape("tiny", "shape", norm, 1, 2, 8, 5, 4), dtype, channels_last, groups)


class FakeBuild:
    """A build folder whose programs greet and answer as they are told."""

    def __init__(self, greeting, answer, programs=("bench_gpu_kernels", "bench_gpu_layers")):
        self._folder = tempfile.TemporaryDirectory()
        self.path = self._folder.name
        os.makedirs(os.path.join(self.path, "bench/gpu"))
        for name in programs:
            self.add(f"bench/gpu/{name}", greeting, answer)

    def add(self, name, greeting, answer):
        path = os.path.join(self.path, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(SCRIPT.format(greeting=json.dumps(greeting), answer=answer and json.dumps(answer)))
        os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)
        return path

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._folder.cleanup()


def run(build, *arguments):
    """(exit status, what was said)."""
    said = []
    status = bench_gpu.run(bench_gpu.parse([build.path, "--sets", "tiny", "--dtypes", "f32", "--python",
                                            "/no/python", *arguments]), said.append)
    return status, "\n".join(said)


class ShapesTest(unittest.TestCase):
    def test_resnet50_has_its_53_layers_and_26560_channels(self):
        resnet = [shape for shape in shapes.load() if shape.set == "resnet50"]
        self.assertEqual(sum(shape.layers for shape in resnet), 53)
        self.assertEqual(sum(shape.layers * shape.channels for shape in resnet), 26560)

    def test_every_set_has_shapes_and_both_norms_are_there(self):
        loaded = shapes.load()
        self.assertEqual({shape.set for shape in loaded}, set(bench_gpu.REAL_SETS) | {"tiny"})
        self.assertEqual({shape.norm for shape in loaded if shape.set == "tiny"}, {"BatchNorm", "PowerNorm"})

    def test_a_line_that_is_no_shape_is_an_error_with_its_number(self):
        with self.assertRaisesRegex(ValueError, "shapes.def:2: .*SHAPE\\(a\\)"):
            shapes.parse("// all\nSHAPE(a)\n")


class CasesTest(unittest.TestCase):
    def test_batch_norm_has_both_layouts_and_power_norm_its_groups(self):
        found = bench_gpu.cases(["tiny"], ["f32", "f16"], "")
        batch = [case for case in found if case.shape.norm == "BatchNorm"]
        power = [case for case in found if case.shape.norm == "PowerNorm"]
        self.assertEqual(len(batch), 3 * 2 * 2)
        self.assertEqual(sorted(case.groups for case in power), [1, 1, 8, 8])
        self.assertEqual(len({case.title for case in found}), len(found))

    def test_only_picks_by_title(self):
        found = bench_gpu.cases(["tiny"], ["f32"], "channels last: odd")
        self.assertEqual([case.shape.name for case in found], ["odd rows"])

    def test_bytes_are_elements_times_the_size_of_the_dtype(self):
        for dtype, size in (("f32", 4), ("f64", 8), ("f16", 2), ("bf16", 2)):
            self.assertEqual(case_of(dtype=dtype).bytes, 2 * 8 * 5 * 4 * size)


class TrafficTest(unittest.TestCase):
    def test_layers_move_what_their_operations_move(self):
        passes = {(norm, call.name): (call.passes, call.kernels)
                  for norm, calls in traffic.LAYER_CALLS.items() for call in calls}
        self.assertEqual(passes["BatchNorm", "forward, local"], (3, 3))
        self.assertEqual(passes["BatchNorm", "backward, synchronised"], (5, 3))
        self.assertEqual(passes["PowerNorm", "forward, synchronised, after it"], (4, 5))
        self.assertEqual(passes["PowerNorm", "backward, local"], (5, 4))

    def test_nothing_moves_less_than_the_least(self):
        for calls in traffic.LAYER_CALLS.values():
            for call in calls:
                self.assertGreaterEqual(call.passes, call.minimum_passes, call.name)


class LinesTest(unittest.TestCase):
    def test_bandwidth_is_the_bytes_of_the_passes_by_the_median(self):
        lines = report.lines_of(case_of(), RESULTS["results"], simulated=False)
        self.assertEqual((lines[0].p50_us, lines[0].min_us, lines[0].max_us), (20, 10, 30))
        self.assertAlmostEqual(lines[0].gb_per_s, 320 * 4 / 20e-6 / 1e9)

    def test_the_floor_is_the_copy_of_as_many_bytes(self):
        results = [{"variant": f"copy_{n}", "passes": n, "times_us": [10 * n]} for n in (1, 2, 3)]
        results.append({"variant": "Affine", "passes": 2, "times_us": [25]})
        affine = report.lines_of(case_of(), results, simulated=False)[3]
        self.assertEqual(affine.floor_us, 20)
        self.assertAlmostEqual(affine.of_floor, 0.8)
        copy = report.lines_of(case_of(), results, simulated=False)[1]
        self.assertIsNone(copy.of_floor)

    def test_peers_stand_beside_what_they_do(self):
        results = [{"variant": "Affine", "passes": 2, "times_us": [20]},
                   {"variant": "torch.batch_norm_elemt", "passes": 2, "times_us": [30]}]
        lines = report.lines_of(case_of(), results, simulated=False)
        self.assertAlmostEqual(lines[0].times_peer, 1.5)
        self.assertIsNone(lines[1].times_peer)

    def test_rounds_cost_what_two_workers_take_longer_with_them(self):
        results = [{"variant": "two workers, local/forward", "passes": 0, "times_us": [50, 52, 51]},
                   {"variant": "two workers, synchronised/forward", "passes": 0, "times_us": [120, 121, 122],
                    "rounds": 16, "stream_waits": 16}]
        lines = {line.variant: line for line in report.lines_of(case_of(), results, simulated=False)}
        self.assertEqual(lines["cost of the round/forward"].p50_us, 70)
        self.assertNotIn("cost of the round/backward", lines)
        self.assertIsNone(lines["two workers, local/forward"].gb_per_s)
        self.assertEqual(lines["two workers, synchronised/forward"].stream_waits, 16)

    def test_on_a_simulated_device_all_that_depends_on_speed_is_blank(self):
        results = RESULTS["results"] + [{"variant": "two workers, local/forward", "passes": 0, "times_us": [1]},
                                        {"variant": "two workers, synchronised/forward", "passes": 0,
                                         "times_us": [2], "rounds": 4, "stream_waits": 3}]
        for line in report.lines_of(case_of(), results, simulated=True):
            for value in (line.p50_us, line.min_us, line.max_us, line.gb_per_s, line.floor_us, line.of_floor,
                          line.times_peer, line.stream_waits):
                self.assertIsNone(value, line.variant)

    def test_a_time_that_is_none_is_an_error(self):
        for times in ([], [1, 0], [-1]):
            with self.assertRaisesRegex(ValueError, "MeanM2 has no times"):
                report.lines_of(case_of(), [{"variant": "MeanM2", "passes": 1, "times_us": times}], False)


class TableTest(unittest.TestCase):
    def test_a_line_has_time_spread_bandwidth_and_the_share_of_the_copy(self):
        text = report.table(case_of(), report.lines_of(case_of(), RESULTS["results"], False))
        self.assertIn("BatchNorm f32 (2, 8, 5, 4) contiguous: shape", text)
        self.assertRegex(text, r"MeanM2 +20\.0 +\(10\.0\.\.30\.0\) +0 +85 % +-")

    def test_blanks_are_dashes(self):
        text = report.table(case_of(), report.lines_of(case_of(), RESULTS["results"], True))
        self.assertRegex(text, r"MeanM2 +- +- +- +- +-\n")
        self.assertNotRegex(text.split("x PyTorch")[1], r"\d\.\d")

    def test_objects_have_the_same_numbers(self):
        first = report.objects(case_of(), report.lines_of(case_of(), RESULTS["results"], False), "A100")[0]
        self.assertEqual(first["params"]["device"], "A100")
        self.assertEqual(first["params"]["shape"], "(2, 8, 5, 4)")
        self.assertAlmostEqual(first["ratio_to_floor"], 20 / 17)
        self.assertIsNone(first["ratio_to_pytorch"])
        self.assertTrue(first["verified"])


class ProgramTest(unittest.TestCase):
    def program(self, greeting, answer):
        with FakeBuild(greeting, answer) as build:
            program = Program([os.path.join(build.path, "bench/gpu/bench_gpu_kernels")])
            self.addCleanup(program.close)
            return program

    def test_an_error_of_the_program_has_its_words(self):
        with self.assertRaisesRegex(Failed, "bench_gpu_kernels: MeanM2: cudaErrorIllegalAddress"):
            self.program(GREETING, {"error": "MeanM2: cudaErrorIllegalAddress"}).ask({})

    def test_a_program_that_dies_is_told_with_its_status(self):
        with self.assertRaisesRegex(Failed, "ended with status 3 and without an answer"):
            self.program(GREETING, None).ask({})

    def test_a_program_that_is_not_there_is_told(self):
        with self.assertRaisesRegex(Failed, "cannot be started: No such file"):
            Program(["/no/such/program"])

    def test_without_a_device_it_has_cudas_words(self):
        with self.assertRaisesRegex(NoDevice, "cudaErrorNoDevice"):
            self.program({"no_device": "cudaErrorNoDevice: none"}, None)


class RunTest(unittest.TestCase):
    def test_a_device_is_named_and_every_case_is_printed(self):
        with FakeBuild(GREETING, RESULTS) as build:
            status, said = run(build, "--repetitions", "7")
        self.assertEqual(status, 0, said)
        self.assertIn("A100, compute capability 8.0, 108 multiprocessors", said)
        self.assertIn("driver for CUDA 13.0, runtime 12.4", said)
        self.assertIn("medians of 7", said)
        self.assertIn("PyTorch: not measured: ", said)
        self.assertIn("PyTorch's SyncBatchNorm: not measured: ", said)
        self.assertIn("8 cases, all verified", said)
        self.assertNotIn("simulated", said)

    def test_wrong_results_are_refused_and_not_printed(self):
        with FakeBuild(GREETING, {"wrong": "MeanM2: mean[3] is 1, and 2 by the scalar backend"}) as build:
            path = os.path.join(build.path, "out.json")
            status, said = run(build, "--json", path)
            self.assertFalse(os.path.exists(path))
        self.assertEqual(status, 1)
        self.assertIn("WRONG, so there are no numbers of it: MeanM2: mean[3] is 1, and 2", said)
        self.assertNotIn("variant", said)

    def test_a_case_that_does_not_fit_is_skipped_and_says_so(self):
        with FakeBuild(GREETING, {"skipped": "it needs 9 MiB, and 8 are free on the device"}) as build:
            status, said = run(build)
        self.assertEqual(status, 0)
        self.assertIn("skipped: it needs 9 MiB", said)

    def test_without_a_device_nothing_was_measured(self):
        with FakeBuild({"no_device": "cudaErrorNoDevice: none"}, None) as build:
            status, said = run(build)
        self.assertEqual(status, 77)
        self.assertEqual(said, "bench gpu: nothing was measured: no CUDA device (cudaErrorNoDevice: none)")

    def test_without_the_programs_nothing_was_measured(self):
        with FakeBuild(GREETING, RESULTS, programs=()) as build:
            status, said = run(build)
        self.assertEqual(status, 77)
        self.assertIn("is not built; it needs a CUDA compiler", said)

    def test_on_a_simulated_device_nothing_is_a_number_and_the_json_says_null(self):
        with FakeBuild(SIMULATED, RESULTS) as build:
            path = os.path.join(build.path, "out.json")
            status, said = run(build, "--json", path)
            with open(path, encoding="utf-8") as f:
                objects = json.load(f)
        self.assertEqual(status, 0)
        self.assertIn("not measured: simulated device", said)
        self.assertEqual({o["p50_us"] for o in objects}, {None})
        self.assertEqual({o["gb_per_s"] for o in objects}, {None})

    def test_pytorch_is_measured_where_there_is_one(self):
        with FakeBuild(GREETING, RESULTS) as build:
            peer = build.add("python", GREETING | {"version": "2.9"}, {"results": [
                {"variant": "torch.batch_norm_stats", "passes": 1, "times_us": [40]}]})
            status, said = run(build, "--python", peer)
        self.assertEqual(status, 0, said)
        self.assertIn("PyTorch: 2.9", said)
        self.assertIn("PyTorch's SyncBatchNorm: 2.9", said)
        self.assertRegex(said, r"MeanM2 .* 2\.00\n")

    def test_only_one_part_may_be_run(self):
        with FakeBuild(GREETING, RESULTS, programs=("bench_gpu_layers",)) as build:
            self.assertEqual(run(build, "--parts", "layers")[0], 0)
            self.assertEqual(run(build)[0], 77)

    def test_no_case_is_an_error(self):
        with FakeBuild(GREETING, RESULTS) as build:
            status, said = run(build, "--only", "nothing of the kind")
        self.assertEqual(status, 2)
        self.assertIn("no case has 'nothing of the kind'", said)


class ArgumentsTest(unittest.TestCase):
    def refused(self, *arguments):
        words = io.StringIO()
        with self.assertRaises(SystemExit) as raised, contextlib.redirect_stderr(words):
            bench_gpu.parse(["build", *arguments])
        self.assertEqual(raised.exception.code, 2)
        return words.getvalue()

    def test_wrong_arguments_are_refused_with_what_may_stand_there(self):
        self.assertIn("'f8' is none of f32, f64, f16, bf16", self.refused("--dtypes", "f32,f8"))
        self.assertIn("'vgg' is none of resnet50", self.refused("--sets", "vgg"))
        self.assertIn("'0' is not a number above 0", self.refused("--repetitions", "0"))
        self.assertIn("'many' is not a number above 0", self.refused("--repetitions", "many"))
        self.assertIn("'all' is none of kernels, layers", self.refused("--parts", "all"))
        self.assertIn("unrecognized arguments", self.refused("--fast"))

    def test_the_program_says_so_too(self):
        done = subprocess.run([sys.executable, os.path.join(HERE, "bench_gpu.py")], capture_output=True, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn("arguments are required: build", done.stderr)


if __name__ == "__main__":
    unittest.main()
