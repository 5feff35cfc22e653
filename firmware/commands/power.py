"""Power and connection control (guide 3.6; decisions D20 to D23)."""

from firmware.at.errors import CONNECT, AtError
from firmware.cloud.session import ConnectError


async def connect(module, command):
    """CONNECT (3.6.2)."""
    try:
        await module.session.connect()
    except ConnectError as error:
        raise AtError(CONNECT, error.args[0])
    return module.profile.connected


def connect_query(module, command):
    """CONNECT? (3.6.1)."""
    return b"1" if module.session.connected() else b"0"


async def disconnect(module, command):
    """DISCONNECT (3.6.3)."""
    await module.session.disconnect()
    return module.profile.disconnected


def reset(module, command):
    """RESET (3.6.6): answer, then restart; the queues, the topics and the connection go."""
    module.after_reply(module.restart)
