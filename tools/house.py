#!/usr/bin/env python3
"""Holds the rules of the house: who may include whom, and where third parties live.

    kernels <- proto <- server | client <- python

usage: tools/house.py [ROOT]      prints each finding, exit status 1 if there is one
"""
import os
import re
import subprocess
import sys

INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')

# Rooms, and the rooms whose private headers ("room/...") each may include.
LADDER = {
    "kernels": {"kernels"},
    "proto": {"proto", "kernels"},
    "server": {"server", "proto", "kernels"},
    "client": {"client", "proto", "kernels"},
    "python": {"python", "client", "proto", "kernels"},
}
# Where the installed headers (<syncnorm/...>) come from decides who may include them.
PUBLIC_ROOTS = {"kernels": "kernels/include", "proto": "proto/include", "client": "client/include"}

# (what, pattern of the include, the only places it may stand in the product)
FENCES = [
    ("Highway", re.compile(r"^hwy/"), ("kernels/cpu/",)),
    ("intrinsics", re.compile(r"^(\w*mmintrin|arm_\w+)\.h$"), ("kernels/cpu/",)),
    ("CUDA", re.compile(r"^(cuda\w*\.h|cub/|cuda/)"), ("kernels/cuda/", "client/device/")),
    ("gRPC", re.compile(r"^(grpcpp|grpc|grpc\+\+)/"),
     ("server/service", "server/server", "server/channel", "server/credentials", "server/ctl",
      "client/grpc_", "proto/grpc_")),
    ("OpenSSL", re.compile(r"^openssl/"),
     ("proto/tls_files", "server/token_digest", "server/ctl_certificates", "client/tls_diagnosis")),
    ("protobuf", re.compile(r"(\.pb\.h$|^google/protobuf/)"),
     ("proto/", "server/service", "server/ctl", "client/grpc_")),
    ("LibTorch", re.compile(r"^(torch|ATen|c10)/"),
     ("client/torch/", "client/include/syncnorm/torch.h")),
    ("Python", re.compile(r"^(pybind11/|Python\.h$)"), ("python/src/",)),
    ("HTTP", re.compile(r"^httplib\.h$"), ("server/admin",)),
    ("Prometheus", re.compile(r"^prometheus/"), ("server/metrics",)),
    ("spdlog", re.compile(r"^spdlog/"), ("server/",)),
    ("yaml-cpp", re.compile(r"^yaml-cpp/"), ("server/config_file",)),
    ("nlohmann-json", re.compile(r"^nlohmann/"), ("server/log_line",)),
]
# Real time is read in one file.
CLOCK = re.compile(r"\b(steady_clock|system_clock|high_resolution_clock)::now|\babsl::Now\(|\bclock_gettime\(")
CLOCK_PLACES = ("proto/clock.cc",)
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b")


def public_room(header, root):
    """The room an installed header belongs to, or None."""
    for room, folder in PUBLIC_ROOTS.items():
        if os.path.exists(os.path.join(root, folder, header)):
            return room
    return None


def check_file(path, text, root):
    """Findings of one source file, as texts."""
    findings = []
    room = path.split("/")[0]
    product = room in LADDER
    if path.endswith(".h"):
        if not text.startswith("//"):
            findings.append(f"{path}:1: a header starts with the comment that is its contract")
        # Highway includes its bodies (-inl.h) once for each instruction set.
        if "#pragma once" not in text and not path.endswith("-inl.h"):
            findings.append(f"{path}:1: no #pragma once")
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{path}:{number}"
        if UNFINISHED.search(line):
            findings.append(f"{where}: unfinished work: {line.strip()}")
        if not product:
            continue
        if CLOCK.search(line) and path not in CLOCK_PLACES:
            findings.append(f"{where}: reads a real clock; take `now` or a Clock (proto/clock.h)")
        match = INCLUDE.match(line)
        if not match:
            continue
        quote, header = match.groups()
        # The one small factory through which the client is handed a coordinator.
        embedded = path.startswith("server/embedded")
        if quote == '"':
            target = header.split("/")[0]
            if target in ("tests", "bench", "examples") or (
                    target in LADDER and target not in LADDER[room]):
                findings.append(f"{where}: {room}/ may not include {target}/ ({header})")
        elif header.startswith("syncnorm/"):
            target = public_room(header, root)
            if target is None:
                findings.append(f"{where}: no installed header {header}")
            elif target not in LADDER[room] and not embedded:
                findings.append(f"{where}: {room}/ may not include {target}/ (<{header}>)")
        for name, pattern, places in FENCES:
            if pattern.search(header) and not path.startswith(places):
                findings.append(f"{where}: {name} is fenced to {', '.join(places)} ({header})")
    return findings


def check_tests_registered(root, files):
    """Every *_test.cc is named by the CMakeLists.txt beside it: no test is silent."""
    findings = []
    for path in files:
        if path.startswith("tests/") and path.endswith("_test.cc"):
            lists = os.path.join(root, os.path.dirname(path), "CMakeLists.txt")
            name = os.path.basename(path)
            registered = ""
            if os.path.exists(lists):
                with open(lists, encoding="utf-8") as f:
                    registered = f.read()
            if name not in registered:
                findings.append(f"{path}:1: not registered in the CMakeLists.txt beside it")
    return findings


def check(root):
    files = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True,
                           check=True).stdout.split("\n")
    findings = check_tests_registered(root, files)
    for path in files:
        if path.endswith((".h", ".cc", ".cu", ".cuh")) and os.path.exists(os.path.join(root, path)):
            with open(os.path.join(root, path), encoding="utf-8") as f:
                findings += check_file(path, f.read(), root)
    return findings


if __name__ == "__main__":
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    found = check(sys.argv[1] if len(sys.argv) > 1 else here)
    for finding in found:
        print(finding)
    sys.exit(1 if found else 0)
