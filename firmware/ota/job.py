"""What a job document says: small, since it stays in memory while the file is loaded."""

from micropython import const

_MODULE = const(101)


class Job:
    """What a job document says; made by document.parse().

    - type: of Table 5; size: bytes of the file, None when the document does not say
    - stream: name (bytes) of the stream, or None; file_id: of the file in it
    - url: bytes, https, or None; at least one of stream and url is there
    - algorithm: b"ecdsa", b"rsa", or b"" for an unsigned file; signature: its bytes
    - version, vendor, model: bytes, empty when the document does not say
    - force: do not ask the host (7.6)
    - detail: what a host is shown: the version, else the file's name; bytes, without control
      characters, at most 128
    """

    def __init__(self):
        self.type = _MODULE
        self.size: "int | None" = None
        self.stream: "bytes | None" = None
        self.file_id = 0
        self.url: "bytes | None" = None
        self.algorithm = b""
        self.signature = b""
        self.version = b""
        self.vendor = b""
        self.model = b""
        self.force = False
        self.detail = b""
