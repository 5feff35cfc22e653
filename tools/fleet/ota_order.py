"""What an update is: a file of one of the types of the guide's Table 5, and its job document.

Two forms of document (docs/updates.md): AWS's `afr_ota`, with what a module wants to know beside
it, and the simple one, an action with a URL.
"""

import re
from dataclasses import dataclass, field

from tools.fleet import image_make, signing

MODULE = 101
MODULE_CERTIFICATE = 103
SERVER_ROOT = 107
HOST = 202
HOST_CERTIFICATE = 204
TYPES = {
    MODULE: "module image",
    MODULE_CERTIFICATE: "module OTA certificate",
    SERVER_ROOT: "server root certificate",
    HOST: "host image",
    HOST_CERTIFICATE: "host OTA certificate",
}
_SIGNABLE = (MODULE, HOST)
PROTOCOLS = ("mqtt", "http")

# AWS IoT file streams carry no more.
_STREAM_LIMIT = 24 * 1024 * 1024
_LONGEST_VERSION = 64
_AUTH_SCHEME = "aws.s3.presigned"
# What stands in a URL as it is.
_NOT_IN_A_KEY = re.compile(r"[^A-Za-z0-9_.-]")


class OrderError(ValueError):
    """The update cannot be ordered like that; the text says why."""


@dataclass(frozen=True)
class Order:
    """One update. type: a key of TYPES; name: the file's; data: its bytes; labels: version,
    vendor, model and force as texts, those that there are; protocol: one of PROTOCOLS; simple:
    the simple form of document; signature: a signing.Signature or None."""

    type: int
    name: str
    data: bytes
    labels: dict = field(default_factory=dict)
    protocol: str = "mqtt"
    simple: bool = False
    signature: object = None

    @property
    def by_url(self):
        """Whether the module loads the file by HTTPS, and not from a stream."""
        return self.simple or self.protocol == "http"

    def key(self, job):
        """What the file is kept under in a bucket: needs no escapes in a URL."""
        return f"expresslink/{job}/{_NOT_IN_A_KEY.sub('_', self.name)}"

    @property
    def description(self):
        """One line for people."""
        version = f" {self.labels['version']}" if "version" in self.labels else ""
        return f"{TYPES[self.type]} {self.name}{version}"

    def document(self, stream=None, url=None):
        """The job document (a dict) for the file in a stream of that name, or at that URL."""
        sign = self.signature
        if self.simple:
            document = {"action": "OTA", "url": url, "size": len(self.data)}
            return document | ({sign.field: sign.text} if sign else {})
        file = {
            "filepath": self.name,
            "filesize": len(self.data),
            "fileid": 0,
            "certfile": None,
            "fileType": self.type,
            "update_data_url": url,
            "auth_scheme": _AUTH_SCHEME if url else None,
            (sign.field if sign else signing.UNSIGNED): sign.text if sign else None,
            **self.labels,
        }
        whole = {"protocols": ["HTTP" if url else "MQTT"], "files": [file]}
        return {"afr_ota": whole if url else {"streamname": stream, **whole}}


def make(type_, path, *, version=None, force=False, unchecked=False, key=None, **how):
    """The Order of the file `path`. version: text or None; force: see the guide's 7.6; unchecked:
    whatever is in the file; key: a private key to sign with, or None; how: `protocol`, `simple`.
    Raises OrderError, ImageError, OSError."""
    data = path.read_bytes()
    labels = {} if version is None else {"version": version}
    if type_ not in TYPES:
        names = ", ".join(f"{number} {name}" for number, name in TYPES.items())
        raise OrderError(f"there is no type {type_}: {names}")
    if force and type_ != MODULE:
        raise OrderError("only a module image can be forced")
    if key is not None and type_ not in _SIGNABLE:
        raise OrderError("certificates are signed already: --sign is for images")
    if how.get("simple") and type_ != MODULE:
        raise OrderError("the simple form of job is for module images")
    if not unchecked:
        labels |= _looked_at(type_, data, version)
    if force:
        labels["force"] = "YES"
    order = Order(
        type_,
        path.name,
        data,
        labels,
        signature=signing.sign(data, key) if key is not None else None,
        **how,
    )
    if not order.by_url and len(data) > _STREAM_LIMIT:
        raise OrderError(f"a stream carries {_STREAM_LIMIT} bytes at most: --protocol http")
    return order


def _looked_at(type_, data, version):
    """Refuses what a module is bound to refuse; returns labels that the file itself knows."""
    if not data:
        raise OrderError("the file is empty")
    if version is not None and (
        not version.isprintable() or not 0 < len(version) <= _LONGEST_VERSION
    ):
        raise OrderError(f"a version is a text of 1 to {_LONGEST_VERSION} characters")
    if type_ == MODULE:
        header = image_make.header_of(data)
        if version not in (None, header.version):
            raise OrderError(f"the image has version {header.version}, not {version}")
        return {"version": header.version, "vendor": header.vendor, "model": header.model}
    if type_ != HOST:
        there = signing.certificates(data)
        if type_ != SERVER_ROOT and len(there) != 1:
            raise OrderError(f"{len(there)} certificates, and one is wanted")
    return {}
