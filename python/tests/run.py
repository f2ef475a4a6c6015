#!/usr/bin/env python3
"""Runs tests of the package with pytest, for ctest: exit status 77 where something is not
installed.

usage: run.py FILE...
"""
import importlib.util
import sys

missing = [name for name in ("pytest", "torch", "numpy") if importlib.util.find_spec(name) is None]
if missing:
    print(f"SKIPPED: {', '.join(missing)} is not installed (Debian: python3-{missing[0]})")
    sys.exit(77)

import pytest  # noqa: E402

# -rs: a skip says why.
sys.exit(pytest.main(["-q", "-rs", "-p", "no:cacheprovider", *sys.argv[1:]]))
