"""The commands in docs/updates.md do what is said there."""

import re
import shlex
from pathlib import Path

from click.testing import CliRunner

from tests_host.system.cloud_client import Device
from tests_host.unit.factory_parts import fleet
from tools.fleet.__main__ import main
from tools.sim import espimage

DOC = Path(__file__).resolve().parents[2] / "docs" / "updates.md"


def commands():
    """The words of every command of the fleet manager in the document, in its order."""
    found = re.findall(r"^    python -m tools\.fleet (.*)$", DOC.read_text(), re.MULTILINE)
    return [shlex.split(line) for line in found]


def application():
    """What `wrap` takes for a real application."""
    return espimage.build([(espimage.DROM["esp32"], b"\x32\x54\xcd\xab" + bytes(300))])


def test_every_command_of_the_document(cloud, tmp_path):
    device = Device(cloud.state, "documented")
    (tmp_path / "firmware.bin").write_bytes(application())
    signature = job = None
    done = []
    for words in commands():
        if "--aws" in words:
            continue
        given = {
            "build/state/cloud": cloud.state,
            "build/state/cloud/signer.key": cloud.state / "signer.key",
            "firmware.bin": tmp_path / "firmware.bin",
            "signer.key": cloud.state / "signer.key",
            "signer.pem": cloud.state / "signer.pem",
            "FILE-OR-TEXT": signature,
            "T": device.thing,
            "JOB": job,
        }
        words = [given.get(word, word) for word in words if word != "--wait"]
        words = [re.sub("^build/", f"{tmp_path}/", str(word)) for word in words]
        code, said = fleet(*words)
        assert code == 0, (words, said)
        done += [word for word in words if word in main.list_commands(None)]
        if "sign" in words:
            signature = said.strip()
        if "create" in words:
            job = said.split()[-1]
        if "status" in words:
            assert said == "documented QUEUED\n"
        if "cancel" in words:
            assert said == "documented CANCELED\n"
    assert done.count("image") == 5
    assert done.count("ota") == 4
    assert {"sign", "verify"} <= set(done)


def test_every_option_that_the_document_names():
    runner = CliRunner()
    helps = ""
    for path in (
        ["image", "bundle"], ["image", "slot"], ["image", "wrap"], ["image", "check"],
        ["sign"], ["verify"], ["ota", "create"], ["ota", "cancel"], [],
    ):  # fmt: skip
        result = runner.invoke(main, [*path, "--help"])
        assert result.exit_code == 0
        helps += result.output
    # --heap is the virtual module's.
    named = set(re.findall(r"--[a-z][a-z-]*", DOC.read_text())) - {"--heap"}
    assert named
    assert named <= set(re.findall(r"--[a-z][a-z-]*", helps))
