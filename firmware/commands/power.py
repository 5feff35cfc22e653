"""Power and connection control (guide 3.6.2, 3.6.3, 3.6.6, 3.6.7; decisions D20 to D24)."""

from firmware import mode
from firmware.at.errors import CONNECT, PARAMETER, AtError
from firmware.cloud.session import ConnectError


async def connect(module, command):
    """CONNECT (3.6.2). Ends a sleep of mode 0, and the idle mode only a restart."""
    module.wake()
    if module.mode.state == mode.IDLE:
        raise AtError(CONNECT, module.mode.reason)
    if module.confmode:
        raise AtError(CONNECT, b"in CONFMODE")
    try:
        await module.session.connect()
    except ConnectError as error:
        raise AtError(CONNECT, error.args[0])
    return module.profile.connected


async def disconnect(module, command):
    """DISCONNECT (3.6.3)."""
    if not module.confmode:
        # Else there is no connection, and the radio is in use.
        await module.session.disconnect()
    return module.profile.disconnected


def reset(module, command):
    """RESET (3.6.6): answer, then restart; the queues, the topics and the connection go."""
    module.after_reply(module.restart)


async def factory_reset(module, command):
    """FACTORY_RESET (3.6.7): clear what Table 2 says, answer, then restart."""
    if module.confmode:
        # What is being tried must not be kept after this.
        await module.confmode.end(False, b"factory reset")
    try:
        module.config.clear()
    except OSError as error:
        raise AtError(PARAMETER, b"not cleared, errno %d" % error.errno)
    module.after_reply(module.restart)
