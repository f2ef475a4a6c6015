"""The rows of the fault table (docs/failure-model.md) that are shown with real processes.

A row is a function with a World to itself, named after the row: fault_01_... .  It passes by
returning, and says by Skipped what it lacks.
"""
import importlib

MODULES = ("workers", "coordinator", "network", "protocol", "members", "machine",
           "policies", "hostile")


def rows():
    """{"01_worker_killed_...": function}, in order."""
    found = {}
    for name in MODULES:
        module = importlib.import_module(f"faults.{name}")
        for attribute in vars(module).values():
            if getattr(attribute, "__name__", "").startswith("fault_"):
                found[attribute.__name__[len("fault_"):]] = attribute
    return dict(sorted(found.items()))
