# sys.argv = WHAT PORT CA HOST SIZE RANGE PIECE: prints the microseconds for SIZE bytes over TLS,
# PIECE bytes a read: by lib.http_client in ranges of RANGE bytes ("ours"), by a blocking socket
# that does nothing else ("plain"), or by a stream of asyncio ("stream").
import asyncio
import gc
import socket
import sys
import time

import tls

WHAT, PORT, CA, HOST = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
SIZE, RANGE, PIECE = map(int, sys.argv[5:8])

context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
with open(CA, "rb") as file:
    context.load_verify_locations(file.read())


async def ours(view):
    from lib.http_client import Client

    client = Client(HOST, PORT, context)
    await client.get(b"/file", 0, 0)
    await client.readinto(view)
    gc.collect()
    start = time.ticks_us()
    got = 0
    for first in range(0, SIZE, RANGE):
        await client.get(b"/file", first, min(first + RANGE, SIZE) - 1)
        while client.left:
            got += await client.readinto(view)
    took = time.ticks_diff(time.ticks_us(), start)
    client.close()
    return got, took


async def plain(view):
    sock = socket.socket()
    sock.connect(socket.getaddrinfo("127.0.0.1", PORT)[0][-1])
    sock = context.wrap_socket(sock, server_hostname=HOST)
    sock.write(b"1")
    sock.readinto(view[:1])
    gc.collect()
    start = time.ticks_us()
    got = 0
    sock.write(b"2")
    while got < SIZE:
        got += sock.readinto(view)
    took = time.ticks_diff(time.ticks_us(), start)
    sock.close()
    return got, took


async def stream(view):
    reader, _ = await asyncio.open_connection(HOST, PORT, ssl=context, server_hostname=HOST)
    reader.write(b"1")
    await reader.drain()
    await reader.readinto(view[:1])
    gc.collect()
    start = time.ticks_us()
    got = 0
    reader.write(b"2")
    await reader.drain()
    while got < SIZE:
        got += await reader.readinto(view)
    took = time.ticks_diff(time.ticks_us(), start)
    reader.close()
    await reader.wait_closed()
    return got, took


BUFFER = memoryview(bytearray(PIECE))
GOT, TOOK = asyncio.run({"ours": ours, "plain": plain, "stream": stream}[WHAT](BUFFER))
assert GOT == SIZE, GOT
print(TOOK)
