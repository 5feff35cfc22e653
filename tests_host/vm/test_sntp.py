"""lib.sntp on the VM against a scripted time server."""

import socket
import struct
import threading
import time

import pytest

SCRIPT = """
import asyncio, gc, sys
from lib import sntp
async def main():
    turns = 0
    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep_ms(10)
    task = asyncio.create_task(other())
    try:
        print(*await sntp.query(sys.argv[2], int(sys.argv[1]), 500))
    except (OSError, ValueError) as error:
        print(type(error).__name__, *error.args)
    task.cancel()
    print(turns > 3, len(asyncio.core._io_queue.map))
asyncio.run(main())
"""


def answer(
    request, first=0x24, stratum=2, refid=b"GPS\0", seconds=3_900_000_000, fraction=1 << 31
):
    """A server's answer: seconds since 1900 and a fraction of 2**32."""
    return (
        struct.pack(">BBbb", first, stratum, 6, -20)
        + bytes(8)
        + refid
        + bytes(8)
        + request[40:48]
        + struct.pack(">II", 1, 1)
        + struct.pack(">II", seconds, fraction)
    )


@pytest.fixture
def time_server():
    """`time_server(reply)` -> port; `reply(request)` gives a list of datagrams."""
    sockets = []

    def start(reply):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        sockets.append(sock)

        def serve():
            request, address = sock.recvfrom(512)
            assert len(request) == 48
            assert request[0] == 0x23
            assert request[1:40] == bytes(39)
            time.sleep(0.06)
            for datagram in reply(request):
                sock.sendto(datagram, address)

        threading.Thread(target=serve, daemon=True).start()
        return sock.getsockname()[1]

    yield start
    for sock in sockets:
        sock.close()


def test_time_with_half_the_round_trip(vm, time_server):
    seconds, milliseconds = map(
        int, vm(SCRIPT, time_server(lambda r: [answer(r)]), "127.0.0.1").split()[:2]
    )
    assert seconds == 3_900_000_000 - 2_208_988_800
    assert 525 <= milliseconds < 570


def test_other_tasks_run_while_it_waits(vm, time_server):
    out = vm(SCRIPT, time_server(lambda r: [answer(r)]), "127.0.0.1")
    assert out.splitlines()[1] == "True 0"


def test_real_clock_by_name(vm, time_server):
    def now(request):
        t = time.time() + 2_208_988_800
        return [answer(request, seconds=int(t), fraction=int(t % 1 * 2**32))]

    seconds, milliseconds = map(int, vm(SCRIPT, time_server(now), "localhost").split()[:2])
    assert abs(seconds + milliseconds / 1000 - time.time()) < 1


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"first": 0x23}, "not a server's answer"),
        ({"first": 0x25}, "not a server's answer"),
        ({"first": 0xE4}, "server is not synchronised"),
        ({"stratum": 16}, "server is not synchronised"),
        ({"stratum": 0, "refid": b"RATE"}, "kiss of death RATE"),
        ({"stratum": 0, "refid": b"\x00\xffX\n"}, "kiss of death X"),
        ({"seconds": 0, "fraction": 0}, "server sent no time"),
    ],
)
def test_answers_that_must_not_be_used(vm, time_server, change, text):
    port = time_server(lambda request: [answer(request, **change)])
    assert vm(SCRIPT, port, "127.0.0.1").splitlines()[0] == "ValueError " + text


def test_second_era(vm, time_server):
    port = time_server(lambda request: [answer(request, seconds=100, fraction=0)])
    seconds = int(vm(SCRIPT, port, "127.0.0.1").split()[0])
    assert time.gmtime(seconds)[:5] == (2036, 2, 7, 6, 29)


def test_forged_and_short_answers_are_passed_over(vm, time_server):
    def reply(request):
        forged = bytearray(answer(request, seconds=3_000_000_000))
        forged[31] ^= 1
        return [b"", b"short", answer(request)[:47], bytes(forged), answer(request)]

    port = time_server(reply)
    assert vm(SCRIPT, port, "127.0.0.1").startswith("1691011200 ")


def test_only_forged_answers_time_out(vm, time_server):
    port = time_server(lambda request: [answer(bytes(48))])
    assert vm(SCRIPT, port, "127.0.0.1").splitlines() == ["OSError 110", "True 0"]


def test_silent_server_times_out(vm, time_server):
    start = time.monotonic()
    port = time_server(lambda request: [])
    assert vm(SCRIPT, port, "127.0.0.1").splitlines() == ["OSError 110", "True 0"]
    assert time.monotonic() - start < 1.5


def test_nobody_listens(vm):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    assert vm(SCRIPT, port, "127.0.0.1").startswith("OSError 111")


def test_unknown_host(vm):
    assert vm(SCRIPT, 123, "host.invalid").startswith("OSError ")
