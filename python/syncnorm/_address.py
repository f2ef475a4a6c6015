"""Where the coordinator is, for workers that were not told.

In this order:
    1. the argument ``address``; SYNCNORM_ADDR; MASTER_ADDR and SYNCNORM_PORT;
    2. where torch.distributed is initialised: rank 0 takes a free port and tells it through the
       process group's store;
    3. MASTER_ADDR and MASTER_PORT + 1 (torchrun's rendezvous has MASTER_PORT itself);
    4. for a group of one: a free port of this machine.
"""
import datetime
import os
import socket
import sys
import time

from ._errors import SyncnormError

LOOPBACK = "127.0.0.1"
# How long one wait for the store takes: Ctrl-C is seen between two.
LOOK = datetime.timedelta(milliseconds=50)


def initialised_torch_distributed():
    """torch.distributed, if this process uses it; this module imports no torch."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed


def resolve(options, counter):
    """The address, and what rank 0 calls with the one that it got (or None).

    ``counter``: how many groups of that name this process made before; equal on all workers.
    """
    if options.address:
        return options.address, None
    distributed = initialised_torch_distributed()
    if distributed is not None and distributed.get_world_size() == options.world_size:
        return _through_store(options, counter)
    host, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
    if host and port:
        if not port.isdigit() or not 0 < int(port) < 65535:
            raise SyncnormError("INVALID_ARGUMENT",
                                f'MASTER_PORT is "{port}", expected a port, 1 to 65534')
        return join_host_port(host, int(port) + 1), None
    if options.world_size == 1:
        return join_host_port(LOOPBACK, 0), None
    raise SyncnormError(
        "NOT_FOUND", "nothing tells the coordinator's address: give init(address=...), or set "
        "SYNCNORM_ADDR, or MASTER_ADDR and SYNCNORM_PORT (or MASTER_PORT), or initialise "
        "torch.distributed before")


def join_host_port(host, port):
    bare_v6 = ":" in host and not host.startswith("[")
    return f"[{host}]:{port}" if bare_v6 else f"{host}:{port}"


def _through_store(options, counter):
    from torch.distributed import PrefixStore
    from torch.distributed.distributed_c10d import _get_default_store

    store = PrefixStore(f"syncnorm/{options.group}/{counter}", _get_default_store())
    deadline = time.monotonic() + options.connect_timeout
    here = socket.gethostname()
    if options.rank != 0:
        store.set(f"host/{options.rank}", here)
        return _get(store, "address", deadline), None
    # A port that only this machine reaches, if that is all that is needed.
    hosts = {_get(store, f"host/{rank}", deadline) for rank in range(1, options.world_size)}
    host = LOOPBACK if hosts <= {here} else os.environ.get("MASTER_ADDR") or here
    return join_host_port(host, 0), lambda address: store.set("address", address)


def _get(store, key, deadline):
    while True:
        try:
            store.wait([key], LOOK)
            return store.get(key).decode()
        except RuntimeError as error:  # the wait's time is over
            if time.monotonic() >= deadline:
                raise SyncnormError(
                    "DEADLINE_EXCEEDED", f"torch.distributed's store has no {key} of another "
                    f"worker: did all of them call syncnorm.init()? ({error})") from error
