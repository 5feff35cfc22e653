"""Independent judges of the local cloud: awsiotsdk, paho-mqtt, mosquitto_sub, MicroPython."""

import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from awscrt import mqtt as crt
from awscrt.mqtt_request_response import ClientOptions
from awsiot import V2ServiceException, iotidentity, mqtt_connection_builder
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from tests_host.system.cloud_client import Device, Operator, tool
from tools.cloud.pki import key_to_pem
from tools.cloud.process import CloudProcess


@pytest.fixture(scope="module", params=["rsa", "ec"])
def cloud(request, tmp_path_factory):
    options = ["--ec"] if request.param == "ec" else []
    with CloudProcess(tmp_path_factory.mktemp("judges"), *options) as running:
        yield running


@pytest.fixture(scope="module")
def device(cloud):
    return Device(cloud.state, "lab_1")


@pytest.fixture(scope="module")
def operator(cloud):
    return Operator(cloud.state)


def aws(cloud, device, client_id=None, **options):
    """A connection of AWS's SDK; nothing is connected yet."""
    return mqtt_connection_builder.mtls_from_path(
        endpoint="localhost",
        port=cloud.mqtt,
        cert_filepath=device.cert,
        pri_key_filepath=device.key,
        ca_filepath=device.ca,
        client_id=client_id or device.thing,
        **{"clean_session": True, "keep_alive_secs": 30, **options},
    )


def test_awsiotsdk_both_ways_at_both_qos(cloud, device, operator):
    connection = aws(cloud, device)
    assert connection.connect().result(10) == {"session_present": False}
    got = queue.Queue()
    future, _ = connection.subscribe(
        "judge/#", crt.QoS.AT_LEAST_ONCE, lambda topic, payload, **_: got.put((topic, payload))
    )
    granted = future.result(10)
    assert granted["qos"] == crt.QoS.AT_LEAST_ONCE
    for qos in (crt.QoS.AT_MOST_ONCE, crt.QoS.AT_LEAST_ONCE):
        connection.publish("judge/a", b"mine %d" % qos, qos)[0].result(10)
        assert got.get(timeout=5) == ("judge/a", b"mine %d" % qos)
        cloud.control.publish("judge/b", b"theirs", int(qos))
        assert got.get(timeout=5) == ("judge/b", b"theirs")
    future, _ = connection.unsubscribe("judge/#")
    future.result(10)
    connection.publish("judge/a", b"unheard", crt.QoS.AT_LEAST_ONCE)[0].result(10)
    assert got.empty()
    connection.disconnect().result(10)


def test_awsiotsdk_is_refused_under_a_foreign_name(cloud, device):
    with pytest.raises(Exception, match=r"(?i)refused|AWS_ERROR_MQTT"):
        aws(cloud, device, "lab_foreign").connect().result(10)


def test_awsiotsdk_persistent_session(cloud, device):
    cloud.control.set(replay_per_second=0)
    first = aws(cloud, device, clean_session=False)
    first.connect().result(10)
    first.subscribe("judge/kept", crt.QoS.AT_LEAST_ONCE)[0].result(10)
    first.disconnect().result(10)
    cloud.control.publish("judge/kept", b"while away", 1)
    got = queue.Queue()
    second = aws(cloud, device, clean_session=False)
    second.on_message(lambda topic, payload, **_: got.put((topic, payload)))
    assert second.connect().result(10) == {"session_present": True}
    assert got.get(timeout=5) == ("judge/kept", b"while away")
    second.disconnect().result(10)
    third = aws(cloud, device)
    assert third.connect().result(10) == {"session_present": False}
    third.disconnect().result(10)


def test_awsiotsdk_last_will_and_take_over(cloud, device, operator):
    watcher = aws(cloud, operator, "watcher")
    watcher.connect().result(10)
    got = queue.Queue()
    watcher.subscribe(
        "judge/will", crt.QoS.AT_LEAST_ONCE, lambda topic, payload, **_: got.put(payload)
    )[0].result(10)
    interrupted = threading.Event()
    old = aws(
        cloud,
        device,
        will=crt.Will("judge/will", crt.QoS.AT_LEAST_ONCE, b"gone", False),
        on_connection_interrupted=lambda **_: interrupted.set(),
        reconnect_min_timeout_secs=60,
        reconnect_max_timeout_secs=60,
    )
    old.connect().result(10)
    new = aws(cloud, device)
    new.connect().result(10)
    assert interrupted.wait(5)
    assert got.get(timeout=5) == b"gone"
    old.disconnect()  # its answer would come with the reconnection that is due in a minute
    new.disconnect().result(10)
    watcher.disconnect().result(10)


def test_awsiotsdk_retained(cloud, device):
    connection = aws(cloud, device)
    connection.connect().result(10)
    connection.publish("judge/retained", b"kept", crt.QoS.AT_LEAST_ONCE, True)[0].result(10)
    got = queue.Queue()
    connection.subscribe(
        "judge/retained",
        crt.QoS.AT_LEAST_ONCE,
        lambda topic, payload, retain, **_: got.put((payload, retain)),
    )[0].result(10)
    assert got.get(timeout=5) == (b"kept", True)
    connection.publish("judge/retained", b"", crt.QoS.AT_LEAST_ONCE, True)[0].result(10)
    connection.disconnect().result(10)


def test_paho_both_ways_and_will(cloud, device, operator):
    got, up = queue.Queue(), threading.Event()
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, device.thing)
    client.tls_set(device.ca, device.cert, device.key)
    client.on_connect = lambda c, *_: c.subscribe([("paho/#", 1), ("paho/x", 0)])
    client.on_subscribe = lambda *_: up.set()
    client.on_message = lambda _c, _u, message: got.put((message.topic, message.payload))
    client.connect("localhost", cloud.mqtt, 60)
    client.loop_start()
    try:
        assert up.wait(10)
        for qos in (0, 1):
            client.publish("paho/a", b"%d" % qos, qos).wait_for_publish(10)
            assert got.get(timeout=5) == ("paho/a", b"%d" % qos)
        for n in range(300):
            client.publish("paho/many", b"%d" % n, 1)
        seen = [int(got.get(timeout=5)[1]) for _ in range(300)]
        assert seen == list(range(300))
    finally:
        client.disconnect()
        client.loop_stop()


def test_mosquitto_sub_with_the_operator_certificate(cloud, device, operator):
    """No client id is given: an operator may leave it to the broker."""
    common = ["-h", "localhost", "-p", str(cloud.mqtt), "--cafile", operator.ca]
    command = [tool("mosquitto_sub"), *common, "--cert", operator.cert, "--key", operator.key]
    topics = ["-t", "#", "-t", "$aws/events/presence/#"]
    listener = subprocess.Popen(
        [*command, *topics, "-q", "1", "-v", "-C", "3", "-W", "10"],
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 5
    while not any(
        c["subscriptions"] for c in cloud.control.clients() if c["client"].startswith("operator-")
    ):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    sender = [tool("mosquitto_pub"), *common, "--cert", device.cert, "--key", device.key]
    subprocess.run(
        [*sender, "-i", "lab_1", "-t", "from/device", "-m", "hello", "-q", "1"],
        check=True,
        timeout=10,
    )
    out, _ = listener.communicate(timeout=15)
    lines = sorted(line.split()[0] for line in out.splitlines())
    assert lines == [
        "$aws/events/presence/connected/lab_1",
        "$aws/events/presence/disconnected/lab_1",
        "from/device",
    ]
    assert "from/device hello" in out


_DEVICE = """
import asyncio, binascii, sys, tls
def der(path):
    text = open(path).read().split("-----")[2]
    return binascii.a2b_base64(text.replace("\\n", ""))
async def main(ca, cert, key, port):
    context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(der(ca))
    context.load_cert_chain(der(cert), der(key))
    reader, writer = await asyncio.open_connection(
        "localhost", int(port), ssl=context, server_hostname="localhost")
    writer.write(bytes.fromhex("101100044d5154540402003c00056c61625f31"))
    await writer.drain()
    print((await reader.readexactly(4)).hex())
asyncio.run(main(*sys.argv[1:]))
"""


def test_the_micropython_vm_connects_with_the_root_alone(cloud, device, tmp_path):
    (tmp_path / "device.py").write_text(_DEVICE)
    beside = Path(sys.executable).with_name("micropython")
    vm = os.environ.get("MICROPYTHON") or (beside if beside.exists() else tool("micropython"))
    done = subprocess.run(
        [vm, tmp_path / "device.py", device.ca, device.cert, device.key, str(cloud.mqtt)],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.stdout == "20020000\n", done.stderr
    assert "TLSv1.2" in cloud.log()


# -- fleet provisioning, by AWS's own client --

_TEMPLATE = {
    "Parameters": {
        "SerialNumber": {"Type": "String"},
        "AWS::IoT::Certificate::Id": {"Type": "String"},
    },
    "Resources": {
        "thing": {
            "Type": "AWS::IoT::Thing",
            "Properties": {"ThingName": {"Fn::Join": ["", ["lab_", {"Ref": "SerialNumber"}]]}},
        },
        "certificate": {
            "Type": "AWS::IoT::Certificate",
            "Properties": {
                "CertificateId": {"Ref": "AWS::IoT::Certificate::Id"},
                "Status": "Active",
            },
        },
        "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "default"}},
    },
    "DeviceConfiguration": {"FallbackUrl": "https://x"},
}


@pytest.fixture
def fleet(cloud):
    """AWS's provisioning client on a connection with the claim certificate."""
    cloud.control.put_template("judge", _TEMPLATE)
    connection = aws(cloud, Operator(cloud.state, "claim"), "straight-from-the-reel")
    connection.connect().result(10)
    options = ClientOptions(4, 0, 10)
    yield iotidentity.IotIdentityClientV2(connection, options)
    connection.disconnect().result(10)


def signing_request():
    """(request in PEM, private key in PEM)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "judge")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    signed = request.sign(key, hashes.SHA256())
    return signed.public_bytes(Encoding.PEM).decode(), key_to_pem(key).decode()


@pytest.mark.parametrize("way", ["keys", "csr"])
def test_awsiotsdk_provisions_and_connects(cloud, fleet, operator, tmp_path, way):
    serial = f"SN_{way}"
    if way == "keys":
        request = iotidentity.CreateKeysAndCertificateRequest()
        given = fleet.create_keys_and_certificate(request).result(20)
        key = given.private_key
    else:
        csr, key = signing_request()
        request = iotidentity.CreateCertificateFromCsrRequest(certificate_signing_request=csr)
        given = fleet.create_certificate_from_csr(request).result(20)
    assert len(given.certificate_id) == 64
    answer = fleet.register_thing(
        iotidentity.RegisterThingRequest(
            template_name="judge",
            certificate_ownership_token=given.certificate_ownership_token,
            parameters={"SerialNumber": serial},
        )
    ).result(20)
    assert answer.thing_name == f"lab_{serial}"
    assert answer.device_configuration == {"FallbackUrl": "https://x"}
    connection = mqtt_connection_builder.mtls_from_bytes(
        endpoint="localhost",
        port=cloud.mqtt,
        cert_bytes=given.certificate_pem.encode(),
        pri_key_bytes=key.encode(),
        ca_filepath=operator.ca,
        client_id=answer.thing_name,
        clean_session=True,
        keep_alive_secs=30,
    )
    connection.connect().result(10)
    got = queue.Queue()
    connection.subscribe(
        "judge/new", crt.QoS.AT_LEAST_ONCE, lambda topic, payload, **_: got.put(payload)
    )[0].result(10)
    connection.publish("judge/new", b"provisioned", crt.QoS.AT_LEAST_ONCE)[0].result(10)
    assert got.get(timeout=5) == b"provisioned"
    connection.disconnect().result(10)


def test_awsiotsdk_understands_every_rejection(cloud, fleet):
    def refused(future):
        with pytest.raises(V2ServiceException) as caught:
            future.result(20)
        error = caught.value.modeled_error
        assert isinstance(error, iotidentity.V2ErrorResponse) and error.error_message
        return error.status_code, error.error_code

    def register(token, template="judge", **parameters):
        request = iotidentity.RegisterThingRequest(
            template_name=template, certificate_ownership_token=token, parameters=parameters
        )
        return fleet.register_thing(request)

    request = iotidentity.CreateCertificateFromCsrRequest(certificate_signing_request="x")
    assert refused(fleet.create_certificate_from_csr(request)) == (
        400,
        "InvalidCertificateSigningRequest",
    )
    request = iotidentity.CreateCertificateFromCsrRequest(
        certificate_signing_request=signing_request()[0]
    )
    token = fleet.create_certificate_from_csr(request).result(20).certificate_ownership_token
    assert refused(register("x", SerialNumber="1")) == (400, "InvalidCertificateOwnershipToken")
    assert refused(register(token, Wrong="1")) == (400, "InvalidParameters")
    assert refused(register(token, "none", SerialNumber="1")) == (404, "ResourceNotFound")
    cloud.control.put_template("judge", hook={"allowProvisioning": False})
    assert refused(register(token, SerialNumber="1")) == (403, "AccessDenied")
    cloud.control.put_template("judge", hook=None)
    assert register(token, SerialNumber="1").result(20).thing_name == "lab_1"
    assert refused(register(token, SerialNumber="1")) == (400, "InvalidCertificateOwnershipToken")
    cloud.control.fault("refuse", at="create", error="Throttling", count=1)
    request = iotidentity.CreateKeysAndCertificateRequest()
    assert refused(fleet.create_keys_and_certificate(request)) == (429, "Throttling")
