"""Fleet provisioning in the local cloud, seen from a device with a claim certificate."""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests_host.certificates import self_signed
from tests_host.system.cloud_client import Device, Operator, Raw, connected
from tools.cloud import packets as p
from tools.cloud import pki, policy
from tools.cloud.control import ControlError
from tools.cloud.identity import register_certificate
from tools.cloud.process import CloudProcess
from tools.cloud.registry import Registry

ROOT = Path(__file__).resolve().parents[2]
CREATE = "$aws/certificates/create/"
CSR = "$aws/certificates/create-from-csr/"
PROVISION = "$aws/provisioning-templates/expresslink/provision/"
WHERE = {"create": CREATE, "create-from-csr": CSR, "provision": PROVISION}
CERTIFICATE_ID = {"AWS::IoT::Certificate::Id": {"Type": "String"}}
OWN_CERTIFICATE = {
    "Type": "AWS::IoT::Certificate",
    "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"},
}


def body(thing, parameters=("SerialNumber",), **more):
    """A template with one thing, of this name, and the default policy."""
    return {
        "Parameters": {**{name: {"Type": "String"} for name in parameters}, **CERTIFICATE_ID},
        "Resources": {
            "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": thing}},
            "certificate": OWN_CERTIFICATE,
            "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "default"}},
        },
        **more,
    }


class Claimant(Raw):
    """A device that has a claim and nothing else; its client id is its serial number."""

    def __init__(self, cloud, serial, form="json", claim="claim", quiet=False):
        who = claim if isinstance(claim, Operator) else Operator(cloud.state, claim)
        super().__init__(cloud.mqtt, who)
        self.serial, self.form = serial, form
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.connect(serial)
        if not quiet:
            for topic in WHERE.values():
                self.listen(topic)

    def listen(self, topic):
        root = topic + self.form
        assert self.subscribe(root + "/accepted", root + "/rejected") == (1, 1)

    def ask(self, topic, values):
        """Publish a request, without a look at the answer."""
        encode = cbor2.dumps if self.form == "cbor" else lambda v: json.dumps(v).encode()
        self.publish(topic + self.form, values if isinstance(values, bytes) else encode(values))

    def answer(self, topic):
        """The next answer, which belongs to `topic`: (accepted or rejected, its object)."""
        packet = self.read()
        assert isinstance(packet, p.Publish), packet
        if packet.qos:
            self.send(p.Ack(p.PUBACK, packet.packet_id))
        root, _, which = packet.topic.rpartition("/")
        assert root == topic + self.form
        return which, (cbor2.loads if self.form == "cbor" else json.loads)(packet.payload)

    def request(self, topic, values):
        self.ask(topic, values)
        return self.answer(topic)

    def accepted(self, topic, values):
        which, answer = self.request(topic, values)
        assert which == "accepted", answer
        return answer

    def rejected(self, topic, values):
        """The errorCode of a request that is rejected."""
        which, answer = self.request(topic, values)
        assert which == "rejected", answer
        assert set(answer) == {"statusCode", "errorCode", "errorMessage"}
        assert isinstance(answer["statusCode"], int) and answer["errorMessage"]
        return answer["errorCode"]

    def csr(self, key=None, name=None):
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name or self.serial)])
        builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
        made = builder.sign(key or self.key, hashes.SHA256())
        return made.public_bytes(serialization.Encoding.PEM).decode()

    def certificate(self):
        """A fresh certificate for our key: the answer."""
        return self.accepted(CSR, {"certificateSigningRequest": self.csr()})

    def registration(self, token, **parameters):
        own = {"SerialNumber": self.serial, "MAC": "00:11:22:33:44:55", "Model": "X-1"}
        return {"certificateOwnershipToken": token, "parameters": {**own, **parameters}}


def holder(tmp_path, cloud, name, cert_pem, key):
    """Somebody whom the other tests' client can be: files with certificate and key."""
    who = Operator(cloud.state, name)
    who.cert, who.key = str(tmp_path / f"{name}.pem"), str(tmp_path / f"{name}.key")
    Path(who.cert).write_text(cert_pem)
    Path(who.key).write_bytes(key if isinstance(key, bytes) else pki.key_to_pem(key))
    return who


def status(cloud, ident):
    (found,) = (c["status"] for c in cloud.control.get("certificates") if c["id"] == ident)
    return found


@pytest.fixture(autouse=True)
def _settings(cloud):
    yield
    cloud.control.set(token_life=3600, hook_timeout=5, subscribe_gap=0)
    for name in cloud.control.templates():
        if name != "expresslink":
            cloud.control.remove_template(name)
    cloud.control.put_template("expresslink", enabled=True, hook=None)


# -- the way that works --


@pytest.mark.parametrize("form", ["json", "cbor"])
@pytest.mark.parametrize("service", ["create", "create-from-csr"])
def test_a_device_becomes_a_thing(cloud, tmp_path, form, service):
    serial = f"good_{form}_{service}"
    with Claimant(cloud, serial, form) as client:
        if service == "create":
            given = client.accepted(CREATE, {})
            assert given["privateKey"].startswith("-----BEGIN RSA PRIVATE KEY-----\n")
            key = given.pop("privateKey").encode()
            loaded = serialization.load_pem_private_key(key, None)
            assert isinstance(loaded, rsa.RSAPrivateKey) and loaded.key_size == 2048
        else:
            given, key = client.certificate(), client.key
        assert set(given) == {"certificateId", "certificatePem", "certificateOwnershipToken"}
        made = x509.load_pem_x509_certificate(given["certificatePem"].encode())
        assert given["certificateId"] == pki.certificate_id(made)
        assert len(given["certificateOwnershipToken"]) == 512
        who = holder(tmp_path, cloud, serial, given["certificatePem"], key)
        assert status(cloud, given["certificateId"]) == "PENDING_ACTIVATION"
        # It gets through the handshake, and no further.
        with Raw(cloud.mqtt, who) as early:
            early.send(p.Connect(f"expresslink-{serial}"))
            assert early.closed() == []
        answer = client.accepted(
            PROVISION, client.registration(given["certificateOwnershipToken"])
        )
        assert answer == {"deviceConfiguration": {}, "thingName": f"expresslink-{serial}"}
    assert status(cloud, given["certificateId"]) == "ACTIVE"
    with connected(cloud, who, answer["thingName"]) as device:
        device.subscribe("data/#")
        device.publish("data/1", b"hello")
        assert device.read() == p.Publish("data/1", b"hello", 0)
    assert cloud.control.thing(answer["thingName"]) == {
        "name": answer["thingName"],
        "attributes": {"SerialNumber": serial, "MAC": "00:11:22:33:44:55", "Model": "X-1"},
        "certificates": [given["certificateId"]],
    }
    claim = [c["id"] for c in cloud.control.get("certificates") if c["policies"] == ["claim"]]
    first, second = cloud.control.provisionings(serial)
    assert abs(first.pop("time") - time.time() * 1000) < 10000
    assert first == {
        "client": serial,
        "claim": claim[0],
        "service": service,
        "form": form,
        "status": "ACCEPTED",
        "code": None,
        "rule": None,
        "certificate": given["certificateId"],
        "template": None,
        "thing": None,
        "answers": 1,
    }
    assert (second["template"], second["thing"]) == ("expresslink", answer["thingName"])
    secret = given["certificateOwnershipToken"]
    assert secret not in cloud.log() + json.dumps(cloud.control.provisionings())


def test_create_takes_an_empty_payload(cloud):
    with Claimant(cloud, "empty") as client:
        client.ask(CREATE, b"")
        assert client.answer(CREATE)[0] == "accepted"


def test_answers_are_as_long_as_on_aws(cloud):
    """AWS signs with RSA: its answer with a key made there has 3.5 to 4 KB."""
    with Claimant(cloud, "sizes") as client:
        assert 850 < len(client.certificate()["certificatePem"]) < 1100
        client.ask(CREATE, {})
        assert 3200 < len(client.read().payload) < 4000


def test_the_common_name_is_the_requests(cloud):
    def name(pem):
        subject = x509.load_pem_x509_certificate(pem.encode()).subject
        return subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value

    with Claimant(cloud, "named") as client:
        assert name(client.certificate()["certificatePem"]) == "named"
        assert name(client.accepted(CREATE, {})["certificatePem"]) == "AWS IoT Certificate"


# -- what is rejected --


@pytest.mark.parametrize("form", ["json", "cbor"])
def test_bad_payloads(cloud, form):
    with Claimant(cloud, "bad_payload_" + form, form) as client:
        for topic in (CREATE, CSR, PROVISION):
            for bad in (b"\xff", b"{", [], {"certificateSigningrequest": "x"}, 5):
                assert client.rejected(topic, bad) == "InvalidPayload"
        for bad in (b"", {"certificateSigningRequest": 5}):
            assert client.rejected(CSR, bad) == "InvalidPayload"
        for bad in (b"", {"parameters": []}, {"certificateOwnershipToken": {}}):
            assert client.rejected(PROVISION, bad) == "InvalidPayload"
        # The connection stays, and a good request is taken.
        client.certificate()
    last = cloud.control.provisionings("bad_payload_" + form)[0]
    assert (last["status"], last["rule"]) == ("REJECTED", "provisioning-payload")


def test_bad_signing_requests(cloud):
    with Claimant(cloud, "bad_csr") as client:
        small = rsa.generate_private_key(public_exponent=65537, key_size=1024)
        for text in ("", "x", client.csr(small), client.csr()[:-30], self_signed("a").decode()):
            bad = {"certificateSigningRequest": text}
            assert client.rejected(CSR, bad) == "InvalidCertificateSigningRequest"
        assert client.rejected(CSR, {}) == "InvalidCertificateSigningRequest"


def test_tokens(cloud):
    with Claimant(cloud, "tokens") as client:
        token = client.certificate()["certificateOwnershipToken"]
        for bad in ("", "x", token[:-1], token + "x"):
            code = client.rejected(PROVISION, client.registration(bad))
            assert code == "InvalidCertificateOwnershipToken"
        assert client.rejected(PROVISION, {}) == "InvalidCertificateOwnershipToken"
        # A registration that was rejected for another reason leaves the token good…
        assert client.rejected(PROVISION, client.registration(token, Odd="1")) == (
            "InvalidParameters"
        )
        client.accepted(PROVISION, client.registration(token))
        # … and one that succeeded does not.
        code = client.rejected(PROVISION, client.registration(token))
        assert code == "InvalidCertificateOwnershipToken"
    assert cloud.control.provisionings("tokens")[-1]["rule"] == "provisioning-token"


def test_a_token_of_another_claim(cloud, tmp_path):
    key = pki.make_key()
    pem = self_signed("second claim", key)
    register_certificate(cloud.state, pem, policy="claim")
    other = holder(tmp_path, cloud, "second", pem.decode(), key)
    with Claimant(cloud, "claim_1") as one, Claimant(cloud, "claim_2", claim=other) as two:
        token = one.certificate()["certificateOwnershipToken"]
        code = two.rejected(PROVISION, two.registration(token))
        assert code == "InvalidCertificateOwnershipToken"
        # Another device with the same claim would pass: the token is what it has to keep.
        one.accepted(PROVISION, one.registration(token))


def test_a_token_ends_and_its_certificate_goes(cloud):
    cloud.control.set(token_life=1)
    with Claimant(cloud, "late") as client:
        given = client.certificate()
        kept = client.certificate()
        client.accepted(PROVISION, client.registration(kept["certificateOwnershipToken"]))
        time.sleep(1.4)
        code = client.rejected(PROVISION, client.registration(given["certificateOwnershipToken"]))
        assert code == "InvalidCertificateOwnershipToken"
    idents = [c["id"] for c in cloud.control.get("certificates")]
    assert kept["certificateId"] in idents and given["certificateId"] not in idents


def test_parameters(cloud):
    with Claimant(cloud, "parameters") as client:
        token = client.certificate()["certificateOwnershipToken"]
        good = client.registration(token)
        for change in (
            {"Odd": "1"},
            {"AWS::IoT::Certificate::Id": "00"},
            {"MAC": 5},
            {"SerialNumber": "no thing name"},
            {"SerialNumber": "x" * 120},
            {"Model": "with space"},
        ):
            values = {**good, "parameters": {**good["parameters"], **change}}
            assert client.rejected(PROVISION, values) == "InvalidParameters"
        for name in good["parameters"]:
            fewer = {key: value for key, value in good["parameters"].items() if key != name}
            assert client.rejected(PROVISION, {**good, "parameters": fewer}) == "InvalidParameters"
        assert client.rejected(PROVISION, {"certificateOwnershipToken": token}) == (
            "InvalidParameters"
        )
        client.accepted(PROVISION, good)


def test_hostile_requests_are_answered_and_short(cloud):
    """Nothing that a claim can send makes the service fail, or the answer long."""
    with Claimant(cloud, "hostile", "cbor") as client:
        token = client.certificate()["certificateOwnershipToken"]
        good = client.registration(token)
        for parameters in (
            {5: "1"},
            {b"SerialNumber": "1"},
            {"SerialNumber": "x" * 100000},
            {"y" * 100000: "1"},
            {"SerialNumber": "\x00\n\U0001f600"},
            {"SerialNumber": None},
            {"SerialNumber": 10**100},
        ):
            values = {**good, "parameters": {**good["parameters"], **parameters}}
            which, answer = client.request(PROVISION, values)
            assert (which, answer["errorCode"]) == ("rejected", "InvalidParameters")
            assert len(answer["errorMessage"]) <= 200
        for bad in (b"\xd8\x1c\x80", b"\x9f" * 5000, b"\xa1\x80\x01", b"\xf9\x7e\x00"):
            assert client.rejected(PROVISION, bad) == "InvalidPayload"
        client.accepted(PROVISION, good)
    with Claimant(cloud, "hostile") as client:
        good = client.registration(client.certificate()["certificateOwnershipToken"])
        good["parameters"]["SerialNumber"] = "\ud800"
        assert client.rejected(PROVISION, good) == "InvalidParameters"
        good["certificateOwnershipToken"] = "\ud800"
        assert client.rejected(PROVISION, good) == "InvalidCertificateOwnershipToken"
        bad = {"certificateSigningRequest": "\ud800" * 1000}
        assert client.rejected(CSR, bad) == "InvalidCertificateSigningRequest"
    assert "Traceback" not in cloud.log()


def test_templates_that_are_not_there(cloud):
    other = PROVISION.replace("expresslink", "nowhere")
    with Claimant(cloud, "no_template") as client:
        client.listen(other)
        token = client.certificate()["certificateOwnershipToken"]
        assert client.rejected(other, client.registration(token)) == "ResourceNotFound"
        cloud.control.put_template("expresslink", enabled=False)
        assert client.rejected(PROVISION, client.registration(token)) == "ResourceNotFound"
        cloud.control.put_template("expresslink", enabled=True)
        client.accepted(PROVISION, client.registration(token))


# -- templates --


def test_a_template_of_ones_own(cloud, tmp_path):
    document = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"},
            {"Effect": "Allow", "Action": "iot:Publish", "Resource": "arn:aws:iot:::topic/SN/*"},
        ],
    }
    mine = body({"Fn::Sub": "lab_${SerialNumber}"})
    mine["Resources"]["policy"]["Properties"] = {
        "PolicyDocument": {
            "Fn::Join": [
                {"Ref": "SerialNumber"},
                {"Fn::Split": ["SN", json.dumps(document)]},
            ]
        }
    }
    mine["Mappings"] = {"Url": {"a": {"to": "https://a"}, "b": {"to": "https://b"}}}
    mine["Parameters"]["Place"] = {"Type": "String", "Default": "a"}
    mine["DeviceConfiguration"] = {"url": {"Fn::FindInMap": ["Url", {"Ref": "Place"}, "to"]}}
    cloud.control.put_template("mine", mine)
    where = PROVISION.replace("expresslink", "mine")
    with Claimant(cloud, "own1", "cbor") as client:
        client.listen(where)
        given = client.certificate()
        parameters = {"SerialNumber": "own1", "Place": "b"}
        token = given["certificateOwnershipToken"]
        answer = client.accepted(
            where, {"certificateOwnershipToken": token, "parameters": parameters}
        )
        assert answer == {"deviceConfiguration": {"url": "https://b"}, "thingName": "lab_own1"}
        who = holder(tmp_path, cloud, "own1", given["certificatePem"], client.key)
    with connected(cloud, who, "lab_own1") as device:
        device.publish("own1/x", qos=1)
        assert isinstance(device.read(), p.Ack)
        device.publish("other/x", qos=1)
        assert device.closed() == []


def test_a_template_without_a_thing(cloud):
    """The answer then has no thingName, which has surprised devices."""
    mine = body("unused")
    del mine["Resources"]["thing"]
    cloud.control.put_template("bare", mine)
    where = PROVISION.replace("expresslink", "bare")
    with Claimant(cloud, "bare") as client:
        client.listen(where)
        values = {
            "certificateOwnershipToken": client.certificate()["certificateOwnershipToken"],
            "parameters": {"SerialNumber": "bare"},
        }
        assert client.accepted(where, values) == {"deviceConfiguration": {}}


def test_provisioned_again(cloud, tmp_path):
    """An answer that got lost must not lock a device out: it asks for another certificate."""
    idents, holders = [], []
    for turn in range(2):
        with Claimant(cloud, "again") as client:
            given = client.certificate()
            token = given["certificateOwnershipToken"]
            values = client.registration(token, Model=f"X-{turn}")
            assert client.accepted(PROVISION, values)["thingName"] == "expresslink-again"
            idents.append(given["certificateId"])
            holders.append(
                holder(tmp_path, cloud, f"again{turn}", given["certificatePem"], client.key)
            )
    found = cloud.control.thing("expresslink-again")
    assert found["certificates"] == idents
    assert found["attributes"]["Model"] == "X-1"  # the built-in template merges
    for who in holders:
        connected(cloud, who, "expresslink-again").socket.close()


def test_override_settings(cloud):
    for setting in ("DO_NOTHING", "REPLACE", "FAIL"):
        mine = body({"Ref": "SerialNumber"}, ("SerialNumber", "Model"))
        thing = mine["Resources"]["thing"]
        thing["Properties"]["AttributePayload"] = {"Model": {"Ref": "Model"}}
        thing["OverrideSettings"] = {"AttributePayload": setting}
        cloud.control.put_template(setting, mine)
    with Claimant(cloud, "override") as client:

        def provision(template, model):
            where = PROVISION.replace("expresslink", template)
            client.listen(where)
            token = client.certificate()["certificateOwnershipToken"]
            parameters = {"SerialNumber": "override", "Model": model}
            values = {"certificateOwnershipToken": token, "parameters": parameters}
            return client.request(where, values)

        assert provision("DO_NOTHING", "1")[0] == "accepted"
        assert provision("DO_NOTHING", "2")[0] == "accepted"
        assert cloud.control.thing("override")["attributes"] == {"Model": "1"}
        assert provision("REPLACE", "3")[0] == "accepted"
        assert cloud.control.thing("override")["attributes"] == {"Model": "3"}
        which, answer = provision("FAIL", "4")
        assert (which, answer["errorCode"]) == ("rejected", "ResourceConflict")
        assert len(cloud.control.thing("override")["certificates"]) == 3


def test_templates_over_the_control_socket(cloud):
    control = cloud.control
    assert control.template("none") is None
    with pytest.raises(ControlError):
        control.put_template("none")
    with pytest.raises(ControlError, match="ThingGroups"):
        bad = body("x")
        bad["Resources"]["thing"]["Properties"]["ThingGroups"] = ["a"]
        control.put_template("bad", bad)
    with pytest.raises(ControlError, match="takes no"):
        control.put_template("bad", body("x"), colour="red")
    with pytest.raises(ControlError, match="needs name"):
        control.request({"put_template": {}})
    with pytest.raises(ControlError):
        control.remove_template("none")
    control.put_template("shown", body("x"), hook={"allowProvisioning": True})
    assert control.template("shown") == {
        "name": "shown",
        "enabled": True,
        "hook": {"allowProvisioning": True},
        "body": body("x"),
    }
    assert control.templates() == ["expresslink", "shown"]
    assert control.thing("nobody") is None


def test_a_restart_keeps_templates_tokens_and_things(tmp_path):
    with CloudProcess(tmp_path / "cloud") as cloud:
        cloud.control.put_template("kept", body({"Fn::Sub": "k_${SerialNumber}"}))
        with Claimant(cloud, "restart") as client:
            given, key = client.certificate(), client.key
        cloud.restart()
        where = PROVISION.replace("expresslink", "kept")
        with Claimant(cloud, "restart") as client:
            client.listen(where)
            token = given["certificateOwnershipToken"]
            values = {
                "certificateOwnershipToken": token,
                "parameters": {"SerialNumber": "1"},
            }
            assert client.accepted(where, values)["thingName"] == "k_1"
        cloud.restart()
        assert cloud.control.thing("k_1")["certificates"] == [given["certificateId"]]
        who = holder(tmp_path, cloud, "restart", given["certificatePem"], key)
        connected(cloud, who, "k_1").socket.close()


# -- the hook --


def test_the_hook(cloud):
    def answer(hook):
        cloud.control.put_template("expresslink", hook=hook)
        with Claimant(cloud, "hooked") as client:
            token = client.certificate()["certificateOwnershipToken"]
            return client.request(PROVISION, client.registration(token))

    which, body = answer({"allowProvisioning": False})
    assert (which, body["errorCode"], body["statusCode"]) == ("rejected", "AccessDenied", 403)
    assert cloud.control.thing("expresslink-hooked") is None
    assert cloud.control.provisionings("hooked")[-1]["rule"] == "provisioning-hook"
    overrides = {"SerialNumber": "by-hook"}
    _, body = answer({"allowProvisioning": True, "parameterOverrides": overrides})
    assert body["thingName"] == "expresslink-by-hook"
    which, body = answer({"allowProvisioning": True, "parameterOverrides": {"Odd": "1"}})
    assert (which, body["errorCode"]) == ("rejected", "InvalidParameters")
    cloud.control.set(hook_timeout=0.2)
    assert answer({"allowProvisioning": True, "ms": 5000})[1]["errorCode"] == "AccessDenied"


def test_a_program_as_hook(cloud, tmp_path):
    """It sees what AWS shows a Lambda."""
    (tmp_path / "hook.py").write_text(
        "import json, sys\n"
        "event = json.load(sys.stdin)\n"
        f"json.dump(event, open({str(tmp_path / 'event')!r}, 'w'))\n"
        "good = event['parameters']['SerialNumber'] != 'stolen'\n"
        "print(json.dumps({'allowProvisioning': good}))\n"
    )
    hook = {"command": [sys.executable, str(tmp_path / "hook.py")]}
    cloud.control.put_template("expresslink", hook=hook)
    for serial, expected in (("stolen", "rejected"), ("honest", "accepted")):
        with Claimant(cloud, serial) as client:
            given = client.certificate()
            values = client.registration(given["certificateOwnershipToken"])
            assert client.request(PROVISION, values)[0] == expected
            event = json.loads((tmp_path / "event").read_text())
            assert event.pop("templateArn").endswith(":provisioningtemplate/expresslink")
            assert event == {
                "claimCertificateId": cloud.control.provisionings(serial)[0]["claim"],
                "certificateId": given["certificateId"],
                "certificatePem": given["certificatePem"],
                "clientId": serial,
                "parameters": values["parameters"],
            }


# -- who is answered --


def test_nobody_else_sees_request_or_answer(cloud):
    watcher = connected(cloud, Operator(cloud.state), "fp-watcher")
    with watcher as seen, Claimant(cloud, "one") as one, Claimant(cloud, "two") as two:
        seen.subscribe("$aws/certificates/#", "$aws/provisioning-templates/#")
        two.subscribe("$aws/certificates/create-from-csr/#")
        token = one.certificate()["certificateOwnershipToken"]
        one.accepted(PROVISION, one.registration(token))
        assert two.silent(0.2)
        assert seen.silent(0.1)


def test_only_subscribers_are_answered(cloud):
    with Claimant(cloud, "deaf", quiet=True) as client:
        client.ask(CSR, {"certificateSigningRequest": client.csr()})
        assert client.silent(0.2)
        client.subscribe(CSR + "json/rejected")
        client.ask(CSR, {"certificateSigningRequest": client.csr()})
        assert client.silent(0.2)
        client.ask(CSR, {})
        assert client.answer(CSR)[0] == "rejected"
        client.subscribe((CSR + "json/+", 0))
        client.certificate()
    assert [e["answers"] for e in cloud.control.provisionings("deaf")] == [0, 0, 1, 1]
    assert "rule provisioning-answer" in cloud.log()


def test_a_request_right_after_suback_may_be_missed(cloud):
    """With a gap after SUBACK, as AWS may have one, a device has to ask again."""
    cloud.control.set(subscribe_gap=0.3)
    with Claimant(cloud, "hasty", quiet=True) as client:
        client.subscribe(CSR + "json/accepted")
        client.ask(CSR, {"certificateSigningRequest": client.csr()})
        assert client.silent(0.5)
        assert client.certificate()


def test_devices_at_the_same_time(cloud):
    """Eight devices share one claim, half of them with keys made here: each gets its own."""

    def run(number):
        with Claimant(cloud, f"crowd_{number}") as client:
            if number % 2:
                given = client.certificate()
                made = x509.load_pem_x509_certificate(given["certificatePem"].encode())
                assert made.public_key() == client.key.public_key()
            else:
                given = client.accepted(CREATE, {})
            token = given["certificateOwnershipToken"]
            answer = client.accepted(PROVISION, client.registration(token))
            return answer["thingName"], given["certificateId"]

    with ThreadPoolExecutor(8) as pool:
        found = dict(pool.map(run, range(8)))
    assert set(found) == {f"expresslink-crowd_{n}" for n in range(8)}
    assert len(set(found.values())) == 8
    for thing, ident in found.items():
        assert cloud.control.thing(thing)["certificates"] == [ident]


# -- what a claim, and a device, may do --


@pytest.mark.parametrize(
    "act",
    [
        lambda c: c.publish("data"),
        lambda c: c.publish("$aws/things/claim_only/shadow/get"),
        lambda c: c.publish("$aws/things/claim_only/defender/metrics/json"),
        lambda c: c.publish("$aws/certificates/create/json", retain=True),
        lambda c: c.publish("$aws/certificates/other"),
        lambda c: c.publish("$aws/provisioning-templates/x/other/json"),
        lambda c: c.publish("$aws/rules/r/x"),
        lambda c: c.send(p.Subscribe(1, (("#", 0),))),
        lambda c: c.send(p.Subscribe(1, (("data", 0),))),
        lambda c: c.send(p.Subscribe(1, (("$aws/things/+/jobs/notify", 0),))),
        lambda c: c.send(p.Subscribe(1, (("$aws/events/presence/connected/+", 0),))),
        lambda c: c.send(p.Subscribe(1, (("$aws/#", 0),))),
    ],
)
def test_a_claim_can_do_nothing_else(cloud, act):
    with Claimant(cloud, "claim_only", quiet=True) as client:
        act(client)
        assert client.closed() == []
    rule = cloud.control.closings("claim_only")[-1]["rule"]
    assert rule in (
        "publish-policy",
        "subscribe-policy",
        "reserved-topic",
        "retain-policy",
        "retain-reserved",
    )


def test_a_claim_for_one_template(cloud, tmp_path):
    """As AWS recommends it: with another template's name the connection is closed."""
    document = json.loads(policy.CLAIM)
    text = json.dumps(document).replace("provisioning-templates/*", "provisioning-templates/this")
    key = pki.make_key()
    pem = self_signed("narrow claim", key)
    with Registry(cloud.state) as registry:
        registry.put_policy("narrow-claim", text)
    register_certificate(cloud.state, pem, policy="narrow-claim")
    who = holder(tmp_path, cloud, "narrow", pem.decode(), key)
    with Claimant(cloud, "narrow", claim=who, quiet=True) as client:
        client.listen(CSR)
        client.listen(PROVISION.replace("expresslink", "this"))
        token = client.certificate()["certificateOwnershipToken"]
        client.ask(PROVISION, client.registration(token))
        assert client.closed() == []
    assert cloud.control.closings("narrow")[-1]["rule"] == "publish-policy"


def test_a_claim_hears_nothing_else(cloud):
    with Claimant(cloud, "claim_deaf") as client:
        assert not cloud.control.deliver("claim_deaf", "data", b"x")
        assert cloud.control.deliver("claim_deaf", CSR + "json/accepted", b"x")
        assert client.read().payload == b"x"


def test_a_last_will_of_a_claim_is_refused(cloud):
    claim = Operator(cloud.state, "claim")
    with Raw(cloud.mqtt, claim) as client:
        client.connect("claim_will", 7, will=p.Will("data", b"x", 0, False))


def test_a_device_cannot_provision(cloud):
    device = Device(cloud.state, "no_claim")
    with connected(cloud, device) as client:
        client.publish("$aws/certificates/create/json")
        assert client.closed() == []
    with connected(cloud, device) as client:
        client.send(p.Subscribe(1, ((CREATE + "json/accepted", 0),)))
        assert client.closed() == []


def test_a_revoked_claim(cloud, tmp_path):
    key = pki.make_key()
    pem = self_signed("revoked claim", key)
    ident = register_certificate(cloud.state, pem, policy="claim")
    other = holder(tmp_path, cloud, "revoked", pem.decode(), key)
    with Claimant(cloud, "revoked", claim=other) as client:
        client.certificate()
        cloud.control.certificate(ident, "REVOKED")
        assert client.closed() == []
    with Raw(cloud.mqtt, other) as client:
        client.send(p.Connect("revoked"))
        assert client.closed() == []


# -- faults --


def values_for(client, service):
    """A good request for a service; needs no fault at `create-from-csr` for `provision`."""
    if service == "create":
        return {}
    if service == "create-from-csr":
        return {"certificateSigningRequest": client.csr()}
    return client.registration(client.certificate()["certificateOwnershipToken"])


@pytest.fixture(params=["create", "create-from-csr", "provision"])
def service(request):
    return request.param


@pytest.fixture
def ready(cloud, service):
    """(client, its topic, a good request for the service)."""
    with Claimant(cloud, "f_" + service) as client:
        yield client, WHERE[service], values_for(client, service)


def last(cloud, client):
    return cloud.control.provisionings(client.serial)[-1]


def test_fault_refuse(cloud, ready, service):
    client, topic, values = ready
    cloud.control.fault("refuse", at=service, client=client.serial, count=1)
    cloud.control.fault("refuse", at=service, error="Throttling", count=1)
    assert client.rejected(topic, values) == "InternalError"
    assert client.request(topic, values)[1]["statusCode"] == 429
    assert (last(cloud, client)["code"], last(cloud, client)["rule"]) == ("Throttling", "fault")
    client.accepted(topic, values)


def test_fault_silent(cloud, ready, service):
    client, topic, values = ready
    cloud.control.fault("silent", at=service, count=1)
    before = len(cloud.control.get("certificates"))
    client.ask(topic, values)
    assert client.silent(0.2)
    assert last(cloud, client)["status"] == "UNANSWERED"
    assert len(cloud.control.get("certificates")) == before
    # Nothing was done: the same token is good.
    client.accepted(topic, values)


def test_fault_duplicate(cloud, ready, service):
    client, topic, values = ready
    cloud.control.fault("duplicate", at=service, count=1)
    assert client.accepted(topic, values) == client.answer(topic)[1]
    assert client.silent(0.1)
    assert last(cloud, client)["answers"] == 2


def test_fault_delay(cloud, ready, service):
    client, topic, values = ready
    cloud.control.fault("delay", at=service, ms=500, count=1)
    start = time.monotonic()
    client.ask(topic, values)
    client.ping()  # nothing else waits
    assert time.monotonic() - start < 0.4
    assert client.answer(topic)[0] == "accepted"
    assert time.monotonic() - start >= 0.5


@pytest.mark.parametrize("when", ["before", "after"])
def test_fault_close(cloud, ready, service, when):
    client, topic, values = ready
    cloud.control.fault("close", at=service, when=when)
    client.ask(topic, values)
    assert len(client.closed()) == (when == "after")
    # The work was done.
    assert last(cloud, client)["status"] == "ACCEPTED"
    if service == "provision":
        assert cloud.control.thing("expresslink-" + client.serial) is not None
    assert cloud.control.closings(client.serial)[-1]["rule"] == "fault"
    # It acts once; the device comes back and is served.
    with Claimant(cloud, client.serial) as again:
        again.accepted(topic, values_for(again, service))


@pytest.mark.parametrize("when", ["before", "after", "instead"])
def test_fault_foreign(cloud, ready, service, when):
    client, topic, values = ready
    cloud.control.fault("foreign", at=service, when=when, count=1)
    client.ask(topic, values)
    got = [client.answer(topic) for _ in range(1 if when == "instead" else 2)]
    assert client.silent(0.1)
    assert [which for which, _ in got] == len(got) * ["accepted"]
    own = got[1 if when == "before" else 0][1] if when != "instead" else None
    foreign = got[0 if when in ("before", "instead") else 1][1]
    if service == "provision":
        assert foreign["thingName"].startswith("foreign-")
        assert own is None or own["thingName"] == "expresslink-" + client.serial
        return
    made = x509.load_pem_x509_certificate(foreign["certificatePem"].encode())
    assert made.public_key() != client.key.public_key()
    if service == "create":
        key = serialization.load_pem_private_key(foreign["privateKey"].encode(), None)
        assert made.public_key() == key.public_key()
    if own is not None and service == "create-from-csr":
        made = x509.load_pem_x509_certificate(own["certificatePem"].encode())
        assert made.public_key() == client.key.public_key()
    assert status(cloud, foreign["certificateId"]) == "PENDING_ACTIVATION"


def test_a_foreign_rejection(cloud, ready, service):
    client, topic, values = ready
    cloud.control.fault("foreign", at=service, error="AccessDenied", count=1)
    client.ask(topic, values)
    which, answer = client.answer(topic)
    assert (which, answer["errorCode"]) == ("rejected", "AccessDenied")
    assert client.answer(topic)[0] == "accepted"


def test_answers_of_the_defender_take_the_faults_too(cloud):
    device = Device(cloud.state, "fp_defender")
    topic = "$aws/things/fp_defender/defender/metrics/json"
    report = {"header": {"report_id": 1, "version": "1.0"}, "custom_metrics": {}}
    with connected(cloud, device) as client:
        cloud.control.fault("duplicate", at="defender", count=1)
        client.publish(topic, json.dumps(report).encode())
        assert client.read() == client.read()
        cloud.control.fault("close", at="defender")
        client.publish(topic, b"{}")
        assert client.closed() == []


def test_from_the_command_line(cloud, tmp_path):
    def run(*words, code=0):
        command = [sys.executable, "-m", "tools.cloud", *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout) if not code else done.stderr

    where = ("--state", str(cloud.state))
    path = tmp_path / "template.json"
    path.write_text(json.dumps(body("cli")))
    run("template", "put", *where, "cli", str(path))
    assert run("show", *where, "templates") == {"templates": ["cli", "expresslink"]}
    run("template", "disable", *where, "cli")
    run("template", "hook", *where, "cli", "deny")
    shown = run("template", "get", *where, "cli")["template"]
    assert (shown["enabled"], shown["hook"]) == (False, {"allowProvisioning": False})
    assert shown["body"] == body("cli")
    run("template", "enable", *where, "cli")
    run("template", "hook", *where, "cli", "none")
    assert cloud.control.template("cli")["hook"] is None
    assert "list of words" in run("template", "hook", *where, "cli", '{"command": 5}', code=1)
    run("template", "remove", *where, "cli")
    assert run("thing", *where, "nobody") == {"thing": None}
    run("fault", "set", *where, "foreign", "--at", "provision", "--when", "instead")
    assert cloud.control.faults()[0]["when"] == "instead"
    assert isinstance(run("show", *where, "provisionings")["provisionings"], list)
