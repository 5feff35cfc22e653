"""The name server of the access point on the MicroPython VM, with a real socket."""

import asyncio
import os
import random
import socket

from lib import dns


async def test_the_name_server_answers_and_survives():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    port = random.randrange(20000, 60000)
    place = socket.getaddrinfo("127.0.0.1", port)[0][-1]
    sock.bind(place)
    task = asyncio.create_task(dns.serve(sock, b"\1\2\3\4"))
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.setblocking(False)
    query = b"\xab\xcd\1\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1"
    for junk in (b"", b"x", query[:-1], os.urandom(300), query[:12] + b"\xff" * 20):
        client.sendto(junk, place)
    client.sendto(query, place)
    await asyncio.sleep_ms(100)
    assert client.recv(512).endswith(b"\xc0\x0c\0\1\0\1\0\0\0\x0a\0\4\1\2\3\4")
    try:
        client.recv(512)
    except OSError:
        pass
    else:
        raise AssertionError("more than one answer")
    assert not task.done()
    task.cancel()
