"""What a download needs of a module, on the VM: the firmware's own session over TLS, the virtual
board's flash, and stand-ins for the rest.

    sys.argv[1]: a JSON file with host, port, thing, ca, cert, key (files, DER), and the folder and
    name of the flash file.
"""

import json
import sys
import time

import vfs

ROOT = __file__.rsplit("/", 3)[0]


class Registers:
    """Those of the virtual board that its flash looks at."""

    def __init__(self, slow):
        self.values = {"slow": slow, "flash_fail_after": 0, "flash_programs": 0, "flash_erases": 0}

    def get(self, name):
        return self.values[name]

    def put(self, name, value):
        self.values[name] = value


class Host:
    """In place of the module `sim_host`."""

    builtin_time = time

    def __init__(self, folder, name, slow):
        self.config = {"flash": name}
        self.disk = vfs.VfsPosix(folder)
        self.registers = Registers(slow)

    def halt(self):
        raise SystemExit(1)

    def send(self, message):
        raise SystemExit(1)


def partition(folder, name, size, slow=0):
    """`size` bytes of the virtual board's flash, as an esp32.Partition."""
    sys.modules["sim_host"] = Host(folder, name, slow)
    sys.path.insert(0, ROOT + "/tools/sim/device")
    try:
        import sim_flash
    finally:
        sys.path.pop(0)

    class Partition(sim_flash.Area):
        def info(self):
            return 1, 0x40, 0, size, "hota", False

    return Partition(0, size)


class Nothing:
    """Stands for parts that have nothing to do: wifi, clock, backoff, events, messages."""

    calls = ()

    async def join(self, *_):
        return None

    async def ensure(self):
        return None

    def remaining(self):
        return 0

    def leave(self, *_):
        return None

    failed = succeeded = put = forget_subscriptions = leave


class Messages(Nothing):
    """Every message that was for the host: there should be none."""

    def __init__(self):
        self.seen = []

    def arrived(self, topic, payload):
        self.seen.append(topic)

    discarded = arrived


class Identity:
    certified = True
    on_trial = doubted = False

    def __init__(self, thing, cert, key):
        self.thing = thing.encode()
        self._files = cert, key

    def certificate(self):
        return [_read(self._files[0])]

    def private_key(self):
        return _read(self._files[1])


class Config:
    def __init__(self, values):
        self.values = values

    def get(self, key):
        return self.values[key]

    def trial_roots(self):
        return []


def _read(name):
    with open(name, "rb") as file:
        return file.read()


def _context():
    import tls

    return tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)


class Module:
    """session, identity, config and messages, as `firmware.module.Module` has them."""

    def __init__(self, settings):
        from firmware import buffers
        from firmware.cloud.session import Session

        nothing = Nothing()
        self.identity = Identity(settings["thing"], settings["cert"], settings["key"])
        self.messages = Messages()
        self.config = Config(
            {
                b"EndPoint": ("%s:%d" % (settings["host"], settings["port"])).encode(),
                b"SSID": b"lab",
                b"Passphrase": b"",
                b"RootCA": [_read(settings["ca"])],
            }
        )
        self.session = Session(
            self.identity,
            self.config,
            nothing,
            nothing,
            nothing,
            self.messages,
            nothing,
            _context,
            (buffers.RECEIVED, buffers.SENT),
        )


class Job:
    """What `document.parse` makes of a job, as far as a download looks at it."""

    def __init__(self, size=None, stream=None, url=None, file_id=0):
        self.size = size
        self.stream = stream
        self.url = url
        self.file_id = file_id


def settings():
    """The JSON object of sys.argv[1]."""
    with open(sys.argv[1]) as file:
        return json.load(file)
