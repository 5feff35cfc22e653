"""Job documents, signatures and certificates of updates on the VM."""
# vm-file: heap=64

import asyncio
import gc
import json
from hashlib import sha256

from firmware.ota import certificates, document, signature
from lib import pem, x509
from tests_host.vm.upy_x509 import EC_LEAF, EC_ROOT, RSA_LEAF, RSA_ROOT


def _der(text):
    return pem.decode(text)[0]


def _parts(text):
    """What a certificate's issuer has signed: a digest, and the signature."""
    certificate = x509.parse(_der(text))
    return sha256(certificate.signed).digest(), certificate.signature


async def _refused(*arguments):
    try:
        await signature.verify(*arguments)
    except signature.SignatureError as error:
        return error.args[0]
    raise AssertionError("verified")


async def test_signatures():
    for root, leaf, algorithm, other in (
        (EC_ROOT, EC_LEAF, b"ecdsa", b"rsa"),
        (RSA_ROOT, RSA_LEAF, b"rsa", b"ecdsa"),
    ):
        holder = _der(root)
        digest, value = _parts(leaf)
        await signature.verify(holder, algorithm, digest, value)
        for at in range(0, len(value), 9):
            changed = bytearray(value)
            changed[at] ^= 0x10
            reason = await _refused(holder, algorithm, digest, bytes(changed))
            assert reason == b"signature does not verify", reason
        for size in range(0, len(value), 13):
            assert await _refused(holder, algorithm, digest, value[:size])
        assert await _refused(holder, algorithm, bytes(32), value)
        assert await _refused(holder, algorithm, bytes(31), value)
        assert (await _refused(holder, other, digest, value)).startswith(b"signature of another")
        assert await _refused(holder[:-1], algorithm, digest, value)
        assert await _refused(b"", algorithm, digest, value)


async def test_other_tasks_get_turns():
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep_ms(0)

    counter = asyncio.create_task(count())
    digest, value = _parts(EC_LEAF)
    await signature.verify(_der(EC_ROOT), b"ecdsa", digest, value)
    assert turns > 45, turns
    counter.cancel()


class _Module:
    """Its own configuration and session: a store that is a dictionary, TLS that takes all."""

    def __init__(self):
        self.config = self.session = self
        self.kept = {b"OTAcertificate": [_der(EC_ROOT)], b"RootCA": [], b"HOTAcertificate": []}

    def query(self, name):
        return self.kept[name], True

    def get(self, name):
        return self.kept[name]

    def keep_certificates(self, name, found):
        self.kept[name] = found

    def make_context(self):
        return self

    def load_verify_locations(self, der):
        pass


async def _not_taken(module, kind, data):
    try:
        await certificates.apply(module, kind, data)
    except certificates.CertificateError as error:
        return error.args[0]
    raise AssertionError("taken")


# vm: heap=96
async def test_certificates():
    module = _Module()
    assert await _not_taken(module, 103, RSA_LEAF) == b"not signed by the present certificate"
    await certificates.apply(module, 103, EC_LEAF)
    assert module.kept[b"OTAcertificate"] == [_der(EC_LEAF)]
    await certificates.apply(module, 204, _der(RSA_ROOT))
    await certificates.apply(module, 204, RSA_LEAF)
    await certificates.apply(module, 107, EC_ROOT + RSA_ROOT)
    assert module.kept[b"RootCA"] == [_der(EC_ROOT), _der(RSA_ROOT)]
    for data in (b"", b"hello", EC_ROOT[:-30], b"\x30\x05", EC_ROOT * 6, bytes(8193), EC_LEAF):
        assert await _not_taken(module, 107, data)
    assert module.kept[b"RootCA"] == [_der(EC_ROOT), _der(RSA_ROOT)]


_STREAM = (
    '{"afr_ota":{"protocols":["MQTT"],"streamname":"s-1","files":[{"filepath":%s,'
    '"filesize":%s,"fileid":0,"fileType":202,"version":%s,"sig--":null}]}}'
)


def _parse(*fields):
    return document.parse(json.loads(_STREAM % fields))


def _reason(*fields):
    try:
        _parse(*fields)
    except document.DocumentError as error:
        return error.args[0]
    raise AssertionError(fields)


def test_documents():
    job = _parse('"a.bin"', "5", '"1.2.3"')
    assert (job.type, job.size, job.stream, job.url) == (202, 5, b"s-1", None)
    assert (job.version, job.detail, job.force) == (b"1.2.3", b"1.2.3", False)
    assert _parse('"x\\u0000\\n\\ud800y"', "5", "null").detail == b"x???y"
    assert _parse('"%s"' % ("\xe4" * 100), "5", "null").detail == "\xe4".encode() * 64
    for size in ("true", "0", "5.0", "1e3", "-1", "9" * 40, "null", '"5"', "[]"):
        assert _reason("null", size, "null").startswith(b"filesize"), size
    for version in ("5", "true", '"\\ud800"', '"a\\tb"', '"%s"' % ("x" * 129), "{}"):
        assert _reason("null", "5", version).startswith(b"version"), version
    # A longer form of LF, which MicroPython takes for a character.
    text = (_STREAM % ('"p"', "5", '"aXb"')).encode().replace(b"aXb", b"a\xc0\x8ab")
    try:
        document.parse(json.loads(text))
        raise AssertionError
    except document.DocumentError:
        pass
    text = (_STREAM % ('"aXb"', "5", "null")).encode().replace(b"aXb", b"a\xc0\x8ab")
    assert document.parse(json.loads(text)).detail == b"a?b"
    for whole in ("null", "5", '"x"', "[]", "{}", '{"afr_ota":5}', '{"action":"OTA"}'):
        try:
            document.parse(json.loads(whole))
        except document.DocumentError:
            continue
        raise AssertionError(whole)


def test_a_document_leaves_little_behind():
    text = _STREAM % ('"a.bin"', "5", '"1.2.3"')
    document.parse(json.loads(text))
    gc.collect()
    before = gc.mem_alloc()
    job = document.parse(json.loads(text))
    gc.collect()
    assert gc.mem_alloc() - before < 1024, gc.mem_alloc() - before
    assert job.size == 5


async def test_a_check_needs_little_memory():
    """With the libraries as source, which is more than on a board."""
    digest, value = _parts(EC_LEAF)
    holder = _der(EC_ROOT)
    await signature.verify(holder, b"ecdsa", digest, value)
    gc.collect()
    before = gc.mem_alloc()
    await signature.verify(holder, b"ecdsa", digest, value)
    gc.collect()
    assert gc.mem_alloc() - before < 512, gc.mem_alloc() - before
