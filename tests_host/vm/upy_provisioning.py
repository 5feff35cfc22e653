"""Provisioning by claim on the VM: a cloud, keys and a store of the test's own."""
# vm-file: heap=384

import asyncio
import gc
import json
import sys

import firmware.cloud.provisioning as provisioning
import lib
from firmware.cloud.session import ConnectError
from lib.mqtt_codec import BY_SERVER, REFUSED, MQTTException
from lib.mqtt_link import CLOSED, UP
from tests_host.vm.upy_x509 import EC_LEAF, EC_ROOT, RSA_ROOT

CSR = "$aws/certificates/create-from-csr/json"
CREATE = "$aws/certificates/create/json"
REGISTER = "$aws/provisioning-templates/line1/provision/json"
# The key of EC_LEAF.
POINT = bytes.fromhex(
    "04b5c2b7a10a15d33fa3b8c4df79c34a351a630c42209ac26f91dc503b718895ae"
    "212099102d7c4ba4cb0557dba7967b10175c5c7be2980c8c7c7c41bc4ac6b251"
)
TOKEN = "t" * 600 + '/+=\\"'
SECRETS = ("t" * 20, "our private key", "PRIVATE", EC_LEAF.decode().split("\n")[1])
RSA_KEY = "-----BEGIN RSA PRIVATE KEY-----\nb3VyIHByaXZhdGUga2V5\n-----END RSA PRIVATE KEY-----\n"


def issued(pem=EC_LEAF, **others):
    """create-from-csr/accepted."""
    answer = {"certificateId": "ab" * 32, "certificatePem": pem.decode()}
    answer["certificateOwnershipToken"] = TOKEN
    answer.update(others)
    return answer


def registered(**others):
    """provision/accepted."""
    answer = {"deviceConfiguration": {}, "thingName": "lab_1"}
    answer.update(others)
    return answer


class Untrusted(ConnectError):
    pass


class Cloud:
    """The session, its client and its configuration; `answers` says what is answered to a
    request on a topic: a list of (accepted, dict or bytes), or a function of the request."""

    def __init__(self):
        self.identity = self.config = self.client = self
        self.values = {b"ProvisionMode": b"csr", b"RootCA": ["root"]}
        self.trial = []
        self.uid = b"02aabbccddee"
        self.template = b"line1"
        self.board = "Board-1"
        self.stage = CLOSED
        self.closed = self.ssl = None
        self.routes = {}
        self.answers = {CSR: [(True, issued())], REGISTER: [(True, registered())]}
        self.requests = []
        self.subscribed = []
        self.failing = {}  # topic -> exception of subscribe() and publish()
        self.proposed = self.flash = self.full = None
        self.connections = []
        self.events = []
        self.told_the_host = []
        self.time_left = 1000000
        provisioning.opening = provisioning.trial = self
        provisioning.time = provisioning.asyncio = self
        self.now = 0

    Untrusted = Untrusted

    # The identity and the configuration.
    def claim(self):
        return [b"claim certificate"], b"claim key"

    def reserve(self, identity):
        if self.full:
            raise self.full

    def propose(self, identity, thing, certificate, key):
        assert self.stage == CLOSED, "kept while the claim's session is open"
        if self.flash:
            raise self.flash
        self.proposed = (thing, certificate, key)

    def get(self, name):
        return self.values[name]

    def trial_roots(self):
        return self.trial

    # firmware.cloud.opening.
    def context(self, session, roots, certificate, key):
        assert (certificate, key) == (b"claim certificate", b"claim key")
        return roots

    async def open_with(self, session, context, client_id):
        if self.get(b"ProvisionMode") == b"csr":
            for name in ("lib.csr", "lib.p256_key", "lib.pem"):
                assert name not in sys.modules, name
        self.connections.append((context, client_id))
        if self.failing.get(context[0]):
            raise self.failing[context[0]]
        self.stage = UP
        self.subscribed = []
        self.closed = None
        self.ssl = context

    # time: passes only where somebody waits.
    def ticks_ms(self):
        return self.now

    def ticks_diff(self, a, b):
        return a - b

    async def sleep_ms(self, ms):
        await asyncio.sleep_ms(0)

    def late(self):
        self.now += 1000
        return self.now > self.time_left

    # The session and the client.
    def route(self, topic, handler):
        topic = topic.decode()
        if handler:
            self.routes[topic] = handler
        else:
            self.routes.pop(topic, None)

    async def subscribe(self, topic, qos, timeout_ms):
        assert qos == 1 and topic.decode() in self.routes, "nobody would take the answer"
        await asyncio.sleep_ms(0)
        self.events.append("subscribe")
        self.fail(topic.decode().rsplit("/", 1)[0])
        self.subscribed.append(topic.decode())

    async def publish(self, topic, payload, retain, qos, wait, timeout_ms):
        topic = topic.decode()
        assert qos == 1 and not retain
        for which in ("/accepted", "/rejected"):
            assert topic + which in self.subscribed
        self.fail(topic)
        self.requests.append((topic, json.loads(payload)))
        self.answering = asyncio.create_task(self.answer(topic))

    def fail(self, topic):
        if topic in self.failing:
            raise self.failing[topic]

    async def answer(self, topic):
        answers = self.answers[topic]
        for good, answer in answers:
            if answer == "gone":
                self.closed = MQTTException(BY_SERVER, "closed by the server")
                self.stage = CLOSED
                return
            self.say(topic, good, answer)

    def say(self, topic, good, answer):
        if isinstance(answer, dict):
            answer = json.dumps(answer).encode()
        buffer = bytearray(answer)
        topic += "/accepted" if good else "/rejected"
        handler = self.routes.get(topic)
        if handler:
            handler(memoryview(buffer))
        elif topic in self.subscribed and self.stage == UP:
            self.told_the_host.append(topic)
        # It is valid during the call only.
        for i in range(len(buffer)):
            buffer[i] = 0

    async def disconnect(self):
        self.events.append("disconnect")
        self.stage = CLOSED
        self.closed = MQTTException(-1, "disconnected")

    async def run(self):
        """One claim: what was proposed, or the cause as bytes. Nothing may be left behind."""
        self.proposed = None
        _libraries()
        printed = []
        provisioning.log = lambda severity, *words: printed.append(" ".join(map(str, words)))
        try:
            await provisioning.claim(self, self.late)
        except ConnectError as error:
            assert self.proposed is None
            printed.append(repr(error))
            return error.args[0]
        finally:
            self.printed = "\n".join(printed)
            for secret in SECRETS:
                assert secret not in self.printed, self.printed
            assert self.stage == CLOSED and self.ssl is None and self.routes == {}
            assert self.told_the_host == []
        return self.proposed


class _Key:
    point = POINT

    def der(self):
        return b"our private key"


class _Keys:
    """lib.p256_key, lib.csr and lib.keypair."""

    fits = True

    async def generate(self):
        return _Key()

    async def make(self, key, name):
        assert key.point == POINT and name == b"02aabbccddee"
        return b"request" * 40

    async def belongs(self, key, certificate):
        assert key == b"our private key"
        return _Keys.fits


def _libraries():
    made = _Keys()
    for name in ("p256_key", "csr", "keypair"):
        sys.modules["lib." + name] = made
        setattr(lib, name, made)


def der(pem):
    from lib import pem as reader

    return reader.decode(pem)[0]


async def test_a_certificate_for_our_key_then_a_thing():
    c = Cloud()
    taken = await c.run()
    for name in ("lib.p256_key", "lib.csr", "lib.keypair", "lib.x509", "lib.pem"):
        assert name not in sys.modules, name
    assert taken == (b"lab_1", der(EC_LEAF), b"our private key")
    (first, csr), (second, registration) = c.requests
    assert (first, second) == (CSR, REGISTER)
    lines = csr.pop("certificateSigningRequest").split("\n")
    assert not csr and lines[0] == "-----BEGIN CERTIFICATE REQUEST-----"
    assert lines[-2:] == ["-----END CERTIFICATE REQUEST-----", ""] and len(lines[1]) == 64
    assert registration == {
        "certificateOwnershipToken": TOKEN,
        "parameters": {"SerialNumber": "02aabbccddee", "MAC": "02aabbccddee", "Model": "Board-1"},
    }
    assert c.connections == [(["root"], b"02aabbccddee")]
    assert c.events[-1] == "disconnect" and c.events.count("disconnect") == 1


async def test_with_create_the_key_comes_with_the_certificate():
    c = Cloud()
    c.values[b"ProvisionMode"] = b"create"
    c.answers[CREATE] = [(True, issued(RSA_ROOT, privateKey=RSA_KEY))]
    assert await c.run() == (b"lab_1", der(RSA_ROOT), b"our private key")
    assert c.requests[0] == (CREATE, {})
    _Keys.fits = False
    assert await c.run() == b"provisioning: no answer to create"
    assert "somebody else" in c.printed


async def test_somebody_elses_answers_are_passed_over():
    c = Cloud()
    c.answers[CSR] = [(True, issued(EC_ROOT)), (True, issued(RSA_ROOT)), (True, issued())]
    assert (await c.run())[1] == der(EC_LEAF)
    c.answers[CSR].pop()
    assert await c.run() == b"provisioning: no answer to create-from-csr"
    assert [topic for topic, _ in c.requests] == [CSR, REGISTER, CSR]


async def test_answers_come_twice_early_and_out_of_turn():
    c = Cloud()
    c.answers[CSR] = [(True, issued()), (True, issued(certificateOwnershipToken="other"))] * 3
    c.answers[REGISTER] = [(True, registered()), (True, registered(thingName="other"))]
    taken = await c.run()
    assert taken[0] == b"lab_1"
    assert c.requests[1][1]["certificateOwnershipToken"] == TOKEN

    # Late ones hold the token too.
    register = c.answers[REGISTER]
    for _ in range(2):
        register.insert(0, (True, b""))
    publish = c.publish

    async def late(topic, *others):
        c.say(CSR, True, issued())
        await publish(topic, *others)

    c.publish = late
    assert (await c.run())[0] == b"lab_1"

    # An answer to somebody's request that arrives before ours was sent is nobody's.
    subscribe = c.subscribe

    async def early(topic, qos, timeout_ms):
        await subscribe(topic, qos, timeout_ms)
        c.say(REGISTER, True, registered(thingName="early"))
        c.say(CSR, False, {"errorCode": "Early"})

    c.subscribe = early
    assert (await c.run())[0] == b"lab_1"


async def test_silence_and_no_time_left():
    c = Cloud()
    c.answers[CSR] = []
    assert await c.run() == b"provisioning: no answer to create-from-csr"
    assert 30000 < c.now < 36000
    c = Cloud()
    c.answers[REGISTER] = []
    assert await c.run() == b"provisioning: no answer to provision"
    for left in range(12):
        c = Cloud()
        c.answers[CSR] = []
        c.time_left = left * 1000
        why = await c.run()
        assert why.startswith(b"provisioning: no "), why
        assert c.now <= 3000 + left * 1000, (left, c.now)


async def test_no_time_left_after_connecting():
    c = Cloud()
    connected = c.open_with

    async def slow(session, context, client_id):
        await connected(session, context, client_id)
        c.now += 2000000

    c.open_with = slow
    assert await c.run() == b"provisioning: no time left for create-from-csr"
    # Each subscription could take its time too.
    assert c.events == ["disconnect"]


async def test_rejections_are_told_in_the_clouds_own_word():
    for code, told in (
        ("InvalidParameters", b"InvalidParameters"),
        ("x" * 500, b"x" * 64),
        ("\n\x00 é", b" "),
        ("", b"create-from-csr rejected"),
        (7, b"create-from-csr rejected"),
        (None, b"create-from-csr rejected"),
    ):
        c = Cloud()
        c.answers[CSR] = [(False, {"statusCode": 400, "errorCode": code, "errorMessage": TOKEN})]
        assert await c.run() == b"provisioning: " + told
        assert len(c.requests) == 1
    c = Cloud()
    c.answers[REGISTER] = [(False, {"errorCode": "AccessDenied"}), (True, registered())]
    assert await c.run() == b"provisioning: AccessDenied"


async def test_answers_that_are_no_answers():
    good = json.dumps(issued()).encode()
    for broken in (
        b"",
        b"{}",
        b"[]",
        b"7",
        b"null",
        b'{"certificatePem":',
        good[:-1],
        good[: len(good) // 2],
        good + b"}",
        b"\xff\xfe" + good,
        b"[" * 2000,
        issued(certificateOwnershipToken=None),
        issued(certificateOwnershipToken=""),
        issued(certificateOwnershipToken=["x"]),
        issued(certificateOwnershipToken="x" * 2049),
        issued(certificatePem=5),
        issued(certificatePem="no certificate"),
        issued(certificatePem="-----BEGIN CERTIFICATE-----\n"),
        issued(certificatePem=EC_LEAF.decode().replace("M", "A")),
        issued(certificatePem=EC_LEAF.decode()[:-200]),
    ):
        c = Cloud()
        c.answers[CSR] = [(True, broken)]
        why = await c.run()
        assert why == b"provisioning: unusable answer to create-from-csr", (broken, why)
        # It does not keep the right one away.
        c.answers[CSR].append((True, issued()))
        assert (await c.run())[0] == b"lab_1", broken
        gc.collect()


async def test_damaged_answers_end_in_an_identity_or_a_cause():
    good = (json.dumps(issued()).encode(), json.dumps(registered()).encode())
    state = 1
    ends = [0, 0]
    for turn in range(300):
        pieces = [bytearray(good[0]), bytearray(good[1])]
        hurt = pieces[turn % 2]
        for _ in range(1 + turn % 3):
            state = (state * 1103515245 + 12345) & 0x7FFFFFFF
            hurt[(state >> 8) % len(hurt)] = state >> 20 & 0xFF
        if turn % 7 == 0:
            del_from = (state >> 4) % len(hurt)
            pieces[turn % 2] = hurt[:del_from] + hurt[del_from + 5 :]
        c = Cloud()
        c.answers[CSR] = [(True, pieces[0])]
        c.answers[REGISTER] = [(True, pieces[1])]
        taken = await c.run()
        ends[isinstance(taken, tuple)] += 1
        if isinstance(taken, tuple):
            from lib import x509

            assert x509.parse(taken[1]).point == POINT and 0 < len(taken[0]) <= 128
        else:
            assert taken.startswith(b"provisioning: ")
        gc.collect()
    assert min(ends) > 30, ends


async def test_answers_in_other_clothes():
    c = Cloud()
    text = json.dumps(issued())
    for old, new in (
        (": ", "  \n:\t"),
        ('"certificatePem"', '"nested": {"certificatePem": [1, {"a": "}"}]}, "certificatePem"'),
        ("\\n", "\\u000a"),
        ("\\n", "\\r\\n"),
        ('"certificateId"', '"\\u0063ertificateId"'),
    ):
        c.answers[CSR] = [(True, text.replace(old, new).encode())]
        assert (await c.run())[1] == der(EC_LEAF), new


async def test_names_that_no_thing_may_have():
    for name in ("", "a" * 129, "a b", "a/b", "a#", "é", "a\n", "a.b", "a@", "a[", "a{"):
        c = Cloud()
        c.answers[REGISTER] = [(True, registered(thingName=name))]
        assert await c.run() == b"provisioning: thing name not usable", name
    for name in (None, 7, ["a"]):
        c.answers[REGISTER] = [(True, registered(thingName=name))]
        assert await c.run() == b"provisioning: unusable answer to provision", name
    for name in ("a" * 128, "azAZ09:_-"):
        c.answers[REGISTER] = [(True, registered(thingName=name))]
        assert (await c.run())[0] == name.encode()


async def test_of_the_device_configuration_only_the_keys_are_told():
    c = Cloud()
    c.answers[REGISTER] = [(True, registered(deviceConfiguration={"FallbackUrl": "hush"}))]
    await c.run()
    assert "FallbackUrl" in c.printed and "hush" not in c.printed
    for other in ([], "x", None, 5):
        c.answers[REGISTER] = [(True, registered(deviceConfiguration=other))]
        assert (await c.run())[0] == b"lab_1"


async def test_the_link_ends_at_each_step():
    for topic, step in ((CSR, b"create-from-csr"), (REGISTER, b"provision")):
        for cause, told in (
            (MQTTException(BY_SERVER, "closed"), b"closed by the endpoint"),
            (OSError(104), b"connection lost, errno 104"),
            (ValueError("TLS"), b"server certificate refused"),
        ):
            c = Cloud()
            c.failing[topic] = cause
            assert await c.run() == b"provisioning: " + step + b", " + told
        c = Cloud()
        c.answers[topic] = [(True, "gone")]
        assert await c.run() == b"provisioning: " + step + b", closed by the endpoint"
        c.answers[topic] = [(True, b"{}"), (True, "gone")]
        assert await c.run() == b"provisioning: " + step + b", closed by the endpoint"
        c = Cloud()
        c.failing[topic] = MQTTException(REFUSED, "subscription refused")
        assert await c.run() == b"provisioning: subscription refused, " + step


async def test_roots_on_trial_are_tried_first():
    c = Cloud()
    c.trial = ["new root"]
    assert (await c.run())[0] == b"lab_1"
    assert c.connections == [(["new root"], c.uid)]
    c.failing["new root"] = c.Untrusted(b"server certificate not trusted")
    assert (await c.run())[0] == b"lab_1"
    c.failing["root"] = ConnectError(b"server certificate expired")
    assert await c.run() == b"provisioning: server certificate expired"
    c.values[b"RootCA"] = []
    assert await c.run() == b"provisioning: server certificate not trusted"
    # Another way to fail is not the roots' fault.
    c.values[b"RootCA"] = ["root"]
    c.connections.clear()
    c.failing["new root"] = ConnectError(b"closed by the endpoint")
    assert await c.run() == b"provisioning: closed by the endpoint"
    assert c.connections == [(["new root"], c.uid)]


async def test_the_flash_refuses():
    c = Cloud()
    c.full = OSError(28)
    assert await c.run() == b"provisioning: no room in flash, errno 28"
    assert not c.connections
    c.full = None
    c.flash = OSError(28)
    assert await c.run() == b"provisioning: not stored, errno 28"
    c.flash = None
    assert (await c.run())[0] == b"lab_1"


async def test_no_memory_for_an_answer_is_no_exception_where_messages_are_received():
    c = Cloud()

    def short(data):
        raise MemoryError

    provisioning.bytes = short
    try:
        await c.run()
    except MemoryError:
        pass
    else:
        raise AssertionError("it went on")
    assert c.events[-1] == "disconnect"
    del provisioning.bytes
    assert (await c.run())[0] == b"lab_1"


async def test_a_flood_of_answers_takes_no_more_memory_than_a_few():
    c = Cloud()
    c.answers[CSR] = [(True, issued(EC_ROOT))] * 100 + [(False, {"errorCode": "Late"})]
    assert await c.run() == b"provisioning: no answer to create-from-csr"


async def test_the_largest_answer_that_the_receive_buffer_takes():
    c = Cloud()
    c.values[b"ProvisionMode"] = b"create"
    text = json.dumps(issued(RSA_ROOT, privateKey=RSA_KEY + " " * 1500))
    padding = 5000 - len(text)
    c.answers[CREATE] = [(True, (text + " " * padding).encode())]
    assert (await c.run())[0] == b"lab_1"


async def test_no_key_can_be_made():
    for name, told in (("generate", b"no key, errno 5"), ("make", b"no key, errno 5")):
        c = Cloud()

        async def fails(*_):
            raise OSError(5, "no random numbers")

        setattr(_Keys, name, fails)
        assert await c.run() == b"provisioning: " + told
        assert c.connections == []
