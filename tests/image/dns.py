#!/usr/bin/env python3
"""A name server on 127.0.0.1:53 that knows one name: dns.py NAME ADDRESS. Prints each name that is asked for."""

import ipaddress
import socket
import sys

A, AAAA, NO_SUCH_NAME = 1, 28, 3
name, address = sys.argv[1].lower(), ipaddress.IPv4Address(sys.argv[2])


def question(query: bytes) -> tuple[str, int, int]:
    """The name, the type, and where the question ends."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii").lower())
        at += 1 + query[at]
    return ".".join(labels), int.from_bytes(query[at + 1 : at + 3], "big"), at + 5


def answer(query: bytes) -> bytes:
    asked, kind, end = question(query)
    print(asked, {A: "A", AAAA: "AAAA"}.get(kind, kind), flush=True)
    records = b""
    if asked == name and kind == A:
        # The name by reference, type A, class IN, a minute.
        records = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04" + address.packed
    code = 0 if asked == name else NO_SUCH_NAME
    counts = [1, 1 if records else 0, 0, 0]
    head = query[:2] + (0x8180 | code).to_bytes(2, "big") + b"".join(n.to_bytes(2, "big") for n in counts)
    return head + query[12:end] + records


server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
print("ready", flush=True)
while True:
    query, client = server.recvfrom(4096)
    server.sendto(answer(query), client)
