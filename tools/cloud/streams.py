"""MQTT-based file delivery: devices ask for blocks of files and get a message for each.

    $aws/things/<thing>/streams/<stream>/describe/<json|cbor>  -> description/<json|cbor>
    $aws/things/<thing>/streams/<stream>/get/<json|cbor>       -> data/<json|cbor>, one a block

Refusals go to rejected/<json|cbor>. What may be asked is in `stream_request.py`.
"""

from __future__ import annotations

import base64
import logging
import secrets
import time
from collections import deque

from tools.cloud import answers, forms, stream_request
from tools.cloud.files import FileError, FileStore
from tools.cloud.stream_request import StreamRefusal
from tools.cloud.stream_store import STREAM_ID, Stream, StreamFile, StreamStore

log = logging.getLogger("cloud")

SERVICE = "streams"
_ROOT = "$aws/things/+/streams/+/"
_KEPT = 200  # requests for a stream
_NOT_READABLE = {"json": "InvalidJson", "cbor": "InvalidCbor"}


class Streams:
    """The service on one broker."""

    def __init__(self, broker, files: FileStore, clock=time.time):
        """`clock`: seconds since 1970."""
        self._broker = broker
        self._files = files
        self._clock = clock
        self._kept: dict[str, deque[dict]] = {}
        self.store = StreamStore(broker.registry, files)
        for kind in ("describe", "get"):
            for form in forms.FORMS:
                broker.serve(f"{_ROOT}{kind}/{form}", self._server(kind, form))

    def requests(self, stream: str) -> list[dict]:
        """The last requests for a stream, oldest first: `time` (ms), `client`, `request`, `form`,
        `status` (ACCEPTED, REJECTED, or UNANSWERED by a fault), `code` and `rule` of a
        rejection, `blocks` (indices that were to be sent) and `sent` (messages that went out)."""
        return list(self._kept.get(stream, ()))

    def _server(self, kind: str, form: str):
        def serve(connection, topic: str, payload: bytes) -> None:
            root, _, _ = topic.rsplit("/", 2)
            stream = root.split("/")[4]
            entry = {
                "time": int(self._clock() * 1000),
                "client": connection.client_id,
                "request": kind,
                "form": form,
                "status": "UNANSWERED",
                **dict.fromkeys(("code", "rule", "blocks")),
                "sent": 0,
            }
            self._kept.setdefault(stream, deque(maxlen=_KEPT)).append(entry)
            _Answer(self, connection, root, stream, entry).work(payload)

        return serve

    def find(self, stream: str) -> Stream:
        """The stream, or StreamRefusal."""
        if not STREAM_ID.fullmatch(stream):
            raise StreamRefusal("stream-unknown", "InvalidTopic", "not a stream id")
        found = self.store.get(stream)
        if found is None:
            raise StreamRefusal("stream-unknown", "ResourceNotFound", "there is no such stream")
        return found

    def contents(self, file: StreamFile, offsets: list[int], size: int) -> list[bytes]:
        """Blocks of a file, read at the moment (rule `stream-etag`)."""
        stored = self._files.get(file.key)
        if stored is None:
            raise StreamRefusal("stream-unknown", "ResourceNotFound", "the file has gone")
        if stored.etag != file.etag:
            text = "the file is not what it was when the stream was made"
            raise StreamRefusal("stream-etag", "ETagMismatch", text)
        blocks = []
        try:
            with self._files.open(stored) as opened:
                for offset in offsets:
                    opened.seek(offset * size)
                    blocks.append(opened.read(size))
        except FileError as error:
            raise StreamRefusal("stream-unknown", "ResourceNotFound", str(error)) from error
        return blocks

    def send(self, connection, topic: str, form: str, body: dict) -> bool:
        """To the client that asked, if it has subscribed (rule `stream-answer`)."""
        qos = answers.granted(connection, topic) if connection.state == "open" else None
        if qos is None:
            log.info("not answered: rule stream-answer, %s", connection.name())
            return False
        return connection.session.offer(topic, forms.encode(form, body), qos)

    @property
    def broker(self):
        """The broker that it serves on."""
        return self._broker


class _Answer:
    """The work on one request."""

    def __init__(self, service: Streams, connection, root: str, stream: str, entry: dict):
        self._service = service
        self._broker = service.broker
        self._connection = connection
        self._root = root
        self._stream = stream
        self._entry = entry
        self._form = entry["form"]
        self._where = {"at": SERVICE, "request": entry["request"]}
        self._token: str | None = None

    def _take(self, kind: str):
        return self._broker.faults.take(kind, self._connection, **self._where)

    def work(self, payload: bytes) -> None:
        entry = self._entry
        silent = self._take("silent")
        try:
            body = self._read(payload)
            self._token = stream_request.token(body)
            messages = [] if silent else self._accept(body)
            entry["status"] = "ACCEPTED"
        except StreamRefusal as error:
            entry.update(status="REJECTED", code=error.code, rule=error.rule)
            log.info(
                "streams: %s of %s rejected: rule %s (%s)",
                entry["request"],
                self._connection.name(),
                error.rule,
                error,
            )
            messages = [("rejected", {"o": error.code, "m": str(error)})]
        if silent:
            log.info("fault: silent at %s, %s", SERVICE, self._connection.name())
            entry.update(status="UNANSWERED", code=None, rule=None)
            return
        if len(messages) > 1 and self._take("reorder"):
            messages.reverse()
        for which, body in messages:
            self._reply(which, body)

    def _reply(self, which: str, body: dict) -> None:
        """One message: every one of them is an answer that faults may concern."""

        def send() -> None:
            if self._take("drop"):
                log.info("fault: a message of a stream dropped, %s", self._connection.name())
            else:
                self._send(which, body, self._token)

        def foreign(fault) -> None:
            other = "foreign-" + secrets.token_hex(4)
            if fault.error is not None:
                self._send("rejected", {"o": fault.error, "m": "another request"}, other)
            elif "p" in body:
                self._send(which, {**body, "p": bytes(len(body["p"]))}, other)
            else:
                self._send(which, body, other)

        answers.reply(
            self._broker,
            self._connection,
            SERVICE,
            send,
            foreign=foreign,
            request=self._entry["request"],
        )

    def _send(self, which: str, body: dict, token: str | None) -> None:
        body = dict(body)
        if token is not None:
            body["c"] = token
        if self._form == "json" and "p" in body:
            body["p"] = base64.b64encode(body["p"]).decode("ascii")
        topic = f"{self._root}/{which}/{self._form}"
        self._entry["sent"] += self._service.send(self._connection, topic, self._form, body)

    # -- what is asked --
    def _read(self, payload: bytes) -> dict:
        try:
            body = forms.decode(self._form, payload)
        except forms.FormError as error:
            raise StreamRefusal("stream-form", _NOT_READABLE[self._form], str(error)) from error
        if not isinstance(body, dict):
            raise StreamRefusal("stream-request", "InvalidRequest", "not an object")
        return body

    def _accept(self, body: dict) -> list[tuple[str, dict]]:
        """The messages of an answer: (last level but one of the topic, object)."""
        fault = self._take("refuse")
        if fault is not None:
            code = fault.error or "InternalError"
            raise StreamRefusal("fault", code, "a fault switch rejects it")
        return self._describe(body) if self._entry["request"] == "describe" else self._get(body)

    def _describe(self, body: dict) -> list[tuple[str, dict]]:
        stream_request.check_describe(body)
        stream = self._service.find(self._stream)
        wrong = self._take("wrong-size")
        more = wrong.by if wrong is not None else 0
        files = [{"f": file.id, "z": max(0, file.size + more)} for file in stream.files]
        return [("description", {"s": stream.version, "d": stream.description, "r": files})]

    def _get(self, body: dict) -> list[tuple[str, dict]]:
        asked = stream_request.read_get(self._form, body)
        stream = self._service.find(self._stream)
        if asked.version not in (None, stream.version):
            text = f"version is {stream.version}, not {asked.version}"
            raise StreamRefusal("stream-version", "VersionMismatch", text)
        file = stream.file(asked.file)
        if file is None:
            raise StreamRefusal("stream-unknown", "ResourceNotFound", "there is no such file")
        if asked.offset and asked.offset * asked.size >= file.size:
            text = "the first block lies behind the end of the file"
            raise StreamRefusal("stream-end", "OffsetOutOfBounds", text)
        indices = self._entry["blocks"] = asked.blocks(file.size)
        contents = self._service.contents(file, indices, asked.size)
        return [
            ("data", self._block(asked.file, index, data))
            for index, data in zip(indices, contents, strict=True)
        ]

    def _block(self, file: int, index: int, data: bytes) -> dict:
        """One block, with what faults make of it."""
        wrong = self._take("wrong-size")
        if wrong is not None:
            data = data[: wrong.by] if wrong.by < 0 else data + bytes(wrong.by)
        length = len(data)
        wrong = self._take("wrong-length")
        if wrong is not None:
            length = max(0, length + wrong.by)
        if data and self._take("flip"):
            middle = len(data) // 2
            data = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        return {"f": file, "l": length, "i": index, "p": data}
