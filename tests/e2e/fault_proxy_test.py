#!/usr/bin/env python3
"""The proxy does the harm that it is told to, and otherwise none.

usage: fault_proxy_test.py
"""
import socket
import sys
import tempfile
import threading
import time
import unittest

try:
    from harness import Proxy
except ImportError as e:
    print(f"SKIP: {e} (Debian: python3-numpy)")
    sys.exit(77)


class Echo(threading.Thread):
    """Sends back what it gets, on any number of connections."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.start()

    def run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    @staticmethod
    def serve(connection):
        try:
            while data := connection.recv(65536):
                connection.sendall(data)
            connection.sendall(b"end")  # it saw the end of what was sent
            connection.close()
        except OSError:
            pass


class ProxyTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.echo = Echo()
        self.proxy = Proxy("proxy", self.echo.address, self.folder.name)

    def tearDown(self):
        self.proxy.end()
        self.echo.listener.close()
        self.folder.cleanup()

    def connect(self):
        host, _, port = self.proxy.address.rpartition(":")
        connection = socket.create_connection((host, int(port)), timeout=10)
        self.addCleanup(connection.close)
        return connection

    def echoed(self, connection, data):
        """The seconds until all of it was back."""
        start = time.monotonic()
        connection.sendall(data)
        back = b""
        while len(back) < len(data):
            piece = connection.recv(65536)
            self.assertTrue(piece, "the connection ended")
            back += piece
        self.assertEqual(back, data)
        return time.monotonic() - start

    def is_silent(self, connection):
        connection.settimeout(0.1)
        try:
            connection.recv(1)
            return False
        except TimeoutError:
            return True
        finally:
            connection.settimeout(10)

    def test_it_carries_bytes(self):
        self.echoed(self.connect(), bytes(range(256)) * 4000)

    def test_delay_rate_and_trickle_take_time(self):
        connection = self.connect()
        self.proxy.do("delay 50")
        self.assertGreaterEqual(self.echoed(connection, b"x"), 0.1)
        self.proxy.do("delay 0")
        self.proxy.do("rate 100000")
        self.assertGreaterEqual(self.echoed(connection, b"x" * 20_000), 0.15)
        self.proxy.do("rate 0")
        self.proxy.do("trickle 5")
        self.assertGreaterEqual(self.echoed(connection, b"x" * 20), 0.095)

    def test_held_bytes_come_later_and_dropped_ones_never(self):
        connection = self.connect()
        self.echoed(connection, b"x")
        for direction in ("up", "down", "both"):
            self.proxy.do(f"hold {direction}")
            connection.sendall(b"late")
            self.assertTrue(self.is_silent(connection))
            self.proxy.do("release")
            self.assertEqual(connection.recv(4, socket.MSG_WAITALL), b"late")
        self.proxy.do("drop down")
        connection.sendall(b"gone")
        self.assertTrue(self.is_silent(connection))
        self.proxy.do("release")
        self.assertTrue(self.is_silent(connection))

    def test_resets(self):
        connection = self.connect()
        self.echoed(connection, b"x")
        self.assertEqual(self.proxy.do("connections"), "1")
        self.proxy.do("reset")
        with self.assertRaises(ConnectionResetError):
            connection.recv(1)
        self.proxy.do("refuse on")
        with self.assertRaises(ConnectionResetError):
            self.connect().recv(1)
        self.proxy.do("refuse off")
        self.proxy.do("storm 1")
        with self.assertRaises(ConnectionResetError):
            self.echoed(self.connect(), b"x")
        self.assertEqual(self.proxy.do("accepted"), "3")

    def test_half_close_ends_one_direction(self):
        connection = self.connect()
        self.echoed(connection, b"x")
        self.proxy.do("half_close up")
        self.assertEqual(connection.recv(3, socket.MSG_WAITALL), b"end")

    def test_another_target_and_commands_that_are_none(self):
        other = Echo()
        self.addCleanup(other.listener.close)
        self.proxy.do(f"target {other.address}")
        self.echo.listener.close()
        self.echoed(self.connect(), b"x")
        for command in ("bogus", "hold sideways", "delay", "delay soon"):
            with self.assertRaises(AssertionError):
                self.proxy.do(command)


if __name__ == "__main__":
    unittest.main()
