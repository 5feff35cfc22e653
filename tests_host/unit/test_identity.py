"""The factory data: checksums, and what is said of damage."""

import pytest

from firmware.config import identity as module
from firmware.config import trial
from firmware.config.factory import load
from firmware.config.store import Store
from tests_host.unit.test_sim_factory import DEVICE, KEY, make, pem

UID = b"\x02\x03\x04\x05\x06\x07"


@pytest.fixture
def factory(tmp_path, monkeypatch):
    """A folder with the factory files of a module."""
    monkeypatch.setattr(module, "FOLDER", str(tmp_path) + "/")
    files = make(birth=(pem(DEVICE), pem(KEY)), ota_cert_pem=pem(DEVICE), thing="lab")
    for name, data in files.items():
        (tmp_path / name.rsplit("/", 1)[1]).write_bytes(data)
    return tmp_path


def flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def test_sound(factory):
    found = load(UID)
    assert (found.faults, found.fault(), found.certified) == ([], None, True)
    assert found.thing == b"lab"
    assert found.private_key()


def test_none_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FOLDER", str(tmp_path) + "/")
    found = load(UID)
    assert (found.faults, found.certified) == ([], False)
    assert found.thing == b"020304050607"


@pytest.mark.parametrize("name", ["cert.der", "key.der", "roots.der", "module.json"])
def test_what_a_connection_needs_is_lost_by_any_bit(factory, name):
    size = len((factory / name).read_bytes())
    for bit in (0, 17, size * 4 + 3, size * 8 - 1):
        flip(factory / name, bit)
        found = load(UID)
        assert (found.faults, found.fault()) == ([name], name)
        assert found.thing == (b"020304050607" if name == "module.json" else b"lab")
        flip(factory / name, bit)
    assert load(UID).faults == []


def test_a_missing_key_is_a_fault(factory):
    (factory / "key.der").unlink()
    assert load(UID).fault() == "key.der"


@pytest.mark.parametrize("name", ["ota_cert.der"])
def test_what_a_connection_does_not_need(factory, name):
    flip(factory / name, 100)
    found = load(UID)
    assert (found.faults, found.fault()) == ([name], None)
    assert found.certificate()
    assert found.private_key()


def test_damaged_sums_accuse_nobody(factory):
    for bit in range(0, len((factory / "sums").read_bytes()) * 8, 7):
        flip(factory / "sums", bit)
        found = load(UID)
        assert (found.faults, found.certified) == (["sums"], True), bit
        flip(factory / "sums", bit)


def test_factory_files_from_before_there_were_sums(factory):
    (factory / "sums").unlink()
    assert load(UID).faults == []
    (factory / "cert.der").write_bytes(b"no DER")
    assert load(UID).fault() == "cert.der"


# What the cloud has issued since.


class Told:
    """Stands for the dictionary: what it was told of names."""

    def __init__(self):
        self.values = {}

    def provide(self, name, value):
        self.values[name] = value


CERTIFICATE = b"\x30\x03\x02\x01\x01"
PRIVATE = b"\x30\x03\x02\x01\x07"


def attached(folder):
    found = load(UID)
    told = Told()
    store = Store(str(folder))
    found.attach(store, told)
    return found, told.values, store


def who(found):
    return found.thing, found.certificate(), found.private_key(), found.certified, found.on_trial


def test_a_trial_that_works_stays(factory, tmp_path):
    folder = tmp_path / "config"
    found, told, _ = attached(folder)
    born = who(found)
    assert told == {b"ThingName": b"lab", b"TopicRoot": b"lab"}
    trial.propose(found, b"new", CERTIFICATE, PRIVATE)
    assert who(found) == (b"new", [CERTIFICATE], PRIVATE, True, True)
    assert told == {b"ThingName": b"new", b"TopicRoot": b"new"}
    found, told, _ = attached(folder)
    assert who(found) == (b"new", [CERTIFICATE], PRIVATE, True, True)
    trial.worked(found)
    assert who(found) == (b"new", [CERTIFICATE], PRIVATE, True, False)
    again, told, _ = attached(folder)
    assert who(again) == who(found)
    assert told == {b"ThingName": b"new", b"TopicRoot": b"new"}
    assert who(again) != born


def test_a_trial_that_the_cloud_denies_goes(factory, tmp_path):
    found, told, store = attached(tmp_path / "config")
    born = who(found)
    trial.propose(found, b"new", CERTIFICATE, PRIVATE)
    assert trial.refused(found, True)
    assert who(found) == born
    assert told[b"ThingName"] == b"lab"
    assert store.read(module.TRIAL) is None
    trial.propose(found, b"first", CERTIFICATE, PRIVATE)
    trial.worked(found)
    trial.propose(found, b"second", CERTIFICATE, PRIVATE)
    assert trial.refused(found, True)
    assert who(found) == (b"first", [CERTIFICATE], PRIVATE, True, False)


def test_a_doubt_ends_with_the_next_connection(factory, tmp_path):
    found, told, store = attached(tmp_path / "config")
    born = who(found)
    trial.propose(found, b"new", CERTIFICATE, PRIVATE)
    new = who(found)
    assert not trial.refused(found, False)
    assert who(found) == new
    assert trial.refused(found, False)
    assert (who(found), found.doubted, told[b"ThingName"]) == (born, True, b"lab")
    # The one before it fares no better: it was not the identity.
    trial.believe(found)
    assert (who(found), found.doubted, told[b"ThingName"]) == (new, False, b"new")
    assert not trial.refused(found, False)
    assert trial.refused(found, False)
    # A restart forgets the doubt.
    assert who(attached(tmp_path / "config")[0]) == new
    trial.worked(found)
    assert (who(found), found.doubted) == (born, False)
    assert store.read(module.TRIAL) is None


def test_a_newer_one_ends_the_doubt(factory, tmp_path):
    found, _, _ = attached(tmp_path / "config")
    trial.propose(found, b"new", CERTIFICATE, PRIVATE)
    trial.refused(found, False)
    assert trial.refused(found, False)
    trial.propose(found, b"newer", CERTIFICATE, PRIVATE)
    assert who(found) == (b"newer", [CERTIFICATE], PRIVATE, True, True)
    assert not found.doubted


def test_the_only_identity_is_not_dropped(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FOLDER", str(tmp_path / "factory") + "/")
    found, _, _ = attached(tmp_path / "config")
    assert who(found) == (b"020304050607", [], b"", False, False)
    trial.propose(found, b"new", CERTIFICATE, PRIVATE)
    for surely in (False, False, False, True):
        assert not trial.refused(found, surely)
        assert who(found) == (b"new", [CERTIFICATE], PRIVATE, True, True)


@pytest.mark.parametrize("damage", [b"", b"\0", b"\x05abc", b"\x03new" + CERTIFICATE, b"\xff" * 9])
def test_a_damaged_identity_is_not_believed(factory, tmp_path, damage):
    folder = tmp_path / "config"
    store = Store(str(folder))
    store.write(module.TRIAL, damage)
    store.write("Identity", damage)
    found, _, store = attached(folder)
    assert who(found)[::3] == (b"lab", True)
    assert found.certificate() == load(UID).certificate()
    assert store.lost == [module.TRIAL, "Identity"]


def test_with_an_issued_identity_what_it_was_born_with_is_not_needed(factory, tmp_path):
    found, _, _ = attached(tmp_path / "config")
    trial.propose(found, b"new", CERTIFICATE, PRIVATE)
    flip(factory / "key.der", 40)
    found, _, _ = attached(tmp_path / "config")
    assert (found.faults, found.fault()) == (["key.der"], None)
    flip(factory / "roots.der", 40)
    assert attached(tmp_path / "config")[0].fault() == "roots.der"
