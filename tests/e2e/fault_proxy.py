#!/usr/bin/env python3
"""A TCP proxy that does harm: what a network, or a box in it, can do to a connection.

usage: fault_proxy.py TARGET_HOST:PORT [--seed N]

Prints "listening on HOST:PORT", then takes commands on stdin, one a line, and answers each
with "ok", "ok VALUE" or "error WHY".  "up" is towards the target, "down" is back.

  delay MS | jitter MS        every piece that is forwarded waits that long (0: none)
  rate BYTES_PER_S            of each direction of each connection (0: any)
  trickle MS                  one byte at a time, that far apart (0: no): a slowloris
  hold up|down|both           nothing is forwarded any more; connections stay open, and what came
                              is kept until `release`: packets lost, as TCP would see it
  drop up|down|both           the same, but what comes is lost for good: only a reset follows
  release                     ends hold and drop
  reset                       resets all connections, on both sides
  half_close up|down          ends one direction of all connections
  refuse on|off               resets new connections at once
  storm PROBABILITY           every piece that is forwarded resets its connection with that
                              probability (0: no)
  target HOST:PORT            of new connections
  connections                 how many are open
  accepted                    how many there have been

Ends at the end of its stdin.
"""
import argparse
import asyncio
import random
import socket
import struct
import sys
import time

PIECE = 64 << 10
DIRECTIONS = ("up", "down")


class Settings:
    def __init__(self, target, seed):
        self.target = target
        self.random = random.Random(seed)
        self.delay = self.jitter = self.rate = self.trickle = self.storm = 0.0
        self.held, self.dropped = set(), set()
        self.refuse = False
        self.changed = asyncio.Event()

    def wake(self):
        self.changed.set()
        self.changed = asyncio.Event()


class Connection:
    """A pair of sockets and the two tasks that carry bytes between them."""

    def __init__(self, settings, near, far):
        self.settings = settings
        self.writers = {"up": far[1], "down": near[1]}
        self.readers = {"up": near[0], "down": far[0]}
        self.tasks = []
        self.over = False

    async def run(self):
        self.tasks = [asyncio.create_task(self.carry(d)) for d in DIRECTIONS]
        await asyncio.wait(self.tasks)
        for writer in self.writers.values():
            writer.close()

    def reset(self):
        self.over = True
        for writer in self.writers.values():
            reset(writer)
        for task in self.tasks:
            task.cancel()

    async def carry(self, direction):
        queue = asyncio.Queue(64)
        reading = asyncio.create_task(self.read(direction, queue))
        try:
            await self.write(direction, queue)
        except (ConnectionError, OSError):
            self.reset()
        finally:
            reading.cancel()

    async def read(self, direction, queue):
        """Stamps what comes with the time at which it is due at the other side."""
        settings = self.settings
        last = 0.0
        while True:
            try:
                data = await self.readers[direction].read(PIECE)
            except (ConnectionError, OSError):
                self.reset()
                return
            wait = settings.delay + settings.random.uniform(0, settings.jitter)
            last = max(last, time.monotonic() + wait)  # in order
            await queue.put((last, data))
            if not data:
                return

    async def write(self, direction, queue):
        settings, writer = self.settings, self.writers[direction]
        while True:
            due, data = await queue.get()
            await asyncio.sleep(max(0, due - time.monotonic()))
            while direction in settings.held:
                await settings.changed.wait()
            if not data:
                if writer.can_write_eof():
                    writer.write_eof()
                return
            if direction in settings.dropped:
                continue
            if settings.storm and settings.random.random() < settings.storm:
                self.reset()
                return
            await self.send(writer, data)

    async def send(self, writer, data):
        settings = self.settings
        if settings.trickle:
            for i in range(len(data)):
                writer.write(data[i:i + 1])
                await writer.drain()
                await asyncio.sleep(settings.trickle)
                if not settings.trickle:
                    writer.write(data[i + 1:])
                    break
        else:
            if settings.rate:
                await asyncio.sleep(len(data) / settings.rate)  # the last byte is there then
            writer.write(data)
        await writer.drain()

    def half_close(self, direction):
        writer = self.writers[direction]
        if writer.can_write_eof():
            writer.write_eof()


def reset(writer):
    """RST instead of FIN."""
    sock = writer.get_extra_info("socket")
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass  # closed already
    writer.transport.abort()


class Proxy:
    def __init__(self, settings):
        self.settings = settings
        self.connections = set()
        self.accepted = 0

    async def accept(self, reader, writer):
        self.accepted += 1
        if self.settings.refuse:
            reset(writer)
            return
        try:
            far = await asyncio.open_connection(*self.settings.target)
        except OSError:
            reset(writer)
            return
        for w in (writer, far[1]):
            w.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(self.settings, (reader, writer), far)
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)

    def command(self, name, argument=""):
        settings = self.settings
        if name in ("delay", "jitter", "trickle"):
            setattr(settings, name, float(argument) / 1000)
        elif name in ("rate", "storm"):
            setattr(settings, name, float(argument))
        elif name in ("hold", "drop"):
            chosen = DIRECTIONS if argument == "both" else (argument,)
            if not set(chosen) <= set(DIRECTIONS):
                raise ValueError(f"no direction {argument}")
            (settings.held if name == "hold" else settings.dropped).update(chosen)
        elif name == "release":
            settings.held.clear()
            settings.dropped.clear()
        elif name == "reset":
            for connection in list(self.connections):
                connection.reset()
        elif name == "half_close":
            if argument not in DIRECTIONS:
                raise ValueError(f"no direction {argument}")
            for connection in list(self.connections):
                connection.half_close(argument)
        elif name == "refuse":
            settings.refuse = argument == "on"
        elif name == "target":
            settings.target = address(argument)
        elif name == "connections":
            return len(self.connections)
        elif name == "accepted":
            return self.accepted
        else:
            raise ValueError(f"no command {name}")
        settings.wake()
        return None


def address(text):
    host, _, port = text.rpartition(":")
    return host, int(port)


async def serve(options):
    proxy = Proxy(Settings(address(options.target), options.seed))
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    print("listening on %s:%d" % server.sockets[0].getsockname()[:2], flush=True)
    stdin = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    while line := (await stdin.readline()).decode():
        try:
            value = proxy.command(*line.split())
            print("ok" if value is None else f"ok {value}", flush=True)
        except (ValueError, TypeError) as e:
            print(f"error {e}", flush=True)
    proxy.command("reset")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target")
    parser.add_argument("--seed", type=int, default=1)
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
