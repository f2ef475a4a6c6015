"""A name server for one name, on loopback, that can be deaf for a while; for workers in a mount
namespace whose resolv.conf names it."""
import socket
import struct
import threading

A, IN = 1, 1


class NameServer:
    """Answers `name` with `ip` (IPv4), and that there is no IPv6; every other name does not exist.

    While `deaf` it answers nothing, and whoever asked then is not heard later on that socket
    either, as when a resolver in front of it has forgotten the flow: only who asks anew is.
    """

    def __init__(self, name, ip, address="127.0.0.153"):
        self.name, self.ip, self.address = name, ip, address
        self.deaf = False
        self.unheard = set()  # (address, port) of those
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self.socket.bind((address, 53))  # resolv.conf names no ports
        except OSError:
            self.socket.close()
            raise
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        while True:
            try:
                query, peer = self.socket.recvfrom(512)
            except OSError:
                return  # closed
            if self.deaf:
                self.unheard.add(peer)
            if peer not in self.unheard:
                self.socket.sendto(self._answer(query), peer)

    def _answer(self, query):
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode())
            at += 1 + query[at]
        kind, of = struct.unpack("!HH", query[at + 1:at + 5])
        known = ".".join(labels) == self.name
        found = known and (kind, of) == (A, IN)
        # A response, recursion desired and available; 3: there is no such name.
        header = query[:2] + struct.pack("!HHHHH", 0x8180 | (0 if known else 3), 1, found, 0, 0)
        answer = header + query[12:at + 5]
        if found:  # the name of the question; valid for no time
            answer += struct.pack("!HHHIH", 0xC00C, A, IN, 0, 4) + socket.inet_aton(self.ip)
        return answer

    def close(self):
        self.socket.close()
