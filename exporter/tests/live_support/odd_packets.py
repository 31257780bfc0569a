# Frames that are rare on the wire, sent from a pod's interface; each is known by its source port.
import os
import socket
import struct

os.system("ip link set pod0p mtu 9000")
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind(("pod0p", 0))
ETHERNET = b"\xff" * 6 + b"\x02\0\0\0\0\x01"
SEQ = 0x01020304
FIN, SYN, RST, ACK = 1, 2, 4, 16
TIMES = b"\x08\x0a" + struct.pack("!II", 7, 8)


def tcp(port, flags, options=b"", payload=b"", words=None):
    words = words or 5 + len(options) // 4
    return struct.pack("!HHIIBBHHH", port, 80, SEQ, 0, words << 4, flags, 1000, 0, 0) + options + payload


def ip4(body, options=b"", fragment=0, length=None):
    words = 5 + len(options) // 4
    length = words * 4 + len(body) if length is None else length
    head = struct.pack("!BBHHHBBH4s4s", 0x40 | words, 0, length, 1, fragment, 64, 6, 0,
                       socket.inet_aton("10.9.0.2"), socket.inet_aton("10.9.0.1"))
    return head + options + body


def ip6(body, following, extensions=b""):
    ends = socket.inet_pton(socket.AF_INET6, "fd00::2") + socket.inet_pton(socket.AF_INET6, "fd00::1")
    return struct.pack("!IHBB", 6 << 28, len(extensions + body), following, 64) + ends + extensions + body


def send(kind, packet):
    out.send((ETHERNET + struct.pack("!H", kind) + packet).ljust(60, b"\xee"))


send(0x0800, ip4(tcp(1001, SYN), options=b"\x01" * 12))
# Hop-by-hop, then a fragment header of an unfragmented packet, then 16 bytes of destination options.
extensions = b"\x2c\x00" + b"\x01\x04" + b"\0" * 4 + b"\x3c\x00\0\0\0\0\0\x09" + b"\x06\x01" + b"\x01\x0c" + b"\0" * 12
send(0x86DD, ip6(tcp(1002, SYN, payload=b"abc"), 0, extensions))
send(0x8100, struct.pack("!HH", 5, 0x0800) + ip4(tcp(1003, SYN)))
send(0x0800, ip4(tcp(1004, FIN | ACK, b"\x01\x01" + TIMES, b"d" * 6000)))
send(0x0800, ip4(tcp(1005, SYN), fragment=0x2003))
send(0x0800, ip4(tcp(1006, FIN | ACK, payload=b"e" * 100), length=0))
send(0x0800, ip4(tcp(1007, SYN, b"\x01" + TIMES + b"\x03\x03\x09" + b"\x02\x04" + struct.pack("!H", 1300) + b"\0\0")))
send(0x0800, ip4(tcp(1008, RST)))
send(0x0800, ip4(tcp(1009, ACK, payload=b"f" * 10)))
send(0x0800, ip4(tcp(1010, SYN, words=15)))
send(0x0800, ip4(tcp(1011, SYN), fragment=0x2000))
send(0x0800, ip4(tcp(1099, SYN)))
