"""What a transcript can do beside the UART: the steps that begin with `@`.

    @wifi                        tell the module the access point (SSID, Passphrase)
    @connect                     … and connect
    @new options                 go on with a module of its own, just made, with these options
    @restarted count             wait until it has started again so often, once when left out
    @patience seconds            wait so long for the next reply
    @took least most             the last reply took so many seconds
    @sleep seconds               do nothing
    @event 0|1                   the EVENT pin has, or gets, this level
    @pin NAME 0|1|free           drive an input of the module
    @power cut|on                the module's supply
    @state words                 the board is, or gets, in this state (running, in deep sleep, …)
    @air ssid name=value …       change an access point: up, rssi, passphrase
    @listen filter               the operator subscribes
    @publish topic payload       the operator publishes
    @deliver topic payload       the cloud sends this to the module, subscribed or not
    @arrives topic payload       the next message that the operator gets is this
    @quiet                       for 0.3 s: no message for the operator, no event, no byte
    @fault kind name=value …     a fault of the cloud, for this module only where that is possible
    @mend                        end all faults
    @kick                        the cloud closes the module's connection
    @certificate STATUS          the status of the module's certificate in the registry
    @sntp mode                   what the time server does
    @client name value           what the cloud knows of the connection: a member of its view
    @portal SSID passphrase      a person enters these in CONFMODE's page, and sees that they work
    @portal-fails SSID passphrase  … and sees that they do not
    @pem name how …              paste a certificate as PEM lines; how: crlf, no-end (of the last
                                 line), width=characters in a line, pause=seconds after the
                                 first ten bytes
    @order @job @cancel @ota @image @damage   updates: see updates.py

Words are separated by one space; a payload is all that follows its topic.
"""

import textwrap
import time

from tests_host.conformance import transcript, updates
from tests_host.portal import Portal

_QUIET_S = 0.3


def _value(text):
    """A field's value: true and false, a number, or text."""
    if text in ("true", "false"):
        return text == "true"
    return int(text) if text.lstrip("-").isdigit() else text


def _fields(words):
    return {name: _value(value) for name, value in (word.split("=", 1) for word in words)}


def _topic_and_payload(stage, text):
    topic, _, payload = text.partition(" ")
    fill = transcript.fill
    return fill(topic, stage.name).decode(), fill(payload, stage.name)


def _took(stage, text):
    least, most = map(float, text.split())
    assert least <= stage.took <= most, f"the reply took {stage.took:.2f} s, not {least} to {most}"


def _event(stage, text):
    stage.until(lambda: stage.module.event() == int(text), f"EVENT {text}")


def _pin(stage, text):
    name, level = text.split()
    stage.module.pin(name, None if level == "free" else int(level))


def _power(stage, text):
    if text == "cut":
        stage.module.power_cut()
        stage.module.flush()
    else:
        stage.module.power_on()


def _air(stage, text):
    ssid, *fields = text.split()
    stage.module.wifi(ssid, **_fields(fields))


def _publish(stage, text):
    stage.operator.publish(*_topic_and_payload(stage, text))


def _deliver(stage, text):
    topic, payload = _topic_and_payload(stage, text)
    assert stage.cloud.control.deliver(stage.thing, topic, payload), "it is not connected"


def _arrives(stage, text):
    messages = stage.operator.messages
    stage.until(lambda: messages, "a message for the operator")
    wanted, got = _topic_and_payload(stage, text), messages.pop(0)
    assert got == wanted, f"the operator got {got}, not {wanted}"


def _quiet(stage, _):
    stage.silence(_QUIET_S)
    assert not stage.operator.messages, f"the operator got {stage.operator.messages}"
    assert not stage.module.event(), "EVENT is high"


def _fault(stage, text):
    kind, *words = text.split()
    fields = _fields(words)
    # Before CONNECT nobody is known, so such a fault is for all.
    if fields.get("at") not in ("tcp", "tls") and kind != "server-certificate":
        fields.setdefault("client", stage.thing)
    stage.cloud.control.fault(kind, **fields)


def _pem(stage, text):
    name, *how = text.split()
    fields = _fields(word for word in how if "=" in word)
    lines = stage.certificates.pem(name).decode().splitlines()
    if "width" in fields:
        first, *body, last = lines
        lines = [first, *textwrap.wrap("".join(body), fields["width"]), last]
    end = "\r\n" if "crlf" in how else "\n"
    data = "".join(line + end for line in lines).encode()
    if "no-end" in how:
        data = data.rstrip()
    if "pause" in fields:
        stage.send(data[:10])
        time.sleep(fields["pause"])
        data = data[10:]
    stage.send(data)


def _portal(stage, text, wanted="joined"):
    def address():
        # The port is the same as long as the module runs.
        return [line for line in stage.module.lines if line.startswith("portal http")]

    stage.until(address, "the portal's address")
    page = Portal(address()[-1].split()[1])
    ssid, passphrase = text.split()
    state = page.join(ssid=ssid, passphrase=passphrase)
    assert state["state"] == wanted, state
    if wanted == "joined":
        page.done()


def _client(stage, text):
    name, _, value = transcript.fill(text, stage.name).decode().partition(" ")
    clients = [c for c in stage.cloud.control.clients() if c["client"] == stage.thing]
    assert len(clients) == 1, f"{stage.thing} is connected {len(clients)} times"
    found = clients[0][name]
    if name == "subscriptions":
        # Those of the host: the module has some for itself, to hear of updates.
        own = f"$aws/things/{stage.thing}/"
        found = {topic: qos for topic, qos in found.items() if not topic.startswith(own)}
    assert str(found) == value, f"{name} is {found}, not {value}"


_DIRECTIVES = {
    "wifi": lambda stage, _: stage.wifi(),
    "connect": lambda stage, _: stage.connect(),
    "new": lambda stage, text: stage.new_module(*text.split()),
    "restarted": lambda stage, text: stage.restarted(int(text or 1)),
    "patience": lambda stage, text: stage.be_patient(float(text)),
    "took": _took,
    "sleep": lambda stage, text: time.sleep(float(text)),
    "event": _event,
    "pin": _pin,
    "power": _power,
    "state": lambda stage, text: stage.until(lambda: stage.module.get("state") == text, text),
    "air": _air,
    "listen": lambda stage, text: stage.operator.subscribe(
        transcript.fill(text, stage.name).decode()
    ),
    "publish": _publish,
    "deliver": _deliver,
    "arrives": _arrives,
    "quiet": _quiet,
    "fault": _fault,
    "mend": lambda stage, _: stage.mend(),
    "kick": lambda stage, _: stage.cloud.control.kick(stage.thing),
    "certificate": lambda stage, text: stage.cloud.control.certificate(stage.thing, text),
    "sntp": lambda stage, text: stage.cloud.control.sntp(mode=text),
    "client": _client,
    "pem": _pem,
    **updates.DIRECTIVES,
    "portal": _portal,
    "portal-fails": lambda stage, text: _portal(stage, text, "failed"),
}


def direct(stage, text):
    """Do what the step `text` (without its `@`) says. Raises AssertionError, or ValueError for a
    step that does not exist."""
    name, _, rest = text.partition(" ")
    if name not in _DIRECTIVES:
        raise ValueError(f"no directive @{name}")
    _DIRECTIVES[name](stage, rest)
