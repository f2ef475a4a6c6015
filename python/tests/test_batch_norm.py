"""SyncBatchNorm beside torch.nn.BatchNorm*: values, gradients, statistics, types, copies and
errors."""
import copy
import pickle

import pytest
import torch
from torch import nn

import syncnorm.torch
from syncnorm import SyncnormError
from syncnorm.torch import SyncBatchNorm
from workers import run

SHAPES = [(6, 3), (4, 3, 7), (4, 3, 5, 6), (2, 3, 4, 5, 6)]


def torch_norm(*args, **kwargs):
    return syncnorm.torch.convert.BatchNorm(*args, **kwargs)  # of any number of dimensions


def compare(ours, theirs, x, tolerance, steps=3):
    """Outputs, gradients and statistics of training, then of evaluation."""
    theirs.load_state_dict(ours.state_dict())
    for training in (True, False):
        ours.train(training), theirs.train(training)
        for _ in range(steps):
            mine, its = (x.detach().clone().requires_grad_() for _ in range(2))
            y, expected = ours(mine), theirs(its)
            dy = torch.randn_like(y)
            gradients = torch.autograd.grad(y, [mine, *ours.parameters()], dy)
            wanted = torch.autograd.grad(expected, [its, *theirs.parameters()], dy)
            for got, want in zip((y, *gradients), (expected, *wanted)):
                torch.testing.assert_close(got, want, rtol=tolerance, atol=20 * tolerance)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name].to(value.dtype), value, rtol=tolerance,
                                   atol=tolerance)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype,tolerance", [(torch.float32, 2e-6), (torch.float64, 1e-13)])
@pytest.mark.parametrize("options", [
    {}, {"momentum": None}, {"affine": False}, {"track_running_stats": False},
    {"eps": 1e-2, "momentum": 0.3}], ids=str)
def test_alone_it_is_torchs(shape, dtype, tolerance, options):
    torch.manual_seed(5)
    ours, theirs = (make(3, dtype=dtype, **options) for make in (SyncBatchNorm, torch_norm))
    compare(ours, theirs, 3 * torch.randn(shape, dtype=dtype) + 1, tolerance)


@pytest.mark.parametrize("layout", ["channels last", "permuted", "expanded", "sliced"])
def test_every_layout_gives_the_same(layout):
    torch.manual_seed(5)
    x = torch.randn(4, 3, 6, 5, dtype=torch.float64)
    if layout == "channels last":
        x = x.to(memory_format=torch.channels_last)
    elif layout == "permuted":
        x = torch.randn(6, 3, 5, 4, dtype=torch.float64).permute(3, 1, 0, 2)
    elif layout == "expanded":
        x = x[:, :, :, :1].expand(4, 3, 6, 5)
    else:
        x = x[:, :, ::2]
    ours = SyncBatchNorm(3, dtype=torch.float64)
    compare(ours, torch_norm(3, dtype=torch.float64), x, 1e-13)
    y = ours(x)
    assert y.is_contiguous(memory_format=torch.channels_last if layout == "channels last" else
                           torch.contiguous_format)


@pytest.mark.parametrize("dtype,rounding", [(torch.float16, 2 ** -11), (torch.bfloat16, 2 ** -8)])
def test_half_precision_is_one_rounding_of_the_exact_result(dtype, rounding):
    torch.manual_seed(5)
    x = (2 * torch.randn(8, 3, 9) + 1).to(dtype).requires_grad_()
    exact_x = x.detach().double().requires_grad_()
    ours, exact = SyncBatchNorm(3), torch_norm(3).double()
    y, expected = ours(x), exact(exact_x)
    assert y.dtype == dtype and ours.running_var.dtype == torch.float32
    dy = torch.randn_like(y)
    y.backward(dy), expected.backward(dy.double())
    assert x.grad.dtype == dtype
    for got, want in ((y, expected), (x.grad, exact_x.grad)):
        torch.testing.assert_close(got.double(), want, rtol=rounding, atol=1e-6)
    torch.testing.assert_close(ours.running_var.double(), exact.running_var, rtol=1e-6, atol=0)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("training", [True, False])
def test_gradcheck_in_float64(masked, training):
    torch.manual_seed(5)
    norm = SyncBatchNorm(2, dtype=torch.float64).train(training)
    x = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[1, 1, 0, 1], [0, 1, 1, 1], [1, 0, 0, 1]]) > 0 if masked else None

    def call(x, weight, bias):
        del weight, bias  # the module's own, which gradcheck moves in place
        return norm(x, mask)

    assert torch.autograd.gradcheck(call, (x, norm.weight, norm.bias))


@pytest.mark.parametrize("mask_dtype", [torch.bool, torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("with_channel", [False, True])
def test_masked_positions_count_nowhere(mask_dtype, with_channel):
    torch.manual_seed(5)
    x = torch.randn(4, 3, 6, dtype=torch.float64)
    mask = torch.rand(4, 6) < 0.6
    ours, theirs = SyncBatchNorm(3, dtype=torch.float64), torch_norm(3, dtype=torch.float64)
    valid = x.movedim(1, -1)[mask].requires_grad_()  # (positions, C)
    expected = theirs(valid)
    padded = torch.where(mask.unsqueeze(1), x, torch.full_like(x, float("nan"))).requires_grad_()
    given = mask.unsqueeze(1) if with_channel else mask
    y = ours(padded, mask=given.to(mask_dtype))
    dy = torch.randn_like(y)
    y.backward(dy), expected.backward(dy.movedim(1, -1)[mask])
    torch.testing.assert_close(y.movedim(1, -1)[mask], expected)
    torch.testing.assert_close(padded.grad.movedim(1, -1)[mask], valid.grad)
    for tensor in (y, padded.grad):
        assert (tensor.movedim(1, -1)[~mask] == 0).all()
    torch.testing.assert_close(ours.running_var, theirs.running_var)


def test_the_state_dict_is_torchs_in_both_directions():
    theirs = nn.BatchNorm2d(3)
    theirs(torch.randn(4, 3, 5, 5))
    ours = SyncBatchNorm(3)
    ours.load_state_dict(theirs.state_dict())
    ours(torch.randn(4, 3, 5, 5))
    assert ours.num_batches_tracked == 2
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(4, 3, 5, 5)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=2e-6, atol=1e-6)
    # Of torch before 0.4.1: without num_batches_tracked.
    old = {k: v for k, v in theirs.state_dict().items() if k != "num_batches_tracked"}
    SyncBatchNorm(3).load_state_dict(old)


def test_what_is_written_to_buffers_and_attributes_counts_at_once():
    ours, theirs = SyncBatchNorm(2), torch_norm(2)
    x = torch.randn(6, 2)
    for norm in (ours, theirs):
        norm(x)
        norm.reset_running_stats()
        norm.momentum = None  # as swa_utils.update_bn does
        norm.eps = 0.5
        norm.running_mean.data.fill_(3)
        norm.weight.data.mul_(2)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    ours.track_running_stats = False
    before = ours.running_mean.clone()
    ours(x)
    assert torch.equal(before, ours.running_mean)


def test_types_follow_the_module_but_statistics_are_never_half():
    norm = SyncBatchNorm(2).half()
    assert norm.weight.dtype == torch.float16 and norm.running_mean.dtype == torch.float32
    norm = norm.double()
    assert norm.weight.dtype == norm.running_var.dtype == torch.float64
    assert SyncBatchNorm(2, dtype=torch.bfloat16).running_mean.dtype == torch.float32
    assert norm.num_batches_tracked.dtype == torch.int64


def test_autocast():
    torch.manual_seed(5)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), SyncBatchNorm(4), nn.ReLU())
    x = torch.randn(2, 3, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = model(x)
        assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert model[1].weight.grad.dtype == torch.float32
    assert model[0].weight.grad is not None


def test_a_gradient_of_the_gradient_is_refused_when_it_is_asked_for():
    norm = SyncBatchNorm(2)
    x = torch.randn(4, 2, requires_grad=True)
    dx, = torch.autograd.grad(norm(x).pow(2).sum(), x, create_graph=True)
    with pytest.raises(SyncnormError, match="gradient of a gradient") as error:
        dx.sum().backward()
    assert error.value.code == "UNIMPLEMENTED" and error.value.layer == norm.layer
    # Through what does not need it, it may be asked for.
    y = norm(x)
    (torch.autograd.grad((y * y).sum(), y, create_graph=True)[0] * y).sum().backward()


def test_an_input_that_was_changed_before_its_backward_is_refused():
    x = torch.randn(4, 2, requires_grad=True)
    z = x * 1
    y = SyncBatchNorm(2)(z)
    with torch.no_grad():
        z.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("call,error,text", [
    (lambda n: n(torch.randn(3)), ValueError, "at least 2D"),
    (lambda n: n(torch.randn(3, 5)), SyncnormError, "it has 5 channels, this layer has 2"),
    (lambda n: n(torch.ones(3, 2, dtype=torch.int64)), SyncnormError, "dtype torch.int64"),
    (lambda n: n([1.0]), TypeError, "expected a torch.Tensor"),
    (lambda n: n(torch.randn(3, 2, 4), mask=torch.ones(3, 3)), SyncnormError, "mask's shape"),
    (lambda n: n(torch.randn(3, 2), mask=torch.tensor([0.5, 1, 1])), SyncnormError, "0 and 1"),
    (lambda n: SyncBatchNorm(0)(torch.randn(3, 0)), SyncnormError, "channels is 0"),
    (lambda n: SyncBatchNorm(2, momentum=7)(torch.randn(3, 2)), SyncnormError, "momentum is 7"),
    (lambda n: SyncBatchNorm(2, process_group=7), TypeError, "expected a syncnorm.Group"),
])
def test_what_is_wrong_with_an_argument_is_named(call, error, text):
    norm = SyncBatchNorm(2)
    with pytest.raises(error, match=text):
        call(norm)
        syncnorm.torch.check(norm)  # on a device a mask's values are told by the next that asks


def test_edges_of_few_values():
    norm = SyncBatchNorm(2)
    with torch.no_grad():
        norm.bias.fill_(3)
    state = copy.deepcopy(norm.state_dict())
    empty = torch.zeros(0, 2, 5, requires_grad=True)
    y = norm(empty)
    y.sum().backward()
    assert y.shape == empty.grad.shape == (0, 2, 5)
    assert all(torch.equal(v, state[k]) for k, v in norm.state_dict().items())
    one = torch.tensor([[5.0, 7.0]], requires_grad=True)
    y = norm(one)
    y.sum().backward()
    assert (y == 3).all() and (one.grad == 0).all()
    assert torch.equal(norm.running_var, torch.ones(2))
    torch.testing.assert_close(norm.running_mean, torch.tensor([0.5, 0.7]))


def test_copies_and_pickles_train_on_by_themselves():
    norm = SyncBatchNorm(2)
    norm(torch.randn(4, 2))
    for twin in (copy.deepcopy(norm), pickle.loads(pickle.dumps(norm))):
        assert torch.equal(twin.running_mean, norm.running_mean)
        before = norm.running_mean.clone()
        twin(torch.randn(4, 2))
        assert torch.equal(norm.running_mean, before)
        assert not torch.equal(twin.running_mean, before)


# ---- In a group ----------------------------------------------------------------------------------


def test_a_module_that_is_used_twice_in_a_step():
    def body(worker):
        torch.manual_seed(5)
        x = torch.randn(8, 3, 4, dtype=torch.float64)
        ours, theirs = SyncBatchNorm(3).double(), torch_norm(3).double()
        whole = x.clone().requires_grad_()
        theirs(theirs(whole) ** 2).pow(3).sum().backward()
        mine = x[4 * worker.rank:4 * worker.rank + 4].clone().requires_grad_()
        ours(ours(mine) ** 2).pow(3).sum().backward()
        torch.testing.assert_close(mine.grad, whole.grad[4 * worker.rank:4 * worker.rank + 4])
        torch.testing.assert_close(ours.running_var, theirs.running_var)
        assert ours.num_batches_tracked == 2

    run(2, body)


def test_masks_over_the_group():
    def body(worker):
        torch.manual_seed(5)
        x, mask = torch.randn(8, 3, 4, dtype=torch.float64), torch.rand(8, 4) < 0.5
        mask[:3] = False  # nothing counts on rank 0
        ours, theirs = SyncBatchNorm(3).double(), torch_norm(3).double()
        expected = theirs(x.movedim(1, -1)[mask])
        begin, end = (0, 3) if worker.rank == 0 else (3, 8)
        y = ours(x[begin:end], mask[begin:end])
        whole = torch.zeros(8, 4, 3, dtype=torch.float64)
        whole[mask] = expected
        torch.testing.assert_close(y, whole.movedim(-1, 1)[begin:end])
        torch.testing.assert_close(ours.running_mean, theirs.running_mean)

    run(2, body)


@pytest.mark.parametrize("mean,deviation,eps", [(1e4, 1.0, 1e-5), (0.0, 1e-5, 1e-5), (1e3, 0.1, 1e-5)])
def test_statistics_far_from_zero_are_exact(mean, deviation, eps):
    def body(worker):
        torch.manual_seed(5)
        x = (mean + deviation * torch.randn(2, 64, 2, 8)).float()
        norm = SyncBatchNorm(2, eps=eps, momentum=1.0)
        norm(x[worker.rank])
        exact = x.double().movedim(2, -1).reshape(-1, 2)
        error = (norm.running_var.double() / exact.var(dim=0, unbiased=True) - 1).abs().max()
        assert error < 1e-5, error

    run(2, body)


def test_training_under_no_grad_synchronises_and_evaluation_does_not():
    def body(worker):
        norm = SyncBatchNorm(1)
        with torch.no_grad():
            norm(torch.full((1, 1), float(worker.rank)))
        torch.testing.assert_close(norm.running_mean, torch.tensor([0.05]))
        norm.eval()
        if worker.rank == 0:
            norm(torch.ones(1, 1))
        return worker.group.sum("a", [1.0])

    assert run(2, body) == [[2.0], [2.0]]


def test_gradient_accumulation_with_ddp_no_sync():
    def body(worker):
        torch.manual_seed(5)
        x = torch.randn(2, 8, 3)
        ours = nn.Sequential(nn.Linear(3, 4), SyncBatchNorm(4))
        theirs = nn.Sequential(nn.Linear(3, 4), torch_norm(4))
        theirs.load_state_dict(ours.state_dict())
        wrapped = nn.parallel.DistributedDataParallel(ours)
        for batch in x:
            theirs(batch).pow(2)[:, 0].mean().backward()
        mine = x[:, 4 * worker.rank:4 * worker.rank + 4]
        with wrapped.no_sync():
            wrapped(mine[0]).pow(2)[:, 0].mean().backward()
        wrapped(mine[1]).pow(2)[:, 0].mean().backward()
        for got, want in zip(ours.parameters(), theirs.parameters()):
            torch.testing.assert_close(got.grad, want.grad, rtol=1e-5, atol=1e-6)

    run(2, body, ddp=True)


def test_layers_have_names_that_all_members_know():
    def body(worker):
        first, second = SyncBatchNorm(1), SyncBatchNorm(1)
        named = SyncBatchNorm(1, name="stem.bn")
        x = torch.ones(2, 1)
        for norm in (first, second, named):
            norm(x)
        twin = copy.deepcopy(first)
        twin.eval()(x)  # needs no name
        twin.train()(x)
        with pytest.raises(SyncnormError, match="layer stem.bn exists already") as error:
            SyncBatchNorm(1, name="stem.bn")(x)
        assert error.value.code == "ALREADY_EXISTS"
        return [n.layer for n in (first, second, named, twin)]

    names = ["SyncBatchNorm", "SyncBatchNorm#2", "stem.bn", "SyncBatchNorm#3"]
    assert run(2, body) == [names, names]


def test_members_that_differ_are_told_the_layer_and_both_shapes():
    def body(worker):
        norm = SyncBatchNorm(64 if worker.rank == 0 else 32, name="bn1")
        with pytest.raises(SyncnormError, match="bn1") as error:
            norm(torch.randn(2, norm.num_features))
            syncnorm.torch.check(norm)
        return "64" in str(error.value) and "32" in str(error.value)

    assert run(2, body) == [True, True]


def test_after_shutdown_norms_are_local_and_a_new_group_takes_them_over():
    def body(worker):
        norm = SyncBatchNorm(1, momentum=1.0)
        x = torch.full((1, 1), float(worker.rank))
        means = []
        for again in (True, False, False):
            norm(x)
            means.append(norm.running_mean.item())
            if again:
                syncnorm.shutdown()
            elif worker.group.connected is False:
                worker.init()
        return means, norm.num_batches_tracked.item()

    assert run(2, body) == [([0.5, 0.0, 0.5], 3), ([0.5, 1.0, 0.5], 3)]


def test_a_norm_whose_own_group_was_closed_is_local():
    def body(worker):
        group = syncnorm.new_group([0, 1])
        norm, used = (SyncBatchNorm(1, momentum=1.0, group=group) for _ in range(2))
        x = torch.full((1, 1), float(worker.rank))
        used(x)
        group.close()
        norm(x), used(x)
        return norm.running_mean.item(), used.running_mean.item()

    assert run(2, body) == [(0.0, 0.0), (1.0, 1.0)]


def test_a_model_made_before_init_is_synchronised_after_it():
    def body(worker):
        norm = SyncBatchNorm(1, momentum=1.0)
        norm(torch.full((1, 1), 7.0))
        worker.init()
        norm(torch.full((1, 1), float(worker.rank)))
        return norm.running_mean.item()

    assert run(2, body, init=False) == [0.5, 0.5]


def test_data_loader_workers():
    def body(worker):
        class Data(torch.utils.data.Dataset):
            def __len__(self):
                return 8

            def __getitem__(self, index):
                return torch.full((1,), float(index))

        norm = SyncBatchNorm(1)
        loader = torch.utils.data.DataLoader(Data(), batch_size=2, num_workers=2)
        for _ in range(2):  # new workers are forked while the group is there
            for batch in loader:
                norm(batch)
        return norm.num_batches_tracked.item(), worker.group.sum("a", [1.0])

    assert run(2, body) == [(8, [2.0])] * 2


def test_values_that_are_not_finite():
    """With GradScaler gradients overflow now and then; non_finite="propagate" lets all see it
    alike."""
    def body(worker):
        norm = SyncBatchNorm(1)
        x = torch.randn(4, 1, requires_grad=True)
        y = norm(x)
        y.backward(torch.full_like(y, float("inf") if worker.rank == 1 else 1.0))
        return bool(x.grad.isfinite().any())

    assert run(2, body, non_finite="propagate") == [False, False]

    def refused(worker):
        norm = SyncBatchNorm(1, name="bn")
        with pytest.raises(SyncnormError) as error:
            norm(torch.full((2, 1), float("nan") if worker.rank else 1.0))
            syncnorm.torch.check(norm)
        return error.value.layer, error.value.ranks

    assert run(2, refused) == [("bn", (1,))] * 2


@pytest.mark.skipif(not hasattr(torch, "compile"), reason="torch.compile is of torch 2.0 and later")
def test_compiled_models_leave_the_graph_for_the_norm():
    def body(worker):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc, self.bn = nn.Linear(3, 4), SyncBatchNorm(4)

            def forward(self, x):
                return torch.relu(self.bn(self.fc(x)))

        torch.manual_seed(5)
        model = Model()
        x = torch.randn(8, 3)[4 * worker.rank:4 * worker.rank + 4]
        expected = copy.deepcopy(model)(x)
        graphs = []

        def backend(graph, inputs):
            del inputs
            graphs.append([str(node.target) for node in graph.graph.nodes])
            return graph.forward

        compiled = torch.compile(model, backend=backend)
        for _ in range(2):
            y = compiled(x)
        torch.testing.assert_close(y, expected)
        y.sum().backward()
        assert model.fc.weight.grad is not None
        assert model.bn.num_batches_tracked == 2
        return len(graphs)  # before the norm, and after it

    assert run(2, body) == [2, 2]
