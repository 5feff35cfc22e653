"""A file by HTTPS, from the URL that a job has (RFC 9110, section 14)."""

import asyncio
import time
from errno import ETIMEDOUT

from micropython import const

from firmware.cloud.session import describe
from firmware.log import WARNING, log
from firmware.ota.download import Broken, Stale
from firmware.ota.receiver import BLOCK, Failed
from lib.http_client import Client, HttpError, split_url

# How long nothing new may come: longer than a dead link takes to be noticed. In between it tries
# again, after pauses that grow (ms).
_PATIENCE = const(105000)
_PAUSE = const(1000)
_PAUSE_MOST = const(10000)

# How often `tick` is called at least (ms).
_LOOK = const(250)

# After a piece of work that took this long (ms), an erased sector, the others get this much time.
_LONG = const(10)
_REST = const(10)

# What a module image's header is long: the least that is asked for.
_HEAD = const(256)


async def size(module, job):
    """Bytes of the file, which the server tells with a part of it. Raises as `fetch`."""
    link = _Link(module, job)
    try:
        while True:
            try:
                await link.get(0, _HEAD - 1)
            except OSError as error:
                await link.again(error)
                continue
            if link.client.total is None:
                raise Failed(b"file server: size not told")
            return link.client.total
    finally:
        link.client.close()


async def fetch(module, job, receiver, tick):
    """As `download.fetch`, by the URL `job.url`: one request for all that is missing, and another
    one when that breaks off."""
    # For heads and blocks, one after the other.
    buffer = bytearray(BLOCK)
    view = memoryview(buffer)
    link = _Link(module, job, buffer)
    bell = asyncio.create_task(link.ring(tick))
    try:
        while not receiver.complete:
            try:
                await _pull(link, receiver, view, tick)
            except OSError as error:
                await link.again(error)
    finally:
        bell.cancel()
        link.client.close()


async def _pull(link, receiver, view, tick):
    """Receive until the reply ends. OSError is the network's."""
    client = link.client
    last = receiver.size - 1
    at = receiver.done
    await link.get(at, last)
    if client.total not in (None, receiver.size):
        raise Failed(b"file server has a file of another size")
    have = 0
    while client.left:
        have += await link.read(view[have:])
        if have < BLOCK and client.left:
            continue
        began = time.ticks_ms()
        new = receiver.put(at, view[:have])
        if receiver.error:
            raise receiver.error
        at += have
        have = 0
        if new:
            link.progress()
            tick()
        if time.ticks_diff(time.ticks_ms(), began) >= _LONG:
            await asyncio.sleep_ms(_REST)


class _Link:
    """The way to the file server; `client` is the HTTP client."""

    def __init__(self, module, job, buffer=None):
        self._session = module.session
        self._connection = module.session.connections
        try:
            secure, host, port, self._path = split_url(job.url)
        except HttpError:
            raise Failed(b"URL is none")
        if not secure:
            raise Failed(b"URL is not https")
        self.client = Client(host, port, _context(module), buffer=buffer)
        self._pause = _PAUSE
        self._stopped = None
        self._status = 0
        self.progress()

    def progress(self):
        """Something new has come."""
        self._since = time.ticks_ms()
        self._pause = _PAUSE

    async def ring(self, tick):
        """Call `tick` also while nothing comes; a task. What it raises reaches who waits."""
        while True:
            await asyncio.sleep_ms(_LOOK)
            try:
                tick()
            except Exception as error:  # noqa: BLE001
                self._stopped = error
                self.client.close()
                return

    async def get(self, first, last):
        """Ask for a range. OSError is the network's; raises Stale, Failed."""
        self._status = 0
        try:
            status = await self.client.get(self._path, first, last)
        except ValueError as error:
            raise _untrusted(error)
        if status == 403:
            raise Stale()
        self._status = status
        if status >= 500:
            # It may pass, like a fault of the network.
            raise OSError(0)
        if 300 <= status < 400:
            raise Failed(b"file server: redirected, status %d" % status)
        if status >= 400:
            raise Failed(b"file server: status %d" % status)

    async def read(self, view):
        """Read a piece of the body; its length."""
        try:
            return await self.client.readinto(view)
        except ValueError as error:
            raise _untrusted(error)

    async def again(self, error):
        """Wait before the next try after `error`; raises Broken or Failed when there is to be
        none."""
        session = self._session
        elapsed = time.ticks_diff(time.ticks_ms(), self._since)
        pause = self._pause
        if self._status >= 500:
            why = b"status %d" % self._status
        elif error.errno == ETIMEDOUT:
            why = b"no answer"
        else:
            why = describe(error, None)
        log(WARNING, "web:", why)
        if elapsed + pause < _PATIENCE:
            for _ in range(pause // _LOOK):
                if self._stopped:
                    break
                await asyncio.sleep_ms(_LOOK)
        if self._stopped:
            raise self._stopped
        if not session.connected() or session.connections != self._connection:
            raise Broken(b"connection lost")
        if elapsed + pause >= _PATIENCE:
            raise Failed(b"file server: " + why)
        self._pause = min(2 * pause, _PAUSE_MOST)


def _untrusted(error):
    """What a ValueError of the HTTP client means: Failed."""
    if isinstance(error, HttpError):
        return Failed(b"file server: " + str(error).encode())
    return Failed(b"file server: " + describe(error, None))


def _context(module):
    """A TLS context that trusts the proven roots and shows no certificate."""
    made = module.session.make_context()
    try:
        for root in module.config.get(b"RootCA"):
            made.load_verify_locations(root)
    except (OSError, ValueError):
        raise Failed(b"root certificate unusable")
    return made
