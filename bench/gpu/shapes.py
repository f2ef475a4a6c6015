"""The shapes of shapes.def."""
import dataclasses
import os
import re

FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "shapes.def")
LINE = re.compile(r'SHAPE\((\w+), "([^"]+)", (BatchNorm|PowerNorm), (\d+), (\d+), (\d+), (\d+), (\d+)\)$')


@dataclasses.dataclass(frozen=True)
class Shape:
    set: str
    name: str
    norm: str
    layers: int
    n: int
    channels: int
    height: int
    width: int

    @property
    def positions(self):
        return self.n * self.height * self.width

    @property
    def elements(self):
        return self.positions * self.channels

    def __str__(self):
        if self.norm == "PowerNorm":
            return f"({self.positions}, {self.channels})"
        return f"({self.n}, {self.channels}, {self.height}, {self.width})"


def parse(text):
    shapes = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("//"):
            continue
        match = LINE.match(line)
        if not match:
            raise ValueError(f"shapes.def:{number}: not a SHAPE(...): {line}")
        shapes.append(Shape(*match.groups()[:3], *map(int, match.groups()[3:])))
    return shapes


def load():
    with open(FILE, encoding="utf-8") as f:
        return parse(f.read())
