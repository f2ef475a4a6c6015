"""A network of several hosts, made by the script that SYNCNORM_NETLAB names; it needs root.

One network at a time on a machine: tests that use it lock it (RESOURCE_LOCK netlab).
"""
import os
import subprocess

import harness


class Netlab:
    """HOSTS hosts, 10.77.0.1 being host 0; up within `with`."""

    def __init__(self, hosts, delay_us=100):
        self.script = os.environ.get("SYNCNORM_NETLAB", "")
        self.hosts, self.delay_us = hosts, delay_us
        if os.geteuid() != 0:
            raise harness.Skipped("network namespaces need root")
        if not os.access(self.script, os.X_OK):
            raise harness.Skipped(f"no network script at SYNCNORM_NETLAB='{self.script}'")

    def __enter__(self):
        # The one before may still be on its way out, and take the new one's devices with it.
        for _ in range(3):
            up = subprocess.run([self.script, "up", str(self.hosts), "--delay", str(self.delay_us)],
                                capture_output=True, text=True, timeout=60)
            if up.returncode == 0:
                return self
            if "already up" in up.stderr:
                raise harness.Skipped("another network is up on this machine")
            self.__exit__()  # half a network would be in the others' way
        raise AssertionError(f"no network: {up.stderr}")

    def __exit__(self, *_):
        subprocess.run([self.script, "down"], check=True, timeout=60)

    def on(self, host):
        """To put before a command, so that it runs there."""
        return [self.script, "exec", str(host)]

    def address(self, host):
        return f"10.77.0.{host + 1}"

    def set(self, *commands):
        for command in commands:
            subprocess.run([self.script, "set", command], check=True, timeout=10)
