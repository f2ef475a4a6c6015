#!/usr/bin/env python3
"""Runs tests of the package with pytest, for ctest: exit status 77 where something is not
installed, or all tests were skipped.

usage: run.py FILE...
"""
import importlib.util
import sys

missing = [name for name in ("pytest", "torch", "numpy") if importlib.util.find_spec(name) is None]
if missing:
    print(f"SKIPPED: {', '.join(missing)} is not installed (Debian: python3-{missing[0]})")
    sys.exit(77)

import pytest  # noqa: E402


class Ran:
    """Whether any test did."""
    any = False

    def pytest_runtest_logreport(self, report):
        self.any = self.any or (report.when == "call" and not report.skipped)


ran = Ran()
# -rs: a skip says why.
status = pytest.main(["-q", "-rs", "-p", "no:cacheprovider", *sys.argv[1:]], plugins=[ran])
sys.exit(status if status != 0 or ran.any else 77)
