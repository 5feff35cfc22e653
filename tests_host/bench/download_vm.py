# sys.argv = SETTINGS WHAT PORT: prints the microseconds for a file of 1 MB over TLS: by the
# firmware's own "stream" or "web" into the virtual board's flash, read back and hashed; or read by
# a stream of asyncio ("asyncio") or a socket ("blocking"), PIECE bytes at a time, and dropped.
# SETTINGS are those of tests_host/vm/download_module.py.
import asyncio
import gc
import socket
import sys
import time

from tests_host.vm import download_module as parts

SETTINGS = parts.settings()
WHAT, PORT = sys.argv[2], int(sys.argv[3])
HOST = SETTINGS["host"]
SIZE = SETTINGS["size"]
PIECE = 4096


def context():
    import tls

    made = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    with open(SETTINGS["ca"], "rb") as file:
        made.load_verify_locations(file.read())
    return made


async def ours():
    from firmware.ota import download
    from firmware.ota.area import PartitionArea
    from firmware.ota.receiver import Receiver

    SETTINGS["port"] = PORT
    module = parts.Module(SETTINGS)
    if WHAT == "stream":
        job = parts.Job(SIZE, b"bench")
        await module.session.connect()
    else:
        job = parts.Job(SIZE, None, b"https://%s:%d/file" % (HOST.encode(), PORT))
    began = []

    # The handshake, and what is loaded for the first time, is not the download's. The first block
    # is, so the time begins before it: at the look at its beginning.
    def check(head):
        gc.collect()
        began.append(time.ticks_us())

    def tick():
        return None

    partition = parts.partition(SETTINGS["folder"], "flash.bin", SIZE)
    receiver = Receiver(SIZE, PartitionArea(partition), 0, check)
    await download.fetch(module, job, receiver, tick)
    took = time.ticks_diff(time.ticks_us(), began[0])
    print(receiver.digest().hex())
    return took


async def stream():
    reader, _ = await asyncio.open_connection(HOST, PORT, ssl=context(), server_hostname=HOST)
    view = memoryview(bytearray(PIECE))
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
    return took


async def blocking():
    sock = socket.socket()
    sock.connect(socket.getaddrinfo("127.0.0.1", PORT)[0][-1])
    sock = context().wrap_socket(sock, server_hostname=HOST)
    view = memoryview(bytearray(PIECE))
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
    return took


print(asyncio.run({"asyncio": stream, "blocking": blocking}.get(WHAT, ours)()))
