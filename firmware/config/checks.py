"""What a value of the configuration dictionary may look like (decision D11: else ERR4)."""

from micropython import const

_HOST_MAX = const(253)
_TOPIC_MAX = const(256)


def text(value):
    """True for UTF-8 without NUL: what a topic or a name may be made of. MicroPython's decoder
    takes surrogates and long forms, which AWS and browsers do not."""
    more = least = code = 0
    for c in value:
        if more:
            if c & 0xC0 != 0x80:
                return False
            code = code << 6 | c & 0x3F
            more -= 1
            if not more and (code < least or code >> 11 == 27 or code > 0x10FFFF):
                return False
        elif c >= 0x80:
            if c >> 5 == 6:
                more, least, code = 1, 0x80, c & 0x1F
            elif c >> 4 == 14:
                more, least, code = 2, 0x800, c & 0x0F
            elif c >> 3 == 30:
                more, least, code = 3, 0x10000, c & 0x07
            else:
                return False
        elif not c:
            return False
    return not more


def split_host(value, port):
    """(host, port) of `host` or `host:port`, both bytes and int; port is the default.

    Raises ValueError for anything else (decision D12).
    """
    host, mark, number = value.partition(b":")
    if mark:
        if not number.isdigit() or len(number) > 5:
            raise ValueError("port")
        port = int(number)
        if not 0 < port < 65536:
            raise ValueError("port")
    if not host or len(host) > _HOST_MAX:
        raise ValueError("host")
    for c in host:
        # Letters, digits, hyphen, dot.
        if not (97 <= c | 32 <= 122 or 48 <= c <= 57 or c == 45 or c == 46):
            raise ValueError("host")
    return host, port


def endpoint(value):
    """True for `host` or `host:port`."""
    try:
        split_host(value, 1)
    except ValueError:
        return False
    return True


def topic(value):
    """True for a topic as the dictionary takes it: what the cloud allows is checked at use,
    when the root is known."""
    return len(value) <= _TOPIC_MAX and text(value)


def topic_root(value):
    """True for a prefix of topics: not empty, without wildcards."""
    return len(value) > 0 and topic(value) and b"#" not in value and b"+" not in value


def ssid(value):
    """True for 0 to 32 bytes of anything (IEEE 802.11)."""
    return len(value) <= 32


def passphrase(value):
    """True for nothing (an open network), 8 to 63 printable ASCII characters, or a key of 64
    hexadecimal digits."""
    size = len(value)
    if size == 64:
        return all(c in b"0123456789abcdefABCDEF" for c in value)
    return not size or (8 <= size <= 63 and all(32 <= c <= 126 for c in value))


def seconds(value):
    """True for a decimal number of seconds, up to a year."""
    return value.isdigit() and len(value) <= 8 and int(value) <= 31536000


def qos(value):
    """True for 0 or 1."""
    return value == b"0" or value == b"1"


def provision_mode(value):
    """True for csr or create."""
    return value == b"csr" or value == b"create"


def transport(value):
    """True for softap or ble."""
    return value == b"softap" or value == b"ble"
