"""What the loops of a kernel read and write, from its PTX.

A loop is a set of instructions each of which can be reached from itself: a strongly connected
component of the graph of basic blocks.  Loads past the first-level cache (.cg) are left out: they
merge what blocks left in the scratch, a few numbers per channel.
"""
import collections
import dataclasses
import re

ENTRY = re.compile(r"\.entry\s+(\w+)")
LABEL = re.compile(r"^(\$\w+):")
BRANCH = re.compile(r"^(@!?%\w+\s+)?bra(?:\.uni)?\s+(\$\w+)\s*;")
INDEXED = re.compile(r"^(@!?%\w+\s+)?brx\.idx(?:\.uni)?\s+%\w+\s*,\s*(\$\w+)\s*;")
TARGETS = re.compile(r"^(\$\w+):\s*\.branchtargets(.*)", re.S)
END = re.compile(r"^(ret|exit|trap)(\.uni)?\s*;")
ACCESS = re.compile(r"^(?:@!?%\w+\s+)?(ld|st)\.global((?:\.\w+)*)\s")
MAX_THREADS = re.compile(r"\.maxntid\s+(\d+)(?:\s*,\s*(\d+))?(?:\s*,\s*(\d+))?")


@dataclasses.dataclass
class Kernel:
    name: str
    max_threads: int = 0  # 0: not said
    loads: dict = dataclasses.field(default_factory=dict)  # in loops: bytes -> instructions
    stores: dict = dataclasses.field(default_factory=dict)


def width(suffixes):
    """Bytes of an access with these suffixes, as in .nc.v4.u32."""
    lanes, bits = 1, 0
    for suffix in suffixes.split(".")[1:]:
        if re.fullmatch(r"v\d+", suffix):
            lanes = int(suffix[1:])
        elif re.fullmatch(r"[busf]\d+", suffix):
            bits = int(suffix[1:])
    if not bits:
        raise ValueError(f"an access without a type: {suffixes}")
    return lanes * bits // 8


def statements(body):
    """The instructions and labels of a function's body, each as one text."""
    held = ""
    for line in body.splitlines():
        line = line.split("//")[0].strip()
        if not line or (line.startswith((".loc", ".pragma", ".reg", ".local", ".shared"))):
            continue
        held = f"{held} {line}".strip()
        if LABEL.fullmatch(held) or held.endswith((";", "{", "}")):
            if not TARGETS.match(held) and LABEL.match(held) and not LABEL.fullmatch(held):
                label, rest = held.split(":", 1)
                yield label + ":"
                held = rest.strip()
            yield held
            held = ""


def blocks_of(body):
    """Basic blocks, [(instructions, successors)], by number."""
    tables = {}
    blocks, at = [[]], {}
    for statement in statements(body):
        table = TARGETS.match(statement)
        if table:
            tables[table[1]] = re.findall(r"\$\w+", table[2])
            continue
        label = LABEL.match(statement)
        if label:
            blocks.append([])
            at[label[1]] = len(blocks) - 1
            continue
        blocks[-1].append(statement)
        if BRANCH.match(statement) or INDEXED.match(statement) or END.match(statement):
            blocks.append([])
    successors = []
    for number, block in enumerate(blocks):
        last = block[-1] if block else ""
        branch, indexed = BRANCH.match(last), INDEXED.match(last)
        to = []
        if branch:
            to.append(at[branch[2]])
        if indexed:
            to += [at[label] for label in tables[indexed[2]]]
        falls_through = not ((branch and not branch[1]) or (indexed and not indexed[1]) or END.match(last))
        if falls_through and number + 1 < len(blocks):
            to.append(number + 1)
        successors.append(to)
    return blocks, successors


def in_loops(successors):
    """Numbers of the blocks that can be reached from themselves (Tarjan, without recursion)."""
    index, low, on_stack, stack, found = {}, {}, set(), [], set()
    for root in range(len(successors)):
        if root in index:
            continue
        work = [(root, iter(successors[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, rest = work[-1]
            following = next(rest, None)
            if following is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    component = []
                    while not component or component[-1] != node:
                        component.append(stack.pop())
                    on_stack.difference_update(component)
                    if len(component) > 1 or node in successors[node]:
                        found.update(component)
            elif following not in index:
                index[following] = low[following] = len(index)
                stack.append(following)
                on_stack.add(following)
                work.append((following, iter(successors[following])))
            elif following in on_stack:
                low[node] = min(low[node], index[following])
    return found


def kernels(text):
    """The kernels of a PTX module."""
    result = []
    starts = [match.start() for match in ENTRY.finditer(text)]
    for start, end in zip(starts, starts[1:] + [len(text)]):
        part = text[start:end]
        head, body = part.split("{", 1)
        kernel = Kernel(ENTRY.match(part)[1])
        limit = MAX_THREADS.search(head)
        if limit:
            kernel.max_threads = int(limit[1]) * int(limit[2] or 1) * int(limit[3] or 1)
        counts = {"ld": collections.Counter(), "st": collections.Counter()}
        blocks, successors = blocks_of(body)
        for number in in_loops(successors):
            for instruction in blocks[number]:
                access = ACCESS.match(instruction)
                if access and ".cg" not in access[2]:
                    counts[access[1]][width(access[2])] += 1
        kernel.loads, kernel.stores = dict(counts["ld"]), dict(counts["st"])
        result.append(kernel)
    return result
