"""Error codes of Table 1 as an exception that any command may end in."""

from micropython import const

OVERFLOW = const(1)
PARSE = const(2)
NOT_FOUND = const(3)
PARAMETER = const(4)
ESCAPE = const(5)
NO_CONNECTION = const(6)
TOPIC_RANGE = const(7)
TOPIC_UNDEFINED = const(8)
KEY_LENGTH = const(9)
KEY_NAME = const(10)
KEY_UNKNOWN = const(11)
KEY_READONLY = const(12)
KEY_WRITEONLY = const(13)
CONNECT = const(14)
TIME = const(15)
LOCATION = const(16)
MODE = const(17)
ACTIVE = const(18)
NO_IMAGE = const(19)
ADDRESS = const(20)
OTA = const(21)
QUERY = const(22)
SIGNATURE = const(23)


class AtError(Exception):
    """A command's failure: `code` is a number of Table 1, `detail` bytes that tell more.

    The detail is shown to the host after the code's text, so it must name the cause without
    giving a secret away, and must not hold the letters of a success reply.
    """

    def __init__(self, code, detail=b""):
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
