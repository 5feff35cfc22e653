"""Keys, signatures and requests on the VM: vectors, turns for other tasks, memory."""
# vm-file: heap=48

import asyncio
import gc
import time
from hashlib import sha256

from lib import csr, hmac_sha256, keypair, p256, p256_key, pem, x509

# RFC 6979, A.2.5.
_SECRET = bytes.fromhex("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721")
_POINT = bytes.fromhex(
    "04"
    "60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6"
    "7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299"
)
_R = "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716"
_S = "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8"

# A certificate for the key above, made by the cryptography package.
_CERTIFICATE = b"""\
-----BEGIN CERTIFICATE-----
MIIBFDCBuqADAgECAgISZzAKBggqhkjOPQQDAjATMREwDwYDVQQDDAhyZmMgNjk3
OTAeFw0yNjAxMDEwMDAwMDBaFw0zNjAxMDEwMDAwMDBaMBMxETAPBgNVBAMMCHJm
YyA2OTc5MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEYP7UuiVanTHJYet0xjVt
aMBJuJI7Yfps5mliLmDyn7Z5A/4QCLi8maQa6elWKLxk8vGyDC1+n1F3o8KU1EYi
mTAKBggqhkjOPQQDAgNJADBGAiEArTVLTnsFF5MgHnHuw/tErG43DOdorAo4Zn/i
HAdWaDwCIQDck8dXKhmrQPK30H0PXUWQs5ceHcAVTRmsjIIcSUN+QQ==
-----END CERTIFICATE-----
"""


async def test_rfc_6979():
    key = await p256_key.load(_SECRET)
    assert key.point == _POINT
    signature = await key.sign(sha256(b"sample").digest())
    assert signature == bytes.fromhex("3046022100" + _R + "022100" + _S)


def test_hmac():
    # RFC 4231, 4.3 and 4.7 (a key longer than a block).
    expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    parts = b"what do ya ", memoryview(b"want "), bytearray(b"for nothing?")
    assert hmac_sha256.digest(b"Jefe", *parts).hex() == expected
    expected = "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
    text = b"Test Using Larger Than Block-Size Key - Hash Key First"
    assert hmac_sha256.digest(b"\xaa" * 131, text).hex() == expected


async def test_who_belongs_to_whom():
    certificate = x509.parse(pem.decode(_CERTIFICATE)[0])
    key = await p256_key.load(_SECRET)
    assert certificate.point == key.point
    assert await keypair.belongs(key.der(), certificate)
    assert not await keypair.belongs((await p256_key.generate()).der(), certificate)
    for data in (b"", key.der()[:-1], _CERTIFICATE, certificate.der):
        try:
            await keypair.belongs(data, certificate)
        except ValueError as error:
            assert str(error).startswith("no private key"), error
        else:
            raise AssertionError(data)


async def test_a_name_that_is_not_utf_8():
    key = await p256_key.load(_SECRET)
    for name in (b"", b"\xff", b"abc\xc3", b"x" * 65):
        try:
            await csr.make(key, name)
        except ValueError:
            continue
        raise AssertionError(name)


async def test_a_disturbed_signature_is_never_given_away():
    key = await p256_key.load(_SECRET)
    true = p256_key.add
    calls = 0

    def add(*args):
        nonlocal calls
        calls += 1
        x, v, z = true(*args)
        return (x ^ (calls == 40), v, z)

    p256_key.add = add
    try:
        await key.sign(bytes(32))
    except OSError as error:
        assert error.errno == 5
    else:
        raise AssertionError
    finally:
        p256_key.add = true
    await key.sign(bytes(32))


async def test_bad_randomness():
    true = p256_key.urandom
    for byte in (0x00, 0xFF, 0x55):
        p256_key.urandom = lambda size, byte=byte: bytes([byte]) * size
        try:
            await p256_key.generate()
        except OSError as error:
            assert error.errno == 5
        else:
            raise AssertionError(byte)
        finally:
            p256_key.urandom = true


async def test_other_tasks_get_turns():
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep_ms(0)

    counter = asyncio.create_task(count())
    key = await p256_key.generate()
    assert turns >= 40, turns
    turns = 0
    await csr.make(key, b"name")
    assert turns >= 40 + 45, turns
    counter.cancel()


def _steady(size):
    # The same "random" numbers every time, so that inversions take the same number of steps.
    global drawn
    drawn += 1
    return sha256(b"%d" % drawn).digest()[:size]


async def test_no_step_is_much_longer_than_the_others():
    global drawn
    key = await p256_key.load(_SECRET)
    p256_key.urandom = _steady
    least = None
    for _ in range(25):
        drawn = 0
        times = []
        begin = time.ticks_us()
        for _ in key._steps(bytes(32)):
            now = time.ticks_us()
            times.append(time.ticks_diff(now, begin))
            begin = now
        least = times if least is None else [min(pair) for pair in zip(least, times)]
    # 20 ms of a signature that takes a second on a chip.
    assert max(least) * 1000 < sum(least) * 20, (max(least), sum(least))


async def test_little_memory_is_kept():
    """A key, and what a request leaves behind when it was handed out."""
    key = await p256_key.generate()
    request = await csr.make(key, b"name")
    key = request = None
    gc.collect()
    before = gc.mem_alloc()
    key = await p256_key.generate()
    request = await csr.make(key, b"name")
    gc.collect()
    assert gc.mem_alloc() - before < 1536, gc.mem_alloc() - before
    assert p256.PublicKey(key.point)
    assert request
