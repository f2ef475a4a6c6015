"""Real processes for tests: W workers, forked from a process that has imported torch and never used
a group, over a coordinator in rank 0.

    def body(worker):
        ...
        return result
    results = run(2, body)            # results[rank]
    results = run(2, body, ddp=True)  # torch.distributed (Gloo) is initialised, too
"""
import multiprocessing
import pickle
import shutil
import tempfile
import traceback

import syncnorm

LIMIT = 90.0  # s for all workers of one run: beyond it something hangs


class Worker:
    def __init__(self, rank, world_size, folder):
        self.rank = rank
        self.world_size = world_size
        self.folder = folder
        self.address = f"unix:{folder}/coordinator"
        self.group = None

    def init(self, **options):
        """syncnorm.init as the run would."""
        options = {"address": self.address, "rank": self.rank, "world_size": self.world_size,
                   "connect_timeout": 30.0, "round_timeout": 20.0, **options}
        self.group = syncnorm.init(**options)
        return self.group


def _send(connection, ok, result):
    # Not connection.send, which lends tensors' memory to the receiver: this process ends.
    connection.send_bytes(pickle.dumps((ok, result)))


def _main(connection, worker, body, ddp, init, options):
    try:
        if ddp:
            import torch.distributed
            torch.distributed.init_process_group(
                "gloo", init_method=f"file://{worker.folder}/store", rank=worker.rank,
                world_size=worker.world_size)
        if init:
            worker.init(**options)
        result = body(worker)
        syncnorm.shutdown()
        # The process group is not destroyed: with torch 1.13 that waits, with the GIL held, for
        # Gloo's threads, which may wait for the GIL.  The process ends without.
        _send(connection, True, result)
    except BaseException:  # whatever it is, the parent tells it
        _send(connection, False, traceback.format_exc())
    finally:
        connection.close()


def run(world_size, body, *, ddp=False, init=True, **options):
    """What body(worker) returned in each of world_size processes.

    AssertionError with every worker's traceback if one raised, ended otherwise, or took too long.
    """
    context = multiprocessing.get_context("fork")
    folder = tempfile.mkdtemp(prefix="syncnorm-")
    processes, connections = [], []
    try:
        for rank in range(world_size):
            mine, theirs = context.Pipe(duplex=False)
            process = context.Process(
                target=_main,
                args=(theirs, Worker(rank, world_size, folder), body, ddp, init, options))
            process.start()
            theirs.close()
            processes.append(process)
            connections.append(mine)
        results, errors = [], []
        for rank, connection in enumerate(connections):
            try:
                if not connection.poll(LIMIT):
                    raise AssertionError(f"no result within {LIMIT} s")
                ok, result = pickle.loads(connection.recv_bytes())
                if not ok:
                    raise AssertionError(result)
                results.append(result)
            except (AssertionError, EOFError) as error:
                errors.append(f"worker {rank}: {error or 'ended without a result'}")
        assert not errors, "\n".join(errors)
        return results
    finally:
        for process in processes:
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join()
        shutil.rmtree(folder, ignore_errors=True)
