"""The factory data: checksums, and what is said of damage."""

import pytest

from firmware.config import identity as module
from firmware.config.factory import load
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


@pytest.mark.parametrize("name", ["cert.der", "key.der", "roots.der"])
def test_what_a_connection_needs_is_lost_by_any_bit(factory, name):
    size = len((factory / name).read_bytes())
    for bit in (0, 17, size * 4 + 3, size * 8 - 1):
        flip(factory / name, bit)
        found = load(UID)
        assert (found.faults, found.fault()) == ([name], name)
        assert found.thing == b"lab"
        flip(factory / name, bit)
    assert load(UID).faults == []


def test_a_missing_key_is_a_fault(factory):
    (factory / "key.der").unlink()
    assert load(UID).fault() == "key.der"


@pytest.mark.parametrize("name", ["module.json", "ota_cert.der"])
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
