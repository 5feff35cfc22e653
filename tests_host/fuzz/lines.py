"""Hostile lines: every command of the guide, well formed and then spoilt, and plain rubbish.

The same seed gives the same lines. What would stop the flood (a restart, sleep, an attempt to
connect that takes seconds) is left out by `harmless`; the other tests have it.
"""

from __future__ import annotations

import random
from pathlib import Path

from tests_host.fuzz import oracle

_ROOTS = Path(__file__).resolve().parents[2] / "tools" / "flash" / "amazon_roots.pem"

_KEYS = (
    b"About", b"Version", b"TechSpec", b"ThingName", b"Certificate", b"RootCA", b"OTAcertificate",
    b"HOTAcertificate", b"EndPoint", b"TopicRoot", b"Defender", b"SSID", b"Passphrase", b"APN",
    b"NTPServer", b"IPv4Address", b"IPv6Address", b"DNSAddress", b"GatewayAddress", b"QoS",
    b"Topic0", b"Topic1", b"Topic16", b"Topic17", b"Topic01", b"Topic", b"Custom", b"",
    b"01234567890123456",
)  # fmt: skip
_CERTIFICATES = (b"RootCA", b"OTAcertificate", b"HOTAcertificate")
_DIAG = (
    b"LOG", b"LOG 0", b"LOG 4", b"LOG 5", b"LOG info", b"LOG -1", b"HEAP", b"HEAP x", b"INFO",
    b"INFO mode", b"INFO lost", b"INFO nothing", b"INFO  ", b"SCAN 0", b"SCAN 31", b"SCAN x",
    b"PING", b"PING  ", b"PING localhost 0", b"PING localhost 11", b"", b"nothing", b"x" * 200,
)  # fmt: skip
_VALUES = (
    b"", b"0", b"1", b"2", b"-1", b"3600", b"99999999", b"localhost", b"localhost:1883", b":",
    b"a:b", b"a:65536", b"host_name", b"passphrase", b"short", b"x" * 63, b"x" * 64, b"x" * 65,
    b"f" * 64, b"x" * 256, b"x" * 257, b"a/b", b"/", b"//", b"#", b"+", b"a/#/b", b"\\A", b"\\\\",
    b"\\", b"\\a", b"\xc3\xa9", b"\xc3", b"\xff\xfe", b"\x00", b" ", b"=", b"a=b", b"%s%d%n",
    b"OK", b"ERR1", b"\r", b"\xf0\x9f\x98\x80", b"-----BEGIN CERTIFICATE-----", b"MIIB", b"\x1b[",
)  # fmt: skip
_SUFFIXES = (
    b"",
    b"",
    b"",
    b"0",
    b"1",
    b"2",
    b"16",
    b"17",
    b"007",
    b"1000001",
    b"9" * 40,
    b"9" * 5000,
)
_ODD = (
    b"\x00",
    b"\xff",
    b"\x80",
    b"\r",
    b"\\",
    b"\\A",
    b"?",
    b" ",
    b"AT+",
    b"at",
    b"=",
    b"+",
    b"\t",
)
_WORDS = [
    *sorted(oracle.COMMANDS), *sorted(oracle.QUERIES), b"SHADOW", b"JOB", b"DEFENDER", b"NOSUCH",
    *[b"CONF"] * 10, *[b"SEND", b"GET", b"SUBSCRIBE", b"UNSUBSCRIBE", b"DIAG"] * 2,
]  # fmt: skip


def harmless(stream: bytes, online: bool) -> bool:
    """True unless `stream` (whole lines) would restart, put to sleep or hold up the module.

    online: while connected, nothing that the cloud answers by closing the connection either.
    """
    for line in stream.split(b"\n"):
        if line.endswith(b"\r"):
            line = line[:-1]
        judged = oracle.judge(line)
        capitals = judged.rest.upper()
        refused = bool(judged.suffix) or capitals.strip() != b""
        if judged.word in (b"RESET", b"FACTORY_RESET", b"CONNECT") and not refused:
            return False
        if judged.word == b"DISCONNECT" and online and not refused:
            return False
        if judged.word == b"SLEEP":
            # No duration: only what cannot be one.
            if not any(c in b"BCDEFGHIJKLM" for c in capitals):
                return False
        if judged.word == b"CONFMODE" and not judged.suffix and len(judged.rest) < 200:
            # Nearly everything is a name.
            return False
        if judged.word == b"DIAG" and (b"PING" in capitals or b"SCAN" in capitals):
            argument = capitals.strip().split(b" ")
            if argument not in _REFUSED:
                return False
        if judged.word == b"CONF" and oracle.pastes(line):
            return False
        if online and b"$" in line:
            return False
    return True


_REFUSED = (
    [b"PING"], [b"PING", b"LOCALHOST", b"0"], [b"PING", b"LOCALHOST", b"11"],
    [b"SCAN", b"0"], [b"SCAN", b"31"], [b"SCAN", b"X"],
)  # fmt: skip


class Lines:
    """Batches of lines. online: for a module that is connected and has to stay so."""

    def __init__(self, seed: int, online: bool = False):
        self._random = random.Random(seed)
        self._online = online
        # Lines of certificates that could not be taken for a command (D2): what a paste that
        # holds one gets is for a test of its own.
        pem = _ROOTS.read_bytes().replace(b"\r", b"").splitlines()
        self._pem = [line for line in pem if not oracle.judge(line).codes]

    def batch(self, count: int) -> list[bytes]:
        """At least `count` lines; each item is one or more whole lines."""
        found: list[bytes] = []
        lines = 0
        while lines < count:
            item = self._paste() if self._random.random() < 0.01 else self._item()
            found.append(item)
            lines += item.count(b"\n")
        return found

    def _item(self) -> bytes:
        while True:
            kind = (
                Lines._limit if self._random.random() < 0.01 else self._random.choice(self._kinds)
            )
            item = kind(self)
            item += self._random.choice((b"\n", b"\n", b"\n", b"\r\n", b"\r\r\n"))
            if harmless(item, self._online):
                return item

    # What a line may be.

    def _bytes(self, most: int) -> bytes:
        return self._random.randbytes(self._random.randint(0, most))

    def _word(self) -> bytes:
        word = self._random.choice(_WORDS)
        how = self._random.random()
        if how < 0.2:
            word = bytes(
                c ^ 0x20 if 65 <= c <= 90 and self._random.random() < 0.5 else c for c in word
            )
        return word

    def _value(self) -> bytes:
        how = self._random.random()
        if how < 0.2:
            return self._bytes(self._random.choice((4, 40, 300)))
        if how < 0.22:
            return b"x" * 5000
        return self._random.choice(_VALUES)

    def _parameter(self, word: bytes) -> bytes:
        choose = self._random.choice
        word = word.upper()
        if word == b"CONF":
            key = choose(_KEYS)
            return choose((key + b"=" + self._value(), key, b"=" + self._value()))
        if word == b"SEND":
            return choose((self._value() + b" " + self._value(), self._value()))
        if word == b"DIAG":
            return choose((choose(_DIAG), choose((b"LOG ", b"INFO ", b"HEAP ")) + self._value()))
        if word == b"STAT":
            return choose((b"Overflow", b"OVERFLOW", b"", b"nothing", self._value()))
        return choose((b"", self._value(), choose(_KEYS)))

    def _good(self) -> bytes:
        """A command by the grammar, most of them with a meaning."""
        word = self._word()
        choose = self._random.choice
        query = word.upper() not in oracle.COMMANDS or self._random.random() < 0.3
        if word.upper() == b"CONF" and query:
            parameter = choose(_KEYS) + choose((b"", b"", b" pem", b" PEM", b" x"))
        else:
            parameter = self._parameter(word)
        suffix = choose(_SUFFIXES) if self._random.random() < 0.5 else b""
        if word.upper() in (b"SEND", b"GET", b"SUBSCRIBE", b"UNSUBSCRIBE") and not suffix:
            suffix = choose(_SUFFIXES)
        line = choose((b"AT+", b"AT+", b"AT+", b"at+", b"aT+", b"At+")) + word + suffix
        line += b"?" if query else b""
        if parameter or self._random.random() < 0.1:
            line += b" " + parameter
        return line

    def _spoilt(self) -> bytes:
        """A good command with one to three changes."""
        line = self._good()
        for _ in range(self._random.randint(1, 3)):
            at = self._random.randint(0, min(len(line), 60))
            how = self._random.randrange(6)
            if how == 0:
                line = line[:at] + self._random.choice(_ODD) + line[at:]
            elif how == 1:
                line = line[:at] + line[at + 1 :]
            elif how == 2:
                line = line[:at] + self._bytes(8) + line[at:]
            elif how == 3:
                line = line[:at] + line[at : at + 5].swapcase() + line[at + 5 :]
            elif how == 4:
                line = line[:at]
            else:
                line = line[:at] + line[max(0, at - 4) :]
        return line

    def _backslashes(self) -> bytes:
        """A backslash at one place of a good command, with each of the things behind it."""
        line = self._good()[:300]
        at = self._random.randint(0, len(line))
        escape = self._random.choice((b"\\", b"\\A", b"\\\\", b"\\a", b"\\\\\\", b"\\A\\"))
        return line[:at] + escape + line[at:]

    def _limit(self) -> bytes:
        """A command around the longest there may be, with or without junk before it."""
        size = oracle.LIMIT + self._random.choice((-2, -1, 0, 1, 2, 3, 500))
        start = self._random.choice(
            (
                b"AT+SEND1 ",
                b"AT+CONF Topic1=",
                b"AT+SEND a ",
                b"AT+" + b"W" * 40,
                b"AT+GET1",
                b"AT+",
            )
        )
        fill = self._random.choice((b"x", b"\\\\", b"\\A", b"\xff", b"0", b" "))
        line = start + (fill * size)[: size - len(start)]
        return self._random.choice((b"", b"", b"", b"junk", b"junk", b"x" * 6000)) + line

    def _attention(self) -> bytes:
        at = self._random.choice((b"AT", b"at", b"aT", b"At"))
        before = self._random.choice(
            (b"", b"", b"junk ", self._bytes(20), b"z" * self._random.choice((8, 8, 8, 5200)))
        )
        after = self._random.choice(
            (b"", b"", b" ", b"X", b"\r", b"\x00", b"T", b"?", b"Z" * 5200)
        )
        return before + at + after

    def _rubbish(self) -> bytes:
        return self._bytes(
            self._random.choice(
                (1, 3, 3, 10, 10, 100, 100, 700) if self._random.random() < 0.98 else (12000,)
            )
        )

    def _fragment(self) -> bytes:
        return self._random.choice(self._pem)

    def _several(self) -> bytes:
        """Several commands on one line, or on several that come at once."""
        between = self._random.choice((b"\n", b"\r\n", b"", b" ", b"\r", b"\x00"))
        return between.join(self._good() for _ in range(self._random.randint(2, 5)))

    _kinds = (
        _good, _good, _good, _good, _good, _good, _good, _good, _good, _spoilt, _spoilt, _spoilt,
        _spoilt, _backslashes, _backslashes, _attention, _rubbish, _fragment, _several, _several,
    )  # fmt: skip

    def _paste(self) -> bytes:
        """`CONF <certificate>=pem` with something behind it that is or is not a certificate, and
        a command line, which ends it whatever went before."""
        choose = self._random.choice
        lines = [choose((b"AT+CONF ", b"at+conf ")) + choose(_CERTIFICATES) + b"=pem"]
        count = self._random.randint(0, 40)
        start = self._random.randrange(len(self._pem))
        body = self._pem[start : start + count]
        for _ in range(self._random.randint(0, 2)):
            body.insert(
                self._random.randint(0, len(body)), choose((b"", b"junk", b"\xff\x00", b"="))
            )
        lines += [line for line in body if oracle.judge(line).codes == frozenset()]
        lines.append(b"AT+CONF? TechSpec")
        return choose((b"\n", b"\r\n")).join(lines) + b"\n"
