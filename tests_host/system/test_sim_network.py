"""The virtual air and the sockets behind it: joining, failing, losing the link."""

import contextlib
import socket
import threading
import time

import pytest

from tests_host.system.sim_apps import Remote


@pytest.fixture
def board(tmp_path):
    with Remote(tmp_path / "board", "--ap", "home:passphrase", "--ap", "open:") as remote:
        remote.run("wlan.active(True)")
        yield remote


@pytest.fixture
def server():
    """A TCP server that sends back what it gets; yields its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=echo, args=(client,), daemon=True).start()

    def echo(client):
        with client, contextlib.suppress(ConnectionResetError):
            while data := client.recv(4096):
                client.sendall(data)

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()


def join(board):
    board.run("wlan.connect('home', 'passphrase')")
    board.until("wlan.isconnected()", True)


def test_joining_goes_through_the_drivers_states(board):
    assert board.value("wlan.status(), wlan.isconnected()") == (1000, False)
    board.run("wlan.connect('home', 'passphrase'); x = wlan.status()")
    assert board.value("x") == 1001
    board.until("wlan.status()", 1010)
    assert board.value("wlan.ifconfig()[0]") == "192.168.77.2"
    assert board.value("wlan.status('rssi')") == -50
    board.wifi("home", rssi=-80)
    assert board.value("wlan.status('rssi')") == -80
    board.run("wlan.disconnect()")
    assert board.value("wlan.status(), wlan.isconnected()") == (1000, False)


def test_an_inactive_station_refuses_to_connect(board):
    board.run("wlan.active(False)")
    assert board.run("wlan.connect('home', 'passphrase')") == "!OSError('Wifi Not Started',)"


def test_a_wrong_passphrase_shows_its_reason_only_when_retries_end(board):
    board.run("wlan.config(reconnects=2); wlan.connect('home', 'wrong-passphrase')")
    # Three attempts, then the handshake's time-out, which has no name of its own.
    assert board.value("wlan.status()") == 1001
    board.until("wlan.status()", 15)
    board.run("wlan.config(reconnects=-1); wlan.connect('home', 'wrong-passphrase')")
    time.sleep(0.4)
    assert board.value("wlan.status()") == 1001


def test_an_absent_access_point_is_seen_while_it_goes_on_trying(board):
    board.run("wlan.connect('nobody', 'passphrase')")
    board.until("wlan.status()", 201)
    board.order({"wifi": {"ssid": "nobody", "passphrase": "passphrase"}})
    board.until("wlan.status()", 1010)


def test_without_reconnects_a_lost_link_stays_lost(board):
    board.run("wlan.config(reconnects=0)")
    join(board)
    board.wifi("home", up=False)
    board.until("wlan.isconnected()", False)
    board.wifi("home", up=True)
    time.sleep(0.2)
    assert board.value("wlan.status()") == 200


def test_scan_lists_what_is_on_the_air_strongest_first(board):
    board.wifi("open", rssi=-30)
    found = board.value("wlan.scan()")
    assert [(f[0], f[3], f[4]) for f in found] == [(b"open", -30, 0), (b"home", -50, 3)]
    assert [len(f[1]) for f in found] == [6, 6]
    board.wifi("home", up=False)
    assert [f[0] for f in board.value("wlan.scan()")] == [b"open"]


def test_an_open_network_needs_no_passphrase(board):
    board.run("wlan.connect('open')")
    board.until("wlan.isconnected()", True)


def test_sockets_need_a_link(board, server):
    line = f"s = socket.socket(); s.connect(('127.0.0.1', {server}))"
    assert board.run(line) == "!OSError(113,)"
    assert board.run("socket.getaddrinfo('localhost', 1)") == "!OSError(-202,)"
    join(board)
    assert board.run(line) == "None"
    assert board.value("s.send(b'hello'), s.recv(10)") == (5, b"hello")


def test_names_and_addresses_beyond_this_pc_do_not_exist(board):
    join(board)
    assert board.value("socket.getaddrinfo('localhost', 8883)") == [
        (2, 1, 0, "", ("127.0.0.1", 8883))
    ]
    assert board.run("socket.getaddrinfo('example.com', 80)") == "!OSError(-202,)"
    assert board.run("socket.socket().connect(('192.0.2.1', 80))") == "!OSError(113,)"


def test_a_lost_link_stops_packets_and_the_socket_lives_on(board, server):
    join(board)
    board.run(f"s = socket.socket(); s.connect(('127.0.0.1', {server})); s.setblocking(False)")
    board.run("s.write(b'one')")
    time.sleep(0.05)
    board.wifi("home", up=False)
    board.run("import select; p = select.poll(); p.register(s, 1)")
    assert board.value("s.read(10), s.write(b'two'), len(p.poll(20))") == (None, None, 0)
    assert board.run("s.send(b'two')") == "!OSError(11,)"
    board.wifi("home", up=True)
    board.until("wlan.isconnected()", True)
    assert board.value("len(p.poll(500)), s.read(10)") == (1, b"one")
    board.run("s.write(b'three')")
    assert board.value("len(p.poll(500)), s.read(10)") == (1, b"three")


def test_asyncio_streams_wait_out_a_lost_link(board, server):
    join(board)
    board.run(
        "async def talk(): global got; r, w = await asyncio.open_connection("
        f"'localhost', {server}); w.write(b'a\\n'); await w.drain(); "
        "got.append(await r.readline()); got.append('lost'); "
        "got.append(await r.readline())"
    )
    board.run("got = []; t = asyncio.create_task(talk())")
    board.until("got", [b"a\n", "lost"])
    board.wifi("home", up=False)
    board.until("wlan.isconnected()", False)
    assert board.run("s = 1") == "None"
    assert board.value("got") == [b"a\n", "lost"]


def test_a_refused_connection_and_a_closed_one_are_told(board, server):
    join(board)
    board.run("s = socket.socket()")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = probe.getsockname()[1]
    assert board.run(f"s.connect(('127.0.0.1', {closed}))") == "!OSError(111,)"
    board.run(f"s = socket.socket(); s.connect(('127.0.0.1', {server})); s.settimeout(0.1)")
    assert board.run("s.recv(1)").startswith("!OSError(")
    board.run("s.close()")
    assert board.run("s.recv(1)") == "!OSError(9,)"


def test_udp_datagrams_carry_an_address(board):
    join(board)
    with socket.socket(type=socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        board.run("s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)")
        board.run(f"s.sendto(b'hi', ('127.0.0.1', {peer.getsockname()[1]}))")
        data, address = peer.recvfrom(10)
        assert data == b"hi"
        peer.sendto(b"ho", address)
        assert board.value("s.recvfrom(10)") == (b"ho", ("127.0.0.1", peer.getsockname()[1]))


def test_no_certificate_is_valid_at_power_on(board, server):
    join(board)
    board.run("c = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)")
    assert board.value("c.verify_mode") == 2
    board.run(f"s = socket.socket(); s.connect(('127.0.0.1', {server}))")
    refused = "!ValueError('The certificate validity starts in the future',)"
    assert board.run("c.wrap_socket(s, server_hostname='localhost')") == refused
    line = "t = c.wrap_socket(s, server_hostname='localhost', do_handshake_on_connect=False)"
    assert board.run(line) == "None"
    assert board.run("t.write(b'x')") == refused
    assert board.run("t.read(1)") == refused


def test_the_own_access_point_offers_its_port_80_on_this_pc(tmp_path):
    with Remote(tmp_path / "board") as board:
        board.run("ap = network.WLAN(network.WLAN.IF_AP)")
        board.run("ap.config(ssid='setup', key='12345678', security=3); ap.active(True)")
        assert board.value("ap.ifconfig()[0], ap.config('ssid'), ap.config('security')") == (
            "192.168.4.1",
            "setup",
            3,
        )
        board.run("s = socket.socket(); s.bind(('0.0.0.0', 80)); s.listen(1)")
        line = board.wait_line("portal http://127.0.0.1:")
        with socket.create_connection(("127.0.0.1", int(line.rsplit(":", 1)[1]))) as client:
            board.run("c, a = s.accept()")
            client.sendall(b"GET /")
            assert board.value("c.recv(10)") == b"GET /"


def test_the_own_access_point_comes_and_goes(tmp_path):
    with Remote(tmp_path / "board", "--ap", "home:passphrase") as board:
        board.run("ap = network.WLAN(network.WLAN.IF_AP); ap.config(ssid='setup', max_clients=2)")
        board.run("s = socket.socket(); s.bind(('192.168.4.1', 80)); s.listen(1)")
        board.run("d = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)")
        board.run("d.bind(('192.168.4.1', 53)); d.setblocking(False); s.setblocking(False)")
        # Nothing is offered before it is up, and nothing reaches the cloud through it.
        assert not any(line.startswith("portal") for line in board.lines)
        board.run("ap.active(True)")
        # The port for the page is offered first, in the order in which they were bound.
        port = int(board.wait_line("portal http://127.0.0.1:").rsplit(":", 1)[1])
        name_port = int(board.wait_line("portal-dns 127.0.0.1:").rsplit(":", 1)[1])
        assert board.run("socket.socket().connect(('127.0.0.1', 1))") == "!OSError(113,)"
        assert board.value("ap.status('stations')") == []
        with contextlib.ExitStack() as stack:
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            asker = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            client.settimeout(5)
            asker.settimeout(5)
            asker.connect(("127.0.0.1", name_port))
            asker.send(b"question")
            time.sleep(0.05)
            board.run("x, peer = d.recvfrom(20); d.sendto(b'answer', peer)")
            assert asker.recv(20) == b"answer"
            client.sendall(b"GET /")
            board.run("c, a = s.accept()")
            assert board.value("c.recv(10)") == b"GET /"
            assert len(board.value("ap.status('stations')")) == 1
            # A station beside it does not disturb it; they share the channel.
            board.run("wlan.active(True); wlan.connect('home', 'passphrase')")
            board.until("wlan.isconnected()", True)
            assert board.value("ap.config('channel') == wlan.config('channel')")
            board.run("c.send(b'still here')")
            assert client.recv(20) == b"still here"
            board.run("ap.active(False)")
            assert client.recv(20) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        assert board.run("c.send(b'x')") == "!OSError(9,)"
        assert board.run("s.accept()") == "!OSError(9,)"
        assert board.value("ap.status('stations')") == []


def test_esp32_takes_its_time(tmp_path):
    with Remote(tmp_path / "board", "--timing", "esp32") as board:
        board.run("wlan.active(True)")
        clock = "t = time.ticks_ms(); %s; t = time.ticks_diff(time.ticks_ms(), t)"
        board.run(clock % "esp32.Partition('hota').ioctl(6, 0)")
        assert 40 <= board.value("t") < 120
        board.run(clock % "wlan.scan()")
        assert 2200 <= board.value("t") < 2600
        board.run("wlan.connect('sim-ap', 'sim-passphrase')")
        board.until("wlan.isconnected()", True)
        board.run(clock % "socket.getaddrinfo('localhost', 1)")
        assert 200 <= board.value("t") < 300
