"""A module from the reel: CONNECT with a claim makes it a registered thing. What can go wrong at
each step leaves the claim as it was, and a later CONNECT succeeds."""

from __future__ import annotations

import base64
import hashlib
import json
import select
import ssl
import time

import pytest
from cryptography import x509

from tests_host.fuzz.tree import tree
from tests_host.system.conftest import connect, give_wifi, next_event, reset
from tools.cloud import pki
from tools.cloud.process import CloudProcess
from tools.cloud.registry import Registry
from tools.sim.filesystem import of_board

CREATE, FROM_CSR, PROVISION = "create", "create-from-csr", "provision"
STEPS = (FROM_CSR, PROVISION)
TOPICS = {
    CREATE: "$aws/certificates/create/json/",
    FROM_CSR: "$aws/certificates/create-from-csr/json/",
    PROVISION: "$aws/provisioning-templates/expresslink/provision/json/",
}
REFUSED = b"ERR14 UNABLE TO CONNECT "
FAILED = REFUSED + b"provisioning: "


@pytest.fixture
def make_reel(make_module):
    """Function that starts a module from the reel, with SSID and passphrase set."""
    count = 0

    def make(*options, **others):
        nonlocal count
        count += 1
        made = make_module("--identity", "claim", *options, state=f"reel-{count}", **others)
        give_wifi(made)
        return made

    return make


@pytest.fixture
def reel(make_reel):
    return make_reel()


def uid_of(module):
    """The chip's number, which is the claim session's client id."""
    return json.loads((module.state / "board.json").read_text())["uid"]


def thing_of(module):
    return module.command(b"AT+CONF? ThingName")[3:].decode()


def refused(module):
    """The cause of a CONNECT that fails; the module is as it was."""
    started = time.monotonic()
    reply = module.command(b"AT+CONNECT", timeout=120)
    assert time.monotonic() - started < 120
    assert reply.startswith(REFUSED), reply
    assert module.command(b"AT+CONNECT?") == b"OK 0"
    unprovisioned(module)
    return reply[len(REFUSED) :]


def unprovisioned(module):
    """Nothing that the module shows is of an identity that did not come to be."""
    assert thing_of(module) == uid_of(module)
    assert module.command(b"AT+CONF? TopicRoot")[3:].decode() == uid_of(module)
    assert module.command(b"AT+CONF? Certificate") == b"OK"
    while (event := module.command(b"AT+EVENT?")) != b"OK":
        assert event == b"OK 2 0 STARTUP", event


def requests(cloud, module):
    """What the cloud has been asked for by this module with the claim, oldest first."""
    uid = uid_of(module)
    return [entry for entry in cloud.control.get("provisionings") if entry["client"] == uid]


def registered(cloud, module):
    """The module is connected as the thing that the registry has, with the certificate that the
    registry has for it; returns the thing's name."""
    assert module.command(b"AT+CONNECT?") == b"OK 1"
    thing = thing_of(module)
    assert thing == "expresslink-" + uid_of(module)
    assert module.command(b"AT+CONF? TopicRoot") == b"OK " + thing.encode()
    pem = module.command(b"AT+CONF? Certificate")[3:].replace(b"\\A", b"\n").decode()
    ident = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    with Registry(cloud.state) as registry:
        principal = registry.principal(ident)
    assert principal.status == "ACTIVE" and principal.things == (thing,)
    assert [c["certificate"] for c in cloud.control.clients() if c["client"] == thing] == [ident]
    assert module.command(b"AT+SEND a b") == b"OK"
    return thing


def recovers(cloud, module):
    """The claim is usable: CONNECT makes the module what it was to become."""
    cloud.control.clear()
    connect(module)
    return registered(cloud, module)


def back_to_the_reel(module):
    """Take what it was issued from a module whose power is off."""
    with of_board(module.state) as filesystem:
        for name in filesystem.names("/config"):
            if name.startswith("Identity"):
                filesystem.remove("/config/" + name)


# -- it works --


def test_from_the_reel_to_a_thing(reel, cloud, operator):
    uid = uid_of(reel)
    unprovisioned(reel)
    started = time.monotonic()
    connect(reel)
    assert time.monotonic() - started < 5
    thing = registered(cloud, reel)
    first, second = requests(cloud, reel)
    assert (first["service"], second["service"]) == STEPS
    assert first["status"] == second["status"] == "ACCEPTED"
    assert cloud.control.request({"thing": thing})["thing"]["attributes"] == {
        "SerialNumber": uid,
        "MAC": uid,
        "Model": "ESP32-DevKitC",
    }
    # The claim's session has been left properly, without a word to the host.
    assert [c["rule"] for c in cloud.control.closings(uid)] == ["client-disconnect"]
    assert reel.command(b"AT+EVENT?") == b"OK"
    messages_pass(reel, operator, thing)
    # The last CONNECT has left nothing to be done again.
    assert reel.command(b"AT+DISCONNECT") == b"OK 0 DISCONNECTED"
    connect(reel)
    assert registered(cloud, reel) == thing
    assert len(requests(cloud, reel)) == 2


def messages_pass(module, operator, thing):
    """Both ways."""
    while module.event():
        assert module.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"
    operator.subscribe(f"{thing}/#")
    assert module.command(b"AT+SEND up hello") == b"OK"
    assert operator.wait(1)[0] == (f"{thing}/up", b"hello")
    for line in (b"CONF Topic1=down", b"SUBSCRIBE1"):
        assert module.command(b"AT+" + line) == b"OK"
    operator.publish(f"{thing}/down", b"hello")
    assert next_event(module) == b"OK 1 1 MSG"
    assert module.command(b"AT+GET1") == b"OK hello"


def test_the_identity_stays(reel, cloud):
    connect(reel)
    thing = registered(cloud, reel)
    reset(reel)
    connect(reel)
    assert registered(cloud, reel) == thing
    reel.power_cut()
    reel.power_on()
    assert thing_of(reel) == thing
    assert reel.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"
    connect(reel)
    # Table 2: a factory reset clears neither name nor certificate.
    assert reel.command(b"AT+FACTORY_RESET") == b"OK"
    reel.wait_ready()
    assert thing_of(reel) == thing
    give_wifi(reel)
    connect(reel)
    assert registered(cloud, reel) == thing
    assert len(requests(cloud, reel)) == 2


def test_with_a_key_of_the_clouds(reel, cloud, operator):
    assert reel.command(b"AT+CONF ProvisionMode=create") == b"OK"
    connect(reel)
    thing = registered(cloud, reel)
    assert [entry["service"] for entry in requests(cloud, reel)] == [CREATE, PROVISION]
    messages_pass(reel, operator, thing)
    reset(reel)
    connect(reel)
    assert registered(cloud, reel) == thing


@pytest.mark.parametrize("mode", [b"csr", b"create"])
def test_nothing_secret_is_told(reel, cloud, mode):
    assert reel.command(b"AT+DIAG LOG DEBUG").startswith(b"OK")
    assert reel.command(b"AT+CONF ProvisionMode=" + mode) == b"OK"
    connect(reel)
    registered(cloud, reel)
    reel.power_cut()
    with of_board(reel.state) as filesystem:
        record = filesystem.read("/config/Identity")
    # The number of an EC key, before its public point; one of an RSA key's, at its end.
    secret = record[-114:-82] if mode == b"csr" else record[-60:]
    console = reel.console()
    for form in (repr(secret)[2:-1], secret.hex()):
        assert form not in console
    for shift in range(3):
        assert base64.b64encode(secret[shift : shift + 24]).decode() not in console
    for word in ("PRIVATE", "BEGIN", "ownershipToken", "MII"):
        assert word not in console


@pytest.mark.parametrize("options", [("--heap", "96"), ("--stock", "--heap", "128")], ids=str)
@pytest.mark.parametrize("mode", [b"csr", b"create"])
def test_on_a_small_heap(make_reel, cloud, mode, options):
    module = make_reel(*options)
    assert module.command(b"AT+CONF ProvisionMode=" + mode) == b"OK"
    connect(module)
    registered(cloud, module)
    assert "emory" not in module.console()


@pytest.mark.parametrize("heap", [84, 87, 89])
@pytest.mark.parametrize("mode", [b"csr", b"create"])
def test_on_a_heap_that_may_be_too_small(make_reel, cloud, mode, heap):
    """It is done or refused; how much is needed changes with all else that the module keeps."""
    module = make_reel("--heap", str(heap))
    assert module.command(b"AT+CONF ProvisionMode=" + mode) == b"OK"
    reply = b""
    for _ in range(2):
        reply = module.command(b"AT+CONNECT", timeout=60)
        assert reply in (b"OK 1 CONNECTED", REFUSED + b"no memory")
    if reply == b"OK 1 CONNECTED":
        registered(cloud, module)
    else:
        unprovisioned(module)
    assert "Traceback" not in module.console()


def test_a_second_module_with_the_same_claim(make_reel, cloud):
    both = [make_reel(), make_reel()]
    for module in both:
        module.write(b"AT+CONNECT\n")
    for module in both:
        assert module.read_line(60) == b"OK 1 CONNECTED"
    assert len({registered(cloud, module) for module in both}) == 2


# -- what the cloud may say or not say --


@pytest.mark.parametrize("step", STEPS)
def test_rejected(reel, cloud, step):
    cloud.control.fault("refuse", at=step, error="Throttling", client=uid_of(reel))
    assert refused(reel) == b"provisioning: Throttling"
    recovers(cloud, reel)


def test_rejected_without_a_csr(reel, cloud):
    assert reel.command(b"AT+CONF ProvisionMode=create") == b"OK"
    cloud.control.fault("refuse", at=CREATE, error="LimitExceeded", client=uid_of(reel))
    assert refused(reel) == b"provisioning: LimitExceeded"
    recovers(cloud, reel)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("fault", ["duplicate", "delay", "dribble", "duplicate-packets"])
def test_answers_late_twice_and_in_pieces(reel, cloud, step, fault):
    uid = uid_of(reel)
    if fault == "delay":
        cloud.control.fault("delay", at=step, ms=1500, client=uid)
    elif fault == "duplicate":
        cloud.control.fault("duplicate", at=step, client=uid)
    elif fault == "dribble":
        cloud.control.fault("dribble", packet="PUBLISH", size=50, ms=1, client=uid)
    else:
        cloud.control.fault("duplicate", client=uid)
    connect(reel)
    registered(cloud, reel)
    assert len(requests(cloud, reel)) == 2
    untold(reel)


def untold(module):
    """None of the answers has become a message for the host."""
    assert module.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"
    assert module.command(b"AT+EVENT?") == b"OK"
    assert module.command(b"AT+GET") == b"OK"


def test_somebody_elses_certificate_comes_first(reel, cloud):
    cloud.control.fault("foreign", at=FROM_CSR, when="before", client=uid_of(reel))
    connect(reel)
    registered(cloud, reel)
    assert "somebody else's answer to b'create-from-csr'" in reel.console()
    untold(reel)


@pytest.mark.parametrize("step", STEPS)
def test_somebody_elses_answer_comes_after_ours(reel, cloud, step):
    cloud.control.fault("foreign", at=step, when="after", client=uid_of(reel))
    cloud.control.fault("foreign", at=step, when="after", error="Theirs", client=uid_of(reel))
    connect(reel)
    registered(cloud, reel)
    untold(reel)


def test_a_thing_that_the_cloud_does_not_let_us_be(reel, cloud):
    cloud.control.fault("foreign", at=PROVISION, when="instead", client=uid_of(reel))
    why = b"refused by the endpoint, code 7 not authorized, new identity dropped"
    assert refused(reel) == why
    recovers(cloud, reel)


def test_a_thing_that_the_cloud_does_not_know_yet(reel, cloud):
    """A trial is refused once and then accepted: it is the identity."""
    cloud.control.fault("refuse", at="connect", code=5, count=1, client=thing_to_be(reel))
    connect(reel)
    registered(cloud, reel)
    assert len(requests(cloud, reel)) == 2


def cause(module):
    """Why a CONNECT fails; the module may be on trial."""
    reply = module.command(b"AT+CONNECT", timeout=120)
    assert reply.startswith(REFUSED), reply
    return reply[len(REFUSED) :]


def test_a_refusal_that_may_be_anybodys_does_not_cost_the_identity(reel, cloud):
    """Closed in CONNACK's place, as AWS does and any box on the way can: in doubt. The claim has
    the next turn; when it fares no better it was not the identity, and nothing is issued twice."""
    thing = thing_to_be(reel)
    faults = cloud.control.fault
    faults("close", packet="CONNACK", count=4, client=thing)
    assert cause(reel).endswith(b"before CONNACK, is the certificate registered")
    assert reel.command(b"AT+DIAG INFO identity") == b"OK trial"
    why = cause(reel)
    assert why.endswith(b", new identity in doubt"), why
    assert reel.command(b"AT+DIAG INFO identity") == b"OK claim"
    faults("close", packet="CONNACK", count=1, client=uid_of(reel))
    assert cause(reel).startswith(b"provisioning: ")
    assert reel.command(b"AT+DIAG INFO identity") == b"OK trial"
    assert len(requests(cloud, reel)) == 2
    connect(reel)
    registered(cloud, reel)
    assert len(requests(cloud, reel)) == 2


def test_an_identity_in_doubt_is_replaced_by_one_that_works(reel, cloud):
    cloud.control.fault("close", packet="CONNACK", count=4, client=thing_to_be(reel))
    cause(reel)
    assert cause(reel).endswith(b", new identity in doubt")
    connect(reel)
    registered(cloud, reel)
    assert len(requests(cloud, reel)) == 4
    assert reel.command(b"AT+DIAG INFO identity") == b"OK ready"


def thing_to_be(module):
    return "expresslink-" + uid_of(module)


def test_the_cloud_is_gone_when_the_thing_is_to_connect(reel, cloud):
    """An identity that could not be tried stays on trial, and is tried by the next CONNECT."""
    cloud.control.fault("refuse", at="connect", code=3, client=thing_to_be(reel))
    assert b"code 3" in reel.command(b"AT+CONNECT", timeout=60)
    assert thing_of(reel) == thing_to_be(reel)
    reel.power_cut()
    reel.power_on()
    recovers(cloud, reel)
    assert len(requests(cloud, reel)) == 2


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"enabled": False}, b"ResourceNotFound"),
        ({"hook": {"allowProvisioning": False}}, b"AccessDenied"),
    ],
    ids=["disabled", "hook denies"],
)
def test_the_template_says_no(reel, cloud, change, cause):
    cloud.control.request({"put_template": {"name": "expresslink", **change}})
    try:
        assert refused(reel) == b"provisioning: " + cause
    finally:
        cloud.control.request(
            {"put_template": {"name": "expresslink", "enabled": True, "hook": None}}
        )
    recovers(cloud, reel)


def test_the_template_is_missing_or_makes_no_usable_name(reel, cloud):
    old = cloud.control.request({"template": "expresslink"})["template"]
    cloud.control.request({"remove_template": "expresslink"})
    try:
        assert refused(reel) == b"provisioning: ResourceNotFound"
    finally:
        cloud.control.request({"put_template": {"name": "expresslink", "body": old["body"]}})
    recovers(cloud, reel)


@pytest.mark.parametrize("status", ["INACTIVE", "REVOKED"])
def test_the_claim_is_revoked(reel, cloud, status):
    claim = pki.certificate_id(
        x509.load_pem_x509_certificate((cloud.state / "claim.pem").read_bytes())
    )
    cloud.control.certificate(claim, status)
    try:
        assert refused(reel).startswith(b"provisioning: closed by the endpoint before CONNACK")
    finally:
        cloud.control.certificate(claim, "ACTIVE")
    recovers(cloud, reel)


@pytest.mark.parametrize("step", STEPS)
def test_the_subscription_is_refused(reel, cloud, step):
    cloud.control.fault("suback", filter=TOPICS[step] + "accepted", client=uid_of(reel))
    assert refused(reel) == b"provisioning: subscription refused, " + step.encode()
    recovers(cloud, reel)


def test_wrong_clock(reel, cloud):
    cloud.control.sntp(offset=-40 * 365 * 86400)
    try:
        assert refused(reel).startswith(b"no time: SNTP")
    finally:
        cloud.control.sntp(offset=0)
    assert requests(cloud, reel) == []
    recovers(cloud, reel)


# -- links that end --


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_the_cloud_closes_at_the_answer(reel, cloud, step, when):
    cloud.control.fault("close", at=step, when=when, client=uid_of(reel))
    reply = reel.command(b"AT+CONNECT", timeout=60)
    if when == "after" and reply == b"OK 1 CONNECTED":
        # The answer had been read by then.
        assert step == PROVISION
        registered(cloud, reel)
        return
    later = step if when == "before" else PROVISION
    assert reply == FAILED + later.encode() + b", closed by the endpoint"
    unprovisioned(reel)
    recovers(cloud, reel)


def asked(cloud, module, step, count=0):
    """Wait until the cloud has a request for `step`, those of the first `count` not counted."""
    until = time.monotonic() + 20
    while not (found := requests(cloud, module)[count:]) or found[-1]["service"] != step:
        assert time.monotonic() < until, (found, module.console())
        time.sleep(0.01)


def hold(cloud, module, step):
    """CONNECT is held up: the cloud has a request for `step` and keeps its answer back."""
    cloud.control.fault("silent", at=step, client=uid_of(module))
    count = len(requests(cloud, module))
    module.write(b"AT+CONNECT\n")
    asked(cloud, module, step, count)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("reset", [False, True])
def test_the_link_is_lost_while_we_wait(reel, cloud, step, reset):
    hold(cloud, reel, step)
    cloud.control.kick(uid_of(reel), reset=reset)
    reply = reel.read_line(5)
    assert reply.startswith(FAILED + step.encode() + b", "), reply
    unprovisioned(reel)
    recovers(cloud, reel)


@pytest.mark.parametrize("step", STEPS)
def test_power_cut_while_we_wait(reel, cloud, step):
    hold(cloud, reel, step)
    reel.power_cut()
    reel.power_on()
    unprovisioned(reel)
    recovers(cloud, reel)


def test_nobody_answers(make_reel, cloud):
    """Modules at once, since each waits for 30 s."""
    create = make_reel()
    assert create.command(b"AT+CONF ProvisionMode=create") == b"OK"
    no_answer = b"no answer to "
    waiting = (
        (make_reel(), FROM_CSR, "silent", {}, no_answer + b"create-from-csr"),
        (make_reel(), PROVISION, "silent", {}, no_answer + b"provision"),
        (create, CREATE, "silent", {}, no_answer + b"create"),
        # Somebody else's is no answer either.
        (
            make_reel(),
            FROM_CSR,
            "foreign",
            {"when": "instead"},
            no_answer + b"create-from-csr",
        ),
    )
    unplugged = [make_reel(), make_reel()]
    deaf = make_reel()
    started = time.monotonic()
    for module, step, kind, more, _ in waiting:
        cloud.control.fault(kind, at=step, client=uid_of(module), **more)
        module.write(b"AT+CONNECT\n")
    for module, step in zip(unplugged, STEPS, strict=True):
        hold(cloud, module, step)
        module.wifi(up=False)
    cloud.control.fault("drop", packet="SUBACK", client=uid_of(deaf))
    deaf.write(b"AT+CONNECT\n")
    assert deaf.read_line(20) == FAILED + b"create-from-csr, no answer from the endpoint"
    for module, *_, why in waiting:
        assert module.read_line(60) == FAILED + why
    for module, step in zip(unplugged, STEPS, strict=True):
        assert module.read_line(60) == FAILED + no_answer + step.encode()
        module.wifi(up=True)
    assert 29 < time.monotonic() - started < 45
    cloud.control.clear()
    for module in [row[0] for row in waiting] + unplugged + [deaf]:
        unprovisioned(module)
        recovers(cloud, module)


@pytest.mark.parametrize(
    ("packet", "which"),
    [("CONNACK", 1), *(("SUBACK", n) for n in (1, 2, 3, 4)), ("PUBLISH", 1), ("PUBLISH", 2)],
)
def test_the_cloud_closes_in_mid_packet(reel, cloud, packet, which):
    """At each packet that the claim's session is sent, in its turn; PUBACKs are not waited for."""
    cloud.control.fault("close", packet=packet, every=which, count=1, client=uid_of(reel))
    assert refused(reel).startswith(b"provisioning: ")
    recovers(cloud, reel)


def test_no_acknowledgement_is_needed_beside_the_answer(reel, cloud):
    cloud.control.fault("drop", packet="PUBACK", client=uid_of(reel))
    connect(reel)
    cloud.control.clear()
    registered(cloud, reel)


def test_the_cloud_is_restarted_in_between(make_module, tmp_path):
    with CloudProcess(tmp_path / "cloud") as own:
        for step in STEPS:
            module = make_module("--identity", "claim", state=step, cloud_state=own.state)
            give_wifi(module)
            hold(own, module, step)
            own.restart()
            assert module.read_line(60).startswith(FAILED + step.encode() + b", ")
            unprovisioned(module)
            # The port is a new one where the old one was not asked for by number.
            assert module.command(b"AT+CONF EndPoint=localhost:%d" % own.mqtt) == b"OK"
            assert module.command(b"AT+CONF NTPServer=localhost:%d" % own.sntp) == b"OK"
            recovers(own, module)


# -- answers that are none --


def issued(cloud, module):
    """An accepted answer of the right form, but for another key."""
    pem = (cloud.state / "claim.pem").read_text()
    return {"certificateId": "0" * 64, "certificatePem": pem, "certificateOwnershipToken": "t"}


def test_broken_answers(make_reel, cloud):
    """They are passed over, and the right one that comes after them counts."""
    module = make_reel()
    uid = uid_of(module)
    good = json.dumps(issued(cloud, module)).encode()
    broken = [
        b"",
        b"null",
        b"[[[[",
        b"{}",
        good[:-1],
        good[:700],
        b"\xff" + good,
        good.replace(b"MII", b"AII"),
        good.replace(b'"t"', b"7"),
        good,
        b"x" * 5000,
        b"x" * 5600,  # over the module's buffer
        b"x" * 60000,
    ]
    wrong = [b"", b"{", b"[]", b'{"thingName":7}', b'{"deviceConfiguration":{}}', b"y" * 9000]
    cloud.control.fault("delay", at=FROM_CSR, ms=1000, client=uid)
    cloud.control.fault("delay", at=PROVISION, ms=1000, client=uid)
    module.write(b"AT+CONNECT\n")
    for step, payloads in ((FROM_CSR, broken), (PROVISION, wrong)):
        asked(cloud, module, step)
        for payload in payloads:
            cloud.control.deliver(uid, TOPICS[step] + "accepted", payload, qos=1)
            time.sleep(0.02)
    assert module.read_line(60) == b"OK 1 CONNECTED"
    registered(cloud, module)
    untold(module)
    assert "Traceback" not in module.console()


def test_names_that_no_thing_may_have(make_reel, cloud):
    module = make_reel()
    for name in ("", "a b", "x" * 129, "$aws/x", "caf\u00e9"):
        hold(cloud, module, PROVISION)
        answer = json.dumps({"thingName": name}).encode()
        cloud.control.deliver(uid_of(module), TOPICS[PROVISION] + "accepted", answer, qos=1)
        assert module.read_line(10) == FAILED + b"thing name not usable"
        unprovisioned(module)
        cloud.control.clear()
        reset(module)  # forgets the back-off
    recovers(cloud, module)


# -- power cuts --


def from_the_reel_again(module):
    """As if nothing had been issued to it yet; the power is on then."""
    module.power_cut()
    back_to_the_reel(module)
    module.power_on()


def test_power_cut_at_any_time(reel, cloud):
    """In all steps on the network: what the module says is all old or all new."""
    started = time.monotonic()
    recovers(cloud, reel)
    whole = time.monotonic() - started
    for part in range(12):
        from_the_reel_again(reel)
        reel.write(b"AT+CONNECT\n")
        time.sleep(whole * part / 12)
        reel.power_cut()
        reel.flush()
        reel.power_on()
        if thing_of(reel) == uid_of(reel):
            unprovisioned(reel)
        else:
            assert thing_of(reel) == thing_to_be(reel)
        recovers(cloud, reel)


def test_power_cut_at_every_flash_operation(make_reel, cloud, tmp_path):
    """From the first to the last operation of a CONNECT that provisions, the operation done in
    part: what the module says then is all old or all new, and CONNECT makes a working identity
    of it."""
    torn = tree(tmp_path / "tree", "torn_flash", "import torn_flash\n")
    reel = make_reel("--source", torn)
    after = 0
    stages = {"claim": 0, "issued": 0}
    while True:
        after += 1
        assert after < 60
        reel.fail_after(after)
        reel.write(b"AT+CONNECT\n")
        until = time.monotonic() + 20
        while reel.get("state") != "off" and not select.select([reel.fileno()], [], [], 0.01)[0]:
            assert time.monotonic() < until
        reel.fail_after(0)
        if reel.get("state") != "off":
            assert reel.read_line() == b"OK 1 CONNECTED"
            break
        reel.flush()
        reel.power_on()
        if thing_of(reel) == uid_of(reel):
            unprovisioned(reel)
            stages["claim"] += 1
        else:
            assert thing_of(reel) == thing_to_be(reel)
            stages["issued"] += 1
        recovers(cloud, reel)
        from_the_reel_again(reel)
    registered(cloud, reel)
    assert stages["claim"] and stages["issued"], stages
