"""Fleet provisioning by claim: a device trades a shared claim certificate for one of its own.

    $aws/certificates/create/<json|cbor>                          key pair made here
    $aws/certificates/create-from-csr/<json|cbor>                 key pair made by the device
    $aws/provisioning-templates/<template>/provision/<json|cbor>  the certificate becomes a thing's

The answers go to …/accepted or …/rejected (rule `provisioning-answer`). The first two give a
certificate that is not active yet, and a token; the third takes the token.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import deque
from dataclasses import dataclass

from tools.cloud import answers, csr, forms, hook, pki, registration
from tools.cloud.ownership import Ownership
from tools.cloud.policy import ARN
from tools.cloud.template_functions import TemplateError
from tools.cloud.template_store import TemplateStore
from tools.cloud.templates import Template

log = logging.getLogger("cloud")

CREATE, FROM_CSR, PROVISION = "create", "create-from-csr", "provision"
_TOPICS = {
    CREATE: "$aws/certificates/create/",
    FROM_CSR: "$aws/certificates/create-from-csr/",
    PROVISION: "$aws/provisioning-templates/+/provision/",
}
_KEPT = 500
_COMMON_NAME = "AWS IoT Certificate"
_INTERNAL = "InternalError"
_TEXT = 200  # characters of an errorMessage
# Rule `provisioning-codes`.
_STATUS = {
    "AccessDenied": 403,
    "ResourceNotFound": 404,
    "ResourceConflict": 409,
    "Throttling": 429,
    _INTERNAL: 500,
}


class Rejected(Exception):
    """A request that is rejected: `rule` names the rule, `code` is the answer's errorCode."""

    def __init__(self, rule: str, code: str, text: str):
        super().__init__(text)
        self.rule = rule
        self.code = code


@dataclass
class _Request:
    """One publish to one of the topics; `entry` is what `provisionings` tells of it."""

    connection: object
    service: str
    topic: str
    form: str
    payload: bytes
    entry: dict


class Provisioning:
    """The three services on one broker."""

    def __init__(self, broker, keys: pki.Store, clock=time.time):
        """`keys`: where the fleet's authority is; `clock`: seconds since 1970."""
        self._broker = broker
        self._registry = broker.registry
        self._issuer = keys.fleet_ca()
        self._clock = clock
        self._kept: deque[dict] = deque(maxlen=_KEPT)
        self._tasks: set[asyncio.Task] = set()
        self.templates = TemplateStore(broker.registry)
        self.ownership = Ownership(broker.registry, broker.settings, clock)
        for service, topic in _TOPICS.items():
            for form in forms.FORMS:
                broker.serve(topic + form, self._server(service, form))

    def provisionings(self) -> list[dict]:
        """The last requests, oldest first: `time` (ms since 1970), `client`, `claim` (id of the
        certificate it came with), `service`, `form`, `status` (ACCEPTED, REJECTED, UNANSWERED by
        a fault, or WORKING), `code` and `rule` of a rejection, `certificate`, `template`,
        `thing`, `answers` (how often the answer went out). Never a token or a private key."""
        return list(self._kept)

    def sweep(self) -> None:
        """Remove the certificates that nobody claimed in time."""
        for ident in self.ownership.sweep():
            log.info("certificate %.12s removed: rule provisioning-unclaimed", ident)

    def stop(self) -> None:
        """End what is still being worked on."""
        for task in self._tasks:
            task.cancel()

    def _server(self, service: str, form: str):
        def serve(connection, topic: str, payload: bytes) -> None:
            entry = {
                "time": int(self._clock() * 1000),
                "client": connection.client_id,
                "claim": connection.principal.certificate_id,
                "service": service,
                "form": form,
                "status": "WORKING",
                **dict.fromkeys(("code", "rule", "certificate", "template", "thing")),
                "answers": 0,
            }
            self._kept.append(entry)
            if self._broker.faults.take("silent", connection, at=service):
                log.info("fault: silent at %s, %s", service, connection.name())
                entry["status"] = "UNANSWERED"
                return
            request = _Request(connection, service, topic, form, payload, entry)
            task = asyncio.get_running_loop().create_task(self._work(request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return serve

    async def _work(self, request: _Request) -> None:
        entry = request.entry
        try:
            fault = self._broker.faults.take("refuse", request.connection, at=request.service)
            if fault is not None:
                raise Rejected("fault", fault.error or _INTERNAL, "a fault switch rejects it")
            work = {CREATE: self._create, FROM_CSR: self._from_csr, PROVISION: self._provision}
            body = await work[request.service](request)
        except Rejected as error:
            entry.update(status="REJECTED", code=error.code, rule=error.rule)
            log.info(
                "%s of %s rejected: rule %s (%s)",
                request.service,
                request.connection.name(),
                error.rule,
                str(error)[:_TEXT],
            )
            which, body = "rejected", _rejection(error.code, str(error))
        except Exception:
            # A defect of the cloud; the device is told what AWS would tell it.
            log.exception("%s of %s failed", request.service, request.connection.name())
            entry.update(status="REJECTED", code=_INTERNAL)
            which, body = "rejected", _rejection(_INTERNAL, "internal error")
        else:
            entry["status"] = "ACCEPTED"
            which = "accepted"

        def send() -> None:
            entry["answers"] += self._send(request, which, body)

        def foreign(fault) -> None:
            self._foreign(request, fault)

        answers.reply(self._broker, request.connection, request.service, send, foreign)

    def _send(self, request: _Request, which: str, body: dict) -> bool:
        """To the client that asked, and only if it has subscribed (rule `provisioning-answer`,
        `provisioning-private`)."""
        topic = f"{request.topic}/{which}"
        connection = request.connection
        if connection.state != "open":
            return False
        qos = answers.granted(connection, topic)
        if qos is None:
            log.info("not answered: rule provisioning-answer, %s", connection.name())
            return False
        return connection.session.offer(topic, forms.encode(request.form, body), qos)

    # -- the services --
    async def _create(self, request: _Request) -> dict:
        """Rule `provisioning-keys`."""
        if request.payload:
            _members(request, {})
        return await self._with_keys(request.entry)

    async def _with_keys(self, entry: dict) -> dict:
        key = await asyncio.to_thread(pki.make_key, "rsa")
        answer = self._certificate(entry, key.public_key(), _COMMON_NAME)
        answer["privateKey"] = pki.key_to_pem(key, traditional=True).decode("ascii")
        return answer

    async def _from_csr(self, request: _Request) -> dict:
        body = _members(request, {"certificateSigningRequest": str})
        try:
            key, name = csr.read(body.get("certificateSigningRequest", ""))
        except csr.CsrError as error:
            code = "InvalidCertificateSigningRequest"
            raise Rejected("provisioning-csr", code, str(error)) from error
        return self._certificate(request.entry, key, name or _COMMON_NAME)

    def _certificate(self, entry: dict, key, name: str) -> dict:
        """A certificate (rule `provisioning-pending`, `provisioning-subject`) and its token."""
        made = pki.Issuer(pki.sign_client(self._issuer, key, name), None)
        with self._registry.transaction():
            ident = self._registry.add_certificate(made.cert_pem, "PENDING_ACTIVATION")
            token = self.ownership.issue(ident, entry["claim"])
        entry["certificate"] = ident
        return {
            "certificateId": ident,
            "certificatePem": made.cert_pem.decode("ascii"),
            "certificateOwnershipToken": token,
        }

    async def _provision(self, request: _Request) -> dict:
        entry = request.entry
        name = entry["template"] = request.topic.split("/")[2]
        body = _members(request, {"certificateOwnershipToken": str, "parameters": dict})
        parameters = body.get("parameters", {})
        stored = self.templates.get(name)
        if stored is None or not stored.enabled:
            what = "is disabled" if stored else "does not exist"
            raise Rejected("provisioning-template", "ResourceNotFound", f"template {what}")
        template = Template(stored.body)
        token = body.get("certificateOwnershipToken", "")
        ident = entry["certificate"] = self._claimed(token, entry)
        try:
            template.check_declared(parameters)
        except TemplateError as error:
            raise _bad_parameters(error) from error
        overrides = await self._ask_hook(stored, ident, request, parameters)
        # The hook took its time: somebody else may have used the token by now.
        self._claimed(token, entry)
        try:
            plan = template.plan({**parameters, **overrides}, ident)
            registration.carry_out(self._registry, plan, ident)
        except registration.Conflict as error:
            raise Rejected("provisioning-existing", "ResourceConflict", str(error)) from error
        except TemplateError as error:
            raise _bad_parameters(error) from error
        self.ownership.use(token)
        entry["thing"] = plan.thing
        log.info("provisioned: %s as thing %s, certificate %.12s", name, plan.thing, ident)
        answer: dict = {"deviceConfiguration": plan.configuration}
        if plan.thing is not None:
            answer["thingName"] = plan.thing
        return answer

    def _claimed(self, token: str, entry: dict) -> str:
        """The certificate behind a token (rule `provisioning-token`)."""
        ident = self.ownership.certificate(token, entry["claim"])
        if ident is None:
            text = "the token is unknown, used or expired" if token else "the token is missing"
            raise Rejected("provisioning-token", "InvalidCertificateOwnershipToken", text)
        return ident

    async def _ask_hook(self, stored, ident: str, request: _Request, parameters: dict) -> dict:
        pem = self._registry.certificate_pem(ident)
        event = {
            "claimCertificateId": request.entry["claim"],
            "certificateId": ident,
            "certificatePem": pem,
            "templateArn": f"{ARN}provisioningtemplate/{stored.name}",
            "clientId": request.connection.client_id,
            "parameters": parameters,
        }
        try:
            return await hook.ask(stored.hook, event, self._broker.settings.hook_timeout)
        except hook.HookDenied as error:
            raise Rejected("provisioning-hook", "AccessDenied", str(error)) from error

    # -- the fault `foreign` --
    def _foreign(self, request: _Request, fault) -> None:
        """What another device would have been answered at this moment, as a plain broker lets
        everybody see it. The certificate is a real one, bound to the same claim."""
        log.info("fault: foreign at %s, %s", request.service, request.connection.name())
        if fault.error is not None:
            body = _rejection(fault.error, "another device's request was rejected")
            self._send(request, "rejected", body)
            return
        stranger = "foreign-" + secrets.token_hex(4)
        if request.service == PROVISION:
            body = {"deviceConfiguration": {}, "thingName": stranger}
        else:
            key = pki.make_key("rsa" if request.service == CREATE else "ec")
            entry = {"claim": request.entry["claim"]}
            body = self._certificate(entry, key.public_key(), stranger)
            if request.service == CREATE:
                body["privateKey"] = pki.key_to_pem(key, traditional=True).decode("ascii")
        self._send(request, "accepted", body)


def _members(request: _Request, known: dict[str, type]) -> dict:
    """The request's object (rule `provisioning-payload`); null stands for an absent member."""
    try:
        body = forms.decode(request.form, request.payload)
    except forms.FormError as error:
        raise _bad_payload(str(error)) from error
    if not isinstance(body, dict):
        raise _bad_payload("not an object")
    for name, value in body.items():
        if not isinstance(name, str) or name not in known:
            raise _bad_payload("a member that is not known")
        if value is not None and not isinstance(value, known[name]):
            raise _bad_payload(f"{name} has another type")
    return {name: value for name, value in body.items() if value is not None}


def _bad_payload(text: str) -> Rejected:
    return Rejected("provisioning-payload", "InvalidPayload", text)


def _bad_parameters(error: TemplateError) -> Rejected:
    return Rejected("provisioning-parameters", "InvalidParameters", str(error))


def _rejection(code: str, text: str) -> dict:
    """The message may quote what the device sent, however long: its beginning will do."""
    return {"statusCode": _STATUS.get(code, 400), "errorCode": code, "errorMessage": text[:_TEXT]}
