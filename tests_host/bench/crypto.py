"""How long the check of a signature takes on the VM, and how long it keeps the loop at most.

The peer is Shamir's trick in its textbook form: both multiples in one row of doublings, an
addition of G, Q or G + Q per bit. Both run in one VM process, turn by turn.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests_host.bench.rows import against, budget
from tests_host.bench.sizes import mpy_size
from tests_host.unit import crypto_cases as cases
from tests_host.vm import runner

_FILES = ("lib.der", "lib.pem", "lib.x509", "lib.p256", "lib.rsa")
_VERIFY_LIMIT_MS = 5.0

# Plain Shamir took this long on a chip, as an emulator counts it: it translates the VM's times
# into a chip's, cautiously, because the emulator is slower than hardware.
_SHAMIR_CHIP_MS = 1004
_STEP_LIMIT_CHIP_MS = 20

_SCRIPT = """
import asyncio, gc, json, sys
from time import ticks_diff, ticks_us
from lib import p256, rsa, x509

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

def steps(name, key, signature):
    taken = []
    begin = ticks_us()
    for verdict in key.steps(digest, signature):
        now = ticks_us()
        taken.append(ticks_diff(now, begin))
        begin = now
    assert verdict
    # A step's time is its shortest: what else ran on the PC, or a search for free memory, which
    # falls on another step each time, is not the step's.
    before = times.get(name)
    times[name] = [min(pair) for pair in zip(before, taken)] if before else taken

async def main():
    point = bytes.fromhex(data["point"])
    signature = bytes.fromhex(data["signature"])
    key = p256.PublicKey(point)
    Q = (int.from_bytes(point[1:33], "big"), int.from_bytes(point[33:], "big"))
    r, s = int(data["r"], 16), int(data["s"], 16)
    root, leaf = bytes.fromhex(data["root"]), bytes.fromhex(data["leaf"])
    root_key = x509.parse(root).key
    for _ in range(30):
        await take("p256", lambda: key.verify(digest, signature))
        await take("shamir", lambda: shamir(Q, digest, r, s))
        steps("p256 steps", key, signature)
        await take("parse", lambda: x509.parse(leaf))
        await take("certificate", lambda: x509.signed_by(x509.parse(leaf), root_key))
    for bits in ("2048", "4096"):
        signature = bytes.fromhex(data[bits][1])
        key = rsa.PublicKey(int(data[bits][0], 16), 65537)
        for _ in range(20):
            await take(bits, lambda: key.verify(digest, signature))
            steps(bits + " steps", key, signature)
    print(json.dumps(times))

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
    }
    for bits in (2048, 4096):
        key = cases.rsa_key(bits)
        signature = key.sign(message, padding.PKCS1v15(), hashes.SHA256())
        data[str(bits)] = (f"{key.public_key().public_numbers().n:x}", signature.hex())
    return data


def _median(values: list[int]) -> float:
    return sorted(values)[len(values) // 2] / 1000


def rows() -> list[dict]:
    """Times of checks, steps and sizes."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(_data(), file)
        file.flush()
        times = json.loads(runner.run_source(_SCRIPT, Path(file.name), timeout=60))
    verify = _median(times["p256"])
    shamir = _median(times["shamir"])
    result = [
        budget("P-256 verify, with its yields", verify, "ms", _VERIFY_LIMIT_MS),
        against("P-256 verify, with its yields", verify, "ms", "plain Shamir", shamir, 1.0, False),
        budget("certificate: parse", _median(times["parse"]), "ms", None),
        budget("certificate: parse and check, P-256", _median(times["certificate"]), "ms", None),
        budget("RSA-2048 verify, with its yields", _median(times["2048"]), "ms", None),
        budget("RSA-4096 verify, with its yields", _median(times["4096"]), "ms", None),
        budget("P-256 verify: yields", len(times["p256 steps"]), "", None),
    ]
    chip = _SHAMIR_CHIP_MS / (min(times["shamir"]) / 1000)
    for name, key in (("P-256", "p256"), ("RSA-2048", "2048"), ("RSA-4096", "4096")):
        longest = max(times[f"{key} steps"])
        result.append(budget(f"{name} verify: longest step", longest, "us", None))
        result.append(
            budget(
                f"{name} verify: longest step on a chip, estimated",
                longest / 1000 * chip,
                "ms",
                _STEP_LIMIT_CHIP_MS,
            )
        )
    sizes = {module: mpy_size(module) for module in _FILES}
    result += [budget(f".mpy {module}", size, "B", None) for module, size in sizes.items()]
    result.append(budget(".mpy of the five together", sum(sizes.values()), "B", None))
    return result
