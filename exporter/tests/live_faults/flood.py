# Sends SYNs with correct checksums from addresses and ports that nobody has: PORT COUNT
import random
import socket
import struct
import sys

port, count = int(sys.argv[1]), int(sys.argv[2])
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
random.seed(7)
to = socket.inet_aton("10.9.0.1")


def folded(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


for number in range(count):
    source = struct.pack("!I", 0xC6120000 | random.getrandbits(17))
    head = struct.pack("!HHIIBBHHH", random.randint(1024, 65535), port, random.getrandbits(32), 0, 0x50, 2, 64240, 0, 0)
    check = folded(source + to + struct.pack("!HH", 6, 20) + head)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 40, number & 0xFFFF, 0, 64, 6, 0) + source + to
    raw.sendto(ip + head[:16] + struct.pack("!H", check) + head[18:], ("10.9.0.1", 0))
