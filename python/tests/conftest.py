"""Set up before any test: nothing here or in a test makes a Group in pytest's own process, from
which workers are forked."""
import os
import sys

import pytest

os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
on_streams = os.environ.get("SYNCNORM_TEST_STREAMS") == "1"
for name in [n for n in os.environ if n.startswith("SYNCNORM_")]:
    del os.environ[name]
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import torch  # noqa: E402

# A fork must not inherit OpenMP's threads; and the workers have two cores between them.
torch.set_num_threads(1)


if on_streams:
    import stand_in

    stand_in.install()

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(pyfuncitem):
        arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
        stand_in.run_forked(pyfuncitem.obj, arguments)
        return True
