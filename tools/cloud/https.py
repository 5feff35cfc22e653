"""The HTTPS side: AWS's publish over HTTP, and a small status page."""

from __future__ import annotations

import json
import logging
import ssl
import uuid

from aiohttp import web

from tools.cloud import pki, policy, reserved, tls, topics

log = logging.getLogger("cloud")

_MAX_PAYLOAD = 131072


def server_context(contexts: tls.Contexts, follow) -> ssl.SSLContext:
    """A context whose handshakes always use the newest registry and server certificate.

    aiohttp keeps the context that it starts with, so the SNI callback swaps in the current one;
    `follow()` brings the registry up to date and returns which server certificate to show.
    """
    first = contexts.get("valid", optional=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = first.minimum_version
    context.options = first.options
    context.num_tickets = 0
    context.verify_mode = first.verify_mode
    context.verify_flags = first.verify_flags
    context.set_ciphers(tls.SUITES)

    def by_name(ssl_object, name, old):
        refusal = tls.check_sni(ssl_object, name, old)
        if refusal is None:
            ssl_object.context = contexts.get(follow(), optional=True)
        return refusal

    context.sni_callback = by_name
    return context


class HttpsService:
    """The routes. `application` may be given more of them by other services."""

    def __init__(self, broker, status):
        """`status()` gives the object that `GET /` shows."""
        self._broker = broker
        self._status = status
        self.application = web.Application(client_max_size=_MAX_PAYLOAD + 1)
        self.application.router.add_get("/", self._show_status)
        self.application.router.add_post("/topics/{topic:.+}", self._publish)
        self._runner: web.AppRunner | None = None

    async def start(self, sockets: list, context: ssl.SSLContext) -> None:
        """Serve on these listening sockets."""
        self._runner = web.AppRunner(self.application, access_log=None)
        await self._runner.setup()
        for sock in sockets:
            await web.SockSite(
                self._runner, sock, ssl_context=context, shutdown_timeout=0.1
            ).start()

    async def stop(self) -> None:
        """Close the sockets and connections."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _show_status(self, _request) -> web.Response:
        return web.json_response(self._status())

    async def _publish(self, request) -> web.Response:
        """Rule `https-publish`."""
        principal = self._principal(request)
        if principal is None or principal.status != "ACTIVE":
            return _answer(403, "Forbidden", "no active client certificate")
        topic, qos = request.match_info["topic"], request.query.get("qos", "0")
        retain = request.query.get("retain", "false") == "true"
        if qos not in ("0", "1"):
            return _answer(400, "Bad Request", "qos")
        try:
            topics.check_name(topic)
        except topics.TopicError as error:
            return _answer(400, "Bad Request", f"rule {error.rule}")
        try:
            payload = await request.read()
        except web.HTTPRequestEntityTooLarge:
            payload = bytes(_MAX_PAYLOAD + 1)
        if len(payload) > _MAX_PAYLOAD:
            return _answer(413, "Payload Too Large", "rule payload-size")
        refused = _refusal(principal, topic, retain)
        if refused is not None:
            return _answer(403, "Forbidden", f"rule {refused}")
        if not reserved.is_basic_ingest(topic):
            self._broker.publish(topic, payload, int(qos), retain)
        log.info("https: publish to %s", topic)
        return _answer(200, "OK", None)

    def _principal(self, request):
        ssl_object = request.transport and request.transport.get_extra_info("ssl_object")
        der = ssl_object.getpeercert(binary_form=True) if ssl_object else None
        if der is None:
            return None
        return self._broker.registry.principal(pki.der_id(der))


def _refusal(principal, topic: str, retain: bool) -> str | None:
    """The rule that forbids this publish. Without a client id, a thing's name is known when the
    certificate has exactly one thing."""
    thing = principal.things[0] if len(principal.things) == 1 else None
    evaluator = policy.Evaluator(principal.documents, None, thing)
    if not principal.operator and not reserved.may_publish(topic):
        return "reserved-topic"
    if not evaluator.allows("iot:Publish", "topic/" + topic):
        return "publish-policy"
    if retain and topic.startswith("$"):
        return "retain-reserved"
    if retain and not evaluator.allows("iot:RetainPublish", "topic/" + topic):
        return "retain-policy"
    return None


def _answer(status: int, message: str, detail: str | None) -> web.Response:
    if detail:
        log.info("https: %d %s (%s)", status, message, detail)
    body = {"message": message, "traceId": str(uuid.uuid4())}
    return web.Response(status=status, text=json.dumps(body), content_type="application/json")
