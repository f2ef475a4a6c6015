"""The one error of the package."""


class SyncnormError(RuntimeError):
    """What a round, a membership or an argument failed with.

    Attributes (empty or 0 where the failure has no such thing):
        code:       "ABORTED", "DEADLINE_EXCEEDED", "INVALID_ARGUMENT", ...: the names of gRPC's
            codes
        message:    one sentence that names what was wrong and what was expected
        group:      the group's name
        epoch:      which membership of it
        round:      the round's number in the epoch; 0: the membership as a whole
        layer, direction, step:  the layer's name, "forward" or "backward", and its step
        ranks:      the ranks at fault, or missing
        hosts:      the host of each of ``ranks``, "" where not known
    """

    def __init__(self, code, message, *, group="", epoch=0, round=0, layer="", direction="",
                 step=0, ranks=(), hosts=()):
        super().__init__(message)
        self.code = code
        self.message = message
        self.group = group
        self.epoch = epoch
        self.round = round
        self.layer = layer
        self.direction = direction
        self.step = step
        self.ranks = tuple(ranks)
        self.hosts = tuple(hosts)

    @property
    def rank(self):
        """The first of ``ranks``, or None."""
        return self.ranks[0] if self.ranks else None

    def __str__(self):
        return f"{self.code}: {self.message}"

    def __reduce__(self):
        return _rebuild, (self.code, self.message, {
            "group": self.group, "epoch": self.epoch, "round": self.round, "layer": self.layer,
            "direction": self.direction, "step": self.step, "ranks": self.ranks,
            "hosts": self.hosts})


def _rebuild(code, message, fields):
    return SyncnormError(code, message, **fields)
