#!/usr/bin/env python3
"""Holds the histories of a chaos run against the promise (docs/failure-model.md), offline.

usage: check_history.py [--slack MS] HISTORY...        prints each violation; exit status 1 if any

The histories are what chaos workers wrote (tests/e2e/history.h), one file a process.  A file of
the test that did the harm may be among them: {"e":"paused","pid":P,"from":T,"to":T}, a time in
which that process could do nothing.

  agreement       all members that got a result for one round got the same bytes
  validity        it is the canonical fold, in exact float64 arithmetic, of one contribution of
                  every member; under a policy that loses members, of every member that was not
                  lost, and of nobody who never contributed
  at most once    its count is the sum of theirs
  one fate        a round that was refused for one member has a result for none
  bounded         a call ends within its round's timeout + 100 ms, from when it was waited for
  named failure   every failure says the group, the epoch, the layer and the ranks at fault
  fencing         a superseded worker, or epoch, gets no result for what it calls afterwards
  complete        every call ends, unless its process did
"""
import argparse
import collections
import itertools
import json
import re
import sys

import reference

ALLOWED_US = 100_000  # beyond a deadline: the promise

# Codes with which the coordinator refuses a round for all its members.
REFUSALS = {"ABORTED", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"}
# What comes of a member's own connection, or of being fenced: the others may have got the result.
OF_ONE_MEMBER = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "FAILED_PRECONDITION", "INTERNAL"}


class Incarnation:
    """One process."""

    def __init__(self, worker):
        self.worker = worker
        self.rank, self.pid, self.group = worker["rank"], worker["pid"], worker["group"]
        self.memberships = []
        self.last = 0  # time of its last line

    def __str__(self):
        return f"rank {self.rank} (pid {self.pid})"


class Membership:
    def __init__(self, incarnation, joined):
        self.incarnation = incarnation
        self.joined = joined
        self.run = None
        self.calls = {}
        self.ended = None


class Call:
    def __init__(self, membership, line):
        self.membership = membership
        self.call = line
        self.back = None

    @property
    def place(self):
        return (self.call["step"], self.call["layer"], self.call["direction"])

    def ok(self):
        return self.back is not None and self.back["code"] == "OK"

    def __str__(self):
        step, layer, direction = self.place
        name = {1: "forward", 2: "backward"}[direction]
        return (f"{self.membership.incarnation} epoch {self.call['epoch']} layer{layer} ({name}, "
                f"step {step})")


class Checker:
    def __init__(self, slack_us=0):
        self.slack_us = slack_us
        self.violations = []
        self.incarnations = []
        self.paused = collections.defaultdict(list)  # pid: [(from, to)]

    def violation(self, kind, text):
        self.violations.append(f"{kind}: {text}")

    # Reading.

    def read(self, lines):
        """The lines of one file, as dictionaries, in order."""
        incarnation = membership = None
        for line in lines:
            event = line["e"]
            if event == "paused":
                self.paused[line["pid"]].append((line["from"], line["to"]))
                continue
            if event == "worker":
                incarnation = Incarnation(line)
                membership = None
                self.incarnations.append(incarnation)
            elif event == "joined":
                membership = Membership(incarnation, line)
                incarnation.memberships.append(membership)
            elif event == "call":
                membership.calls[line["id"]] = Call(membership, line)
            elif event == "return":
                membership.calls[line["id"]].back = line
            elif event in ("ended", "left") and membership is not None:
                membership.ended = line
            elif event == "ended":
                self.check_text(incarnation, line, place=None)
            incarnation.last = line["t"]

    def memberships(self):
        return [m for i in self.incarnations for m in i.memberships]

    # What belongs together.

    def find_runs(self):
        """Gives each membership the run of its group, from a forming to its end.  Epochs do not
        tell: a coordinator that was started again, without anybody who remembers, issues the same
        numbers again.  A name has one run at a time: a worker that came late is in the one that
        formed last; one that formed is in another one than those whose rank it has, or whose
        members saw its end."""
        runs = collections.defaultdict(list)  # of each group, in order: [membership]
        for m in sorted(self.memberships(), key=lambda m: m.joined["t"]):
            formed = runs[m.incarnation.group]
            if not formed or not (m.joined.get("late") or self.forms_with(m, formed[-1])):
                formed.append([])
            formed[-1].append(m)
            m.run = (m.incarnation.group, len(formed))

    @staticmethod
    def forms_with(m, others):
        now = m.joined["t"]
        return all(other.joined["epoch"] == m.joined["epoch"] and
                   other.incarnation.rank != m.incarnation.rank and
                   (other.ended is None or other.ended["t"] > now) for other in others)

    def rounds(self):
        """{(run, place): [Call]}"""
        rounds = collections.defaultdict(list)
        for m in self.memberships():
            for call in m.calls.values():
                rounds[(m.run, *call.place)].append(call)
        return rounds

    # The promise.

    def check(self):
        self.find_runs()
        for calls in self.rounds().values():
            self.check_round(calls)
        for incarnation in self.incarnations:
            self.check_incarnation(incarnation)
        self.check_fencing()
        return self.violations

    def check_round(self, calls):
        good = [c for c in calls if c.ok()]
        if not good:
            return
        results = {(c.back["count"], c.back["got"]) for c in good}
        if len(results) > 1:
            self.violation("agreement", "; ".join(
                f"{c} got count {c.back['count']} digest {c.back['got']}" for c in good))
            return
        self.check_result(calls, good)
        policy = good[0].membership.incarnation.worker["on_loss"]
        for call in calls:
            if policy == "fail" and call.back is not None and call.back["code"] in REFUSALS and \
                    call.back["round"] > 0:
                self.violation("one fate", f"{call} was refused ({call.back['text']}), "
                                           f"{good[0]} got a result")

    def check_result(self, calls, good):
        first = good[0]
        worker = first.membership.incarnation.worker
        hosts = first.membership.joined["hosts"]
        count, got = first.back["count"], first.back["got"]
        senders = {}
        for call in calls:
            senders.setdefault(call.membership.incarnation.rank, call)
        step, layer, direction = first.place
        parts = {}
        for rank in range(len(hosts)):
            parts[rank] = reference.contribution(worker["seed"], worker["channels"], rank, layer,
                                                 direction, step)
        for rank, call in senders.items():
            if call.call["sent"] != parts[rank].digest():
                self.violation("validity", f"{call} sent {call.call['sent']}, which is not what it "
                                           f"was to send ({parts[rank].digest()})")
                return
        have = {c.membership.incarnation.rank for c in good}
        if worker["on_loss"] == "fail":
            candidates = [tuple(range(len(hosts)))]
        else:
            optional = sorted(set(senders) - have)
            candidates = [tuple(sorted(have | set(more)))
                          for n in range(len(optional), -1, -1)
                          for more in itertools.combinations(optional, n)]
        counts = []
        for members in candidates:
            missing = [r for r in members if r not in senders]
            if missing:
                self.violation("validity", f"{first} has a result although ranks {missing} of its "
                                           f"epoch never contributed")
                return
            total = reference.fold({r: parts[r] for r in members}, hosts)
            if (total.count, total.digest()) == (count, got):
                return
            counts.append(total.count)
        if count not in counts:
            self.violation("at most once", f"{first} got count {count}, the members' counts are "
                                           f"{[parts[r].count for r in candidates[0]]}")
        else:
            self.violation("validity", f"{first} got digest {got}, the fold of ranks "
                                       f"{list(candidates[0])} differs")

    def check_incarnation(self, incarnation):
        for membership in incarnation.memberships:
            for call in membership.calls.values():
                if call.back is None:
                    if incarnation.last > call.call["t"] and self.outlived(call):
                        self.violation("complete", f"{call} never ended")
                    continue
                self.check_time(incarnation, call)
                if not call.ok():
                    self.check_text(incarnation, call.back, call.call)
            if membership.ended is not None and membership.ended["e"] == "ended":
                self.check_text(incarnation, membership.ended, place=None)

    @staticmethod
    def outlived(call):
        """Whether its process went on to something for which the call must have ended."""
        m = call.membership
        return m.ended is not None or m is not m.incarnation.memberships[-1]

    def check_time(self, incarnation, call):
        begin = call.call["t"]
        end = call.back["t"]
        timeout = incarnation.worker["round_timeout_us"]
        # With several under way, whatever came while nobody waited came in time.
        due = max(begin + timeout, call.back.get("waited", begin)) + ALLOWED_US + self.slack_us
        for start, stop in self.paused[incarnation.pid]:
            if start < end and stop > begin:
                due += stop - max(start, begin)
        if end > due:
            self.violation("bounded", f"{call} ended {(end - begin) / 1000:.0f} ms after its call "
                                      f"with {call.back['code']}, its timeout is "
                                      f"{timeout / 1000:.0f} ms")

    def check_text(self, incarnation, line, place):
        text = line["text"]
        lacks = []
        if not re.search(rf'\bgroup "?{re.escape(incarnation.group)}\b', text):
            lacks.append("group")
        if place is not None:
            if not re.search(r"\bepoch \d+", text):
                lacks.append("epoch")
            # A lost coordinator is nobody's layer.  One that was started again may know of a lost
            # member's last round no more than its number; and to resume is of no round.
            if line["code"] not in OF_ONE_MEMBER and not re.search(
                    r"\blayer|no round|its last was round \d|cannot be resumed", text):
                lacks.append("layer")
        named = ranks_in(text)
        lacks += [f"rank {rank}" for rank in line["ranks"] if rank not in named]
        if lacks:
            self.violation("named failure", f"{incarnation} was told {line['code']} \"{text}\", "
                                            f"which lacks {', '.join(lacks)}")

    def check_fencing(self):
        by_rank = collections.defaultdict(list)
        for m in self.memberships():
            by_rank[(m.incarnation.group, m.incarnation.rank)].append(m)
        for memberships in by_rank.values():
            memberships.sort(key=lambda m: m.joined["t"])
            for old, new in zip(memberships, memberships[1:]):
                self.check_superseded(old, new.joined["t"], f"{new.incarnation} took its place")
        runs = collections.defaultdict(list)
        for m in self.memberships():
            runs[m.run].append(m)
        begins = sorted((min(m.joined["t"] for m in members), run)
                        for run, members in runs.items())
        for begin, run in begins:
            for other, members in runs.items():
                if other != run and other[0] == run[0]:
                    for m in members:
                        if m.joined["t"] < begin:
                            self.check_superseded(m, begin, f"run {run[1]} of the group had begun")

    def check_superseded(self, membership, since, why):
        for call in membership.calls.values():
            if call.ok() and call.call["t"] > since:
                self.violation("fencing", f"{call} was called {(call.call['t'] - since) / 1000:.1f} "
                                          f"ms after {why}, and got a result")
                return


def ranks_in(text):
    """The ranks that a text names: "rank 3", "ranks 0,2-4"."""
    named = set()
    for match in re.finditer(r"\branks? ([\d,\-]+)", text):
        for piece in match.group(1).strip(",-").split(","):
            first, _, last = piece.partition("-")
            if first.isdigit():
                named.update(range(int(first), int(last or first) + 1))
    return named


def parse(text):
    """The lines of a file; a last one that was cut off by the writer's death is not one."""
    lines = []
    for line in text.split("\n")[:-1]:
        lines.append(json.loads(line))
    return lines


def check_files(paths, slack_us=0):
    """(violations, counters) of the histories of one run."""
    checker = Checker(slack_us)
    for path in paths:
        with open(path, encoding="utf-8") as f:
            checker.read(parse(f.read()))
    violations = checker.check()
    codes = collections.Counter()
    for membership in checker.memberships():
        for call in membership.calls.values():
            codes[call.back["code"] if call.back else "no return"] += 1
    return violations, codes


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("histories", nargs="+")
    parser.add_argument("--slack", type=float, default=0,
                        help="ms more than promised, for a machine that is busy otherwise")
    options = parser.parse_args()
    violations, codes = check_files(options.histories, options.slack * 1000)
    for violation in violations:
        print(violation)
    print(f"{sum(codes.values())} calls: " +
          ", ".join(f"{n} {code}" for code, n in codes.most_common()) +
          f"; {len(violations)} violations")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
