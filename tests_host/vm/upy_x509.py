"""Certificates on the VM: a certificate of each kind, made by the cryptography package."""
# vm-file: heap=64

import asyncio
import gc
import time

from lib import p256, pem, x509

EC_ROOT = b"""\
-----BEGIN CERTIFICATE-----
MIIBKDCB0KADAgECAgISZzAKBggqhkjOPQQDAjASMRAwDgYDVQQDDAdlYyByb290
MB4XDTI2MDEwMTAwMDAwMFoXDTM2MDEwMTAwMDAwMFowEjEQMA4GA1UEAwwHZWMg
cm9vdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABP8kRogksthqo00XgYaTzq/+
u3OloNFpWsZ4Oi0Nu5zrFTFmYUgxHbayG+3b/a5cgGqAkSpRf0N5SgS4ONSLa9ij
FjAUMBIGA1UdEwEB/wQIMAYBAf8CAQAwCgYIKoZIzj0EAwIDRwAwRAIgPZv3mkr6
sI903looeTs5YRDAFa+WsAv/YGT+Yq6pbAICIGyVvm/iqunzwWu4Lp2IhEMhsqlS
/1Uy7ephB5TxYhnO
-----END CERTIFICATE-----
"""

RSA_ROOT = b"""\
-----BEGIN CERTIFICATE-----
MIICuDCCAaCgAwIBAgICEmcwDQYJKoZIhvcNAQELBQAwEzERMA8GA1UEAwwIcnNh
IHJvb3QwHhcNMjYwMTAxMDAwMDAwWhcNMzYwMTAxMDAwMDAwWjATMREwDwYDVQQD
DAhyc2Egcm9vdDCCASIwDQYJKoZIhvcNAQEBBQADggEPADCCAQoCggEBALHdZQtj
IPNcJgCUEwDPuHzyko+EK3t8RRPDfMD2cqNqAtW/jBJpGPBtFOVsKk4BLDIp7sem
2u3hiBdQNKVUFQTCmZdFKCWVo3a5AKWT8YgfsMILRPaaOvSL9MsXrDt8cYM/8675
PniF6BlciD4vTNyMQfN+piIRsvQX+R8dKPuz5FRRiUs4RBZzRinsKqbXKHj81sma
CSgBG0FCr/hgWRYdQqNFL6lySZ4BgxBtExXjCHwsijxeiHPBIeCuGf+wx0lhc03P
pkyCN8n17yCBeVVExkZ9Foj5AnpzYu/uQ8amdMzw86nN0lNtdFonh4P555iP0Zf4
puO4b9hKKlqEOq0CAwEAAaMWMBQwEgYDVR0TAQH/BAgwBgEB/wIBADANBgkqhkiG
9w0BAQsFAAOCAQEADWB/i6aIjfM3R8Jdx7E0ZDBlO3/N0/chthC58TMKyPuEX5Dj
EGoQoGVqLpy7OpCMY7WRERfVm5rpTfWriidlb+ob6PyY2WZUGhOAVT4SsWMyL4ky
LgV6RPP7mdnrw3OIOG7T6PJ1SBuLGbaT1nAeKUnt1a0ydbjm89B4vRWXf7sp7Urg
sSWMarnzifJ8f2crE1HI1njm8UJzH57wJYvrnIh9ojPzNru7+WNFNi9Pudx0Bpfk
COILTzqIFQ/nxqTs+jLrPW6Pu0fKnURw1bWUR959FiOkNb3zYSsR7w6igEDXLWML
8/Y1qtrLlQRDX6dDQ5MGtONtDhd55ysR/3s12Q==
-----END CERTIFICATE-----
"""

EC_LEAF = b"""\
-----BEGIN CERTIFICATE-----
MIIBDzCBtaADAgECAgISZzAKBggqhkjOPQQDAjASMRAwDgYDVQQDDAdlYyByb290
MB4XDTI2MDEwMTAwMDAwMFoXDTM2MDEwMTAwMDAwMFowDzENMAsGA1UEAwwEbGVh
ZjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABLXCt6EKFdM/o7jE33nDSjUaYwxC
IJrCb5HcUDtxiJWuISCZEC18S6TLBVfbp5Z7EBdcXHvimAyMfHxBvErGslEwCgYI
KoZIzj0EAwIDSQAwRgIhAIU1jeUtN6Zg3FSAbca+R/IpJON2D72LZ1O56qtHyP3z
AiEA+tE95ulSOG8PV7y2Cp92j3+Yv81/oZ0byyakYdLZbtI=
-----END CERTIFICATE-----
"""

RSA_LEAF = b"""\
-----BEGIN CERTIFICATE-----
MIIB0DCBuaADAgECAgISZzANBgkqhkiG9w0BAQsFADATMREwDwYDVQQDDAhyc2Eg
cm9vdDAeFw0yNjAxMDEwMDAwMDBaFw0zNjAxMDEwMDAwMDBaMA8xDTALBgNVBAMM
BGxlYWYwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAS1wrehChXTP6O4xN95w0o1
GmMMQiCawm+R3FA7cYiVriEgmRAtfEukywVX26eWexAXXFx74pgMjHx8QbxKxrJR
MA0GCSqGSIb3DQEBCwUAA4IBAQBfbWLB+Dy3SQpg0YxhVLINcUR5zdu5gY3JjBhP
roTy7gst/IZkcn3ED4t3rClcYGM17esyoMoBr3EW9nW8pngDOZPqs+zqMdCaD9oh
HEj3HRqpY7FhoUAMguxhaFLgJi6/aaoM6YJTR9u6JeqhxQ3LnOnIN+mi2xJDhK3L
S8I/Asa5084r2Q5I7rtoKgu6yNKTFhjDlS5d05YlMoWMSsiKRZAC3AQPVLHEi357
2aixAnNn3z45jiiyvTipk25GKnGZv4b8PSjiWR18o2Ee35Ob4qOtpzcdsGo8pnt9
Uwxr/wB6dtWrPlGXwghIC+R1cWY0+zXuUTbwtaoknBTiyqcg
-----END CERTIFICATE-----
"""

RSA_4096 = b"""\
-----BEGIN CERTIFICATE-----
MIIEuDCCAqCgAwIBAgICEmcwDQYJKoZIhvcNAQELBQAwEzERMA8GA1UEAwwIcnNh
IDQwOTYwHhcNMjYwMTAxMDAwMDAwWhcNMzYwMTAxMDAwMDAwWjATMREwDwYDVQQD
DAhyc2EgNDA5NjCCAiIwDQYJKoZIhvcNAQEBBQADggIPADCCAgoCggIBALGZHA1x
k+ApIKGKfbdPG0vddMbmSnkX67wwqhO1TS2xdwa7skFKlyrxRFNkK0Por8oADIUu
plxiNxWSkfzC8UxlZavBN4TKPCzHkJNkkgf8e+uhY1IL+BsJe3t6ri+nAqZ5jPmf
ZXxT8nibt4RKli9/5gmJjFIY1ew8lXLcw2LXav+mnNHiGJLlyl039COS5ia8AtZ4
TIcM2FgtfKwNdGG55D9sApVn12YakGcyKKXLOuixl/bJhacgErZHlyV7De+rsD74
dUioOTK422774InvZMhzQr+mLz3J+SgYtflu/JuPj+G5Gg1RGxa/0QK45TrUSpop
hYuDZKNmltVOz4+UFCAbkJGriYz8poG7DDm8GDp4h7D14arAS/ih+FLm1t+B3Tsw
aP6DN6b6ihvgVpxksjII9cs8oyk9MoL7p2AMic3cf3MSU0rzJG8Pi/iMoeXnauwZ
BKgRrBnsD1gQEzesMmtHKLOsMeRbk7+NifY/opIok8ks53ciIex9sZm1Ys7U8HAP
L9nO0QSAr4Y+ptvM6ETdGEUJNnL3b3tEqo0pVJ0OLsMZrvBjbLRKKaQjqdvC8bLO
OwVzJqFOKOSqUUKJEX82fuEPBDzSwt5pU9KaTR+nXZemz31qPZPPVzdscgjbCKpZ
dJO6bGhIv2D/GpYTG9h7yN0u+hpR8kSuAybnAgMBAAGjFjAUMBIGA1UdEwEB/wQI
MAYBAf8CAQAwDQYJKoZIhvcNAQELBQADggIBAFLxgUY80ULqv3CVOSt0xSgMS/Pb
iXoeyUtnzWkQ5z1xYwYL8IC6+KjB0L9Oi570reejP3775c6J12b69vkqyXD/WXT3
v8f4uaubEZradcmN2hfSyGsUB4HQsFewJyCOzeqTNWDE/VS0YXiZOF/75+u7Gcu+
5bYASK2SFz8T8dVljmozSTHdZ8EOlvOT1c0CoczfOctuTwJHZ2FfgxXhuRdfxeEx
dp68IihhyveIAER3qDMddLHsRarxx/6zgvZYuCF5YI1V1EUyKhOma4NusEyCDZtI
NaZmhHMemH9K9x/8WCIQSsX9iIcimsiW3p3YMi8v/esomywatpuoEwwlHOqOE+8n
Mjirc979975R6a+qisRfrqY5upFFQqz3JWcyY3H+Z1tBSiTo0LIVxsK7Lvei4PYc
9hSw6tkgJuqQ1+dYsM5S/gCUGc2PG/dzYeznQdUOU7U78o5Sn1B2ZKXBCnGvgJOp
xVKvhKqANCVs4tdAglx/xXaMAXkH4Z4ZKv8iSTIewz80HxNq2kJhMAd8FPEf0/5A
lKhZVKHek2J+s8vaXdyW1v3wvEmwFDzPGvqf2sIX7mqHvQqH/9CtJ16nsm2r0hNw
6v6/M98EDGpfP2uCZllFvjbqEmpezatVZ+3WC5vGpjfoOd2RzGV+tlZR9WzPtaJ8
VCvz6VYnSnIYpMDi
-----END CERTIFICATE-----
"""


def _certificate(text):
    found = pem.decode(text)
    assert len(found) == 1
    return x509.parse(found[0])


async def _signed(text, root):
    return await x509.signed_by(_certificate(text), _certificate(root).key)


def test_what_is_read():
    root = _certificate(EC_ROOT)
    assert root.version == 3
    assert root.serial == 4711
    assert root.is_ca
    assert root.path_length == 0
    assert root.unknown_critical is None
    assert root.issuer == root.subject
    assert root.issuer.endswith(b"ec root")
    # 2026-01-01 and 2036-01-01.
    assert root.not_before == 1767225600
    assert root.not_after == 2082758400
    leaf = _certificate(RSA_LEAF)
    assert not leaf.is_ca
    assert leaf.key.algorithm == "P-256"
    assert _certificate(RSA_4096).key.algorithm == "RSA"
    assert leaf.issuer == _certificate(RSA_ROOT).subject


async def test_who_signed_them():
    assert await _signed(EC_LEAF, EC_ROOT)
    assert await _signed(EC_ROOT, EC_ROOT)
    assert await _signed(RSA_LEAF, RSA_ROOT)
    assert await _signed(RSA_4096, RSA_4096)
    assert not await _signed(EC_LEAF, EC_LEAF)
    assert not await _signed(EC_LEAF, RSA_ROOT)
    assert not await _signed(RSA_LEAF, EC_ROOT)
    assert not await _signed(RSA_LEAF, RSA_4096)


async def test_changed_ones():
    for text, root in ((EC_LEAF, EC_ROOT), (RSA_LEAF, RSA_ROOT)):
        key = _certificate(root).key
        good = pem.decode(text)[0]
        read = 0
        for at in range(0, len(good), 7):
            changed = bytearray(good)
            changed[at] ^= 1 << at % 8
            try:
                certificate = x509.parse(bytes(changed))
            except x509.X509Error:
                continue
            read += 1
            assert not await x509.signed_by(certificate, key), at
        assert read > 20


def test_every_cut_is_refused():
    good = pem.decode(EC_LEAF)[0]
    for size in range(len(good)):
        try:
            x509.parse(good[:size])
        except x509.X509Error:
            continue
        raise AssertionError(size)


async def test_other_tasks_get_turns():
    """At least 45 in a P-256 check, which takes most of a second on a chip."""
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep_ms(0)

    counter = asyncio.create_task(count())
    for text, root, least in ((EC_LEAF, EC_ROOT, 45), (RSA_4096, RSA_4096, 17)):
        before = turns
        assert await _signed(text, root)
        assert turns - before >= least, turns - before
    counter.cancel()


def test_no_step_is_much_longer_than_the_others():
    """The step that is the slowest every time, as a part of the whole."""
    certificate = _certificate(EC_LEAF)
    key = _certificate(EC_ROOT).key
    from hashlib import sha256

    digest = sha256(certificate.signed).digest()
    least = None
    for _ in range(25):
        times = []
        begin = time.ticks_us()
        for _ in key.steps(digest, certificate.signature):
            now = time.ticks_us()
            times.append(time.ticks_diff(now, begin))
            begin = now
        least = times if least is None else [min(pair) for pair in zip(least, times)]
    # 20 ms of a check that takes 700 ms on a chip.
    assert max(least) * 700 < sum(least) * 20, (max(least), sum(least))


async def test_p256_needs_little_memory():
    """The working set of a check, rubbish apart."""
    certificate = _certificate(EC_LEAF)
    key = _certificate(EC_ROOT).key
    gc.collect()
    before = gc.mem_alloc()
    assert await x509.signed_by(certificate, key)
    gc.collect()
    assert gc.mem_alloc() - before < 2048


def test_keys():
    for bad in (b"", b"\x04" + bytes(64), b"\x02" + bytes(32)):
        try:
            p256.PublicKey(bad)
        except ValueError:
            continue
        raise AssertionError(bad)
