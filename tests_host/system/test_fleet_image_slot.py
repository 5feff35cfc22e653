"""The images that `fleet image` makes run: on the virtual module, from a slot and from /app/a."""

from tests_host.unit.factory_parts import fleet
from tools.fleet import factory_image, image_bundle
from tools.sim import flash


def made(tmp_path, kind):
    """The payload of an image of the source tree with a version of its own."""
    path = tmp_path / "new.img"
    code, said = fleet("image", kind, "--out", path, "--version", "7.8.9")
    assert code == 0, said
    return path.read_bytes()[256:]


def restarted_with(module, label, data):
    """Put `data` into a partition while the power is off."""
    module.power_cut()
    chip = flash.Flash(module.state / "flash.bin")
    chip.write(label, data)
    chip.close()
    module.power_on()


def test_the_virtual_module_boots_a_slot_image(make_module, tmp_path):
    module = make_module("--heap", "96")
    assert module.command(b"AT+CONF? Version") != b"OK 7.8.9"
    payload = made(tmp_path, "slot")
    restarted_with(module, "ota_0", payload)
    assert any(line.startswith("running ota_0") for line in module.lines)
    assert module.command(b"AT+CONF? Version") == b"OK 7.8.9"


def test_a_bundle_s_files_run_from_the_filesystem(make_module, tmp_path):
    module = make_module("--stock")
    files = image_bundle.unpack(made(tmp_path, "bundle"))
    module.power_cut()
    chip = flash.Flash(module.state / "flash.bin")
    there = factory_image.contents(chip.read("vfs"))
    chip.close()
    there = {path: data for path, data in there.items() if not path.startswith("/app/")}
    there |= {"/app/a/" + name: data for name, data in files.items()}
    module.power_on()
    restarted_with(module, "vfs", factory_image.build(there, flash.find("vfs").size))
    assert module.command(b"AT+CONF? Version") == b"OK 7.8.9"
