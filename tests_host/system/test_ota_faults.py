"""What may be wrong with an update's file, its signature, and those who deliver it: each ends in
a reason in the job and an event, and the next update works.

One module and one cloud serve all of a board's cases; nothing is restarted between them.
"""

from __future__ import annotations

import base64
import random
import re
import time

import pytest

from tests_host.boards import Board, boards_of, both
from tests_host.conformance.certificates import Certificates
from tests_host.updates import image, ota_event, signer, wait_state
from tests_host.versions import flipped, payload, small, tree, wrapped
from tools.fleet import image_header, signing

# What the tests wait for is shortened; all else is the module's.
IMPATIENT = {
    "firmware/ota/stream.py": (("_PATIENCE = const(105000)", "_PATIENCE = const(6000)"),),
    "lib/http_client.py": (("timeout_ms=10000", "timeout_ms=2000"),),
    "firmware/ota/web.py": (("_PATIENCE = const(105000)", "_PATIENCE = const(6000)"),),
}


class Target(Board):
    """A board, and how its updates may end."""

    def fails(self, reason, data, **how):
        """The update is accepted, and fails for `reason` (a regular expression)."""
        update = self.accept(data, **how)
        self.failed(update, reason)
        return update

    def failed(self, update, reason, status="FAILED"):
        """The update ends like that, in the job and for the host."""
        event = ota_event(self.module, 15).decode()
        ended = update.ended()
        assert re.fullmatch(reason, ended[1]), (ended, event)
        assert event == "FAILED " + ended[1]
        assert ended[0] == status
        wait_state(self.module, 0, 10)

    def rejected(self, reason, data, **how):
        """The update is refused before the host hears of it."""
        update = self.order(data, **how)
        status, said = update.ended()
        assert (status, bool(re.fullmatch(reason, said))) == ("REJECTED", True), (status, said)
        assert self.module.command(b"AT+OTA?") == b"OK 0"
        assert not self.module.event()

    def works(self):
        """A good image is taken."""
        self.flush(self.ready(small(self.kind)))


@pytest.fixture(scope="module")
def boards(_cloud, tmp_path_factory):
    """Function that gives the board of a kind; each is started once."""
    source = tree(tmp_path_factory.mktemp("impatient"), IMPATIENT)
    with boards_of(Target, _cloud, tmp_path_factory, "--source", source) as get:
        yield get


@pytest.fixture
def board(boards, cloud, request):
    """The board with slots, or that of the kind which the test asks for; a good update at the
    end."""
    found = boards(getattr(request, "param", "slot"))
    try:
        yield found
        found.cloud.control.clear()
        found.works()
    finally:
        found.tidy()


# The file.


@both
def test_flipped_bits(board):
    """A bit of the file turns over after it was signed: in the header, or behind it."""
    good = small(board.kind)
    dice = random.Random(board.kind)
    used = image_header._FIELDS.size
    header = [dice.randrange(8 * used) for _ in range(5)]
    header += [dice.randrange(8 * used, 8 * 252), dice.randrange(8 * 252, 8 * 256)]
    for bit in header:
        update = {"change": _signature_of(board, good)}
        board.fails("image header is damaged|no module image", flipped(good, bit), **update)
    for bit in [2048, 8 * len(good) - 1, *(dice.randrange(2048, 8 * len(good)) for _ in "1234")]:
        update = {"change": _signature_of(board, good)}
        board.fails("signature does not verify", flipped(good, bit), **update)


def _signature_of(board, data):
    """Function that puts the signature of `data` into a document."""
    made = signing.sign(data, signing.load_key(signer(board.cloud)))

    def change(document):
        file = document["afr_ota"]["files"][0]
        file[made.field] = made.text
        return document

    return change


@both
def test_flipped_bits_of_the_signature(board):
    good = small(board.kind)
    dice = random.Random(1)

    def bad(bit):
        def change(document):
            file = document["afr_ota"]["files"][0]
            value = base64.b64decode(file["sig-sha256-ecdsa"])
            file["sig-sha256-ecdsa"] = base64.b64encode(flipped(value, bit)).decode()
            return document

        return change

    # The first bytes are the DER around the two numbers.
    for bit in (0, 9, 24, 8 * 6, 8 * 40, *(dice.randrange(8 * 4, 8 * 68) for _ in range(3))):
        board.fails("signature .+", good, change=bad(bit))


@both
def test_damaged_before_it_was_signed(board):
    """Whoever may sign can still make a mistake."""
    good = small(board.kind)
    reasons = "image does not match its header's SHA-256|ESP32 image: .+|.*bundle.*"
    dice = random.Random(2)
    for bit in (8 * len(good) - 1, dice.randrange(2048, 8 * len(good)), 2048):
        board.fails(reasons + "|no ESP32 image", flipped(good, bit))
    # The header suits what is behind it, and that is nothing that runs.
    plain = random.Random(3).randbytes(5_000)
    board.fails("no ESP32 image|no bundle.*|.*bundle.*", wrapped(board.kind, plain))
    cut = payload(board.kind)[:-40]
    board.fails("ESP32 image: .+|.*bundle.*", wrapped(board.kind, cut))
    board.fails("ESP32 image: .+|.*bundle.*", wrapped(board.kind, payload(board.kind) + bytes(64)))


@both
def test_truncated_and_oversize(board):
    good = small(board.kind)
    board.rejected("no module image", good[:1])
    board.rejected("no module image", good[:255])
    board.rejected("no module image", good[:256])
    for size in (257, 4_096, len(good) // 2, len(good) - 1):
        board.fails(f"image of {size} bytes, header says {len(good)}", good[:size])
    board.fails("image of .+ header says .+", good + b"\0")
    board.fails("image of .+ header says .+", good + good)
    board.rejected("image too large.*|no room for the image", bytes(0x270000 + 257))


@both
def test_an_empty_file(board):
    def empty(document):
        document["afr_ota"]["files"][0]["filesize"] = 0
        return document

    board.rejected(".+", small(board.kind), change=empty)


@both
def test_for_somebody_else(board):
    other = "bundle" if board.kind == "slot" else "slot"
    kind = board.kind
    update = board.accept(small(other))
    board.failed(update, "not a slot image|not a bundle", "REJECTED")
    board.fails("image of another vendor", small(kind, vendor="somebody"))
    board.fails("image for the model lamp", small(kind, model="lamp"))
    board.fails("image for the chip esp32s3", small(kind, chip="esp32s3"))
    # What the job says is looked at before it is proposed.
    wrong = {"vendor": "another vendor's image", "model": "image for another model"}
    for field, reason in wrong.items():

        def change(document, field=field):
            document["afr_ota"]["files"][0][field] = "lamp"
            return document

        board.rejected(reason, small(kind), change=change)


@both
def test_versions(board):
    """A lower one needs the host's word, and that is enough."""
    board.flush(board.ready(small(board.kind, version="0.0.1")))
    board.fails(
        "another version than the job says",
        small(board.kind),
        change=lambda d: d["afr_ota"]["files"][0].update(version="9.1.1") or d,
    )


# Signatures.


@pytest.fixture(scope="module")
def certificates(_cloud):
    return Certificates(_cloud.state)


@both
def test_signed_by_somebody_else(board, certificates):
    key = signing.load_key(certificates.key_file("stranger"))
    good = small(board.kind)
    made = signing.sign(good, key)

    def change(document):
        document["afr_ota"]["files"][0][made.field] = made.text
        return document

    board.fails("signature does not verify", good, change=change)
    # Forced, nobody is asked, and the host is told.
    forced = {"change": lambda d: change(d)["afr_ota"]["files"][0].update(force="YES") or d}
    update = board.order(good, **forced)
    assert ota_event(board.module, 15) == b""
    board.failed(update, "signature does not verify")


def test_without_a_signature(board):
    good = small("slot")

    def unsigned(document):
        file = document["afr_ota"]["files"][0]
        del file["sig-sha256-ecdsa"]
        file["sig--"] = None
        return document

    board.rejected("module image is not signed", good, change=unsigned)
    for size in (True, False):

        def simple(document, size=size):
            del document["sig-sha256-ecdsa"]
            if not size:
                del document["size"]
            return document

        board.rejected("module image is not signed", good, simple=True, change=simple)


# Who delivers it.


STREAM_LIES = {
    "longer": (1, "stream sends other blocks than the job says|.*header says.*"),
    "shorter": (-1, "stream sends other blocks than the job says|.*header says.*"),
    "a block more": (4_096, ".*header says.*|stream .*"),
    "a block less": (-4_096, ".*header says.*|stream .*"),
}


@pytest.mark.parametrize("lie", STREAM_LIES)
def test_a_job_whose_size_is_not_the_streams(board, lie):
    by, reason = STREAM_LIES[lie]

    def change(document):
        document["afr_ota"]["files"][0]["filesize"] += by
        return document

    board.fails(reason, small("slot"), change=change)


def test_a_stream_that_is_not_there(board):
    def change(document):
        document["afr_ota"]["streamname"] = "nobody"
        return document

    board.fails("stream rejected, ResourceNotFound", small("slot"), change=change)


def test_a_file_that_is_not_in_the_stream(board):
    def change(document):
        document["afr_ota"]["files"][0]["fileid"] = 7
        return document

    board.fails("stream rejected, .+|stream .+", small("slot"), change=change)


REFUSALS = {
    "refuse": (
        {"error": "ResourceNotFound", "request": "get"},
        "stream rejected, ResourceNotFound",
    ),
    "flip": ({}, "signature does not verify|image header is damaged|no module image"),
    "wrong-size": ({"by": -1}, "stream sends other blocks than the job says"),
    "wrong-length": ({"by": 1}, "stream sends other blocks than the job says"),
    "silent": ({}, "stream sends nothing"),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_streams_that_do_not_deliver(board, kind):
    fields, reason = REFUSALS[kind]
    board.cloud.control.fault(kind, at="streams", **fields)
    board.fails(reason, small("slot"))


PASSING = {
    "refuse": {"error": "InternalError", "count": 1},
    "silent": {"count": 1},
    "drop": {"every": 3, "count": 1},
    "duplicate": {"every": 2},
    "reorder": {},
    "foreign": {"every": 2},
    "wrong-length": {"by": 1, "count": 2},
}


@pytest.mark.parametrize("kind", PASSING)
def test_streams_that_deliver_late(board, kind):
    """Lost, double, mixed and foreign blocks cost time."""
    board.cloud.control.fault(kind, at="streams", **PASSING[kind])
    board.flush(board.ready(small("slot")))


FILE_FAULTS = {
    "redirect": ({}, "file server: redirected, status 307"),
    "redirect to http": ({"to": "http://localhost/x"}, "file server: redirected, status 307"),
    "refuse 404": ({"code": 404}, "file server: status 404"),
    "refuse 403": ({"code": 403}, "the URL is refused"),
    "refuse 500": ({"code": 500}, "file server: status 500"),
    "flip": ({}, "signature does not verify|image header is damaged|no module image"),
    # Less than a block: with more, each try would bring it on.
    "stall": ({"bytes": 100}, "file server: no answer"),
    "silent": ({}, "file server: no answer"),
    "close": ({"bytes": 0, "count": 1000}, "file server: .+"),
    "wrong-length": ({"by": 7}, "file server: .+"),
}


@pytest.mark.parametrize("name", FILE_FAULTS)
def test_file_servers_that_do_not_deliver(board, name):
    fields, reason = FILE_FAULTS[name]
    board.cloud.control.fault(name.split()[0], at="files", **fields)
    board.fails(reason, small("slot"), protocol="http")


FILE_PASSING = {
    "refuse 403": {"code": 403, "count": 2},
    "refuse 503": {"code": 503, "count": 1},
    "close": {"bytes": 9_000, "count": 1},
    "stall": {"bytes": 9_000, "ms": 1500},
    "delay": {"ms": 700},
}


@pytest.mark.parametrize("name", FILE_PASSING)
def test_file_servers_that_deliver_late(board, name):
    board.cloud.control.fault(name.split()[0], at="files", **FILE_PASSING[name])
    update = board.ready(small("slot"), protocol="http")
    used = [d for d in board.cloud.control.downloads() if update.job in d["key"]]
    assert len(used) == 1 + FILE_PASSING[name].get("count", 0)
    board.flush(update)


def test_a_url_that_has_expired_when_the_host_accepts(board):
    """The document is asked for again, and with it comes a fresh one."""
    board.cloud.control.set(url_life=1.0)
    update = board.order(small("slot"), protocol="http")
    assert ota_event(board.module, 15) == b""
    time.sleep(1.2)
    assert board.module.command(b"AT+OTA ACCEPT") == b"OK"
    assert ota_event(board.module, 15) == b""
    board.flush(update)


def test_a_url_that_expires_in_mid_download(board):
    board.cloud.control.set(url_life=1.0)
    board.cloud.control.fault("close", at="files", bytes=9_000, count=1)
    board.cloud.control.fault("delay", at="files", ms=1100, count=1)
    update = board.ready(small("slot"), protocol="http")
    used = [d for d in board.cloud.control.downloads() if update.job in d["key"]]
    assert 403 in [d["status"] for d in used] and used[-1]["status"] == 206, used
    board.flush(update)


@pytest.mark.parametrize("which", ["expired", "wrong-ca", "wrong-name"])
def test_a_file_server_that_is_somebody_else(board, which):
    board.cloud.control.fault("server-certificate", which=which)
    board.fails("file server: .*(cert|CA|name|valid|expired).*", small("slot"), protocol="http")


def test_a_dead_stream_and_a_url(board):
    """Both are given: what the stream does not deliver comes by HTTPS."""
    data = small("slot")

    def change(document):
        document["afr_ota"]["streamname"] = "nobody"
        document["afr_ota"]["protocols"] = ["MQTT", "HTTP"]
        return document

    update = board.ready(data, protocol="http", change=change)
    assert [d for d in board.cloud.control.downloads() if update.job in d["key"]]
    board.flush(update)


@both
@pytest.mark.parametrize("size", [True, False], ids=["size", "no size"])
def test_the_simple_form_of_job(board, size):
    def change(document):
        if not size:
            del document["size"]
        return document

    board.flush(board.ready(small(board.kind), simple=True, change=change))
    bad = flipped(small(board.kind), 8 * 9_000)

    def wrong(document):
        document["sig-sha256-ecdsa"] = "MAYCAQECAQE="
        return change(document)

    board.fails("signature does not verify", bad, simple=True, change=wrong)


# What waits, and is taken away.


@both
@pytest.mark.parametrize("how", ["cancelled", "deleted"])
@pytest.mark.parametrize("phase", ["loading", "ready"])
def test_a_module_image_that_is_taken_away(board, how, phase):
    control = board.cloud.control
    if phase == "loading":
        control.fault("delay", at="streams", ms=300)
        update = board.accept(wrapped(board.kind, payload(board.kind, 100_000)))
        update.is_in("IN_PROGRESS")
        wait_state(board.module, 3)
    else:
        update = board.ready(small(board.kind))
    if how == "cancelled":
        control.cancel_job(update.job, force=True)
    else:
        control.delete_job(update.job, force=True)
    assert ota_event(board.module, 15) == b"CANCELED"
    wait_state(board.module, 0)
    assert board.module.command(b"AT+OTA APPLY").startswith(b"ERR19 ")


@both
def test_at_the_end_a_good_version_runs(board):
    """After all of that."""
    update = board.ready(image(board.kind, "9.9.0"))
    assert board.module.command(b"AT+OTA APPLY") == b"OK"
    board.module.wait_ready()
    assert board.module.command(b"AT+EVENT?") == b"OK 2 0 STARTUP"
    assert ota_event(board.module, 15) == b"APPLIED 9.9.0"
    assert update.ended() == ("SUCCEEDED", "accepted 9.9.0")
    assert board.module.command(b"AT+CONF? Version") == b"OK 9.9.0"
    wait_state(board.module, 0)
