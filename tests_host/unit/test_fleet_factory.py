"""`fleet factory`: what it makes."""

import hashlib
import json
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from tests_host.unit import factory_parts as parts
from tests_host.unit.factory_parts import ENDPOINT, firmware, fleet, make, rows, serials, things
from tools.cloud import pki
from tools.cloud.registry import Registry
from tools.fleet import factory_image
from tools.fleet.factory_layout import LAYOUTS


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    return parts.make_cloud(tmp_path_factory.mktemp("cloud"))


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def claim(tmp_path):
    return parts.make_claim(tmp_path)


def files_of(path):
    """All that is in an image, when its sums are right."""
    files = factory_image.contents(path.read_bytes())
    factory_image.verify(files)
    return files


def test_a_module_of_the_local_cloud(cloud, out):
    words = ("--serial", "S-1", "--about", "Fridge - 9", "--port", "COM3")
    said = make(out, "--cloud", cloud, *words)
    files = files_of(out / "images" / "S-1.bin")
    info = json.loads(files["/factory/module.json"])
    assert info == {
        "about": "Fridge - 9",
        "board": "ESP32-DevKitC",
        "endpoint": "localhost:28883",
        "ntp": "localhost:28123",
        "serial": "S-1",
        "thing": "S-1",
    }
    certificate = x509.load_der_x509_certificate(files["/factory/cert.der"])
    key = serialization.load_der_private_key(files["/factory/key.der"], None)
    assert key.public_key() == certificate.public_key()
    assert "/factory/ota_cert.der" in files
    assert {"/boot.py", "/main.py", "/app/a/firmware/app.mpy", "/app/a/lib/mqtt.mpy"} <= set(files)
    # The cloud knows it.
    [row] = rows(out)
    assert (row["serial"], row["thing"], row["identity"]) == ("S-1", "S-1", "birth")
    with Registry(cloud) as registry:
        principal = registry.principal(row["certificate_id"])
        assert registry.find_certificate("S-1") == row["certificate_id"]
    assert principal.policies == ("default",)
    command = (
        "esptool --chip esp32 --port COM3 --baud 460800 write-flash --erase-all"
        " 0x1000 micropython.bin 0x200000 images/S-1.bin"
    )
    assert command in said.splitlines()
    assert command in (out / "flash.txt").read_text().splitlines()


def test_the_manifest_names_every_file_and_tells_no_secret(cloud, out):
    said = make(out, "--cloud", cloud, "--serials", serials(out, "serial\nm1\nm2\n"))
    manifest = json.loads((out / "manifest.json").read_text())
    there = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert set(manifest["files"]) == there - {"manifest.json"}
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    key = files_of(out / "images" / "m1.bin")["/factory/key.der"]
    number = serialization.load_der_private_key(key, None).private_numbers().private_value
    secrets = ["PRIVATE", f"{number:064x}", str(number), key.hex()]
    texts = [said] + [path.read_text() for path in out.iterdir() if path.is_file()]
    assert not [word for word in secrets for text in texts if word in text.lower() or word in text]
    for path in (out / "images").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    # Damage is noticed, wherever it is.
    assert fleet("factory", "check", out) == (0, "4 files are as they were made\n")
    image = bytearray((out / "images" / "m2.bin").read_bytes())
    image[-1] ^= 1
    (out / "images" / "m2.bin").write_bytes(image)
    (out / "flash.txt").unlink()
    code, said = fleet("factory", "check", out)
    assert code == 1
    assert "damaged or missing: flash.txt, images/m2.bin" in said


def test_modules_of_a_list_differ_in_key_name_and_text(cloud, out):
    text = "\ufeffserial, thing,about\r\nA1,fridge-1,Fridge - 1\r\nA2,,\r\n"
    said = make(out, "--cloud", cloud, "--about", "All", "--serials", serials(out, text))
    assert "2 modules" in said
    first, second = (files_of(out / row["image"]) for row in rows(out))
    assert first["/factory/key.der"] != second["/factory/key.der"]
    info = [json.loads(files["/factory/module.json"]) for files in (first, second)]
    assert [(one["thing"], one["about"]) for one in info] == [
        ("fridge-1", "Fridge - 1"),
        ("A2", "All"),
    ]
    assert [row["thing"] for row in rows(out)] == ["fridge-1", "A2"]
    lines = (out / "flash.txt").read_text().splitlines()
    assert len([line for line in lines if "write-flash --erase-all" in line]) == 2


def test_counted_modules(cloud, out):
    make(out, "--cloud", cloud, "--count", 3, "--prefix", "K-", "--start", 9, "--data-only")
    assert [row["serial"] for row in rows(out)] == ["K-000009", "K-000010", "K-000011"]
    files = files_of(out / "images" / "K-000009.bin")
    assert not [path for path in files if not path.startswith("/factory/")]
    assert "has to be frozen" in (out / "flash.txt").read_text()


def test_a_claim_for_aws(claim, out):
    said = make(out, "--endpoint", ENDPOINT, *claim)
    files = files_of(out / "images" / "module.bin")
    info = json.loads(files["/factory/module.json"])
    assert info == {
        "board": "ESP32-DevKitC",
        "endpoint": ENDPOINT,
        "ntp": "pool.ntp.org",
        "template": "fridges",
    }
    assert "/factory/claim_key.der" in files
    assert "/factory/key.der" not in files
    assert "identity: claim" in said
    assert json.loads((out / "manifest.json").read_text())["template"] == "fridges"
    [row] = rows(out)
    certificate = x509.load_der_x509_certificate(files["/factory/claim_cert.der"])
    assert row["certificate_id"] == certificate.fingerprint(hashes.SHA256()).hex()


def test_a_module_without_identity(cloud, out):
    before = things(cloud)
    said = make(out, "--cloud", cloud, "--identity", "none", "--thing", "later")
    assert "identity: none, thing later" in said
    files = files_of(out / "images" / "module.bin")
    assert not [
        path for path in files if path.endswith(("cert.der", "key.der")) and "ota" not in path
    ]
    assert rows(out)[0]["certificate_id"] == ""
    assert things(cloud) == before


def test_the_claim_of_a_local_cloud(cloud, out):
    before = things(cloud)
    code, said = fleet(
        *("--cloud", cloud, "factory", "make", "--out", out, "--identity", "claim", "--count", "2")
    )
    assert code == 0, said
    assert "one image would do for all" in said
    files = files_of(out / "images" / "el-000001.bin")
    assert json.loads(files["/factory/module.json"])["template"] == "expresslink"
    assert things(cloud) == before


def test_keys_made_here_certificates_made_elsewhere(out, tmp_path):
    code, said = fleet("factory", "csr", "--out", tmp_path / "ids", "--count", 2)
    assert code == 0, said
    keys = sorted((tmp_path / "ids" / "keys").iterdir())
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    authority = pki.make_ca("Real", "ec")
    for path in (tmp_path / "ids" / "csr").iterdir():
        csr = x509.load_pem_x509_csr(path.read_bytes())
        assert csr.is_signature_valid
        name = csr.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
        assert name == path.stem
        made = pki.sign_client(authority, csr.public_key(), name)
        pem = made.public_bytes(serialization.Encoding.PEM)
        (tmp_path / "ids" / "certificates" / f"{path.stem}.pem").write_bytes(pem)
    words = ("--endpoint", ENDPOINT, "--identities", tmp_path / "ids", "--count", 2)
    make(out, *words)
    assert [row["thing"] for row in rows(out)] == ["el-000001", "el-000002"]
    # Somebody has mixed them up.
    keys[0].write_bytes(keys[1].read_bytes())
    code, said = fleet("factory", "make", "--out", tmp_path / "other", *words)
    assert code == 1
    assert "el-000001: the device key does not belong to the device certificate" in said
    assert not (tmp_path / "other").exists()


def test_the_firmware_says_where_the_filesystem_lies(claim, out):
    path = out.parent / "fw.bin"
    path.write_bytes(firmware("esp32s3", end=0x270000))
    board = ("--board", "ESP32-S3-DevKitC-1", "--micropython", path)
    words = ("--endpoint", ENDPOINT, *claim, *board)
    said = make(out, *words)
    assert "--chip esp32s3" in said
    assert " 0x0 micropython.bin 0x270000 images/module.bin" in said
    assert (out / "images" / "module.bin").stat().st_size == 8 * 2**20 - 0x270000
    assert (out / "micropython.bin").read_bytes() == path.read_bytes()
    other = out.parent / "other"
    make(other, *words, "--flash-size", "4MB")
    assert (other / "images" / "module.bin").stat().st_size == 4 * 2**20 - 0x270000
    code, said = fleet(
        *("factory", "make", "--out", out.parent / "third", *words, "--layout", "stock-8MiB")
    )
    assert code == 1
    assert "0x270000 with 0x590000 bytes; stock-8MiB means 0x200000 with 0x600000" in said


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_an_image_fills_its_partition(claim, out, layout):
    make(out, "--endpoint", ENDPOINT, *claim, "--layout", layout.name)
    image = out / "images" / "module.bin"
    assert image.stat().st_size == layout.size
    assert f"{layout.address:#x} images/module.bin" in (out / "flash.txt").read_text()
    code, said = fleet("factory", "layouts")
    assert code == 0
    assert f"{layout.size:#x}"[2:] in said


def test_show_says_what_is_in_an_image_and_no_key(cloud, out):
    make(out, "--cloud", cloud, "--serial", "Q1")
    image = out / "images" / "Q1.bin"
    code, said = fleet("factory", "show", image)
    assert code == 0
    assert "thing: Q1\n" in said
    assert f"certificate: {rows(out)[0]['certificate_id']}" in said
    assert "factory files: cert.der, key.der, module.json, ota_cert.der, roots.der" in said
    image.write_bytes(image.read_bytes()[:-4096])
    code, said = fleet("factory", "show", image)
    assert code == 1
    assert "no LittleFS of this size" in said


def test_esptool_takes_the_commands(cloud, out):
    make(out, "--cloud", cloud, "--serial", "E1", "--port", out / "no-port")
    (out / "micropython.bin").write_bytes(b"\xe9" + bytes(99))
    lines = (out / "flash.txt").read_text().splitlines()
    commands = [shlex.split(line) for line in lines if line.startswith("esptool")]
    assert len(commands) == 2
    for command in commands:
        run = subprocess.run(
            [Path(sys.executable).with_name(command[0]), *command[1:]],
            cwd=out,
            capture_output=True,
            text=True,
            timeout=60,
        )
        # It has understood all of it and read the files: only the board is missing.
        assert "Could not open" in run.stdout + run.stderr


def test_a_command_whose_package_is_missing_says_so(monkeypatch):
    import tools.fleet.__main__ as program

    def missing(name):
        raise ModuleNotFoundError("No module named 'bleak'", name="bleak")

    monkeypatch.setattr(program.importlib, "import_module", missing)
    code, said = fleet("ble", "x")
    assert code == 1
    assert "`ble` needs the Python package bleak" in said
    # The others do not mind.
    code, said = fleet("--help")
    assert code == 0
    assert "factory" in said
    assert "ble" in said
