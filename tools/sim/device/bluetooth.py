"""Stands for MicroPython's `bluetooth` module: a peripheral with a GATT server.

Centrals are on the PC; the supervisor hands over what they do, a line of JSON each, and a task of
asyncio has it done. (A thread would be more like the chip's Bluetooth task, which interrupts, but
this VM has no lock for threads.) Loaded when it is first asked for: on a board this is C code.
"""

import asyncio as _asyncio
import sys as _sys

import sim_air as _air
import sim_wifi as _wifi
from sim_host import config as _config, send as _send

FLAG_READ = 2
FLAG_WRITE_NO_RESPONSE = 4
FLAG_WRITE = 8
FLAG_NOTIFY = 16
FLAG_INDICATE = 32

_CENTRAL_CONNECT = 1
_CENTRAL_DISCONNECT = 2
_GATTS_WRITE = 3
_INDICATE_DONE = 20
_MTU_EXCHANGED = 21

_ENODEV = 19
_ENOTCONN = 107
_ENOMEM = 12
_EINVAL = 22

_VALUE = 20  # bytes of a characteristic's buffer, unless gatts_set_buffer was called
_LONGEST = 512
_CONNECTIONS = 4
_CCCD = 2


class UUID:
    def __init__(self, _value):
        if isinstance(_value, int):
            self._hex = "%04x" % _value
        else:
            self._hex = _value.replace("-", "").lower()
            if len(self._hex) != 32:
                raise ValueError("invalid UUID")

    def __eq__(self, other):
        return isinstance(other, UUID) and other._hex == self._hex

    def __hash__(self):
        return hash(self._hex)

    def __repr__(self):
        return "UUID('%s')" % self._hex


class _Value:
    def __init__(self, uuid, flags, primary):
        self.uuid = uuid._hex
        self.flags = flags
        self.primary = primary
        self.value = b""
        self.room = _VALUE
        self.append = False


class BLE:
    def __new__(cls):
        return _ble or object.__new__(cls)

    def __init__(self):
        global _ble
        if _ble is None:
            _ble = self
            self._active = False
            self._task = self._leaving = None
            self._settings = {"gap_name": b"MPY ESP32", "mtu": 256, "rxbuf": 256}
            self._for_pairing = {"bond": False, "mitm": False, "io": 3, "le_secure": False}
            self._reset()

    def _reset(self):
        self._handler = None
        self._values = {}
        self._advertised = None
        self._data = [b"", b""]
        # connection -> [central, MTU]
        self._centrals = {}
        self._choked = 0

    def active(self, *_active):
        if not _active:
            return self._active
        on = bool(_active[0])
        if on and not self._active:
            if _config["chip"] == "esp32c3" and (_wifi.station.active or _wifi.access.active):
                # A C3 has no memory for both.
                raise OSError(_ENOMEM)
            self._task = _asyncio.create_task(_air.listen(self._order))
        elif not on and self._active:
            for conn in list(self._centrals):
                self._disconnected(conn)
            # A task that waits can hold others that have ended, and all that they knew.
            self._task.cancel()
            self._task = self._leaving = None
            self._reset()
        if on != self._active:
            _send({"radio": {"on": on}})
        self._active = on
        return on

    def _check(self):
        if not self._active:
            raise OSError(_ENODEV)

    def config(self, *_param, **_values):
        if _param:
            if len(_param) != 1 or _values:
                raise TypeError("either positional or keyword arguments")
            if _param[0] == "mac":
                self._check()
                mac = bytearray(bytes.fromhex(_config["uid"]))
                mac[5] = (mac[5] + 2) & 0xFF
                return 0, bytes(mac)
            if _param[0] not in self._settings:
                raise ValueError("unknown config param")
            return self._settings[_param[0]]
        for key, value in _values.items():
            if key == "gap_name":
                value = value.encode() if isinstance(value, str) else bytes(value)
                if len(value) > 31:
                    raise OSError(_EINVAL)
            elif key == "mtu" and not 23 <= value <= 517:
                raise OSError(_EINVAL)
            if key in self._settings:
                self._settings[key] = value
            elif key in self._for_pairing:
                self._for_pairing[key] = value
            elif key != "addr_mode":
                raise ValueError("unknown config param")

    def irq(self, _handler):
        if _handler is not None and not callable(_handler):
            raise ValueError("invalid callback")
        self._handler = _handler

    def gap_advertise(self, _interval_us, _adv_data=None, *, resp_data=None, connectable=True):
        self._check()
        for place, data in enumerate((_adv_data, resp_data)):
            if data is not None:
                if len(data) > 31:
                    raise OSError(_EINVAL)
                self._data[place] = bytes(data)
        if _interval_us is not None and connectable and len(self._centrals) >= _CONNECTIONS:
            raise OSError(_ENOMEM)
        self._advertised = None
        if _interval_us is not None:
            self._advertised = bool(connectable)
        self._announce()

    def _announce(self):
        shown = None
        if self._advertised is not None:
            shown = [self._data[0].hex(), self._data[1].hex(), self._advertised]
        _send({"radio": {"advertising": shown}})

    def gap_disconnect(self, _conn_handle):
        self._check()
        if _conn_handle not in self._centrals:
            return False
        central = self._centrals[_conn_handle][0]
        _send({"radio": {"central": central, "disconnected": True}})
        # The event follows when the other side has agreed.
        self._leaving = _asyncio.create_task(_air.later(self._disconnected, _conn_handle))
        return True

    def gatts_register_services(self, _services_definition):
        self._check()
        if self._advertised is not None:
            raise OSError(16)  # EBUSY
        self._values = {}
        handle = 12
        made = []
        for service, rows in _services_definition:
            handle += 1
            handles = []
            for row in rows:
                handle += 2
                self._values[handle] = _Value(row[0], row[1], service._hex)
                handles.append(handle)
                if row[1] & (FLAG_NOTIFY | FLAG_INDICATE):
                    handle += 1  # where a central subscribes
                for descriptor in row[2] if len(row) > _CCCD else ():
                    handle += 1
                    self._values[handle] = _Value(descriptor[0], descriptor[1], None)
                    handles.append(handle)
            made.append(tuple(handles))
        return tuple(made)

    def _value(self, handle):
        self._check()
        if handle not in self._values:
            raise OSError(_EINVAL)
        return self._values[handle]

    def gatts_set_buffer(self, _handle, _len, _append=False):
        value = self._value(_handle)
        value.room = _len
        value.append = _append
        value.value = b""

    def gatts_read(self, _value_handle):
        value = self._value(_value_handle)
        data = value.value
        if value.append:
            value.value = b""
        return data

    def gatts_write(self, _value_handle, _data, _send_update=False):
        value = self._value(_value_handle)
        value.value = bytes(_data)
        # What is written here makes the buffer larger when it has to.
        value.room = max(value.room, len(value.value))
        if _send_update:
            for conn in self._centrals:
                self.gatts_notify(conn, _value_handle)

    def gatts_notify(self, _conn_handle, _value_handle, _data=None):
        value = self._value(_value_handle)
        if _conn_handle not in self._centrals:
            raise OSError(_ENOTCONN)
        if self._choked:
            self._choked -= 1
            raise OSError(_ENOMEM)
        central, mtu = self._centrals[_conn_handle]
        data = bytes(value.value if _data is None else _data)[: mtu - 3]
        _send({"radio": {"central": central, "handle": _value_handle, "notified": data.hex()}})

    def gatts_indicate(self, _conn_handle, _value_handle, _data=None):
        self.gatts_notify(_conn_handle, _value_handle, _data)
        self._event(_INDICATE_DONE, (_conn_handle, _value_handle, 0))

    # What centrals do.

    def _event(self, event, data):
        if self._handler is not None:
            try:
                self._handler(event, data)
            except Exception as error:  # noqa: BLE001
                # As the chip does: told on the console, and that is all.
                _sys.print_exception(error)

    def _disconnected(self, conn):
        central = self._centrals.pop(conn, None)
        if central is not None:
            self._event(_CENTRAL_DISCONNECT, (conn, 0, memoryview(b"\2sim%02d" % central[0])))

    def _conn(self, central):
        for conn in self._centrals:
            if self._centrals[conn][0] == central:
                return conn
        return None

    def _order(self, order):
        if not self._active:
            return None
        conn = self._conn(order["central"])
        what = order["do"]
        if what == "connect":
            return self._connect(order["central"])
        if conn is None:
            return None if what == "disconnect" else {"error": "not connected"}
        if what == "disconnect":
            self._disconnected(conn)
            return None
        if what == "mtu":
            mtu = self._centrals[conn][1] = min(order["mtu"], self._settings["mtu"])
            self._event(_MTU_EXCHANGED, (conn, mtu))
            return {"mtu": mtu}
        if what == "choke":
            self._choked = order["count"]
            return {"ok": True}
        if what == "discover":
            return {"services": self._table()}
        value = self._values.get(order["handle"])
        if value is None:
            return {"error": "invalid handle"}
        if what == "read":
            if not value.flags & FLAG_READ:
                return {"error": "read not permitted"}
            return {"value": value.value[:_LONGEST].hex()}
        if not value.flags & FLAG_WRITE:
            return {"error": "write not permitted"}
        return self._write(
            conn, order["handle"], value, [bytes.fromhex(p) for p in order["parts"]]
        )

    def _connect(self, central):
        if not self._active or not self._advertised or len(self._centrals) >= _CONNECTIONS:
            return {"error": "no answer"}
        conn = 0
        while conn in self._centrals:
            conn += 1
        self._centrals[conn] = [central, 23]
        # A connection ends the advertising.
        self._advertised = None
        self._announce()
        self._event(_CENTRAL_CONNECT, (conn, 0, memoryview(b"\2sim%02d" % central)))
        return {"connected": conn}

    def _table(self):
        return [
            [handle, value.primary, value.uuid, value.flags]
            for handle, value in sorted(self._values.items())
        ]

    def _write(self, conn, handle, value, parts):
        # A long write comes in parts; where the buffer does not hold it, so do the events.
        if len(b"".join(parts)) <= value.room:
            parts = [b"".join(parts)]
        for part in parts:
            before = value.value if value.append else b""
            value.value = (before + part)[: value.room]
            self._event(_GATTS_WRITE, (conn, handle))
        return {"written": True}


_ble = None
