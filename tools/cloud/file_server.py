"""Files over HTTPS, as S3 serves them to whoever has a presigned URL.

    GET, HEAD https://localhost:<port>/files/<key>?X-Amz-Date=…&X-Amz-Expires=…&X-Amz-Signature=…

One range of bytes may be asked for (rule `file-range`). Faults at `files` act here.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import re
import time
from collections import deque
from xml.sax.saxutils import escape

from aiohttp import hdrs, web

from tools.cloud.files import PATH, FileError, FileStore, Stored

log = logging.getLogger("cloud")

_AT = "files"
_PIECE = 16384
_KEPT = 500
_LOOK = 0.05  # seconds between looks whether a client that is kept waiting is still there
_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)
_CODES = {403: "AccessDenied", 404: "NoSuchKey", 412: "PreconditionFailed", 416: "InvalidRange"}


class Unsatisfiable(ValueError):
    """No byte of the file lies in the range."""


def parse_range(text: str | None, size: int) -> tuple[int, int] | None:
    """(first, last) of the bytes that a Range header asks for; None: all of them.

    A header of another form, or with several ranges, is as none at all (RFC 9110 section 14.2).
    Raises Unsatisfiable.
    """
    found = _RANGE.fullmatch((text or "").strip())
    if found is None or found.group(0) == "bytes=-":
        return None
    first, last = found.groups()
    if not first:
        if int(last) == 0 or size == 0:
            raise Unsatisfiable(text)
        return max(0, size - int(last)), size - 1
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        raise Unsatisfiable(text)
    return int(first), min(int(last), size - 1) if last else size - 1


class FileServer:
    """The route on the HTTPS server."""

    def __init__(self, faults, files: FileStore, application: web.Application):
        self._faults = faults
        self._files = files
        self._kept: deque[dict] = deque(maxlen=_KEPT)
        application.router.add_get(PATH + "{key:.+}", self._serve)

    def downloads(self) -> list[dict]:
        """The last requests, oldest first: `time` (ms), `key`, `method`, `range` (the header),
        `status` (0 while unanswered), `sent` (bytes of the body), `fault` (its kind)."""
        return list(self._kept)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        key = request.match_info["key"]
        entry = {
            "time": int(time.time() * 1000),
            "key": key,
            "method": request.method,
            "range": request.headers.get(hdrs.RANGE),
            "status": 0,
            "sent": 0,
            "fault": None,
        }
        self._kept.append(entry)
        fault = self._take(entry, "delay")
        if fault is not None:
            await asyncio.sleep(fault.ms / 1000)
        fault = self._take(entry, "silent")
        if fault is not None:
            await self._wait(request, fault)
        fault = self._take(entry, "redirect")
        if fault is not None:
            entry["status"] = fault.code
            there = fault.to or f"https://127.0.0.1:{self._files.port}{request.raw_path}"
            return web.Response(status=fault.code, headers={hdrs.LOCATION: there})
        fault = self._take(entry, "refuse")
        if fault is not None:
            return _error(entry, fault.code, "a fault switch refuses it")
        return await self._file(request, entry)

    def _take(self, entry: dict, kind: str):
        fault = self._faults.take(kind, at=_AT)
        if fault is not None:
            entry["fault"] = kind
            log.info("fault: %s at files", kind)
        return fault

    async def _wait(self, request: web.Request, fault) -> None:
        """Until the client has gone, or the fault: then it goes on."""
        while self._faults.stands(fault) and _there(request):
            await asyncio.sleep(_LOOK)

    async def _file(self, request: web.Request, entry: dict) -> web.StreamResponse:
        key = entry["key"]
        refusal = self._files.refusal(key, request.query)
        if refusal is not None:
            return _error(entry, 403, refusal)
        stored = self._files.get(key)
        if stored is None:
            return _error(entry, 404, "The specified key does not exist")
        headers = _headers(stored)
        tag = headers[hdrs.ETAG]
        if not _matches(request.headers.get(hdrs.IF_MATCH, "*"), tag):
            return _error(entry, 412, "If-Match")
        if hdrs.IF_NONE_MATCH in request.headers and _matches(
            request.headers[hdrs.IF_NONE_MATCH], tag
        ):
            entry["status"] = 304
            return web.Response(status=304, headers={hdrs.ETAG: tag})
        wanted = entry["range"]
        if request.headers.get(hdrs.IF_RANGE, tag) != tag:
            wanted = None
        try:
            part = parse_range(wanted, stored.size)
        except Unsatisfiable:
            beyond = {hdrs.CONTENT_RANGE: f"bytes */{stored.size}"}
            return _error(entry, 416, "The requested range is not satisfiable", beyond)
        entry["status"] = 200 if part is None else 206
        first, last = part or (0, stored.size - 1)
        if part is not None:
            headers[hdrs.CONTENT_RANGE] = f"bytes {first}-{last}/{stored.size}"
        response = web.StreamResponse(status=entry["status"], headers=headers)
        response.content_length = last + 1 - first
        try:
            with self._files.open(stored) as file:
                file.seek(first)
                return await self._send(request, entry, response, file)
        except FileError as error:
            return _error(entry, 404, str(error))
        except ConnectionError as error:
            # The client has gone, or a fault has closed; nobody is left to be told.
            log.info("file: %s ended after %d bytes (%s)", key, entry["sent"], error)
            return response

    async def _send(self, request, entry, response, file) -> web.StreamResponse:
        """Head and body, with the faults on their way."""
        left = response.content_length
        wrong = self._take(entry, "wrong-length")
        if wrong is not None:
            response.content_length = max(0, left + wrong.by)
            # What is announced and what comes differ: the connection serves for nothing more.
            response.force_close()
        cut = self._take(entry, "close")
        if cut is not None and cut.bytes is None and cut.when == "before":
            request.transport.close()
            return response
        await response.prepare(request)
        if request.method == hdrs.METH_HEAD:
            return response
        stall = self._take(entry, "stall")
        flip = self._take(entry, "flip")
        # With `bytes` it closes there, and `when: after` without it at the body's end.
        stops = {(stall.bytes or 0) if stall else None, cut.bytes if cut else None}
        stops.discard(None)
        middle, at = left // 2, 0
        while left or stops:
            reached = [stop for stop in stops if stop <= at or not left]
            for stop in reached:
                stops.discard(stop)
                if stall is not None and stop == (stall.bytes or 0):
                    await self._stall(request, stall)
                if cut is not None and stop == cut.bytes:
                    request.transport.close()
                    return response
            if not left:
                break
            size = min([left, _PIECE, *(stop - at for stop in stops)])
            piece = bytearray(file.read(size))
            if flip is not None and at <= middle < at + size:
                piece[middle - at] ^= 1
            await response.write(piece)
            at, left = at + size, left - size
            entry["sent"] = at
        await response.write_eof()
        if cut is not None:
            request.transport.close()
        return response

    async def _stall(self, request: web.Request, fault) -> None:
        """Nothing comes for `ms` milliseconds; without them, not before the fault is cleared."""
        if fault.ms:
            await asyncio.sleep(fault.ms / 1000)
        else:
            await self._wait(request, fault)


def _there(request: web.Request) -> bool:
    return request.transport is not None and not request.transport.is_closing()


def _matches(header: str, tag: str) -> bool:
    return header.strip() == "*" or tag in (item.strip() for item in header.split(","))


def _headers(stored: Stored) -> dict[str, str]:
    made = datetime.datetime.fromtimestamp(stored.stored, datetime.timezone.utc)
    return {
        hdrs.ETAG: f'"{stored.etag}"',
        hdrs.ACCEPT_RANGES: "bytes",
        hdrs.CONTENT_TYPE: "binary/octet-stream",
        hdrs.LAST_MODIFIED: made.strftime("%a, %d %b %Y %H:%M:%S GMT"),
    }


def _error(entry: dict, status: int, text: str, headers: dict | None = None) -> web.Response:
    entry["status"] = status
    log.info("file: %d for %s (%s)", status, entry["key"], text)
    code = _CODES.get(status, "InternalError")
    body = f"<Error><Code>{code}</Code><Message>{escape(text)}</Message></Error>"
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'
    return web.Response(status=status, text=body, content_type="application/xml", headers=headers)
