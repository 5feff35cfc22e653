"""Reading certificates (guide 7.10.1). Imported for one command."""

from lib import pem


class Pem:
    """Certificates on their way to the host: as PEM that can be cut and pasted, or escaped as any
    other value, on the reply's one line."""

    def __init__(self, certificates, plain):
        self._certificates = certificates
        self._plain = plain

    async def write_to(self, writer):
        """Put out the certificates, line by line, and the reply's end."""
        put = writer.raw if self._plain else writer.escaped
        if self._plain:
            await writer.raw(b"pem\n")
        for der in self._certificates:
            for line in pem.lines(der):
                await put(line)
        if not self._plain:
            await writer.raw(b"\n")
