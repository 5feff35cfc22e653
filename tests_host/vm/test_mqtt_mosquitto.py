"""lib.mqtt against Mosquitto, over TCP and over TLS with a client certificate."""

import os
import time

import paho.mqtt.client as paho
import pytest

from tests_host.vm.mosquitto import BINARY, Authority, Mosquitto


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A folder with two authorities, servers with right and wrong names, and a client."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = Authority(folder, "ca")
    authority.issue("server", "localhost", "127.0.0.1")
    authority.issue("other-name", "elsewhere.example")
    authority.issue("expired", "localhost", days=-1)
    authority.issue("client", "thing-1")
    Authority(folder, "other-ca").issue("stranger", "thing-2")
    return folder


@pytest.fixture(scope="module")
def start_broker(tmp_path_factory):
    """`start_broker(*settings)` -> Mosquitto, ended after the module's tests."""
    if BINARY is None:
        if os.environ.get("CI") == "true":
            pytest.fail("mosquitto is not installed")
        pytest.skip("mosquitto is not installed")
    brokers = []

    def start(*settings):
        brokers.append(Mosquitto(tmp_path_factory.mktemp("mosquitto"), *settings))
        return brokers[-1]

    yield start
    for broker in brokers:
        broker.stop()


@pytest.fixture(scope="module")
def broker(start_broker):
    return start_broker("allow_anonymous true", "max_queued_messages 0", "persistence false")


@pytest.fixture(scope="module")
def tls_broker(start_broker, certificates):
    def start(server):
        return start_broker(
            f"cafile {certificates}/ca.pem",
            f"certfile {certificates}/{server}.pem",
            f"keyfile {certificates}/{server}.key",
            "require_certificate true",
            "use_identity_as_username true",
        )

    return start


def test_messages_both_ways_at_both_qos(mqtt_script, broker):
    script = """
    async def main():
        c = client(keepalive=5)
        got = []
        c.set_callback(lambda topic, msg: got.append((topic, bytes(msg))))
        await c.connect()
        print(await c.subscribe(b"echo/#", 1), await c.subscribe("echo0/+"))
        sent = []
        for i in range(60):
            body = bytes([i]) * (i * 80)
            topic = (b"echo/%d" if i % 3 else b"echo0/%d") % i
            sent.append((topic, body))
            await c.publish(topic, body, qos=i & 1, wait=i % 4 != 1)
        await c.flush()
        for _ in range(100):
            if len(got) == 60:
                break
            await asyncio.sleep_ms(10)
        print(sorted(got) == sorted(sent), c.discarded)
        await c.unsubscribe(b"echo/#")
        await c.publish(b"echo/1", b"nobody listens", qos=1)
        await c.ping()
        print(len(got))
        await c.disconnect()
    """
    assert mqtt_script(script, broker.port, heap=1024).splitlines() == ["1 0", "True 0", "60"]


def test_window_of_publishes_is_delivered_in_order(mqtt_script, broker):
    received = []
    listener = paho.Client(paho.CallbackAPIVersion.VERSION2)
    listener.on_message = lambda _c, _u, message: received.append(int(message.payload))
    ready = []
    listener.on_subscribe = lambda *_: ready.append(True)
    listener.connect("127.0.0.1", broker.port)
    listener.loop_start()
    listener.subscribe("order", 1)
    while not ready:
        time.sleep(0.01)
    script = """
    async def main():
        c = client()
        await c.connect()
        for i in range(500):
            await c.publish(b"order", b"%d" % i, qos=1, wait=False)
        await c.flush()
        await c.disconnect()
    """
    mqtt_script(script, broker.port)
    end = time.monotonic() + 5
    while len(received) < 500 and time.monotonic() < end:
        time.sleep(0.01)
    listener.disconnect()
    listener.loop_stop()
    assert received == list(range(500))


def test_message_longer_than_the_buffer_in_a_small_heap(mqtt_script, broker):
    script = """
    async def main():
        c = client(rx_size=1024)
        got = []
        c.set_callback(lambda topic, msg: got.append(bytes(msg)))
        c.set_discard_callback(lambda topic, size: got.append((topic, size)))
        await c.connect()
        await c.subscribe(b"long", 1)
        piece = bytes(50_000)
        for _ in range(4):
            await c.publish(b"long", piece, qos=1)
        await c.publish(b"long", b"short", qos=1)
        while b"short" not in got:
            await asyncio.sleep_ms(1)
        await c.ping()
        print(got[:2], len(got), c.discarded, gc.mem_free() > 20_000)
        await c.disconnect()
    """
    out = mqtt_script(script, broker.port, heap=96)
    assert out == "[(b'long', 50000), (b'long', 50000)] 5 4 True\n"


def test_persistent_session_delivers_what_was_missed(mqtt_script, broker):
    script = """
    async def main():
        c = client()
        got = []
        c.set_callback(lambda topic, msg: got.append(bytes(msg)))
        print(await c.connect(clean_session=False))
        await c.subscribe(b"kept", 1)
        await c.disconnect()
        other = MQTTClient(b"other", "127.0.0.1", PORT)
        await other.connect()
        await other.publish(b"kept", b"while away", qos=1)
        await other.disconnect()
        print(await c.connect(clean_session=False))
        await c.ping()
        print(got)
        await c.disconnect()
        print(await c.connect())
        await c.disconnect()
    """
    out = mqtt_script(script, broker.port)
    assert out.splitlines() == ["False", "True", "[b'while away']", "False"]


def test_last_will_is_published_on_close_but_not_on_disconnect(mqtt_script, broker):
    script = """
    async def main():
        watcher = MQTTClient(b"watcher", "127.0.0.1", PORT)
        watcher.set_callback(lambda topic, msg: print(topic, bytes(msg)))
        await watcher.connect()
        await watcher.subscribe(b"will/+", 1)
        for name in (b"leaves", b"vanishes"):
            c = MQTTClient(name, "127.0.0.1", PORT)
            c.set_last_will(b"will/" + name, b"gone", qos=1)
            await c.connect()
            if name == b"leaves":
                await c.disconnect()
            else:
                c.close()
        await asyncio.sleep_ms(200)
        await watcher.disconnect()
    """
    assert mqtt_script(script, broker.port) == "b'will/vanishes' b'gone'\n"


def test_retained_message(mqtt_script, broker):
    script = """
    async def main():
        c = client()
        c.set_callback(lambda topic, msg: print(topic, bytes(msg)))
        await c.connect()
        await c.publish(b"kept/value", b"42", retain=True, qos=1)
        await c.subscribe(b"kept/value", 1)
        await c.ping()
        await c.publish(b"kept/value", b"", retain=True, qos=1)
        await c.disconnect()
    """
    assert mqtt_script(script, broker.port).splitlines()[0] == "b'kept/value' b'42'"


def test_same_client_id_takes_over(mqtt_script, broker):
    script = """
    async def main():
        first = client()
        first.on_close = lambda reason: print(reason)
        await first.connect()
        second = client()
        await second.connect()
        await asyncio.sleep_ms(100)
        print(first.stage == CLOSED)
        await second.disconnect()
    """
    out = mqtt_script(script, broker.port)
    assert out == "(-2, 'closed by the server')\nTrue\n"


TLS = """
import tls
FOLDER, CA, CERTIFICATE, NAME = sys.argv[2:6]
def der(name):
    with open(FOLDER + "/" + name, "rb") as file:
        return file.read()
context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
context.load_verify_locations(der(CA + ".der"))
if CERTIFICATE:
    context.load_cert_chain(der(CERTIFICATE + ".der"), der(CERTIFICATE + ".key.der"))
async def main():
    c = MQTTClient(b"c1", "127.0.0.1", PORT, ssl=context, server_hostname=NAME, keepalive=5)
    c.set_callback(lambda topic, msg: print(topic, len(msg)))
    try:
        await c.connect(timeout_ms=5000)
    except (OSError, ValueError, MQTTException) as error:
        print(type(error).__name__, STAGES[c.failed_stage], str(error).strip()[:60])
        print(len(asyncio.core._io_queue.map))
        return
    await c.subscribe(b"t", 1)
    for size in (0, 1, 1000, 5000):
        await c.publish(b"t", bytes(size), qos=1)
    for _ in range(20):
        await c.publish(b"u", bytes(20_000))
    await asyncio.gather(*[c.publish(b"u", bytes(20_000), qos=1) for _ in range(8)])
    await c.ping()
    await c.disconnect()
    print(len(asyncio.core._io_queue.map))
STAGES = {CLOSED: "closed", RESOLVE: "resolve", TCP: "tcp", TLS: "tls", CONNACK: "connack"}
"""


def test_tls_with_a_client_certificate(mqtt_script, tls_broker, certificates):
    broker = tls_broker("server")
    out = mqtt_script(TLS, broker.port, certificates, "ca", "client", "localhost", heap=512)
    assert out.splitlines() == ["b't' 0", "b't' 1", "b't' 1000", "b't' 5000", "0"]


@pytest.mark.parametrize(
    ("server", "ca", "client", "reason"),
    [
        ("server", "other-ca", "client", "ValueError tls The certificate is not correctly signed"),
        ("other-name", "ca", "client", "ValueError tls The certificate Common Name (CN) does not"),
        ("expired", "ca", "client", "ValueError tls The certificate validity has expired"),
        ("server", "ca", "stranger", "OSError tls"),
        ("server", "ca", "", "OSError tls"),
    ],
)
def test_tls_refusals(mqtt_script, tls_broker, certificates, server, ca, client, reason):
    broker = tls_broker(server)
    out = mqtt_script(TLS, broker.port, certificates, ca, client, "localhost")
    assert out.startswith(reason)
    assert out.splitlines()[-1] == "0"


def test_plain_server_where_tls_is_expected(mqtt_script, broker, certificates):
    out = mqtt_script(TLS, broker.port, certificates, "ca", "client", "localhost", timeout=15)
    assert out.startswith(("OSError tls", "MQTTException tls"))
