"""docs/manufacturing.md: its commands exist, and what it says to give AWS works as it stands."""

import re
import shlex

import click
import pytest
from click.testing import CliRunner

from tests_host.system.conftest import connect, give_wifi
from tools.cloud import pki
from tools.cloud.registry import Registry
from tools.fleet.__main__ import main
from tools.sim.romfs import ROOT

TEXT = (ROOT / "docs" / "manufacturing.md").read_text()


def block(name):
    """The JSON text under that file name."""
    return re.search(rf"<!-- {re.escape(name)} -->\n```json\n(.*?)```", TEXT, re.DOTALL)[1]


def commands():
    """Every command line of the fleet tool."""
    found = re.findall(r"^    (?:python -m tools\.fleet) (.+)$", TEXT, re.MULTILINE)
    return [shlex.split(line.replace("…", "")) for line in found]


def test_the_commands_have_these_options():
    assert len(commands()) > 5
    for words in commands():
        with click.Context(main) as context:
            command = main
            while isinstance(command, click.Group):
                command = command.get_command(context, words.pop(0))
            # Raises for an option that there is not, or a value that it does not take.
            command.make_parser(context).parse_args(words)


@pytest.mark.parametrize("mode", ["csr", "create"])
def test_a_module_claims_its_identity_with_the_policies_and_the_template(
    cloud, make_module, tmp_path, mode
):
    claim = pki.Store(cloud.state).client("docs-claim")
    with Registry(cloud.state) as registry, registry.transaction():
        registry.put_policy("expresslink-device", block("device-policy.json"))
        registry.put_policy("expresslink-claim", block("claim-policy.json"))
        number = pki.certificate_id(claim.certificate)
        if registry.principal(number) is None:
            number = registry.add_certificate(claim.cert_pem)
        registry.attach_policy("expresslink-claim", number)
    cloud.control.put_template("fridges", block("template.json"))
    (tmp_path / "claim.pem").write_bytes(claim.cert_pem)
    (tmp_path / "claim.key").write_bytes(claim.key_pem)
    # The last command of the chapter, with the local cloud's endpoint and roots.
    [words] = [words for words in commands() if "--claim-cert" in words]
    change = {
        "--out": tmp_path / "reel",
        "--endpoint": f"localhost:{cloud.mqtt}",
        "--claim-cert": tmp_path / "claim.pem",
        "--claim-key": tmp_path / "claim.key",
        "--micropython": None,
    }
    for name, value in change.items():
        at = words.index(name)
        words[at : at + 2] = [] if value is None else [name, str(value)]
    more = ("--ca", cloud.state / "ca.pem", "--ntp", f"localhost:{cloud.sntp}")
    words += [*map(str, more), "--layout", "virtual-8MiB"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    image = tmp_path / "reel" / "images" / "module.bin"
    module = make_module("--factory-image", image, cloud_state=None)
    assert module.command(b"AT+CONF? About") == b"OK Example - Fridge 2"
    assert module.command(b"AT+CONF ProvisionMode=" + mode.encode()) == b"OK"
    give_wifi(module)
    connect(module)
    name = module.command(b"AT+CONF? ThingName")
    assert re.fullmatch(rb"OK fridge-[0-9a-f]{12}", name)
    # What the device policy is for.
    assert module.command(b"AT+CONF Topic1=door") == b"OK"
    assert module.command(b"AT+SUBSCRIBE1") == b"OK"
    assert module.command(b"AT+SEND1 open") == b"OK"
