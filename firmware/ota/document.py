"""Reads a job document: which file to get, what it is, who has signed it (guide 7.3, D34, D39).

    {"afr_ota": {"protocols": ["MQTT"], "streamname": …, "files": [{"filesize": …, …}]}}
    {"action": "OTA", "url": "https://…", "size": …, "sig-sha256-ecdsa": …}

The first is the form of AWS's updates, the second a simple one for module images. Members that
are not known here are passed over, but for signatures: one that is there has to be understood.
"""

from binascii import a2b_base64, b2a_base64

from micropython import const

from firmware.ota.fault import Fault
from firmware.ota.job import Job

_MODULE = const(101)
_TYPES = (_MODULE, 103, 107, 202, 204)

# More than any flash has.
_MAX_SIZE = const(0x3FFFFFFF)
_MAX_FILE_ID = const(255)
_MAX_STREAM = const(128)
# A presigned URL with a session's token has about 1,500 characters.
_MAX_URL = const(2048)
# What is shown to the host, and what a name may have.
_MAX_TEXT = const(128)
# Of base64: an RSA key of 4,096 bits makes 512 bytes.
_MAX_SIGNATURE = const(684)

_SIGNATURES = {"sig-sha256-ecdsa": b"ecdsa", "sig-sha256-rsa": b"rsa"}


class DocumentError(Fault):
    """The document is no update that this module takes; the argument says why (bytes)."""


def parse(document):
    """The Job in a job document: what json.loads has made of it, of whatever type.

    Raises DocumentError. A module image without a signature is refused here: no form of job
    makes one run (D34)."""
    if not isinstance(document, dict):
        raise DocumentError(b"job document is no object")
    job = Job()
    update = document.get("afr_ota")
    if update is not None:
        places = _update(job, update)
    elif document.get("action") == "OTA":
        places = (document,)
        if document.get("size") is not None:
            job.size = _number(document, "size", 1, _MAX_SIZE)
        job.url = _url(document, "url")
    else:
        raise DocumentError(b"no update in the job document")
    _sign(job, places[0])
    if job.type == _MODULE and not job.algorithm:
        raise DocumentError(b"module image is not signed")
    job.version = _label(places, "version")
    job.vendor = _label(places, "vendor")
    job.model = _label(places, "model")
    force = _find(places, "force")
    job.force = force is True or (isinstance(force, str) and force.lower() in ("yes", "true"))
    job.detail = job.version or _shown(places[0].get("filepath")) or _name(job.url)
    return job


def _update(job, update):
    """Read an `afr_ota` but for labels and signature; returns where labels may stand (D39)."""
    if not isinstance(update, dict):
        raise DocumentError(b"afr_ota is no object")
    files = update.get("files")
    if not isinstance(files, list) or len(files) != 1 or not isinstance(files[0], dict):
        raise DocumentError(b"not exactly one file")
    file = files[0]
    job.type = _number(file, "fileType", 0, 255)
    if job.type not in _TYPES:
        raise DocumentError(b"fileType %d is not served" % job.type)
    job.size = _number(file, "filesize", 1, _MAX_SIZE)
    protocols = update.get("protocols")
    if not isinstance(protocols, list):
        raise DocumentError(b"protocols missing")
    if "MQTT" in protocols:
        job.stream = _stream(update.get("streamname"))
        job.file_id = _number(file, "fileid", 0, _MAX_FILE_ID)
    if "HTTP" in protocols:
        job.url = _url(file, "update_data_url")
    if not job.stream and not job.url:
        raise DocumentError(b"neither MQTT nor HTTP")
    attributes = file.get("attributes")
    return file, attributes if isinstance(attributes, dict) else {}, update


def _number(place, name, least, most):
    value = place.get(name)
    # A boolean is a number to CPython.
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise DocumentError(b"%s missing or out of range" % name.encode())
    return value


def _plain(value, limit):
    """A text of printable ASCII without spaces as bytes, empty for anything else."""
    if not isinstance(value, str) or len(value) > limit:
        return b""
    for letter in value:
        if not "!" <= letter <= "~":
            return b""
    return value.encode()


def _stream(value):
    # It becomes a part of topics.
    name = _plain(value, _MAX_STREAM)
    for c in name:
        if not (48 <= c <= 57 or 97 <= c | 32 <= 122 or c == 45 or c == 95):
            name = b""
    if not name:
        raise DocumentError(b"streamname missing or malformed")
    return name


def _url(place, name):
    url = _plain(place.get(name), _MAX_URL)
    if not url:
        raise DocumentError(b"%s missing or malformed" % name.encode())
    if url[:8].lower() != b"https://":
        raise DocumentError(b"%s is not https" % name.encode())
    return url


def _sign(job, place):
    """Read the signature, if there is one; none stands as null, also in `sig--`."""
    for name in place:
        value = place[name]
        if value is None or not name.startswith("sig-"):
            continue
        if job.algorithm:
            raise DocumentError(b"more than one signature")
        job.algorithm = _SIGNATURES.get(name)
        if not job.algorithm:
            raise DocumentError(b"signature of a kind that is not served")
        text = _plain(value, _MAX_SIGNATURE)
        try:
            job.signature = a2b_base64(text)
        except ValueError:
            text = b""
        # Decoders pass over what is not base64; what was passed over does not come back.
        if not text or b2a_base64(job.signature)[:-1] != text:
            raise DocumentError(b"signature is not base64")


def _find(places, name):
    """The first value of that name that is not null."""
    for place in places:
        value = place.get(name)
        if value is not None:
            return value
    return None


def _label(places, name):
    """A text that is a label, as bytes; empty when there is none."""
    value = _find(places, name)
    if value is None:
        return b""
    label = _shown(value)
    # Compared with others, so none that had to be changed.
    if not isinstance(value, str) or len(value) > _MAX_TEXT or label.decode() != value:
        raise DocumentError(b"%s is no text, or too long" % name.encode())
    return label


def _shown(value):
    """What may be shown of a text: UTF-8 without control characters, at most so many bytes; empty
    for what is no text."""
    from firmware.config.checks import text

    if not isinstance(value, str):
        return b""
    shown = b""
    for letter in value[:_MAX_TEXT]:
        # MicroPython has halves of characters in texts, and longer forms of characters.
        control = letter < " " or "\x7f" <= letter <= "\x9f" or "\ud800" <= letter <= "\udfff"
        code = b"?" if control or not text(letter.encode()) else letter.encode()
        if len(shown) + len(code) > _MAX_TEXT:
            break
        shown += code
    return shown


def _name(url):
    """The last part of a URL's path."""
    if not url:
        return b""
    path = url.split(b"?", 1)[0].split(b"#", 1)[0][8:]
    return path[path.rfind(b"/") + 1 :][:_MAX_TEXT] if b"/" in path else b""
