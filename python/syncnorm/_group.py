"""Groups: init, new_group, shutdown."""
import atexit
import collections
import dataclasses
import hashlib
import os
import threading

from . import _address, _core
from ._errors import SyncnormError


LOOK = 0.05  # s: twenty looks at signals a second cost nothing
CLOSE_LIMIT = 5.0  # s: as long as a coordinator serves those that have not left


@dataclasses.dataclass(frozen=True)
class Boundary:
    """What ``Group.at_boundary`` found: the epoch, the ranks that take part from here on, and those
    of them that did not before."""
    epoch: int
    members: tuple
    admitted: tuple


@dataclasses.dataclass(frozen=True)
class Coordinator:
    """How the coordinator inside rank 0 is protected.  On an address that other machines can reach
    it needs certificates (PEM files, all three), or ``insecure``."""
    cert_file: str = ""
    key_file: str = ""
    client_ca_file: str = ""
    tokens_file: str = ""
    insecure: bool = False


class Group:
    """One worker's membership in a named set of workers.  Made by ``init``, ``connect`` or
    ``new_group``.

    Thread-safe.  Not to be pickled or copied, and of no use in a forked child: there calls fail
    with the code FAILED_PRECONDITION.
    """

    def __init__(self, core, options, address):
        self._core = core
        self._options = options
        self._names = collections.Counter()
        self._lock = threading.Lock()
        self._device = None  # of the layers on CUDA streams
        self.address = address

    @property
    def name(self):
        return self._core.name

    @property
    def rank(self):
        return self._core.rank

    @property
    def world_size(self):
        return self._core.world_size

    @property
    def connected(self):
        """Whether this worker still is a member, or was until the membership failed; False after
        ``close`` (norms are local then)."""
        return self._core.connected

    @property
    def epoch(self):
        """Grows with every change of the members."""
        return self._core.epoch

    @property
    def members(self):
        """The ranks that take part in rounds."""
        return tuple(self._core.members)

    @property
    def hosts(self):
        """The host of each rank."""
        return tuple(self._core.hosts)

    @property
    def handed_over(self):
        """What ``state`` of ``at_boundary`` gave on the worker that let this one in; b""
        otherwise."""
        return self._core.handed_over

    def at_boundary(self, state=None):
        """With on_loss="shrink": a point between two steps, the same on all members, where workers
        that wait to join are let in.

        Args:
            state: called on the member that hands its state over; returns bytes for the new one.
        Returns: a Boundary.
        Raises: SyncnormError.
        """
        self._settle()
        epoch, members, admitted = self._core.at_boundary(state)
        return Boundary(epoch, tuple(members), tuple(admitted))

    def finish(self, timeout):
        """With on_loss="finish" or "shrink": no data is left here; returns when all members have
        finished, and the layers of all go on from the states of the one that went on longest.

        Args:
            timeout: seconds; 0: only says so, and always raises DEADLINE_EXCEEDED.
        Raises: SyncnormError; DEADLINE_EXCEEDED: not all have finished by then, call it again.
        """
        self._settle()
        self._core.finish(timeout)

    def sum(self, name, values, step=1):
        """The sums, over all members, of float values; a round of its own.

        Args:
            name: of the round, the same on all members.
            values: floats, as many on all members.
            step: the same on all members.
        Returns: a list of floats.
        Raises: SyncnormError.
        """
        return self._core.sum(name, step, list(values))

    def close(self):
        """Leaves the group.  On the rank that carries the coordinator returns when the others have
        left, too, or after 5 s.  May be called twice.
        Raises: SyncnormError: what the membership had failed with."""
        with _lock:
            if self in _open:
                _open.remove(self)
        self._settle(CLOSE_LIMIT)
        self._device = None
        self._core.close()

    def _device_reducer(self, binding):
        """What layers on CUDA streams are made with: one for the group, through which from here on
        all its rounds go."""
        with self._lock:
            if self._device is None:
                self._device = binding.Reducer(self._core.direct())
                self._core.set_front(self._device.lend())
            return self._device

    def _settle(self, limit=None):
        """Until the rounds of layers on CUDA streams have come back, or for `limit` seconds."""
        looks = 0
        while self._device is not None and not self._device.wait_for_results(LOOK):
            looks += 1  # Ctrl-C is raised here
            if limit is not None and looks * LOOK >= limit:
                return

    def layer_name(self, base):
        """The name of a layer that is called ``base``: "bn1", then "bn1#2".  Members that make the
        same layers in the same order get the same names."""
        count = self.count_of(base)
        return base if count == 1 else f"{base}#{count}"

    def count_of(self, base):
        """How often it was asked for, this time included."""
        with self._lock:
            self._names[base] += 1
            return self._names[base]

    def __repr__(self):
        return (f"syncnorm.Group({self.name!r}, rank={self.rank}, world_size={self.world_size}, "
                f"address={self.address!r})")

    def __reduce__(self):
        raise TypeError("a syncnorm.Group belongs to its process: it cannot be pickled or copied")


_lock = threading.Lock()
_open: "list[Group]" = []  # in the order in which they were made
_default = None
_made: "collections.Counter[str]" = collections.Counter()  # groups by name
_pid = os.getpid()


def default_group():
    """The group of ``init``, or None."""
    return _default


def connect(address=None, *, rank=None, world_size=None, group=None, job=None, host=None,
            connect_timeout=None, round_timeout=None, on_loss=None, non_finite=None, tls_ca=None,
            tls_cert=None, tls_key=None, tls_server_name=None, token=None, token_file=None,
            insecure=False, coordinator=None):
    """Joins a group and returns it when all members have joined.

    What is not given comes from the environment: SYNCNORM_*, then torchrun's, OpenMPI's and Slurm's
    variables (docs/python.md has the list), then from torch.distributed where that is initialised.

    Args:
        address: "host:port" or "unix:PATH" of the coordinator.
        rank, world_size: of this worker, and how many there are.
        group: the group's name; "world".
        job: the job's identity; members must agree.
        host: this machine's name, for the order of summation and for errors.
        connect_timeout: seconds until every member has joined; 300.
        round_timeout: seconds from a round's first contribution to its failure; 60.
        on_loss: when a member is lost: "fail", "shrink" or "finish" (docs/failure-model.md).
        non_finite: when a contribution has a NaN or an infinity: "fail", "propagate" or "drop".
        tls_ca, tls_cert, tls_key, tls_server_name: PEM files, and the name in the coordinator's
            certificate.
        token, token_file: what lets this worker join.
        insecure: a token may go over the network in plaintext, and the coordinator of rank 0 may
            listen without TLS where other machines can reach it.
        coordinator: "embedded" (rank 0 carries it; the default), a Coordinator (the same,
            protected), or "external" (a server of its own).  SYNCNORM_COORDINATOR: the same words.
    Returns: a Group.
    Raises: SyncnormError.  The codes: client/include/syncnorm/group.h, Group::Connect.
    """
    options = _core.read_environment()
    for name, value in (("address", address), ("rank", rank), ("world_size", world_size),
                        ("group", group), ("job", job), ("host", host),
                        ("connect_timeout", connect_timeout), ("round_timeout", round_timeout),
                        ("on_loss", on_loss), ("non_finite", non_finite), ("token", token),
                        ("token_file", token_file)):
        if value is not None:
            setattr(options, name, value)
    for name, value in (("ca_file", tls_ca), ("cert_file", tls_cert), ("key_file", tls_key),
                        ("server_name", tls_server_name)):
        if value is not None:
            setattr(options.tls, name, value)
    options.insecure = insecure
    distributed = _address.initialised_torch_distributed()
    if distributed is not None and options.rank < 0 and options.world_size == 0:
        options.rank, options.world_size = distributed.get_rank(), distributed.get_world_size()
    _check_rank(options)
    embedded = _embedded_options(coordinator, insecure)
    with _lock:
        counter = _made[options.group]
        _made[options.group] += 1
    options.address, publish = _address.resolve(options, counter)
    return _join(options, embedded, publish)


def _check_rank(options):
    missing = []
    if options.rank < 0:
        missing.append("the rank (SYNCNORM_RANK, RANK, OMPI_COMM_WORLD_RANK or SLURM_PROCID)")
    if options.world_size == 0:
        missing.append("the world size (SYNCNORM_WORLD_SIZE, WORLD_SIZE, OMPI_COMM_WORLD_SIZE or "
                       "SLURM_NTASKS)")
    if missing:
        raise SyncnormError("NOT_FOUND", "neither the arguments of syncnorm.init() nor the "
                            f"environment tell {' and '.join(missing)}")


def _embedded_options(coordinator, insecure):
    if coordinator is None:
        coordinator = os.environ.get("SYNCNORM_COORDINATOR") or "embedded"
    if coordinator == "external":
        return None
    if coordinator == "embedded":
        coordinator = Coordinator(insecure=insecure)
    if not isinstance(coordinator, Coordinator):
        raise SyncnormError("INVALID_ARGUMENT", f"coordinator is {coordinator!r}, expected "
                            '"embedded", "external" or a syncnorm.Coordinator')
    embedded = _core.EmbeddedOptions()
    for field in dataclasses.fields(Coordinator):
        setattr(embedded, field.name, getattr(coordinator, field.name))
    return embedded


def _join(options, embedded, publish):
    # The address that the coordinator got, where port 0 asked for a free one.
    listening = []

    def on_listening(address):
        listening.append(address)
        if publish is not None:
            publish(address)

    core = _core.connect(options, embedded, on_listening)
    made = Group(core, options, listening[0] if listening else options.address)
    with _lock:
        _open.append(made)
    return made


def init(address=None, **options):
    """Joins the default group, which norms belong to unless they are given another.

    Args: those of ``connect``.
    Returns: the Group.
    Raises: SyncnormError; FAILED_PRECONDITION: there is one already.
    """
    global _default
    if _default is not None:
        raise SyncnormError("FAILED_PRECONDITION", f"syncnorm.init() was called before "
                            f"({_default}); call syncnorm.shutdown() first")
    _default = connect(address, **options)
    return _default


def new_group(ranks, name=None, *, parent=None):
    """A group of some of the ranks of ``parent`` (the default group), at the same coordinator.

    All of ``ranks`` call it, in the same order of calls; others may, and get None.  In the new
    group, and in what it tells of its rounds, rank i is the i-th of ``ranks`` in increasing order.

    Args:
        ranks: of the parent, each once.
        name: of the group; otherwise it is made of the parent's name and the ranks.
    Returns: a Group, or None for a worker that is not in it.
    Raises: SyncnormError.
    """
    parent = parent if parent is not None else _default
    if parent is None:
        raise SyncnormError("FAILED_PRECONDITION", "new_group needs syncnorm.init() before it")
    members = sorted(ranks)
    if len(set(members)) != len(members) or not members or members[0] < 0 or (
            members[-1] >= parent.world_size):
        raise SyncnormError("INVALID_ARGUMENT", f"ranks are {list(ranks)}, expected different "
                            f"ranks below {parent.world_size}, the size of group {parent.name}")
    if name is None:
        name = _name_of(parent, members)
    if parent.rank not in members:
        return None
    options = _core.Options(parent._options)
    options.address = parent.address
    options.group = name
    options.rank = members.index(parent.rank)
    options.world_size = len(members)
    return _join(options, None, None)


def _name_of(parent, members):
    """The same for all members that make the same groups of these ranks in the same order."""
    ranks = ".".join(map(str, members))
    if len(ranks) > 64:  # names have 128 bytes at most
        ranks = f"{len(members)}.{hashlib.sha256(ranks.encode()).hexdigest()[:16]}"
    count = parent.count_of(f"/{ranks}")
    return f"{parent.name}/{ranks}" + (f":{count}" if count > 1 else "")


def shutdown():
    """Leaves all groups, the newest first.  Norms are local afterwards.  Called at the exit of the
    process.  Raises: SyncnormError: what the first membership that had failed failed with."""
    global _default
    with _lock:
        groups, _open[:] = list(_open), []
    _default = None
    first = None
    for group in reversed(groups):
        try:
            group.close()
        except SyncnormError as error:
            first = first or error
    if first is not None:
        raise first


def _at_exit():
    if os.getpid() != _pid:  # a forked child: the groups are its parent's
        return
    try:
        shutdown()
    except SyncnormError:
        pass  # told by the call that met it


atexit.register(_at_exit)
