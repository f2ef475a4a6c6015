"""convert_sync_batchnorm and revert_sync_batchnorm."""
import copy
import pickle

import pytest
import torch
from torch import nn

import syncnorm.torch
from models import Cnn
from syncnorm.torch import SyncBatchNorm, convert_sync_batchnorm, revert_sync_batchnorm
from workers import run


def test_every_batch_norm_becomes_a_synchronised_one_and_keeps_all_it_had():
    model = Cnn()
    model.stem[1].momentum, model.stem[1].favourite = None, "yes"
    model.stem[1].weight.requires_grad = False
    model.stem[1].eval()
    calls = []
    handle = model.stem[1].register_forward_hook(lambda *a: calls.append(1))
    parameters = dict(model.named_parameters())
    buffers = dict(model.named_buffers())
    x = torch.randn(4, 1, 8, 8)
    expected = copy.deepcopy(model)(x)
    assert convert_sync_batchnorm(model) is model
    norms = {n: m for n, m in model.named_modules() if isinstance(m, SyncBatchNorm)}
    assert {n: m.layer for n, m in norms.items()} == {
        n: n for n in ("stem.1", "block.1", "block.4")}
    assert all(p is parameters[n] for n, p in model.named_parameters())
    assert all(b is buffers[n] for n, b in model.named_buffers())
    stem = model.stem[1]
    assert stem.momentum is None and stem.favourite == "yes" and not stem.training
    torch.testing.assert_close(model(x), expected)
    assert calls == [1, 1]
    handle.remove()
    model(x)
    assert calls == [1, 1]


def test_revert_gives_the_classes_and_values_back():
    model = Cnn()
    types = [type(m) for m in model.modules()]
    convert_sync_batchnorm(model)
    model(torch.randn(4, 1, 8, 8))
    state = copy.deepcopy(model.state_dict())
    assert revert_sync_batchnorm(model) is model
    assert [type(m) for m in model.modules()] == types
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    pickle.dumps(model)
    assert vars(model.stem[1]).keys() == vars(Cnn().stem[1]).keys()
    torch.jit.trace(model.eval(), torch.randn(1, 1, 8, 8))  # an export, say


def test_a_model_that_is_a_norm():
    assert isinstance(convert_sync_batchnorm(nn.BatchNorm3d(2)), SyncBatchNorm)
    norm = revert_sync_batchnorm(SyncBatchNorm(2))
    assert not isinstance(norm, SyncBatchNorm)
    assert norm(torch.randn(3, 2, 4)).shape == (3, 2, 4)


def test_torchs_own_are_converted_and_ours_are_left():
    model = nn.Sequential(nn.SyncBatchNorm(2), SyncBatchNorm(2), nn.InstanceNorm2d(2), nn.GroupNorm(1, 2))
    model[0].process_group = lambda: "cannot be pickled, as torch's groups"
    before = list(model)
    convert_sync_batchnorm(model)
    assert isinstance(model[0], SyncBatchNorm) and list(model)[1:] == before[1:]
    pickle.loads(pickle.dumps(model))


def test_a_norm_at_two_places_stays_one():
    norm = nn.BatchNorm1d(2)
    model = convert_sync_batchnorm(nn.Sequential(norm, nn.Tanh(), norm))
    assert model[0] is model[2]


class FusedActivation(nn.BatchNorm2d):
    def forward(self, x):
        return torch.relu(super().forward(x))


def test_what_a_conversion_would_strip_is_refused_by_name():
    model = nn.Sequential(nn.BatchNorm2d(2), nn.Sequential(FusedActivation(2)), nn.LazyBatchNorm1d(),
                          torch.jit.script(nn.BatchNorm2d(2)), nn.BatchNorm2d(2))
    model[4].forward = lambda x: x
    with pytest.raises(TypeError) as error:
        convert_sync_batchnorm(model)
    for text in ("1.0 is a test_convert.FusedActivation", "2 is a torch.nn.modules.batchnorm.LazyBatchNorm1d",
                 "3 is a scripted BatchNorm2d", "4 is a torch.nn.modules.batchnorm.BatchNorm2d whose forward"):
        assert text in str(error.value)
    assert type(model[0]) is nn.BatchNorm2d  # nothing was changed


def test_two_models_with_the_same_paths():
    def body(worker):
        first, second = (convert_sync_batchnorm(nn.Sequential(nn.BatchNorm1d(1))) for _ in range(2))
        x = torch.full((1, 1), float(worker.rank))
        first(x), second(x), first(x)
        torch.testing.assert_close(second[0].running_mean, torch.tensor([0.05]))
        return first[0].layer, second[0].layer

    assert run(2, body) == [("0", "0#2")] * 2


def test_a_half_model_keeps_its_statistics_in_float32():
    model = convert_sync_batchnorm(nn.Sequential(nn.BatchNorm2d(2)).half())
    assert model[0].weight.dtype == torch.float16 and model[0].running_var.dtype == torch.float32
