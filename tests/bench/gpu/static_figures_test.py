#!/usr/bin/env python3
"""What static_figures.py reads from the compiler and makes of it, without a compiler.

usage: static_figures_test.py ROOT
"""
import os
import sys
import unittest

ROOT = os.path.abspath(sys.argv.pop(1))
sys.path.insert(0, os.path.join(ROOT, "bench/gpu"))
import shapes  # noqa: E402
import static_figures  # noqa: E402
import traffic  # noqa: E402
from static import compiler, occupancy, ptx, roofline, tables  # noqa: E402

PTXAS = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'first' for 'sm_75'
ptxas info    : Function properties for first
    16 bytes stack frame, 20 bytes spill stores, 28 bytes spill loads
ptxas info    : Used 80 registers, used 1 barriers, 16 bytes cumulative stack size, 12296 bytes smem, 528 bytes cmem[0]
ptxas info    : Compiling entry function 'first' for 'sm_90'
ptxas info    : Function properties for first
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 40 registers, 528 bytes cmem[0]
"""

# Loads before the loop and behind it; in the loop one of 16 bytes, or else one of 4, and a store.
PTX = """
.visible .entry first(
	.param .u64 first_param_0
)
.maxntid 256, 1, 1
{
	.reg .b32 	%r<9>;
	ld.param.u64 	%rd1, [first_param_0];
	ld.global.f64 	%fd1, [%rd1];
	@%p1 bra 	$L__BB0_9;
$L__BB0_2:
	@%p2 bra 	$L__BB0_4;
	ld.global.nc.v4.u32 	{%r1, %r2, %r3,
		%r4}, [%rd2];
	bra.uni 	$L__BB0_5;
$L__BB0_4:
	@%p9 ld.global.f32 	%f1, [%rd2];
$L__BB0_5:
	ld.global.cg.f64 	%fd2, [%rd5];
	st.global.v2.b16 	[%rd3], {%rs1, %rs2};
	@%p3 bra 	$L__BB0_2;
	ld.global.u8 	%rs1, [%rd4];
$L__BB0_9:
	ret;
}
.visible .entry second()
{
	ld.global.u8 	%rs1, [%rd4];
	ret;
}
"""


def instantiation(name, registers=40, spills=0, loads=None, stores=None, file="a.cu"):
    kernel = ptx.Kernel(name, 256, {16: 2} if loads is None else loads, {} if stores is None else stores)
    figures = {"75": compiler.Figures(registers, 0, spills, spills, spills)}
    return compiler.Instantiation(file, name, kernel, figures)


def build_of(*instantiations):
    return compiler.Build(list(instantiations), 1000, 1.0)


class PtxasTest(unittest.TestCase):
    def test_registers_spills_and_shared_memory_are_of_their_architecture(self):
        figures = compiler.parse_ptxas(PTXAS)
        self.assertEqual(figures["first", "75"], compiler.Figures(80, 12296, 16, 20, 28))
        self.assertEqual(figures["first", "90"], compiler.Figures(40, 0, 0, 0, 0))
        self.assertEqual(figures["first", "75"].spills, 48)

    def test_names_say_dtype_and_operation(self):
        prefix = "void syncnorm::kernels::cuda::"
        for demangled, name in (
                (prefix + "ReduceRuns<double, syncnorm::kernels::cuda::(anonymous namespace)::MeanM2Op>"
                 "(syncnorm::kernels::cuda::ReduceArgs<double>, int)", "ReduceRuns<f64, MeanM2Op>"),
                (prefix + "MapKernel<true, syncnorm::kernels::cuda::BF16, Op>(int)", "MapKernel<masked, bf16, Op>"),
                (prefix + "MapKernel<(bool)0, float, Op>(int)", "MapKernel<all, f32, Op>"),
                (prefix + "(anonymous namespace)::ValidTokensKernel(unsigned char const*)", "ValidTokensKernel")):
            self.assertEqual(compiler.short_name(demangled), name)

    def test_the_ptx_of_the_oldest_architecture_is_taken(self):
        self.assertEqual(compiler.architecture_of("/x/mean_m2.compute_75.ptx"), 75)
        self.assertEqual(compiler.architecture_of("/x/mean_m2.compute_120.ptx"), 120)
        self.assertEqual(compiler.architecture_of("/x/mean_m2.ptx"), 0)


class PtxTest(unittest.TestCase):
    def test_widths_are_lanes_times_bits(self):
        for suffixes, bytes in ((".nc.v4.u32", 16), (".v2.f64", 16), (".u8", 1), (".f32", 4), (".cg.b64", 8),
                                (".v4.b16", 8)):
            self.assertEqual(ptx.width(suffixes), bytes)
        with self.assertRaises(ValueError):
            ptx.width(".volatile")

    def test_accesses_count_in_loops_only(self):
        first, second = ptx.kernels(PTX)
        self.assertEqual((first.name, first.max_threads), ("first", 256))
        self.assertEqual(first.loads, {16: 1, 4: 1})
        self.assertEqual(first.stores, {4: 1})
        self.assertEqual((second.max_threads, second.loads), (0, {}))

    def test_a_block_that_leads_to_itself_is_a_loop_and_one_behind_it_is_not(self):
        self.assertEqual(ptx.in_loops([[1], [2, 3], [1], [4], [4], []]), {1, 2, 4})
        self.assertEqual(ptx.in_loops([[1], [2], []]), set())


class OccupancyTest(unittest.TestCase):
    def test_the_scarcest_limit_counts(self):
        # 65536 / (80 x 32) = 25 warps, 24 in fours, 3 blocks of 8.
        self.assertEqual(occupancy.of("75", 80, 12296, 256).blocks, 3)
        self.assertEqual(occupancy.of("75", 32, 0, 256).blocks, 4)  # 1024 threads
        self.assertEqual(occupancy.of("90", 32, 0, 256).blocks, 8)  # 2048 threads
        self.assertEqual(occupancy.of("75", 32, 30000, 256).blocks, 2)  # 64 KiB
        self.assertEqual(occupancy.of("120", 16, 0, 32).blocks, 24)
        # 25 warps have registers, 24 can be placed: six for each scheduler.
        self.assertEqual(occupancy.of("75", 80, 0, 32).by_registers, 24)
        # 33 registers are given as 40 (1,280 a warp).
        self.assertEqual(occupancy.of("90", 33, 0, 256).by_registers, 65536 // 1280 // 4 * 4 // 8)

    def test_the_arithmetic_is_shown(self):
        text = occupancy.explain("75", 80, 12296, 256)
        self.assertIn("65536 / 2560 = 25 warps, in fours: 24, / 8 = 3 blocks", text)
        self.assertIn("the least: 3, 24 of 32 warps", text)


class RooflineTest(unittest.TestCase):
    h100, t4 = roofline.DEVICES

    def test_memory_is_bytes_by_bandwidth_and_every_kernel_has_a_start(self):
        call = traffic.LAYER_CALLS["BatchNorm"][0]
        e = roofline.estimate(self.h100, call, 10**6, "f32")
        self.assertAlmostEqual(e.memory_s, 3 * 4e6 / 3.35e12)
        self.assertAlmostEqual(e.total_s, e.memory_s + 3 * roofline.START_S)

    def test_double_precision_is_bound_by_computing_where_there_are_few_units(self):
        call = traffic.LAYER_CALLS["PowerNorm"][4]
        e = roofline.estimate(self.t4, call, 10**6, "f64")
        self.assertGreater(e.compute_s, e.memory_s)
        self.assertLess(roofline.estimate(self.h100, call, 10**6, "f64").compute_s, e.memory_s)

    def test_the_network_counts_every_layer(self):
        rows = tables.roofline_rows(shapes.load(), "f32", ("forward, local",))
        resnet = [s for s in shapes.load() if s.set == "resnet50"]
        call = traffic.LAYER_CALLS["BatchNorm"][0]
        expected = sum(s.layers * roofline.estimate(self.h100, call, s.elements, "f32").total_s for s in resnet)
        self.assertEqual(rows[-1][4], tables.microseconds(expected))


class CheckTest(unittest.TestCase):
    names = ("MapKernel<all, f32, AffineOp>", "ReduceRuns<f32, MeanM2Op>")

    def recorded(self):
        build = build_of(*[instantiation(name) for name in self.names])
        return static_figures.document(build, ["75"], "13.0.88", [("the product", "75", 10**6, 5)])

    def test_what_was_written_is_read_back(self):
        nvcc, architectures, kernels = tables.read(self.recorded())
        self.assertEqual((nvcc, architectures), ("13.0.88", ["75"]))
        self.assertEqual(kernels, {f"a.cu: {name}": ({"75": 40}, 0) for name in self.names})

    def check(self, *instantiations, nvcc="13.0.88"):
        return static_figures.check(build_of(*instantiations), self.recorded(), nvcc)

    def test_the_same_figures_pass(self):
        self.assertEqual(self.check(*[instantiation(name) for name in self.names]), [])

    def test_a_kernel_that_was_added_or_taken_away_is_found(self):
        found = self.check(instantiation(self.names[0]), instantiation("New<f32>"))
        self.assertEqual(found, ["figures.md lacks a.cu: New<f32>, which is one",
                                 f"figures.md names a.cu: {self.names[1]}, which is no kernel"])

    def test_kernels_of_one_name_are_told_apart_by_their_files(self):
        build = build_of(instantiation(self.names[1]), instantiation("Fold", registers=32),
                         instantiation("Fold", registers=24, file="b.cu"))
        text = static_figures.document(build, ["75"], "13.0.88", [])
        self.assertEqual(static_figures.check(build, text, "13.0.88"), [])
        build.instantiations[1].figures["75"].registers = 24
        self.assertEqual(static_figures.check(build, text, "13.0.88"),
                         ["figures.md: a.cu: Fold has 32 registers on sm_75; it has 24"])

    def test_other_registers_are_found_with_the_same_compiler_only(self):
        kernels = [instantiation(name, registers=48) for name in self.names]
        self.assertEqual(len(self.check(*kernels)), 2)
        self.assertEqual(self.check(*kernels, nvcc="13.1.0"), [])

    def test_spills_are_found(self):
        found = static_figures.spills(build_of(instantiation("K<f32>", spills=8), instantiation("L<f32>")))
        self.assertEqual(found, ["a.cu: K<f32> spills on sm_75: 8 bytes stored, 8 loaded"])

    def test_narrow_loads_and_stores_of_tensors_are_found(self):
        found = static_figures.narrow(build_of(
            instantiation("MapKernel<all, f32, AffineOp>", stores={4: 8}),
            instantiation("MapKernel<all, f16, AffineOp>", loads={2: 8}, stores={16: 1, 2: 8}),
            instantiation("GroupScaleKernel<f32>", stores={4: 1}),
            instantiation("ValidKernel<byte>", loads={1: 1}, stores={1: 1})))
        self.assertEqual(found, ["a.cu: MapKernel<all, f32, AffineOp> has no store of 16 bytes in its loops",
                                 "a.cu: MapKernel<all, f16, AffineOp> has no load of 16 bytes in its loops"])


if __name__ == "__main__":
    unittest.main()
