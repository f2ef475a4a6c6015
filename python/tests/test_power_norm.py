"""SyncPowerNorm beside its formulas (docs/numerics.md), written down once more here, for one
process and the whole batch."""
import copy
import pickle

import pytest
import torch
from torch import nn

import syncnorm.torch
from syncnorm import SyncnormError
from syncnorm.torch import SyncPowerNorm
from stand_in import on_streams
from workers import run

C, WARMUP, STEPS = 6, 3, 8


class Formulas:
    """PowerNorm of the whole batch, in float64: x is (T, B, C), padding (B, T)."""

    def __init__(self, semantics, masked, eps=1e-5, alpha=0.9, groups=2):
        self.reference, self.masked = semantics == "reference", masked
        self.eps, self.alpha, self.groups = eps, alpha, groups
        self.phi = torch.ones(C, dtype=torch.float64)
        self.ema = torch.zeros(C, dtype=torch.float64)
        self.t = 0
        self.w = torch.linspace(0.5, 2, C, dtype=torch.float64)
        self.b = torch.linspace(-1, 1, C, dtype=torch.float64)

    def step(self, x, padding, dy):
        x = x.double().requires_grad_()
        dy = dy.double()
        grouped = x.reshape(*x.shape[:-1], self.groups, -1)
        xs = (grouped * (grouped.pow(2).mean(-1, keepdim=True) + 1e-5).rsqrt()).reshape(x.shape)
        fixed = xs.detach()
        valid = ~padding.t()
        v = fixed[valid].pow(2).mean(0)
        self.t += 1
        warm = self.t <= WARMUP
        used = v if warm else self.phi.clone()
        z = fixed / (used + self.eps).sqrt()
        if self.reference and self.t < WARMUP:
            self.phi = ((self.t - 1) * self.phi + v) / self.t
        self.phi = self.alpha * self.phi + (1 - self.alpha) * v

        g = self.w * dy
        counted = (g * z)[valid], (z * z)[valid]
        if not self.masked:
            counted = (g * z).flatten(0, 1), (z * z).flatten(0, 1)
        lam, gam = (c.mean(0) for c in counted)
        nu = (1 - self.alpha) * self.ema
        correction = lam if warm and not self.reference else nu
        root = ((v if self.reference else used) + self.eps).rsqrt()
        dxs = (g - correction * z) * root
        if self.masked:
            dxs = dxs * valid.unsqueeze(-1)
        self.ema = self.ema * (1 - (1 - self.alpha) * gam) + lam
        dx, = torch.autograd.grad(xs, x, dxs)
        return self.w * z + self.b, dx, (dy * z).sum((0, 1)), dy.sum((0, 1))


def data(dtype, sizes=(3, 5)):
    torch.manual_seed(7)
    batch = sum(sizes)
    x = torch.randn(STEPS, 4, batch, C, dtype=dtype) * torch.linspace(0.3, 3, STEPS).reshape(-1, 1, 1, 1)
    dy = torch.randn(STEPS, 4, batch, C, dtype=dtype)
    padding = torch.rand(STEPS, batch, 4) < 0.3
    padding[2, :sizes[0]] = True  # nothing counts on rank 0
    return x.to(dtype), dy, padding


def make(dtype=torch.float64, **options):
    norm = SyncPowerNorm(C, warmup_iters=WARMUP, group_num=2, dtype=dtype, **options)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, C, dtype=torch.float64))
        norm.bias.copy_(torch.linspace(-1, 1, C, dtype=torch.float64))
    return norm


def train(norm, x, dy, padding, between=lambda: None):
    """Every step's output and gradients."""
    results = []
    for step in range(len(x)):
        mine = x[step].clone().requires_grad_()
        y = norm(mine, padding[step])
        between()
        results.append((y.detach(), *torch.autograd.grad(y, [mine, norm.weight, norm.bias], dy[step])))
        between()
    return results


@pytest.mark.parametrize("semantics,masked_backward,masked", [
    ("reference", None, False), ("reference", True, True), ("paper", None, True),
    ("paper", False, False)])
@pytest.mark.parametrize("dtype,tolerance", [(torch.float64, 1e-11), (torch.float32, 4e-6)])
def test_over_the_group_it_is_the_formulas_of_the_whole_batch(semantics, masked_backward, masked, dtype,
                                                              tolerance):
    x, dy, padding = data(dtype)

    def body(worker):
        mine = slice(0, 3) if worker.rank == 0 else slice(3, 8)
        norm = make(dtype, semantics=semantics, masked_backward=masked_backward)
        results = train(norm, x[:, :, mine], dy[:, :, mine], padding[:, mine])
        return results, norm.state_dict()

    (first, state), (second, other) = run(2, body)
    formulas = Formulas(semantics, masked)
    for step in range(STEPS):
        y, dx, dw, db = formulas.step(x[step], padding[step], dy[step])
        for got, want in ((torch.cat([first[step][0], second[step][0]], 1), y),
                          (torch.cat([first[step][1], second[step][1]], 1), dx),
                          (first[step][2] + second[step][2], dw),
                          (first[step][3] + second[step][3], db)):
            torch.testing.assert_close(got.double(), want, rtol=tolerance, atol=tolerance * want.abs().max(),
                                       msg=lambda m, step=step: f"step {step}: {m}")
    for name, want in (("running_phi", formulas.phi), ("ema_gz", formulas.ema)):
        assert state[name].shape == (1, C, 1, 1) and torch.equal(state[name], other[name])
        torch.testing.assert_close(state[name].flatten(), want, rtol=10 * tolerance, atol=tolerance)
    assert state["iters"].tolist() == [STEPS]


def test_alone_it_is_the_formulas():
    x, dy, padding = data(torch.float64)
    formulas = Formulas("reference", False)
    for step, results in enumerate(train(make(), x, dy, padding)):
        for got, want in zip(results, formulas.step(x[step], padding[step], dy[step])):
            torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-11)


def waits_of(norm, group):
    """How often the CPU stood still for the network; on a device, how often the stream did, for all
    norms of the group."""
    if not norm._on_streams:
        return norm.blocking_waits
    assert norm.blocking_waits == 0
    group._settle()
    return group._device.stream_waits


@pytest.mark.parametrize("semantics", ["reference", "paper"])
def test_nothing_is_waited_for_after_warm_up(semantics):
    """Counted.  A round of the group between the steps sees to it that what was sent has come."""
    x, dy, padding = data(torch.float64)

    def body(worker):
        mine = slice(0, 3) if worker.rank == 0 else slice(3, 8)
        counts, outputs = {}, {}
        for schedule in ("deferred", "blocking"):
            norm = make(semantics=semantics, schedule=schedule, name=schedule)
            norm._norm()
            before = waits_of(norm, worker.group)
            waits = []

            def between():
                worker.group.sum("all are here", [1.0])
                waits.append(waits_of(norm, worker.group) - before)

            outputs[schedule] = train(norm, x[:, :, mine], dy[:, :, mine], padding[:, mine], between)
            counts[schedule] = waits[2 * WARMUP - 1], waits[-1] - waits[2 * WARMUP - 1]
            norm.drain()
        for one, other in zip(outputs["deferred"], outputs["blocking"]):
            assert all(torch.equal(a, b) for a, b in zip(one, other))
        return counts

    after = STEPS - WARMUP
    in_warm_up = WARMUP if semantics == "reference" else 2 * WARMUP
    expected = {"deferred": (in_warm_up, 0), "blocking": (2 * WARMUP, 2 * after)}
    for counts in run(2, body):
        if on_streams():  # whose results may be there when they are asked for
            assert counts["deferred"][1] == 0 and counts["deferred"][0] > 0
            assert counts["blocking"][1] > 0
        else:
            assert counts == expected


def test_the_gradient_is_exact_where_the_semantics_say_so():
    torch.manual_seed(7)
    x = torch.randn(3, 2, C, dtype=torch.float64, requires_grad=True)
    paper = SyncPowerNorm(C, warmup_iters=10 ** 6, semantics="paper", group_num=2, dtype=torch.float64)
    trained = make()
    train(trained, *data(torch.float64))
    for norm in (paper, trained.eval()):
        assert torch.autograd.gradcheck(lambda x, w, b, n=norm: n(x), (x, norm.weight, norm.bias))


def test_a_run_that_resumes_from_a_file_continues_bit_for_bit(tmp_path):
    x, dy, padding = data(torch.float32)
    norm = make(torch.float32)
    train(norm, x[:5], dy[:5], padding[:5])
    torch.save(norm.state_dict(), tmp_path / "file")
    resumed = make(torch.float32)
    resumed.load_state_dict(torch.load(tmp_path / "file"))
    for one, other in zip(train(norm, x[5:], dy[5:], padding[5:]),
                          train(resumed, x[5:], dy[5:], padding[5:])):
        assert all(torch.equal(a, b) for a, b in zip(one, other))


def test_the_authors_checkpoints_load():
    """As mask_powernorm.py's state_dict: float32, (1, C, 1, 1), iters an int64 of one element."""
    theirs = {"weight": torch.rand(C), "bias": torch.rand(C), "running_phi": torch.rand(1, C, 1, 1),
              "ema_gz": torch.rand(1, C, 1, 1), "iters": torch.tensor([20000])}
    norm = SyncPowerNorm(C)
    norm.load_state_dict(theirs)
    x = torch.randn(4, 2, C)
    r = (x.pow(2).mean(-1, keepdim=True) + 1e-5).rsqrt()
    phi = theirs["running_phi"].flatten()
    expected = theirs["weight"] * x * r / (phi + 1e-5).sqrt() + theirs["bias"]
    torch.testing.assert_close(norm.eval()(x), expected, rtol=2e-6, atol=1e-6)
    torch.testing.assert_close(norm.train()(x), expected, rtol=2e-6, atol=1e-6)  # beyond the warm-up
    mine = norm.state_dict()
    assert mine["iters"].tolist() == [20001] and list(mine) == list(theirs)
    torch.testing.assert_close(mine["running_phi"].flatten().float(),
                               0.9 * phi + 0.1 * (x * r).pow(2).mean((0, 1)))


def test_evaluation_does_not_look_at_the_mask_and_moves_nothing():
    norm = make(torch.float32)
    train(norm, *data(torch.float32))
    norm.eval()
    state = copy.deepcopy(norm.state_dict())
    x = torch.randn(4, 3, C)
    assert torch.equal(norm(x), norm(x, torch.ones(3, 4, dtype=torch.bool)))
    assert all(torch.equal(v, state[k]) for k, v in norm.state_dict().items())


def test_a_batch_of_padding_moves_nothing():
    norm = make()
    state = copy.deepcopy(norm.state_dict())
    y = norm(torch.randn(4, 3, C, dtype=torch.float64, requires_grad=True),
             torch.ones(3, 4, dtype=torch.bool))
    y.sum().backward()
    assert not y.isnan().any()
    assert all(torch.equal(v, state[k]) for k, v in norm.state_dict().items())


def test_the_loss_scale_does_not_enter_the_statistics():
    x, dy, padding = data(torch.float64)

    class Scaler:
        def get_scale(self):
            return 1024.0

    plain, scaled = make(), make()
    syncnorm.torch.set_grad_scaler(nn.Sequential(scaled), Scaler())
    for (_, dx, dw, db), (_, *theirs) in zip(train(plain, x, dy, padding),
                                             train(scaled, x, 1024 * dy, padding)):
        for want, got in zip((dx, dw, db), theirs):
            torch.testing.assert_close(got / 1024, want)
    torch.testing.assert_close(scaled.state_dict()["ema_gz"], plain.state_dict()["ema_gz"])


@pytest.mark.skipif(not hasattr(torch.amp, "GradScaler"),
                    reason="torch before 2.3 has no GradScaler for the CPU")
def test_grad_scaler_skips_a_step_that_overflows_on_one_worker():
    def body(worker):
        torch.manual_seed(7)
        model = nn.Sequential(nn.Linear(C, C), SyncPowerNorm(C, warmup_iters=1),
                              syncnorm.torch.SyncBatchNorm(C), nn.Linear(C, 1))
        wrapped = nn.parallel.DistributedDataParallel(model)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1000)
        syncnorm.torch.set_grad_scaler(model, scaler)
        optimiser = torch.optim.SGD(model.parameters(), 0.01)
        kept = []
        for step in range(4):
            optimiser.zero_grad()
            x = torch.randn(4, C)
            loss = (wrapped(x) - x[:, :1]).pow(2).mean()
            if step == 2 and worker.rank == 1:
                loss = loss * float("inf")
            scaler.scale(loss).backward()
            scaler.step(optimiser)
            scaler.update()
            kept.append((model[0].weight.detach().clone(), scaler.get_scale()))
        assert torch.equal(kept[1][0], kept[2][0]) and not torch.equal(kept[2][0], kept[3][0])
        assert [scale for _, scale in kept] == [1024.0, 1024.0, 512.0, 512.0]
        return model.state_dict()

    first, second = run(2, body, ddp=True, non_finite="propagate")
    for name, value in first.items():
        assert value.isfinite().all() and torch.equal(value, second[name]), name


def test_copies_and_pickles_have_what_was_under_way():
    def body(worker):
        x, dy, padding = data(torch.float64)
        norm = make()
        train(norm, x[:5], dy[:5], padding[:5])
        twins = copy.deepcopy(norm), pickle.loads(pickle.dumps(norm))
        expected = train(norm, x[5:], dy[5:], padding[5:])
        for twin in twins:
            for one, other in zip(expected, train(twin, x[5:], dy[5:], padding[5:])):
                assert all(torch.equal(a, b) for a, b in zip(one, other))

    run(2, body)


def test_what_is_written_to_the_buffers_counts_at_the_next_forward():
    """And only what was: the other buffers still had the values from before the training."""
    def body(worker):
        x, dy, padding = data(torch.float64)
        norm = make()
        train(norm, x[:5], dy[:5], padding[:5])
        norm.running_phi.data.fill_(4.0)  # .data: autograd's version does not tell
        y = norm(x[5])
        r = (x[5].reshape(4, 8, 2, 3).pow(2).mean(-1, keepdim=True) + 1e-5).rsqrt()
        xs = (x[5].reshape(4, 8, 2, 3) * r).reshape(4, 8, C)
        torch.testing.assert_close(y, norm.weight * xs / (4 + 1e-5) ** 0.5 + norm.bias)
        assert norm.state_dict()["iters"].item() == 6

    run(2, body)


def test_a_statistic_that_failed_is_told_by_the_call_that_collects_it():
    def body(worker):
        norm = make(name="pn")
        train(norm, *(t[:4] for t in data(torch.float64)))
        x = torch.randn(4, 2, C, dtype=torch.float64)
        if worker.rank == 1:
            x[0] = float("nan")
        norm(x)  # deferred
        with pytest.raises(SyncnormError) as error:
            norm(torch.randn(4, 2, C, dtype=torch.float64))
        before = norm.state_dict()["iters"].item()
        norm(torch.randn(4, 2, C, dtype=torch.float64))
        return error.value.layer, error.value.ranks, before, norm.state_dict()["iters"].item()

    assert run(2, body) == [("pn", (1,), 4, 5)] * 2


@pytest.mark.parametrize("mask,text", [
    (torch.ones(4, 3), "dtype torch.float32"), (torch.ones(4, 3).bool(), r"expected \(3, 4\)"),
    (torch.full((3, 4), 7, dtype=torch.uint8), "0 and 1")])
def test_what_is_wrong_with_a_mask_is_named(mask, text):
    norm = SyncPowerNorm(C)
    with pytest.raises(SyncnormError, match=text):
        norm(torch.randn(4, 3, C), mask)
        syncnorm.torch.check(norm)  # on a device a mask's values are told by the next that asks


@pytest.mark.parametrize("options,text", [
    ({"semantics": "sulk"}, "reference, paper"), ({"schedule": "sulk"}, "deferred, blocking"),
    ({"group_num": 4}, "4"), ({"alpha_fwd": 1.0}, "alpha_fwd is 1")])
def test_what_is_wrong_with_an_option_is_named(options, text):
    with pytest.raises(SyncnormError, match=text) as error:
        SyncPowerNorm(C, **options)(torch.randn(4, 3, C))
    assert error.value.code == "INVALID_ARGUMENT"


def test_types_follow_the_module_but_statistics_stay_float64():
    norm = SyncPowerNorm(C).half()
    assert norm.weight.dtype == torch.float16 and norm.running_phi.dtype == torch.float64
    y = norm(torch.randn(4, 3, C).half())
    assert y.dtype == torch.float16
