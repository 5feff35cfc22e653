"""PEM, the text form of certificates (RFC 7468): written, and read."""

from binascii import a2b_base64, b2a_base64

from micropython import const

BEGIN = b"-----BEGIN CERTIFICATE-----"
END = b"-----END CERTIFICATE-----"

# 48 bytes make a line of 64 characters.
_LINE = const(48)
# Characters that are decoded at once, whole groups of four.
_PIECE = const(256)


def lines(der, label=b"CERTIFICATE"):
    """Yield the lines of the PEM form of `der`, each with its LF."""
    yield b"-----BEGIN " + label + b"-----\n"
    view = memoryview(der)
    for start in range(0, len(der), _LINE):
        yield b2a_base64(view[start : start + _LINE])
    yield b"-----END " + label + b"-----\n"


def decode(data):
    """The DER of every certificate in a PEM text (bytes), as a list of bytes; text and blocks of
    another kind around them are ignored.

    ValueError for a block that is damaged or has no END line.
    """
    decoder = Decoder()
    found = []
    start = 0
    while start < len(data):
        end = data.find(b"\n", start)
        if end < 0:
            end = len(data)
        der = decoder.line(data[start:end])
        if der is not None:
            found.append(der)
        start = end + 1
    if decoder.inside:
        raise ValueError("PEM without its END line")
    return found


class Decoder:
    """Reads PEM certificates line by line, with lines of any length.

    `limit`: how many bytes of DER a block may have. `inside`: whether a BEGIN line came and its
    END line did not yet; after an error it is False, and the next BEGIN line starts anew.
    """

    def __init__(self, limit=4096):
        self.inside = False
        self._limit = limit

    def ends(self, line):
        """Whether this line, which need not have its LF yet, is the END line of the block."""
        return self.inside and bytes(line).strip() == END

    def line(self, line):
        """Take a line, with or without its CR and LF; returns the DER at an END line, else None.

        Lines outside a block are ignored, blocks of another kind too. ValueError for what must
        not be inside a block, a BEGIN line included.
        """
        line = bytes(line).strip()
        if line == BEGIN and not self.inside:
            self.inside = True
            self._rest = b""
            self._ended = False
            self._der = bytearray()
        elif self.inside:
            # An error must not leave the decoder inside.
            self.inside = False
            if line == END and not self._rest:
                return bytes(self._der)
            self._decode(self._rest + line)
            self.inside = True
        return None

    def _decode(self, text):
        end = len(text) & ~3
        for start in range(0, end, _PIECE):
            piece = text[start : min(start + _PIECE, end)]
            # Decoders pass over what is not base64; what was passed over does not come back.
            der = a2b_base64(piece)
            if self._ended or b2a_base64(der)[:-1] != piece:
                raise ValueError("PEM damaged")
            self._ended = piece.endswith(b"=")
            self._der += der
            if len(self._der) > self._limit:
                raise ValueError("PEM too long")
        self._rest = text[end:]
