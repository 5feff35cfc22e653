"""The rules that the local cloud enforces, one table.

Code that enforces a rule names it when it refuses or closes, so every log line leads back here.
Tags say how well a rule is known: `doc` (AWS documentation), `code` (read in public source),
`ran` (seen in a run), `issue` (said by AWS staff in public), `recalled` (from memory, not checked
again), `design` (our own choice where nothing is known). The last two are unproven.
"""

from __future__ import annotations

from dataclasses import dataclass

TAGS = ("doc", "code", "ran", "issue", "recalled", "design")
UNPROVEN = ("recalled", "design")


@dataclass(frozen=True)
class Rule:
    """One rule: its name, where it comes from, how well it is known, and one sentence.

    `reason` is the `disconnectReason` of the lifecycle event when this rule closes a connection.
    """

    name: str
    section: str
    tag: str
    text: str
    reason: str = "CLIENT_ERROR"


_TABLE = (
    # -- before MQTT --
    Rule(
        "tls-version",
        "AWS IoT: transport security",
        "doc",
        "TLS 1.2 and 1.3 are offered, with AWS's cipher suites and without session tickets.",
    ),
    Rule(
        "sni",
        "AWS IoT: transport security",
        "doc",
        "The handshake must carry the endpoint's name as SNI; without it, or with another name, "
        "it fails.",
    ),
    Rule(
        "certificate-required",
        "AWS IoT: X.509 client certificates",
        "doc",
        "A client without a certificate cannot finish the handshake on the MQTT port.",
    ),
    Rule(
        "certificate-registered",
        "AWS IoT: X.509 client certificates",
        "design",
        "A certificate that is not in the registry fails the handshake, whoever signed it; a "
        "registered one is accepted, whoever signed it.",
        "AUTH_ERROR",
    ),
    Rule(
        "certificate-active",
        "AWS IoT: X.509 client certificates",
        "recalled",
        "A certificate that is not ACTIVE gets through the handshake; its CONNECT is answered by "
        "a close without CONNACK, and a live connection ends when its certificate stops being "
        "ACTIVE.",
        "AUTH_ERROR",
    ),
    Rule(
        "handshake-deadline",
        "local cloud",
        "design",
        "TLS handshake and CONNECT must each arrive within 30 seconds.",
    ),
    # -- CONNECT --
    Rule(
        "connect-first",
        "MQTT 3.1.1 section 3.1",
        "doc",
        "The first packet must be CONNECT; anything else closes.",
    ),
    Rule(
        "connect-once",
        "AWS IoT: disconnect reasons",
        "doc",
        "A second CONNECT on one connection closes it.",
    ),
    Rule(
        "connack-first",
        "AWS IoT: MQTT",
        "design",
        "Nothing may be sent before CONNACK; AWS does not promise to handle it, here it closes.",
    ),
    Rule(
        "protocol-version",
        "AWS IoT: protocol versions",
        "design",
        "MQTT 3.1.1 only: another name or level gets CONNACK 1 and a close (AWS also speaks 5.0).",
    ),
    Rule(
        "client-id",
        "AWS IoT: client id limits",
        "doc",
        "A client id has 1 to 128 bytes and does not start with `$`; another one is refused "
        "(CONNACK 2 is our choice).",
    ),
    Rule(
        "connect-policy",
        "AWS IoT: differences from MQTT 3.1.1",
        "doc",
        "A CONNECT that the policy does not allow is answered with CONNACK code 7 and closed.",
        "AUTH_ERROR",
    ),
    Rule(
        "will-policy",
        "AWS IoT: last will",
        "design",
        "A last will must pass the topic rules and the publish policy at CONNECT, or CONNECT is "
        "refused with code 7; QoS 2 closes.",
        "AUTH_ERROR",
    ),
    Rule(
        "will",
        "AWS IoT: last will",
        "doc",
        "The last will is published when a connection ends without DISCONNECT.",
    ),
    Rule(
        "take-over",
        "AWS IoT: disconnect reasons",
        "doc",
        "A new connection with the same client id wins; the old one is dropped.",
        "DUPLICATE_CLIENTID",
    ),
    Rule(
        "keep-alive",
        "AWS IoT: keep-alive",
        "doc",
        "Keep-alive is clamped to 30 to 1200 s (0 means 1200), and 1.5 times that without a "
        "packet closes.",
        "MQTT_KEEP_ALIVE_TIMEOUT",
    ),
    # -- packets --
    Rule(
        "malformed",
        "AWS IoT: disconnect reasons",
        "doc",
        "A packet that MQTT 3.1.1 does not allow closes the connection.",
    ),
    Rule(
        "payload-size",
        "AWS IoT: message size",
        "doc",
        "A payload has at most 131072 bytes; a larger one closes.",
    ),
    Rule(
        "topic-length",
        "AWS IoT: topic limits",
        "doc",
        "A topic or filter has at most 256 bytes of UTF-8, not counting `$aws/rules/<rule>/`; a "
        "longer one closes.",
    ),
    Rule(
        "topic-slashes",
        "AWS IoT: topic limits",
        "doc",
        "A topic or filter has at most 7 slashes, not counting `$aws/rules/<rule>/`; more close.",
    ),
    Rule(
        "qos2",
        "AWS IoT: quality of service",
        "doc",
        "A QoS 2 PUBLISH or SUBSCRIBE is not answered and not acted on.",
    ),
    Rule(
        "reserved-topic",
        "AWS IoT: reserved topics",
        "doc",
        "Publish or subscribe to a `$` topic that does not exist, or not in that direction, "
        "closes (operator certificates are exempt).",
    ),
    Rule(
        "basic-ingest",
        "AWS IoT: basic ingest",
        "recalled",
        "A publish to `$aws/rules/<rule>/…` is accepted and reaches no subscriber; there is no "
        "rule engine here.",
    ),
    # -- publish --
    Rule(
        "publish-policy",
        "AWS IoT: policies",
        "issue",
        "A publish that the policy does not allow closes the socket with no MQTT answer.",
        "FORBIDDEN_ACCESS",
    ),
    Rule(
        "retain-policy",
        "AWS IoT: policies",
        "recalled",
        "RETAIN=1 needs iot:RetainPublish besides iot:Publish, else the socket is closed.",
        "FORBIDDEN_ACCESS",
    ),
    Rule(
        "retain-reserved",
        "AWS IoT: retained messages",
        "design",
        "RETAIN=1 on a topic that starts with `$` is not supported; here it closes.",
    ),
    Rule(
        "retain-exact",
        "AWS IoT: retained messages",
        "doc",
        "A retained message goes to a new subscription without wildcards only.",
    ),
    Rule(
        "unacknowledged",
        "AWS IoT: message broker quotas",
        "doc",
        "At most 100 QoS 1 messages are unacknowledged in each direction; further ones are held "
        "back.",
    ),
    Rule(
        "redelivery",
        "AWS IoT: message ordering and redelivery",
        "doc",
        "A redelivered QoS 1 message may carry DUP=1 and its packet id, or a new id and DUP=0 "
        "(setting `redelivery`).",
    ),
    # -- subscribe --
    Rule(
        "subscribe-policy",
        "AWS IoT: policies",
        "issue",
        "A subscribe that the policy does not allow closes the socket with no SUBACK.",
        "FORBIDDEN_ACCESS",
    ),
    Rule(
        "receive-policy",
        "AWS IoT: policies",
        "recalled",
        "A message that iot:Receive does not allow is not delivered; the connection stays.",
    ),
    Rule(
        "filters-per-subscribe",
        "AWS IoT: message broker quotas",
        "doc",
        "A SUBSCRIBE or UNSUBSCRIBE has at most 8 filters; a ninth closes without an answer.",
    ),
    Rule(
        "subscriptions",
        "AWS IoT: message broker quotas",
        "doc",
        "A connection has at most 50 subscriptions; further filters get SUBACK 0x80 (AWS may also "
        "close).",
    ),
    Rule(
        "hash-not-parent",
        "AWS IoT: topic filters",
        "doc",
        "The filter `a/#` does not match the topic `a`.",
    ),
    Rule(
        "dollar-not-wild",
        "MQTT 3.1.1 section 4.7.2",
        "doc",
        "A filter that starts with a wildcard does not match a topic that starts with `$`.",
    ),
    Rule(
        "one-copy",
        "local cloud",
        "design",
        "A message that several filters of one client match is delivered once, with the highest "
        "QoS granted.",
    ),
    Rule(
        "requester-delivery",
        "AWS IoT: Jobs over MQTT",
        "doc",
        "An answer goes to the client that asked, also when it did not subscribe.",
    ),
    # -- Device Defender --
    Rule(
        "defender-report",
        "AWS IoT: Device Defender metrics",
        "doc",
        "A report is an object with a header and with metrics, custom_metrics or both, in the "
        "topic's format (JSON or CBOR), with long or short names.",
    ),
    Rule(
        "defender-header",
        "AWS IoT: Device Defender metrics",
        "doc",
        "The header has a whole number `report_id` and a `version` such as 1.0.",
    ),
    Rule(
        "defender-report-id",
        "AWS IoT: Device Defender metrics",
        "doc",
        "`report_id` rises: it is above that of the thing's last accepted report.",
    ),
    Rule(
        "defender-metrics",
        "AWS IoT: Device Defender metrics",
        "recalled",
        "The device metrics have the documented members; a connection needs its remote address, a "
        "listening port its number.",
    ),
    Rule(
        "defender-custom",
        "AWS IoT: Device Defender metrics",
        "doc",
        "A custom metric is an array of one object with one of `number`, `number_list`, "
        "`string_list`, `ip_list` and a value of that type.",
    ),
    Rule(
        "defender-custom-name",
        "AWS IoT: Device Defender metrics",
        "doc",
        "A custom metric's name has 1 to 128 letters, digits, `:`, `_`, `-`, and does not start "
        "with `aws:`.",
    ),
    Rule(
        "defender-strict",
        "local cloud",
        "design",
        "Members that are not known, and a member under both its names, are rejected.",
    ),
    Rule(
        "defender-codes",
        "AWS IoT: Device Defender metrics",
        "recalled",
        "ErrorCode is InvalidPayload, MissingHeader or Throttled; answers name the report as "
        "`reportId`.",
    ),
    Rule(
        "defender-throttle",
        "AWS IoT: Device Defender metrics",
        "design",
        "A report sooner than `defender_minimum` seconds after the last accepted one of the thing "
        "is rejected as Throttled; AWS may do so below 300 s, here it is off until it is set.",
    ),
    # -- fleet provisioning --
    Rule(
        "provisioning-answer",
        "AWS IoT: fleet provisioning MQTT API",
        "design",
        "A client subscribes to the answers before it asks; here an answer on a topic that the "
        "client has not subscribed to is not sent.",
    ),
    Rule(
        "provisioning-private",
        "AWS IoT: fleet provisioning MQTT API",
        "design",
        "A request goes to the service alone and an answer to the client that asked; no other "
        "subscriber sees either.",
    ),
    Rule(
        "provisioning-payload",
        "AWS IoT: fleet provisioning MQTT API",
        "design",
        "A request is an object in the topic's format (JSON or CBOR) with the documented members "
        "and no other; `create` may also be empty. Anything else is InvalidPayload.",
    ),
    Rule(
        "provisioning-keys",
        "AWS IoT: fleet provisioning MQTT API",
        "doc",
        "`create` makes an RSA key of 2048 bits and sends the private key once.",
    ),
    Rule(
        "provisioning-csr",
        "AWS IoT: X.509 client certificates",
        "doc",
        "A signing request is PEM, its signature belongs to its key, and the key is RSA of at "
        "least 2048 bits or on P-256, P-384 or P-521.",
    ),
    Rule(
        "provisioning-subject",
        "AWS IoT: X.509 client certificates",
        "recalled",
        "A certificate's common name is that of the signing request, else `AWS IoT Certificate`.",
    ),
    Rule(
        "provisioning-pending",
        "AWS IoT: fleet provisioning",
        "doc",
        "A new certificate is PENDING_ACTIVATION and cannot connect; registering it gives it the "
        "template's status, ACTIVE as a rule.",
    ),
    Rule(
        "provisioning-token",
        "AWS IoT: fleet provisioning",
        "doc",
        "The ownership token stands for one certificate, for one hour (setting `token_life`), and "
        "is used once; else InvalidCertificateOwnershipToken.",
    ),
    Rule(
        "provisioning-token-claim",
        "local cloud",
        "design",
        "A token is good only with the claim certificate that it was issued to; a rejected "
        "registration does not use it up.",
    ),
    Rule(
        "provisioning-unclaimed",
        "AWS IoT: fleet provisioning",
        "doc",
        "A certificate that is not registered within the token's life is removed.",
    ),
    Rule(
        "provisioning-template",
        "AWS IoT: provisioning templates",
        "doc",
        "A template's name has 1 to 36 of `[0-9A-Za-z_-]`, its body at most 10240 bytes; one that "
        "does not exist or is disabled provisions nobody.",
    ),
    Rule(
        "provisioning-strict",
        "local cloud",
        "design",
        "A template with an element that is not imitated, or that refers to something that it "
        "does not declare, is refused when it is stored.",
    ),
    Rule(
        "provisioning-parameters",
        "AWS IoT: provisioning templates",
        "design",
        "Parameters are strings; one that the template does not declare, or that it declares "
        "without a default and does not get, is InvalidParameters, and so is a template that "
        "gives nothing usable for them.",
    ),
    Rule(
        "provisioning-hook",
        "AWS IoT: pre-provisioning hooks",
        "doc",
        "A pre-provisioning hook that says no, fails, or takes more than 5 s (setting "
        "`hook_timeout`) ends in AccessDenied; it may override parameters.",
    ),
    Rule(
        "provisioning-existing",
        "AWS IoT: provisioning templates",
        "recalled",
        "A thing that exists gets the new certificate besides those it has; its attributes stay "
        "as they are unless OverrideSettings say REPLACE or MERGE, and FAIL rejects the request.",
    ),
    Rule(
        "provisioning-codes",
        "AWS IoT: fleet provisioning MQTT API",
        "recalled",
        "errorCode is InvalidPayload, InvalidCertificateSigningRequest, "
        "InvalidCertificateOwnershipToken or InvalidParameters with statusCode 400, AccessDenied "
        "with 403, ResourceNotFound with 404, ResourceConflict with 409, InternalError with 500.",
    ),
    # -- jobs, streams, files --
    Rule(
        "job-json",
        "AWS IoT: Jobs over MQTT",
        "doc",
        "A request is JSON in UTF-8, else InvalidJson; zero bytes are no JSON (that they are "
        "refused is our choice).",
    ),
    Rule(
        "job-request",
        "AWS IoT: Jobs over MQTT",
        "design",
        "A request is an object with the documented members and no other, else "
        "InvalidRequest; `clientToken` has 1 to 64 characters and comes back in the answer, "
        "null stands for an absent member.",
    ),
    Rule(
        "job-topic",
        "AWS IoT: Jobs over MQTT",
        "doc",
        "A job id in a topic has 1 to 64 of `[a-zA-Z0-9_-]`; `$next` can be described and not "
        "updated; else InvalidTopic.",
    ),
    Rule(
        "job-unknown",
        "AWS IoT: Jobs over MQTT",
        "doc",
        "A job, or an execution of that number, that the thing does not have is ResourceNotFound.",
    ),
    Rule(
        "job-start-next",
        "AWS IoT: Jobs over MQTT",
        "doc",
        "`start-next` takes the first of the list; one that is in progress already keeps its "
        "status details and version, and without one the answer has no `execution`.",
    ),
    Rule(
        "job-describe",
        "AWS IoT: Jobs over MQTT",
        "doc",
        "An execution that has ended cannot be described: TerminalStateReached.",
    ),
    Rule(
        "job-states",
        "AWS IoT: Jobs",
        "doc",
        "A device sets IN_PROGRESS, SUCCEEDED, FAILED or REJECTED; an execution that has "
        "ended never changes again: InvalidStateTransition, with `executionState`.",
    ),
    Rule(
        "job-version",
        "AWS IoT: Jobs over MQTT",
        "doc",
        "`versionNumber` is 1 at first and rises by one with each accepted change; another "
        "`expectedVersion` is VersionMismatch, with `executionState`.",
    ),
    Rule(
        "job-details",
        "AWS IoT: Jobs",
        "doc",
        "`statusDetails` has at most 10 pairs, keys of 1 to 128 of `[a-zA-Z0-9:_-]`, values "
        "of 1 to 1024 characters, none of Unicode's category Other (`[^\\p{C}]+`: controls, "
        "formats, private use …); absent, they stay as they are.",
    ),
    Rule(
        "job-notify",
        "AWS IoT: Jobs over MQTT",
        "doc",
        "`notify` comes when the members of the pending list change and lists at most 15, "
        "`notify-next` when its first changes; in progress comes before queued, then the "
        "order of queueing counts.",
    ),
    Rule(
        "job-timeout",
        "AWS IoT: Jobs",
        "doc",
        "A step timer (1 to 10080 minutes, -1 clears it) and the job's own timer, which "
        "starts with IN_PROGRESS; either ends the execution as TIMED_OUT.",
    ),
    Rule(
        "job-create",
        "AWS IoT: Jobs",
        "doc",
        "A job's document is a JSON object of at most 32768 bytes, URLs in it live 60 to 3600 "
        "s, its id is not taken.",
    ),
    Rule(
        "job-targets",
        "AWS IoT: Jobs",
        "design",
        "A job goes to the things that it was made for (snapshot); they must exist. Groups "
        "and continuous jobs are not imitated.",
    ),
    Rule(
        "job-cancel",
        "AWS IoT: Jobs",
        "doc",
        "Cancelling ends what is queued, with force also what is in progress, as CANCELED; a "
        "job that has ended cannot be cancelled.",
    ),
    Rule(
        "job-delete",
        "AWS IoT: Jobs",
        "doc",
        "What has ended may be deleted, with force anything; then it is unknown.",
    ),
    Rule(
        "job-removed",
        "AWS IoT: Jobs",
        "design",
        "A thing that is no target any more has its execution REMOVED; on AWS that follows "
        "from leaving a group.",
    ),
    Rule(
        "stream-answer",
        "AWS IoT: MQTT-based file delivery",
        "design",
        "An answer on a topic that the client has not subscribed to is not sent; nobody but "
        "the client that asked gets it.",
    ),
    Rule(
        "stream-form",
        "AWS IoT: MQTT-based file delivery",
        "doc",
        "A request is one value in the topic's format, else InvalidJson or InvalidCbor.",
    ),
    Rule(
        "stream-request",
        "AWS IoT: MQTT-based file delivery",
        "design",
        "A request has the documented members and no other, `f` and `l` among them; `c` has 1 "
        "to 64 bytes and comes back; else InvalidRequest.",
    ),
    Rule(
        "stream-limits",
        "AWS IoT: MQTT-based file delivery",
        "doc",
        "l is 256 to 131072 (BlockSizeOutOfBounds), o 0 to 98304 (OffsetOutOfBounds), n 0 to "
        "98304 (BlockCountLimitExceeded), b under 12288 bytes (BlockBitmapLimitExceeded); a "
        "stream has 1 to 50 files of at most 24 MB.",
    ),
    Rule(
        "stream-blocks",
        "AWS IoT: MQTT-based file delivery",
        "doc",
        "Bit k of byte j of b stands for block o + 8j + k, least significant bit first; n is "
        "a cap; one request yields at most 131072 bytes; the last block is short.",
    ),
    Rule(
        "stream-end",
        "AWS IoT: MQTT-based file delivery",
        "design",
        "A first block behind the end of the file is OffsetOutOfBounds; bits behind it stand "
        "for nothing.",
    ),
    Rule(
        "stream-version",
        "AWS IoT: MQTT-based file delivery",
        "doc",
        "A stream's version rises with every change; another `s` is VersionMismatch.",
    ),
    Rule(
        "stream-unknown",
        "AWS IoT: MQTT-based file delivery",
        "doc",
        "A stream or file that does not exist is ResourceNotFound; a name that cannot be one "
        "is InvalidTopic.",
    ),
    Rule(
        "stream-etag",
        "AWS IoT: MQTT-based file delivery",
        "doc",
        "A file that has changed since the stream was made is ETagMismatch.",
    ),
    Rule(
        "file-url",
        "AWS IoT: presigned URLs in job documents",
        "doc",
        "A URL in a job document is made when the document is asked for, and is good for one "
        "file until it expires; then, and without a good signature, 403.",
    ),
    Rule(
        "file-range",
        "AWS IoT: OTA over HTTP",
        "doc",
        "GET and HEAD take one range of bytes: 206, or 416 when no byte of the file lies in "
        "it; anything else in that header is as none.",
    ),
    # -- sessions --
    Rule(
        "session-expiry",
        "AWS IoT: persistent sessions",
        "doc",
        "A persistent session ends one hour after its connection (setting `session_expiry`).",
    ),
    Rule(
        "backlog-rate",
        "AWS IoT: persistent sessions",
        "doc",
        "The QoS 1 backlog of a session is replayed at no more than 10 messages a second (setting "
        "`replay_per_second`).",
    ),
    Rule(
        "backlog-size",
        "local cloud",
        "design",
        "A session holds at most 1000 messages; the oldest is lost first.",
    ),
    Rule(
        "lifecycle",
        "AWS IoT: lifecycle events",
        "doc",
        "Connects and disconnects are published on `$aws/events/presence/…/<client id>`.",
    ),
    # -- quotas --
    Rule(
        "publish-rate",
        "AWS IoT: message broker quotas",
        "doc",
        "100 publishes a second per connection, in and out together; enforced, further ones are "
        "discarded.",
        "THROTTLED",
    ),
    Rule(
        "throughput",
        "AWS IoT: message broker quotas",
        "doc",
        "512 KiB a second per connection and direction; enforced, further publishes are "
        "discarded.",
        "THROTTLED",
    ),
    Rule(
        "connect-rate",
        "AWS IoT: message broker quotas",
        "doc",
        "One CONNECT a second for a client id; enforced, a further one is closed without CONNACK "
        "(the close is our choice).",
        "THROTTLED",
    ),
    # -- ends that no rule of AWS demands --
    Rule(
        "slow-reader",
        "local cloud",
        "design",
        "QoS 0 messages for a client with more than 1 MiB unread are discarded.",
    ),
    Rule(
        "client-disconnect",
        "AWS IoT: disconnect reasons",
        "doc",
        "The client sent DISCONNECT.",
        "CLIENT_INITIATED_DISCONNECT",
    ),
    Rule(
        "connection-lost",
        "AWS IoT: disconnect reasons",
        "doc",
        "The client closed or lost the connection without DISCONNECT.",
        "CONNECTION_LOST",
    ),
    Rule(
        "server-stop",
        "AWS IoT: disconnect reasons",
        "doc",
        "The local cloud ended, or an operator kicked the client.",
        "SERVER_INITIATED_DISCONNECT",
    ),
    Rule(
        "fault",
        "local cloud",
        "design",
        "A fault switch closed or refused the connection.",
        "SERVER_ERROR",
    ),
    Rule(
        "https-publish",
        "AWS IoT: HTTPS",
        "doc",
        "POST /topics/<topic>?qos=0|1 publishes under the certificate's policy.",
    ),
)

RULES = {rule.name: rule for rule in _TABLE}


def rule(name: str) -> Rule:
    """The rule called `name`; KeyError when the table has none."""
    return RULES[name]


def unproven() -> list[Rule]:
    """The rules that nothing published backs."""
    return [entry for entry in _TABLE if entry.tag in UNPROVEN]


def as_markdown() -> str:
    """The whole table, as `python -m tools.cloud rules` prints it and the manual holds it."""
    lines = ["| Rule | From | Tag | What |", "|---|---|---|---|"]
    lines += [f"| `{r.name}` | {r.section} | {r.tag} | {r.text} |" for r in _TABLE]
    lines += ["", "Unproven (tag recalled or design): "]
    lines[-1] += ", ".join(f"`{r.name}`" for r in unproven()) + "."
    return "\n".join(lines) + "\n"
