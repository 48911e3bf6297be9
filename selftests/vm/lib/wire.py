# SPDX-License-Identifier: Apache-2.0
"""Someone on the wire: sees every packet of a link, and sends forged ones. Runs in agents."""
import select
import socket
import struct
import threading
import time

ETH_P_ALL = 3


def _open(interface):
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    sock.bind((interface, ETH_P_ALL))
    return sock


def _checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Packet:
    """A TCP packet in an Ethernet frame, without VLAN and without extension headers."""

    def __init__(self, frame):
        self.frame = frame
        self.v4 = frame[12:14] == b"\x08\x00"
        header = (frame[14] & 15) * 4 if self.v4 else 40
        length = struct.unpack("!H", frame[16:18])[0] if self.v4 else 40 + struct.unpack("!H", frame[18:20])[0]
        self.tos = frame[15] if self.v4 else struct.unpack("!H", frame[14:16])[0] >> 4 & 255
        self.ip = frame[14:14 + header]
        self.tcp = frame[14 + header:14 + length]
        self.addresses = self.ip[12:20] if self.v4 else self.ip[8:40]
        half, family = len(self.addresses) // 2, socket.AF_INET if self.v4 else socket.AF_INET6
        ports = struct.unpack("!HH", self.tcp[0:4])
        self.source = (socket.inet_ntop(family, self.addresses[:half]), ports[0])
        self.destination = (socket.inet_ntop(family, self.addresses[half:]), ports[1])
        self.sequence = struct.unpack("!I", self.tcp[4:8])[0]
        self.header = (self.tcp[12] >> 4) * 4
        self.flags = self.tcp[13]
        self.payload = len(self.tcp) - self.header

    @staticmethod
    def parse(frame):
        if len(frame) >= 54 and frame[12:14] == b"\x08\x00" and frame[23] == socket.IPPROTO_TCP:
            return Packet(frame)
        if len(frame) >= 74 and frame[12:14] == b"\x86\xdd" and frame[20] == socket.IPPROTO_TCP:
            return Packet(frame)
        return None

    def with_tcp(self, tcp):
        """The frame with another TCP header, without data; its checksum field is zero."""
        pseudo = self.addresses + struct.pack("!IHBB", len(tcp), 0, 0, socket.IPPROTO_TCP)
        struct.pack_into("!H", tcp, 16, _checksum(pseudo + bytes(tcp)))
        header = bytearray(self.ip)
        if self.v4:
            struct.pack_into("!H", header, 2, len(header) + len(tcp))
            struct.pack_into("!H", header, 10, 0)
            struct.pack_into("!H", header, 10, _checksum(bytes(header)))
        else:
            struct.pack_into("!H", header, 4, len(tcp))
        return self.frame[:14] + bytes(header) + bytes(tcp)


_watches = {}


def start_watch(interface, source, destination):
    """Collects the packets from source to destination, (address, port or 0 for any) each."""
    sock = _open(interface)
    packets, stop = [], threading.Event()

    def matches(packet):
        return all(got[0] == wanted[0] and wanted[1] in (0, got[1]) for got, wanted in
                   ((packet.source, source), (packet.destination, destination)))

    def collect():
        with sock:
            while not stop.is_set():
                if select.select([sock], [], [], 0.1)[0]:
                    packet = Packet.parse(sock.recv(1 << 17))
                    if packet and matches(packet):
                        packets.append(packet)

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    _watches[sock.fileno()] = (interface, packets, stop, thread)
    return sock.fileno()


def _stop_watch(number):
    interface, packets, stop, thread = _watches.pop(number)
    time.sleep(0.3)  # what has been received elsewhere is about to be here
    stop.set()
    thread.join()
    return interface, packets


def tos_seen(number):
    """Ends a watch. The TOS bytes of its packets: {tos: count}."""
    counts = {}
    for packet in _stop_watch(number)[1]:
        counts[packet.tos] = counts.get(packet.tos, 0) + 1
    return counts


def forge_end(number, flags):
    """Ends a watch and goes on in the sender's name with FIN or RST. False if nothing was sent."""
    interface, packets = _stop_watch(number)
    if not packets:
        return False
    # The one that is furthest, in case one was sent twice.
    last = max(packets, key=lambda packet: (packet.sequence - packets[0].sequence + (1 << 31)) % (1 << 32)
               + packet.payload)
    tcp = bytearray(last.tcp[:last.header])
    struct.pack_into("!I", tcp, 4, (last.sequence + last.payload) & 0xFFFFFFFF)
    tcp[13] = flags
    struct.pack_into("!H", tcp, 16, 0)
    with _open(interface) as sock:
        sock.send(last.with_tcp(tcp))
    return True
