"""The virtual module starts from images that `fleet factory` has made, and boards get claims."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests_host.system.conftest import connect, give_wifi
from tools.cloud.identity import issue_birth
from tools.fleet import factory_image
from tools.fleet.__main__ import main
from tools.sim import romfs
from tools.sim.filesystem import of_board
from tools.sim.module import ModuleError


@pytest.fixture
def image(cloud, tmp_path):
    """Function that makes one image at the run's cloud; its path."""

    def make(*words):
        out = tmp_path / "order"
        words = ("--out", out, "--cloud", cloud.state, "--layout", "virtual-8MiB", *words)
        result = CliRunner().invoke(main, ["factory", "make", *map(str, words)])
        assert result.exit_code == 0, result.output
        [made] = (out / "images").iterdir()
        return made

    return make


def info(module):
    """What DIAG INFO says, as a dictionary."""
    reply = module.command(b"AT+DIAG INFO")
    assert reply.startswith(b"OK ")
    lines = reply[3:].split(b"\\A")
    return dict(line.partition(b" ")[::2] for line in lines)


@pytest.mark.parametrize("stock", [[], ["--stock"]], ids=["source tree", "its application"])
def test_a_module_starts_from_its_image_and_connects(make_module, image, stock):
    name = "sys-stock" if stock else "sys-tree"
    path = image("--serial", name, "--about", "Fridge - 9")
    module = make_module("--factory-image", path, *stock, cloud_state=None)
    assert module.command(b"AT+CONF? ThingName") == b"OK " + name.encode()
    assert module.command(b"AT+CONF? About") == b"OK Fridge - 9"
    assert info(module)[b"identity-faults"] == b""
    give_wifi(module)
    connect(module)
    assert ("running /app/a" in module.lines) == bool(stock)


def test_stock_runs_what_is_in_the_image(make_module, image, tmp_path):
    path = image("--serial", "sys-own")
    files = factory_image.contents(path.read_bytes())
    version = romfs.ROOT / "firmware" / "version.py"
    (tmp_path / "firmware").mkdir()
    changed = version.read_text().replace("0.", "7.", 1)
    (tmp_path / "firmware" / "version.py").write_text(changed)
    changes = factory_image.application(tmp_path)
    assert changes["/app/a/firmware/version.mpy"] != files["/app/a/firmware/version.mpy"]
    path.write_bytes(factory_image.build(files | changes, len(path.read_bytes())))
    module = make_module("--factory-image", path, "--stock", cloud_state=None)
    assert module.command(b"AT+CONF? Version").startswith(b"OK 7.")


def test_an_image_is_for_a_new_board(make_module, image, tmp_path):
    make_module(state="old").stop()
    path = image("--serial", "sys-late")
    module = make_module("--factory-image", path, state="old")
    assert module.command(b"AT+CONF? ThingName") != b"OK sys-late"
    errors = (tmp_path / "old" / "errors.log").read_text()
    assert "this board exists; --factory-image is for a new one" in errors


@pytest.mark.parametrize("board", ["ESP32-S3-DevKitC-1", "ESP32-C3-ExpressLink"])
def test_the_image_says_which_board_it_is_for(make_module, image, board):
    path = image("--serial", f"sys-{board}", "--board", board)
    module = make_module("--factory-image", path, cloud_state=None)
    assert info(module)[b"board"] == board.encode()


def test_a_claim_from_an_image(make_module, image):
    path = image("--identity", "claim")
    module = make_module("--factory-image", path, cloud_state=None)
    assert info(module)[b"identity"] == b"claim"
    uid = module.command(b"AT+CONF? ThingName")[3:]
    give_wifi(module)
    connect(module)
    assert module.command(b"AT+CONF? ThingName") == b"OK expresslink-" + uid


def test_a_damaged_factory_file_in_an_image_is_told(make_module, image):
    path = image("--serial", "sys-damaged")
    files = factory_image.contents(path.read_bytes())
    changed = files["/factory/module.json"].replace(b"sys-damaged", b"sys-Damaged")
    files["/factory/module.json"] = changed
    path.write_bytes(factory_image.build(files, len(path.read_bytes())))
    module = make_module("--factory-image", path, cloud_state=None)
    assert info(module)[b"identity-faults"] == b"module.json"
    assert module.command(b"AT+CONF? ThingName") != b"OK sys-Damaged"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-4096], "make it with --layout virtual-8MiB"),
        (lambda data: bytes(8192) + data[8192:], "no LittleFS of this size"),
    ],
)
def test_an_image_that_cannot_be_mounted_is_refused(make_module, image, change, message):
    path = image("--serial", f"sys-{len(message)}")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ModuleError, match=message):
        make_module("--factory-image", path, cloud_state=None)


_MOUNT = """
import vfs

class Blocks:
    def __init__(self, data, count):
        self.data = data
        self.count = count

    def readblocks(self, block, buf, offset=0):
        at = block * 4096 + offset
        buf[:] = self.data[at : at + len(buf)]

    def ioctl(self, op, _arg):
        return {4: self.count, 5: 4096}.get(op, 0)

with open(%r, "rb") as file:
    data = file.read()
for blocks in (528, 529, 1024):
    try:
        device = vfs.VfsLfs2(Blocks(data, blocks))
        vfs.mount(device, "/image")
        with open("/image/main.py", "rb") as file:
            print(blocks, len(file.read()))
        vfs.umount("/image")
    except OSError as error:
        print(blocks, "errno", error.errno)
"""


def test_the_vm_mounts_an_image_of_exactly_its_size(image):
    path = image("--serial", "sys-mount")
    run = subprocess.run(
        [
            Path(sys.executable).with_name("micropython"),
            "-X",
            "heapsize=32m",
            "-c",
            _MOUNT % str(path),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    size = len((romfs.ROOT / "main.py").read_bytes())
    assert run.stdout.splitlines() == [f"528 {size}", "529 errno 22", "1024 errno 22"], run.stderr


def flash(port, *options):
    """Run the flash tool; (exit code, what it said)."""
    run = subprocess.run(
        [sys.executable, "-m", "tools.flash", "--port", str(port), *map(str, options)],
        cwd=romfs.ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        env=dict(os.environ, COLUMNS="200"),
    )
    return run.returncode, run.stdout + run.stderr


@pytest.fixture
def claim(cloud):
    """Options that give a board the claim of the run's cloud."""
    return [
        *("--endpoint", f"localhost:{cloud.mqtt}", "--ntp", f"localhost:{cloud.sntp}"),
        *("--claim-cert", cloud.state / "claim.pem", "--claim-key", cloud.state / "claim.key"),
        *("--template", "expresslink", "--ca", cloud.state / "ca.pem"),
    ]


def test_flash_a_claim_over_an_identity_and_back(make_module, cloud, claim, tmp_path):
    board = make_module("--blank", "--repl", tmp_path / "repl")
    issued = issue_birth(cloud.state, "flashed-born")
    (tmp_path / "cert.pem").write_bytes(issued.cert_pem)
    (tmp_path / "key.pem").write_bytes(issued.key_pem)
    birth = ["--cert", tmp_path / "cert.pem", "--key", tmp_path / "key.pem"]
    birth = [*claim[:4], *birth, *claim[-2:], "--thing", "flashed-born"]
    code, said = flash(tmp_path / "repl", *birth)
    assert code == 0, said
    code, said = flash(tmp_path / "repl", *claim)
    assert code == 0, said
    board.wait_ready()
    give_wifi(board)
    connect(board)
    assert board.command(b"AT+CONF? ThingName").startswith(b"OK expresslink-")
    # The old identity is gone from the flash, not only unused.
    board.power_cut()
    with of_board(board.state) as filesystem:
        assert filesystem.names("/factory") == [
            *("claim_cert.der", "claim_key.der", "module.json", "roots.der", "sums")
        ]
        assert "Identity" in filesystem.names("/config")
    board.order({"power": "on"})
    # An update of the application leaves both alone.
    code, said = flash(tmp_path / "repl")
    assert code == 0, said
    assert " 0 removed" in said
    # A new identity counts more than the one that the cloud has issued to the old one.
    code, said = flash(tmp_path / "repl", *birth)
    assert code == 0, said
    board.wait_ready()
    assert board.command(b"AT+CONF? ThingName") == b"OK flashed-born"
    connect(board)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--template", ""], "missing: TEMPLATE"),
        (["--claim-cert", "", "--template", ""], "missing: CLAIM_CERT, TEMPLATE"),
        (["--endpoint", ""], "missing: ENDPOINT"),
        (["--cert", "x.pem"], "these are both"),
        (["--template", "a b"], "the template name 'a b' is not"),
        (["--thing", "x"], "gets its thing name from the template"),
    ],
)
def test_a_wrong_claim_is_refused_before_the_board_is_touched(claim, tmp_path, change, message):
    code, said = flash(tmp_path / "no-port", *claim, *change)
    assert code == 1
    assert message in said
