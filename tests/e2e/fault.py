#!/usr/bin/env python3
"""Runs rows of the fault table with real processes.

usage: fault.py BUILD PROTO_DIR ROW...      exit status 77: skipped, says what is missing
       fault.py BUILD PROTO_DIR --registered ROW...   whether these are all the rows there are

With SYNCNORM_KEEP_LOGS=1 the logs and histories of a row that fails are kept.
"""
import sys
import time

try:
    from harness import Programs, Skipped, World
    import faults
except ImportError as e:
    print(f"SKIP: {e} (Debian: python3-numpy)")
    sys.exit(77)


def run(programs, name, row):
    start = time.monotonic()
    try:
        with World(programs) as world:
            row(world)
    except Skipped as why:
        print(f"SKIP {name}: {why}")
        return 77
    print(f"{name}: passed in {time.monotonic() - start:.1f} s")
    return 0


def main():
    build, proto, *names = sys.argv[1:]
    rows = faults.rows()
    if names[:1] == ["--registered"]:
        different = set(names[1:]) ^ set(rows)
        assert not different, f"registered, or written, but not both: {sorted(different)}"
        return 0
    programs = Programs(build)
    programs.proto = proto
    return max(run(programs, name, rows[name]) for name in names)


if __name__ == "__main__":
    sys.exit(main())
