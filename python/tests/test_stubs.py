"""The typed stubs say what is there."""
import ast
import importlib.util
import inspect
import os

import pytest

import syncnorm
import syncnorm._core
import syncnorm.torch

FOLDER = os.path.dirname(syncnorm.__file__)
MODULES = {"__init__.pyi": syncnorm, "torch/__init__.pyi": syncnorm.torch,
           "_core.pyi": syncnorm._core}
if importlib.util.find_spec("syncnorm._cuda") is not None:  # where it was built with CUDA
    MODULES["_cuda.pyi"] = importlib.import_module("syncnorm._cuda")


def parse(stub):
    with open(os.path.join(FOLDER, stub), encoding="utf-8") as f:
        return ast.parse(f.read()).body


def definitions(body):
    return {node.name: node for node in body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}


def parameters(node):
    """(name, whether it has a default, whether it is by name only), without self."""
    a = node.args
    first = [None] * (len(a.args) - len(a.defaults)) + a.defaults
    found = [(arg.arg, default is not None, False) for arg, default in zip(a.args, first)]
    found += [(arg.arg, d is not None, True) for arg, d in zip(a.kwonlyargs, a.kw_defaults)]
    return [p for p in found if p[0] != "self"]


def real_parameters(function):
    signature = inspect.signature(function)
    return [(p.name, p.default is not p.empty, p.kind is p.KEYWORD_ONLY)
            for p in signature.parameters.values() if p.name != "self"]


def test_the_package_is_marked_as_typed():
    assert os.path.exists(os.path.join(FOLDER, "py.typed"))


@pytest.mark.parametrize("stub", MODULES)
def test_every_name_of_a_stub_is_there_and_every_public_name_is_in_it(stub):
    module, names = MODULES[stub], definitions(parse(stub))
    for name in names:
        assert name in ("OnLoss", "NonFinite") or hasattr(module, name), name
        if isinstance(names[name], ast.ClassDef):
            for member in definitions(names[name].body):
                assert hasattr(getattr(module, name), member), f"{name}.{member}"
    public = getattr(module, "__all__", [n for n in dir(module) if not n.startswith("_")])
    assert set(public) <= set(names)


@pytest.mark.parametrize("stub", ["__init__.pyi", "torch/__init__.pyi"])
def test_parameters_are_those_of_the_functions(stub):
    module = MODULES[stub]
    for name, node in definitions(parse(stub)).items():
        if isinstance(node, ast.FunctionDef):
            real = syncnorm.connect if name == "init" else getattr(module, name)  # init(**options)
            assert parameters(node) == real_parameters(real), name
            continue
        for member, method in definitions(node.body).items():
            real = getattr(getattr(module, name), member)
            if callable(real) and member not in ("__call__",):
                assert parameters(method) == real_parameters(real), f"{name}.{member}"
