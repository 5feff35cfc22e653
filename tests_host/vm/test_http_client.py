"""lib.http_client on the VM against scripted servers: what it takes, refuses and waits for."""

import hashlib
import random
import socket
import ssl
import textwrap
import time

import pytest

import tests_host.unit.conftest  # noqa: F401  (gives CPython what the library imports)
from tests_host.unit import test_http_client as cases
from tests_host.vm import runner
from tests_host.vm.http_peer import HttpPeer, head, part
from tests_host.vm.mosquitto import Authority

DATA = random.Random(1).randbytes(20_000)

PRELUDE = """
import asyncio, errno, gc, hashlib, os, sys, time
from lib.http_client import Client, HttpError
PORT = int(sys.argv[1])
def descriptors():
    return len(list(os.ilistdir("/proc/self/fd")))
def client(**options):
    options.setdefault("timeout_ms", 300)
    return Client("127.0.0.1", PORT, **options)
async def body(c, size=1000):
    view = memoryview(bytearray(size))
    data = b""
    while c.left:
        n = await c.readinto(view)
        assert 0 < n <= size, n
        data += view[:n]
    assert await c.readinto(view) == 0
    return data
async def failure(awaitable):
    try:
        got = await awaitable
    except OSError as error:
        return errno.errorcode.get(error.errno, error)
    except ValueError as error:
        return "%s %s" % (type(error).__name__, error)
    return got
"""


def run(source, port, *args, **options):
    source = PRELUDE + textwrap.dedent(source) + "\nasyncio.run(main())\n"
    return runner.run_source(source, port, *args, **options).splitlines()


def dialogue(source, *servers, **options):
    """The client's script against one server a connection; lines that it printed."""
    context = options.pop("context", None)
    with HttpPeer(*servers, context=context) as peer:
        try:
            output = run(source, peer.port, *options.pop("args", ()), **options)
        except runner.VmError as error:
            if peer.errors:
                raise peer.errors[0] from error
            raise
        peer.check()
    return output


def test_the_pure_functions(vm):
    """What CPython refuses the VM refuses, and it reads the same from the rest."""
    good_head = b"HTTP/1.1 206 x\r\nContent-LENGTH:\t 7 \r\nX:\r\nA: 1\r\na: 2"
    good_url = b"https://h-1.example.COM:65535/x?y=%20"
    script = f"""
    from lib.http_client import HttpError, parse_head, split_url
    for function, cases in ((split_url, {cases.BAD_URLS!r}), (parse_head, {cases.BAD_HEADS!r})):
        refused = 0
        for text in cases:
            try:
                print(function(text))
            except HttpError:
                refused += 1
        print(refused == len(cases) > 20)
    print(*split_url({good_url!r}))
    status, keep, fields = parse_head({good_head!r})
    print(status, keep, sorted(fields.items()))
    """
    assert vm(script).splitlines() == [
        "True",
        "True",
        "True h-1.example.COM 65535 b'/x?y=%20'",
        "206 True [(b'a', b'1,2'), (b'content-length', b'7'), (b'x', b'')]",
    ]


RANGES = """
async def main():
    c = client()
    digest = hashlib.sha256()
    for first in range(0, 20000, 4096):
        last = min(first + 4095, 19999)
        print(await c.get(b"/fw.bin?X=%20y", first, last), c.left, c.total)
        digest.update(await body(c))
    print(digest.digest().hex())
    c.close()
"""


def ranges_printed():
    lines = [f"206 {min(4096, 20000 - first)} 20000" for first in range(0, 20000, 4096)]
    return [*lines, hashlib.sha256(DATA).hexdigest()]


def test_ranges_on_one_connection():
    def server(peer):
        for first in range(0, 20000, 4096):
            wanted = (
                b"/fw.bin?X=%20y",
                b"127.0.0.1:%d" % peer.sock.getsockname()[1],
                first,
                min(first + 4095, 19999),
            )
            assert peer.request() == wanted
            peer.send(part(DATA, *wanted[2:]))
        peer.expect_close()

    assert dialogue(RANGES, server) == ranges_printed()


def test_ranges_byte_by_byte():
    def server(peer):
        for _ in range(2):
            _, _, first, last = peer.request()
            for byte in head(103, "Link: x") + part(DATA, first, last):
                peer.send(bytes([byte]))
        peer.expect_close()

    script = """
    async def main():
        c = client()
        for first in (0, 300):
            print(await c.get(b"/", first, first + 99), (await body(c, 7)).hex())
        c.close()
    """
    assert dialogue(script, server) == [f"206 {DATA[i : i + 100].hex()}" for i in (0, 300)]


@pytest.mark.parametrize("how", ["told", "untold", "http/1.0"])
def test_a_server_that_closes_after_each_range(how):
    def server(peer):
        _, _, first, last = peer.request()
        reply = part(DATA, first, last)
        if how == "told":
            reply = reply.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
        elif how == "http/1.0":
            reply = reply.replace(b"/1.1", b"/1.0", 1)
        peer.send(reply)
        if how != "untold":
            peer.expect_close()

    # Until the server's close has arrived the connection looks as if it were kept.
    script = RANGES.replace("digest.update", "await asyncio.sleep_ms(50); digest.update")
    script = script.replace("(await body(c))", "(await body(c)); await asyncio.sleep_ms(50)")
    assert dialogue(script, *[server] * 5) == ranges_printed()


def test_a_server_without_ranges_serves_a_whole_file():
    def server(peer):
        peer.request()
        peer.send(head(200, "Content-Length: 20000") + DATA)
        peer.expect_close()

    script = """
    async def main():
        c = client()
        print(await c.get(b"/", 0, 19999), c.left, c.total, len(await body(c)))
        c.close()
        c = client()
        print(await failure(c.get(b"/", 0, 4095)), c.left)
        c = client()
        print(await failure(c.get(b"/", 4096, 8191)), c.left)
    """
    assert dialogue(script, server, server, server) == [
        "200 20000 20000 20000",
        "HttpError wrong length 0",
        "HttpError no ranges 0",
    ]


@pytest.mark.parametrize(
    ("status", "fields", "location"),
    [
        (302, ["Location: https://elsewhere/x", "Content-Length: 0"], "b'https://elsewhere/x'"),
        (403, ["Transfer-Encoding: chunked"], "None"),
        (404, ["Content-Length: 5"], "None"),
        (416, ["Content-Range: bytes */20000", "Content-Length: 0"], "None"),
        (500, [], "None"),
        (503, ["Connection: close"], "None"),
        (204, [], "None"),
    ],
)
def test_other_replies_are_values(status, fields, location):
    """Such a connection is not used again."""

    def server(peer):
        peer.request()
        peer.send(head(status, *fields) + b"5\r\nerror\r\n0\r\n\r\n")
        peer.expect_close()

    script = """
    async def main():
        c = client()
        before = descriptors()
        print(await c.get(b"/", 0, 99), c.location, c.left, descriptors() - before)
        print(await c.readinto(bytearray(5)))
        print(await c.get(b"/", 0, 99), c.location, len(await body(c)))
        c.close()
    """
    assert dialogue(script, server, lambda peer: peer.serve(DATA)) == [
        f"{status} {location} 0 0",
        "0",
        "206 None 100",
    ]


AGAIN = """
async def main():
    before = descriptors()
    c = client()
    start = time.ticks_ms()
    print(await failure(c.get(b"/", 0, 99)), c.left, descriptors() - before)
    print(250 < time.ticks_diff(time.ticks_ms(), start) < 600)
    print(await c.get(b"/", 0, 99), len(await body(c)))
    c.close()
    # Nothing waits any more.
    print(descriptors() - before, len(asyncio.core._io_queue.map))
"""


def good(peer):
    peer.serve(DATA)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"", "ECONNRESET"),
        (b"HTTP/1.1 206 x\r\nContent-", "ECONNRESET"),
        (b"\0\xff garbage \r\n\r\n", "HttpError"),
        (b"\r\n\r\n", "HttpError"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "HttpError"),
        (head(206, "Content-Length: 100", "X: " + "y" * 2048), "HttpError long head"),
        (b"x" * 5000, "HttpError long head"),
        (head(100) * 100, "HttpError long head"),
        (head(206, "Content-Length: 100"), "HttpError bad number"),
        (part(DATA, 1, 100), "HttpError wrong range"),
        (part(DATA, 0, 98), "HttpError wrong range"),
        (part(DATA, 0, 100), "HttpError wrong range"),
        (part(DATA, 0, 99).replace(b"20000", b"99"), "HttpError wrong range"),
        (part(DATA, 0, 99).replace(b": 100", b": 101"), "HttpError wrong length"),
        (part(DATA, 0, 99).replace(b": 100", b": 4294967396"), "HttpError wrong length"),
        (
            part(DATA, 0, 99).replace(b"\r\n", b"\r\nContent-Encoding: gzip\r\n", 1),
            "HttpError coded",
        ),
        (head(206, "Transfer-Encoding: chunked") + b"0\r\n\r\n", "HttpError coded body"),
    ],
)
def test_bad_replies_close_the_connection(reply, reason):
    def server(peer):
        peer.request()
        peer.send(reply)
        if reason.startswith("HttpError"):
            peer.expect_close()

    lines = dialogue(AGAIN, server, good)
    assert lines[0].startswith(reason)
    assert lines[0].endswith(" 0 0")
    assert lines[1:] == ["False", "206 100", "0 0"]


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 206 x\r\nContent-", head(102)])
def test_a_server_that_stalls_before_the_body(reply):
    def server(peer):
        peer.request()
        peer.send(reply)
        peer.expect_close()

    assert dialogue(AGAIN, server, good) == ["ETIMEDOUT 0 0", "True", "206 100", "0 0"]


def test_a_head_that_trickles_has_one_deadline():
    def server(peer):
        peer.request()
        try:
            for byte in part(DATA, 0, 99) * 20:
                peer.send(bytes([byte]))
                time.sleep(0.02)
        except OSError:
            return
        raise AssertionError("the client has taken it all")

    assert dialogue(AGAIN, server, good) == ["ETIMEDOUT 0 0", "True", "206 100", "0 0"]


BODY = """
async def main():
    before = descriptors()
    c = client()
    view = memoryview(bytearray(64))
    print(await c.get(b"/", 0, 99))
    got = 0
    while c.left > 50:
        got += await c.readinto(view[:min(64, c.left - 50)])
    start = time.ticks_ms()
    print(got, await failure(c.readinto(view)), c.left, descriptors() - before)
    print(250 < time.ticks_diff(time.ticks_ms(), start) < 600)
    print(await c.readinto(view), await c.get(b"/", 0, 99), len(await body(c)))
    c.close()
    print(descriptors() - before, len(asyncio.core._io_queue.map))
"""


@pytest.mark.parametrize(("how", "reason"), [("stall", "ETIMEDOUT"), ("close", "ECONNRESET")])
def test_a_body_that_ends_in_the_middle(how, reason):
    def server(peer):
        peer.request()
        peer.send(part(DATA, 0, 99)[:-50])
        if how == "stall":
            peer.expect_close()

    assert dialogue(BODY, server, good) == [
        "206",
        f"50 {reason} 0 0",
        str(how == "stall"),
        "0 206 100",
        "0 0",
    ]


def test_a_slow_body_has_a_deadline_for_each_read_only():
    def server(peer):
        peer.request()
        reply = part(DATA, 0, 99)
        for start in range(0, len(reply), 20):
            peer.send(reply[start : start + 20])
            time.sleep(0.1)
        peer.expect_close()

    script = """
    async def main():
        c = client(timeout_ms=700)
        print(await c.get(b"/", 0, 99), (await body(c)).hex())
        c.close()
    """
    assert dialogue(script, server) == ["206 " + DATA[:100].hex()]


@pytest.mark.parametrize("late", [False, True])
def test_what_comes_after_the_body_is_not_the_next_reply(late):
    def server(peer):
        peer.request()
        rest = part(b"evil" * 100, 100, 199)
        peer.send(part(DATA, 0, 99) + (b"" if late else rest))
        if late:
            time.sleep(0.05)
            peer.send(rest)
        peer.expect_close()

    script = """
    async def main():
        c = client()
        for first in (0, 100):
            print(await c.get(b"/", first, first + 99), (await body(c)).hex())
            await asyncio.sleep_ms(150)
        c.close()
    """
    assert dialogue(script, server, good) == [f"206 {DATA[i : i + 100].hex()}" for i in (0, 100)]


def test_a_body_left_unread_is_dropped_with_its_connection():
    def server(peer):
        peer.request()
        peer.send(part(DATA, 0, 19999))
        peer.expect_close()

    script = """
    async def main():
        before = descriptors()
        c = client()
        print(await c.get(b"/", 0, 19999), await c.readinto(bytearray(10)) > 0)
        print(await c.get(b"/", 100, 199), (await body(c)).hex())
        c.close()
        print(descriptors() - before)
    """
    assert dialogue(script, server, good) == ["206 True", "206 " + DATA[100:200].hex(), "0"]


def test_closed_by_another_task_or_cancelled():
    def server(peer):
        peer.request()
        peer.expect_close()

    def body_server(peer):
        peer.request()
        peer.send(part(DATA, 0, 99)[:-50])
        peer.expect_close()

    def late_server(peer):
        peer.request()
        peer.send(part(DATA, 0, 99)[:-50])
        time.sleep(0.2)
        peer.send(DATA[50:100])
        peer.expect_close()

    script = """
    async def later(c):
        await asyncio.sleep_ms(50)
        c.close()
    async def main():
        before = descriptors()
        c = client(timeout_ms=5000)
        asyncio.create_task(later(c))
        print(await failure(c.get(b"/", 0, 99)), c.left)
        try:
            await asyncio.wait_for_ms(c.get(b"/", 0, 99), 50)
        except asyncio.TimeoutError:
            print("cancelled", descriptors() - before)
        await c.get(b"/", 0, 99)
        await c.readinto(bytearray(50))
        asyncio.create_task(later(c))
        print(await failure(c.readinto(bytearray(50))), c.left)
        # A read that is cancelled loses nothing.
        await c.get(b"/", 0, 99)
        view = memoryview(bytearray(100))
        n = await c.readinto(view)
        try:
            await asyncio.wait_for_ms(c.readinto(view[n:]), 50)
        except asyncio.TimeoutError:
            print(n, c.left)
        n += await c.readinto(view[n:])
        c.close()
        print(n, bytes(view).hex(), descriptors() - before)
    """
    assert dialogue(script, server, server, body_server, late_server) == [
        "ENOTCONN 0",
        "cancelled 0",
        "ENOTCONN 0",
        "50 50",
        f"100 {DATA[:100].hex()} 0",
    ]


def test_nobody_listens_and_nobody_answers():
    script = """
    async def main():
        before = descriptors()
        c = client()
        start = time.ticks_ms()
        print(await failure(c.get(b"/", 0, 99)), c.left, descriptors() - before)
        print(time.ticks_diff(time.ticks_ms(), start) < 600)
    """
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    assert run(script, port) == ["ECONNREFUSED 0 0", "True"]
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        time.sleep(0.05)
        assert run(script, full.getsockname()[1]) == ["ETIMEDOUT 0 0", "True"]
        for filler in fillers:
            filler.close()


RESOLVER = """
import socket
import lib.http_client
class Sockets:
    found = socket.getaddrinfo("127.0.0.1", PORT)
    SOCK_STREAM = socket.SOCK_STREAM
    socket = socket.socket
    def getaddrinfo(*_):
        if not Sockets.found:
            raise OSError(-2)
        return Sockets.found
    getaddrinfo = staticmethod(getaddrinfo)
lib.http_client.socket = Sockets
"""


def test_second_address_is_tried():
    """The first one refuses, or there is not even a way to it."""
    script = """
    good = Sockets.found[0]
    refused = socket.getaddrinfo("127.0.0.1", 1)[0]
    no_way = socket.getaddrinfo("255.255.255.255", 1)[0]
    async def main():
        before = descriptors()
        for bad in (refused, no_way):
            Sockets.found = [bad, good]
            c = client()
            print(await c.get(b"/", 0, 99), descriptors() - before)
            c.close()
        for found in ([refused, refused], [refused, no_way]):
            Sockets.found = found
            print(await failure(c.get(b"/", 0, 99)), descriptors() - before)
    """
    lines = dialogue(RESOLVER + textwrap.dedent(script), good, good)
    assert lines[:3] == ["206 1", "206 1", "ECONNREFUSED 0"]
    assert lines[3].endswith(" 0")
    # The reason is that of the last one, not that nothing was connected.
    assert not lines[3].startswith(("ECONNREFUSED", "ENOTCONN", "ETIMEDOUT", "32 "))


def test_what_was_left_is_gone_when_the_next_request_fails():
    def server(peer):
        peer.request()
        peer.send(part(DATA, 0, 99)[:-50])
        peer.expect_close()

    script = """
    async def main():
        before = descriptors()
        c = client()
        await c.get(b"/", 0, 99)
        Sockets.found = []
        print(await failure(c.get(b"/", 0, 99)), c.left, descriptors() - before)
    """
    assert dialogue(RESOLVER + textwrap.dedent(script), server) == ["-2 0 0"]


def test_a_body_half_sent_is_not_waited_for():
    """What has come of it is read: the connection looks as if it were at a reply's end."""

    def server(peer):
        peer.request()
        peer.send(part(DATA, 0, 99)[:-50])
        peer.expect_close()

    script = """
    async def main():
        c = client()
        await c.get(b"/", 0, 99)
        print(await c.readinto(bytearray(100)), c.left)
        print(await c.get(b"/", 100, 199), (await body(c)).hex())
        c.close()
    """
    assert dialogue(script, server, good) == ["50 50", "206 " + DATA[100:200].hex()]


@pytest.mark.parametrize(
    "arguments",
    [
        'b"x", 0, 9',
        'b"", 0, 9',
        'b"/a b", 0, 9',
        'b"/\\r\\nX: y", 0, 9',
        'b"/\\n", 0, 9',
        'b"/\\r", 0, 9',
        'b"/", 9, 8',
    ],
)
def test_requests_that_are_not_made(arguments):
    script = f"""
    async def main():
        print(await failure(client().get({arguments})))
    """
    assert run(script, 1) == ["HttpError bad path"]


def test_others_work_while_a_fast_server_sends():
    def server(peer):
        peer.serve(DATA * 50)
        peer.expect_close()

    script = """
    async def main():
        worst = 0
        async def other():
            nonlocal worst
            while True:
                start = time.ticks_ms()
                await asyncio.sleep_ms(1)
                worst = max(worst, time.ticks_diff(time.ticks_ms(), start))
        asyncio.create_task(other())
        c = client(timeout_ms=5000)
        await c.get(b"/", 0, 999999)
        view = memoryview(bytearray(4096))
        turns = 0
        while c.left:
            await c.readinto(view)
            turns += 1
        print(worst < 50, turns >= 244)
    """
    assert dialogue(script, server, heap=64) == ["True True"]


TLS = """
import tls
FOLDER, CA, NAME = sys.argv[2:5]
context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
with open(FOLDER + "/" + CA + ".der", "rb") as file:
    context.load_verify_locations(file.read())
async def main():
    before = descriptors()
    c = Client(NAME, PORT, context, timeout_ms=TIMEOUT)
    data = b""
    try:
        for first in range(0, 20000, 5000):
            status = await c.get(b"/", first, first + 4999)
            data += await body(c, 512)
        print(status, hashlib.sha256(data).digest().hex())
    except (OSError, ValueError) as error:
        print(type(error).__name__, str(error).strip()[:60])
    c.close()
    print(descriptors() - before, len(asyncio.core._io_queue.map))
"""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    authority = Authority(folder, "ca")
    authority.issue("server", "localhost")
    authority.issue("other-name", "elsewhere.example")
    authority.issue("expired", "localhost", days=-1)
    Authority(folder, "other-ca")
    return folder


def tls_server(folder, name, seen=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    if seen is not None:
        context.sni_callback = lambda _, server_name, __: seen.append(server_name)
    return context


def test_ranges_over_tls(certificates):
    def server(peer):
        peer.serve(DATA, 4)
        peer.expect_close()

    seen = []
    context = tls_server(certificates, "server", seen)
    script = TLS.replace("TIMEOUT", "5000")
    lines = dialogue(script, server, context=context, args=(certificates, "ca", "localhost"))
    assert lines == [f"206 {ranges_printed()[-1]}", "0 0"]
    assert seen == ["localhost"]


def test_the_name_is_what_is_asked_for_and_checked(certificates):
    seen = []
    context = tls_server(certificates, "other-name", seen)
    script = RESOLVER + TLS.replace("TIMEOUT", "5000")
    arguments = (certificates, "ca", "elsewhere.example")
    lines = dialogue(script, lambda peer: peer.serve(DATA, 4), context=context, args=arguments)
    assert lines == [f"206 {ranges_printed()[-1]}", "0 0"]
    assert seen == ["elsewhere.example"]


@pytest.mark.parametrize(
    ("name", "ca", "reason"),
    [
        ("server", "other-ca", "ValueError The certificate is not correctly signed"),
        ("other-name", "ca", "ValueError The certificate Common Name (CN) does not"),
        ("expired", "ca", "ValueError The certificate validity has expired"),
    ],
)
def test_servers_that_are_not_trusted(certificates, name, ca, reason):
    context = tls_server(certificates, name)
    with HttpPeer(lambda peer: peer.serve(DATA), context=context) as peer:
        script = TLS.replace("TIMEOUT", "5000")
        lines = run(script, peer.port, certificates, ca, "localhost")
    assert lines[0].startswith(reason)
    assert lines[1:] == ["0 0"]


def test_tls_that_stalls_or_is_none(certificates):
    def silent(peer):
        while peer.sock.recv(4096):
            pass

    def plain(peer):
        peer.sock.recv(4096)
        peer.send(part(DATA, 0, 4999))

    script = TLS.replace("TIMEOUT", "300")
    arguments = (certificates, "ca", "localhost")
    assert dialogue(script, silent, args=arguments) == ["OSError [Errno 110] ETIMEDOUT", "0 0"]
    lines = dialogue(script, plain, args=arguments)
    assert lines[0].startswith("OSError")
    assert lines[1:] == ["0 0"]


@pytest.mark.parametrize("how", ["stall", "close"])
def test_a_body_over_tls_that_ends_in_the_middle(certificates, how):
    def server(peer):
        peer.request()
        peer.send(part(DATA, 0, 4999)[:-50])
        if how == "stall":
            peer.expect_close()

    context = tls_server(certificates, "server")
    script = TLS.replace("TIMEOUT", "500")
    lines = dialogue(script, server, context=context, args=(certificates, "ca", "localhost"))
    assert lines[0].startswith("OSError")
    assert ("ETIMEDOUT" in lines[0]) == (how == "stall")
    assert lines[1:] == ["0 0"]
