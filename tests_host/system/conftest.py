"""A local cloud for the whole run, a virtual module for each test that asks, and their friends."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import time
from pathlib import Path

import paho.mqtt.client as paho
import pytest

from tools.cloud.process import CloudProcess
from tools.sim.module import VirtualModule

# Lines of a module's console that are shown with a test that fails.
_LAST_WORDS = 60


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("system")


@pytest.fixture(scope="session")
def cloud_folder(tmp_path_factory):
    """The state folder of the run's cloud."""
    return tmp_path_factory.mktemp("cloud")


@pytest.fixture(scope="session")
def _cloud(cloud_folder):
    with CloudProcess(cloud_folder) as process:
        yield process


@pytest.fixture
def cloud(_cloud):
    """The run's cloud, without faults whatever the test before has set."""
    yield _cloud
    _cloud.control.clear()
    _cloud.control.sntp(mode="normal")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "call":
        item.failed = report.failed
    return report


@pytest.fixture
def make_module(cloud, tmp_path, request):
    """Function that starts a virtual module; all are stopped at the end. The last that each had to
    say is shown with a test that fails."""
    started = []

    def make(*options, state="module", cloud_state=cloud.state):
        module = VirtualModule(tmp_path / state, cloud_state, *options)
        module.start()
        started.append(module)
        return module

    yield make
    for module in started:
        if getattr(request.node, "failed", False):
            print("\n".join(module.console().splitlines()[-_LAST_WORDS:]))
        module.stop()


@pytest.fixture
def module(make_module):
    """A virtual module that has just started, with its SSID and passphrase set."""
    made = make_module()
    give_wifi(made)
    return made


# The browser's driver is large, and few tests need it: imported when one does.


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium, for the page of CONFMODE."""
    from tests_host.system import portal_browser

    with portal_browser.browser() as started:
        yield started


@pytest.fixture
def portal():
    """A scripted module with the page as it is in the firmware."""
    from tests_host.system.portal_fake import FakePortal

    made = FakePortal()
    yield made
    made.close()


def give_wifi(module):
    """Tell the module the default access point."""
    assert module.command(b"AT+CONF SSID=sim-ap") == b"OK"
    assert module.command(b"AT+CONF Passphrase=sim-passphrase") == b"OK"


def connect(module):
    """CONNECT, with the success reply."""
    assert module.command(b"AT+CONNECT", timeout=120) == b"OK 1 CONNECTED"


def next_event(module, seconds=10):
    """Wait for the EVENT pin, then ask for the event."""
    until = time.monotonic() + seconds
    while not module.event():
        assert time.monotonic() < until, f"no event in {seconds} s"
        time.sleep(0.005)
    return module.command(b"AT+EVENT?")


def reset(module):
    """RESET; returns when the module is up again, its STARTUP taken."""
    # Every boot prints one `ready`; forget those of the boots before.
    assert module.command(b"AT+RESET") == b"OK"
    module.wait_ready()
    assert module.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"


class Operator:
    """An MQTT client that may do everything: sees what the module sends, sends to it."""

    def __init__(self, state, port):
        self.messages = []
        self._acknowledged = set()
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="test-operator")
        context = ssl.create_default_context(cafile=str(state / "ca.pem"))
        context.load_cert_chain(state / "operator.pem", state / "operator.key")
        self._client.tls_set_context(context)
        self._client.on_message = lambda _c, _u, m: self.messages.append((m.topic, m.payload))
        self._client.on_subscribe = lambda _c, _u, mid, _r, _p: self._acknowledged.add(mid)
        self._client.connect("localhost", port)
        self._client.loop_start()

    def subscribe(self, pattern, qos=1):
        """Subscribe and wait for the SUBACK."""
        until = time.monotonic() + 10
        while not self._client.is_connected():
            assert time.monotonic() < until, "the operator did not get in"
            time.sleep(0.01)
        _, number = self._client.subscribe(pattern, qos)
        while number not in self._acknowledged:
            assert time.monotonic() < until, "no SUBACK for the operator"
            time.sleep(0.01)

    def publish(self, topic, payload, qos=1, retain=False):
        """Publish and wait until the broker has it."""
        self._client.publish(topic, payload, qos, retain).wait_for_publish(10)

    def wait(self, count, seconds=10):
        """The messages, once there are `count`."""
        until = time.monotonic() + seconds
        while len(self.messages) < count:
            assert time.monotonic() < until, f"{len(self.messages)} of {count} messages"
            time.sleep(0.01)
        return self.messages

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def operator(cloud):
    """The operator, connected to the run's cloud."""
    made = Operator(cloud.state, cloud.mqtt)
    yield made
    made.close()


def need(tool):
    """Skip when `tool` is missing on a developer's machine; in CI that is a failure."""
    path = shutil.which(tool) or shutil.which(tool, path="/usr/sbin")
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{tool} is missing, and this is CI")
        pytest.skip(f"{tool} is not installed")
    return path


@pytest.fixture
def mosquitto(cloud, tmp_path):
    """Debian's Mosquitto with the local cloud's certificates: (port). Client certificates are
    asked for; the rules of AWS are not."""
    binary = need("mosquitto")
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    chain = cloud.state / "private"
    config = tmp_path / "mosquitto.conf"
    config.write_text(
        f"listener {port} localhost\n"
        "allow_anonymous true\n"
        f"cafile {chain / 'device-ca.pem'}\n"
        f"certfile {chain / 'server.pem'}\n"
        f"keyfile {chain / 'server.key'}\n"
        "require_certificate true\n"
        "use_identity_as_username false\n"
        "persistence false\n"
        "user root\n"
    )
    with open(tmp_path / "mosquitto.log", "wb") as log:
        process = subprocess.Popen([binary, "-c", config], stdout=log, stderr=log)
    until = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("localhost", port), 1).close()
            break
        except OSError:
            assert process.poll() is None, (tmp_path / "mosquitto.log").read_text()
            assert time.monotonic() < until
            time.sleep(0.05)
    yield port
    process.terminate()
    process.wait()
