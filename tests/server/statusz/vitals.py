"""VitalsReply messages for the page's tests, made with the .proto itself and written as the
coordinator writes them: protobuf's JSON with the .proto's names, zeros written out.
"""
import importlib
import math
import os
import random
import subprocess
import sys
import tempfile

from google.protobuf import json_format

LATENESS = [50e-6, 200e-6, 1e-3, 5e-3, 20e-3, 100e-3, 1, 10]  # server/lateness.h
DURATIONS = [50e-6] + [m * 10.0**e for e in range(-4, 1) for m in (1, 2, 5)] + [10]  # server/round_counters.h


def load(proto):
    """The messages of admin.proto, by protoc."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["protoc", "-I", proto, "--python_out", folder, "syncnorm/v1/admin.proto"], check=True)
        sys.path.insert(0, folder)
        try:
            return importlib.import_module("syncnorm.v1.admin_pb2")
        finally:
            sys.path.remove(folder)


def to_json(message):
    return json_format.MessageToJson(message, including_default_value_fields=True,
                                     preserving_proto_field_name=True)


def histogram(bounds, around, rounds, random):
    """Buckets of `rounds` rounds around some seconds."""
    counts = [0] * (len(bounds) + 1)
    for i in range(400):
        value = around[i % len(around)] * math.exp(random.gauss(0, 0.5))
        counts[next((i for i, bound in enumerate(bounds) if value <= bound), len(bounds))] += rounds / 400
    counts = [int(c) for c in counts]
    counts[counts.index(max(counts))] += rounds - sum(counts)
    return [{"within_s": bounds[i], "rounds": c} if i < len(bounds) else {"rounds": c}
            for i, c in enumerate(counts)]


def group(pb, name="world", ranks=4, late=None, late_s=0.048, layers=12, stretches=60, seed=1,
          state="running", told=None, open_rounds=(), hosts="gpu-{}", layer="layer{}.bn"):
    """A group of `ranks` members in which `late` (if any) is `late_s` behind."""
    r = random.Random(seed)
    told = min(ranks, 256) if told is None else told
    slow = late_s if late is not None else 0.0006
    g = pb.GroupReport(name=name, epoch=3, state=state, timeline_ranks=told)
    rounds = 9000
    for rank in range(ranks):
        is_late = rank == late
        mean = late_s if is_late else 0.0004 * math.exp(r.gauss(0, 0.5))
        share = 0.91 if is_late else (0.09 if late is not None else 1) / max(1, ranks - (late is not None))
        member = g.members.add(
            rank=rank, state="here", host=hosts.format(rank // 2), pid=20000 + rank, heard_s=r.random() * 0.2,
            rounds=rounds, last=int(rounds * share), missed=2 if is_late else 0, late_mean_s=mean * 0.9,
            late_max_s=mean * 9, late_s=mean * rounds)
        if rank < told:  # of the others the coordinator keeps no minutes
            member.recent_rounds, member.recent_last, member.recent_late_mean_s = 1200, int(1200 * share), mean
        for bucket in histogram(LATENESS, [mean], rounds, r):
            member.late.add(**bucket)
    for i in range(layers):
        for direction in ("forward", "backward"):
            made = g.layers.add(name=layer.format(i), direction=direction, rounds=rounds / (2 * layers),
                                wait_s=slow * rounds / (2 * layers) * r.uniform(0.6, 1.4), wait_max_s=slow * 9)
            made.last.add(rank=late if late is not None else i % max(1, ranks), rounds=rounds / (2 * layers) * 0.9)
            if direction == "forward":
                made.drift.spread = 0.3 * r.random() ** 2
                made.drift.rank = i % max(1, ranks)
                made.drift.measured_s = 3.0 + i
                if i % 5 != 4:  # PowerNorm has no means
                    made.drift.shift = 0.9 * r.random() ** 2
    g.counters.contributions = rounds * ranks
    g.counters.repeats = 3
    g.counters.completed = rounds
    g.counters.failed = 2 if late is not None else 0
    if late is not None:
        g.counters.failed_by.add(code="DEADLINE_EXCEEDED", rounds=2)
        g.counters.stragglers = 5
    for bucket in histogram(DURATIONS, [0.0008] * 3 + [slow + 0.0006] * 5, rounds, r):
        g.durations.buckets.add(**bucket)
    g.durations.rounds = rounds
    g.durations.sum_s = rounds * slow
    g.recent.seconds = 60
    g.recent.rounds_per_s = 20.04 if late is not None else 812.5
    g.recent.p50_s = slow * 1.02 + 0.0002
    g.recent.p99_s = slow * 2.4 + 0.0011
    for i in range(stretches):
        began = late is not None and i >= stretches // 3
        stretch = g.timeline.add(ended_s=(stretches - 1 - i) * 5 + 1.3, seconds=5,
                                 rounds=100 if began else 900 + r.randrange(200))
        base = late_s if began else 0.0006
        stretch.p50_s = base * r.uniform(0.95, 1.1)
        stretch.p99_s = base * r.uniform(2, 3)
        for rank in range(told):
            value = late_s if began and rank == late else 0.0004
            value *= math.exp(r.gauss(0, 0.35))
            if rank == 1 and i in (7, 8):  # took part in no round
                value = -1
            stretch.late_mean_s.append(value)
    for number, (layer_name, open_s, missing, missing_count) in enumerate(open_rounds):
        opened = g.open.add(open_s=open_s, contributed=[k for k in range(ranks) if k not in missing][:16],
                            contributed_count=ranks - missing_count, missing=missing, missing_count=missing_count)
        opened.key.round, opened.key.layer, opened.key.direction, opened.key.step = rounds + number, layer_name, "forward", 375
    return g


def vitals(pb, groups, coordinator_id=81985529216486895, failures=(), version="0.1.0", up_s=11520.0, **security):
    v = pb.VitalsReply(groups=groups, version=version, up_s=up_s, groups_left_out=0)
    members = sum(len(g.members) for g in groups)
    v.status.CopyFrom(pb.StatusReply(
        coordinator_id=coordinator_id, streams=members, groups=len(groups), members=members,
        open_rounds=sum(len(g.open) for g in groups), open_bytes=24576, kept_rounds=64, kept_bytes=1572864,
        epochs=3, contributions=sum(g.counters.contributions for g in groups), repeats=3,
        rounds_completed=sum(g.counters.completed for g in groups),
        rounds_failed=sum(g.counters.failed for g in groups), stragglers=5, dumps_written=1))
    for ended_s, name, text in failures:
        v.failures.add(ended_s=ended_s, group=name, text=text)
    v.security.CopyFrom(pb.SecurityReport(**{"tls": True, "tokens": True, "certificate_left_s": 60 * 86400.0, **security}))
    return v


def without_timelines(v):
    short = type(v)()
    short.CopyFrom(v)
    for g in short.groups:
        del g.timeline[:]
    return short
