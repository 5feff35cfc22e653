"""lib.mqtt_client over TLS: what is left when a handshake fails."""

import contextlib

import pytest

from tests_host.vm import runner
from tests_host.vm.http_peer import HttpPeer
from tests_host.vm.mosquitto import Authority
from tests_host.vm.test_http_client import tls_server

SOURCE = """
import asyncio, os, sys, tls
from lib.mqtt_client import Client
def descriptors():
    return len(list(os.ilistdir("/proc/self/fd")))
async def main():
    context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    with open(sys.argv[1], "rb") as file:
        context.load_verify_locations(file.read())
    client = Client(b"c", 60, bytearray(500), bytearray(500))
    client.server = client.server_hostname = "localhost"
    client.ssl = context
    before = None
    for port in sys.argv[2:]:
        client.port = int(port)
        try:
            await client.connect(3000)
        except ValueError:
            pass
        else:
            print("connected")
        before = before or descriptors()
    print(descriptors() - before, len(asyncio.core._io_queue.map))
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    Authority(folder, "ca").issue("server", "localhost")
    Authority(folder, "other-ca")
    return folder


def test_handshakes_that_fail_leave_no_socket_open(folder):
    """On a board there are ten or so, and a host may send CONNECT for ever."""
    context = tls_server(folder, "server")
    with contextlib.ExitStack() as stack:
        ports = [
            stack.enter_context(HttpPeer(lambda peer: None, context=context)).port
            for _ in range(4)
        ]
        output = runner.run_source(SOURCE, folder / "other-ca.der", *ports)
    assert output.splitlines() == ["0 0"]
