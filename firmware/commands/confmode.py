"""CONFMODE [name][,[key]] (guide 3.6.5; decision D22). Imported for one command.

name   of the access point, or of the Bluetooth device; 1 to 32 bytes of UTF-8
key    8 to 63 printable ASCII characters: passphrase of the access point, or passkey
"""

from firmware import mode
from firmware.at.errors import ACTIVE, MODE, PARAMETER, AtError
from firmware.config import checks

_ENABLED = b"CONFMODE ENABLED"


async def confmode(module, command):
    """CONFMODE: answer once a person can enter credentials."""
    name, _, key = command.brief().partition(b",")
    name = name.strip() or b"ExpressLink-" + module.identity.uid[-6:]
    key = key.strip()
    transport = module.config.get(b"ConfTransport")
    if (
        len(name) > (26 if transport == b"ble" else 32)
        or not checks.text(name)
        or any(c < 32 or c == 127 for c in name)
    ):
        raise AtError(PARAMETER, b"name")
    if len(key) > 63 or not checks.passphrase(key):
        raise AtError(PARAMETER, b"key, 8 to 63 ASCII characters")
    if module.session.connected():
        raise AtError(ACTIVE)
    if module.updates.trial:
        raise AtError(ACTIVE, b"version on trial")
    if module.confmode:
        raise AtError(MODE, b"in CONFMODE")
    if module.mode.state == mode.IDLE:
        raise AtError(MODE, module.mode.reason)
    module.wake()
    from firmware.confmode.manager import Manager, ManagerError

    try:
        await Manager(module, transport, name, key).begin()
    except ManagerError as error:
        raise AtError(MODE, error.args[0])
    return _ENABLED
