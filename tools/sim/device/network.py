"""Stands for MicroPython's `network` module: WLAN as a station and as an access point."""

import sim_wifi as _wifi
from sim_host import (
    builtin_time as _time,
    config as _config,
    registers as _registers,
    send as _send,
)

STA_IF = 0
AP_IF = 1

# The older names of modes, securities and states (MODE_…, AUTH_…, STAT_…) are left out: names cost
# the firmware's heap here, and it uses none of them.

_names = {"hostname": "mpy-" + _config["chip"], "country": "XX"}
_interfaces = {}
# What the simulated DHCP server hands out, and what the module's own access point has.
_lan = ["192.168.77.2", "255.255.255.0", "192.168.77.1", "192.168.77.1"]
_own = ["192.168.4.1", "255.255.255.0", "192.168.4.1", "0.0.0.0"]
_none = ("0.0.0.0", "0.0.0.0", "0.0.0.0", "0.0.0.0")


def hostname(*name):
    if not name:
        return _names["hostname"]
    if len(name[0]) > 32:
        raise ValueError("name too long")
    _names["hostname"] = name[0]
    return None


def country(*code):
    if not code:
        return _names["country"]
    if len(code[0]) != 2:
        raise ValueError("country code must be two letters")
    _names["country"] = code[0]
    return None


class WLAN:
    IF_STA = 0
    IF_AP = 1
    SEC_OPEN = 0
    SEC_WEP = 1
    SEC_WPA = 2
    SEC_WPA2 = 3
    SEC_WPA_WPA2 = 4
    SEC_WPA2_ENT = 5
    SEC_WPA3 = 6
    SEC_WPA2_WPA3 = 7
    PM_NONE = 0
    PM_PERFORMANCE = 1
    PM_POWERSAVE = 2

    def __new__(cls, _interface_id=0):
        # The driver has one object an interface.
        if _interface_id not in (0, 1):
            raise ValueError("invalid WLAN interface identifier")
        wlan = _interfaces.get(_interface_id)
        if wlan is None:
            wlan = _interfaces[_interface_id] = object.__new__(cls)
            wlan._settings = {"pm": 1, "txpower": 20, "protocol": 7, "channel": 1}
        return wlan

    def __init__(self, _interface_id=0):
        self._ap = _interface_id == 1
        self._driver = _wifi.access if self._ap else _wifi.station

    def active(self, *is_active):
        if not is_active:
            return self._driver.active
        on = bool(is_active[0])
        if on == self._driver.active:
            return on
        if not self._ap and not on:
            self._driver.disconnect()
        if self._ap:
            self._driver.up(on)
            _registers.put("ap_up", 1 if on else 0)
            _send({"access_point": on, "ssid": self._driver.ssid})
        else:
            self._driver.active = on
        return on

    def connect(self, _ssid=None, _key=None, *, bssid=None):
        if self._ap:
            raise OSError("STA required")
        station = self._driver
        if not station.active:
            raise OSError("Wifi Not Started")
        if bssid is not None and len(bssid) != 6:
            raise ValueError("bssid must be 6 bytes")
        if station.requested and station.step():
            raise OSError("Wifi Internal Error")
        if _key and not 8 <= len(_key) <= 64:
            raise OSError("Wifi Invalid Password")
        station.connect(
            _text(_ssid) if _ssid is not None else station.ssid,
            _text(_key) if _key is not None else ("" if _ssid is not None else station.key),
        )

    def disconnect(self):
        if self._ap:
            raise OSError("STA required")
        self._driver.disconnect()

    def isconnected(self):
        if self._ap:
            return False
        return self._driver.active and self._driver.step()

    def status(self, *param):
        if not param:
            return None if self._ap else self._driver.status()
        if param[0] == "rssi" and not self._ap:
            point = self._driver.point()
            if point is None:
                raise OSError("Wifi Not Connected")
            return point["rssi"]
        if param[0] == "stations" and self._ap:
            return [(b"\x02\0\0\0\0\x01",)] if self._driver.visited else []
        raise ValueError("unknown status param")

    def scan(self):
        if self._ap:
            raise OSError("STA required")
        if not self._driver.active:
            raise OSError("Wifi Not Started")
        if self._driver.trying():
            raise OSError("Wifi Internal State Error")
        # Stops the whole VM while it lasts, as on the chip.
        _time.sleep_ms(_wifi.SCAN)
        found = [point for point in _wifi.air.points() if point["up"]]
        found.sort(key=lambda point: -point["rssi"])
        return [
            (
                point["ssid"].encode(),
                bytes.fromhex(point["bssid"]),
                point["channel"],
                point["rssi"],
                WLAN.SEC_WPA2 if point["passphrase"] else WLAN.SEC_OPEN,
                False,
            )
            for point in found
        ]

    def ifconfig(self, *ip_mask_gateway_dns):
        own = _own if self._ap else _lan
        if ip_mask_gateway_dns:
            if ip_mask_gateway_dns[0] != "dhcp":
                own[:] = list(ip_mask_gateway_dns[0])
            return None
        if self._ap:
            return tuple(own) if self._driver.active else _none
        return tuple(own) if self.isconnected() else _none

    def ipconfig(self, *args, **kwargs):
        if args:
            if len(args) != 1 or kwargs:
                raise TypeError("either positional or keyword arguments")
            address, mask, gateway, _ = self.ifconfig()
            if args[0] == "addr4":
                return address, mask
            if args[0] == "gw4":
                return gateway
            if args[0] == "dhcp4":
                return not self._ap
            if args[0] == "has_dhcp4":
                return self.isconnected()
            raise ValueError("unexpected key")
        for key in kwargs:
            if key not in ("addr4", "gw4", "dhcp4"):
                raise ValueError("unexpected key")
        return None

    def _get(self, param):
        driver = self._driver
        if param == "mac":
            mac = bytearray(bytes.fromhex(_config["uid"]))
            if self._ap:
                mac[5] = (mac[5] + 1) & 0xFF
            return bytes(mac)
        if param in ("ssid", "essid"):
            return driver.ssid
        if param in ("security", "authmode"):
            if not self._ap:
                raise OSError("AP required")
            return driver.security
        if param == "hidden" and self._ap:
            return driver.hidden
        if param == "max_clients" and self._ap:
            return driver.max_clients
        if param in ("hostname", "dhcp_hostname"):
            return hostname()
        if param == "reconnects" and not self._ap:
            return driver.reconnects
        if param == "channel":
            # The access point goes where the station is: there is one radio.
            point = _wifi.station.point()
            return point["channel"] if point else self._settings["channel"]
        if param in self._settings:
            return self._settings[param]
        raise ValueError("unknown config param")

    def config(self, *args, **kwargs):
        if args:
            if len(args) != 1 or kwargs:
                raise TypeError("can query only one param")
            return self._get(args[0])
        for key, value in kwargs.items():
            self._set(key, value)
        return None

    def _set(self, key, value):
        driver = self._driver
        if key in ("hostname", "dhcp_hostname"):
            hostname(value)
        elif key == "reconnects" and not self._ap:
            driver.reconnects = value
        elif key == "ssid" and self._ap:
            driver.ssid = _text(value)
        elif key == "key" and self._ap:
            if len(value) < 8:
                raise ValueError("key too short")
            driver.key = _text(value)
        elif key in ("security", "authmode") and self._ap:
            driver.security = value
        elif key == "hidden" and self._ap:
            driver.hidden = bool(value)
        elif key == "max_clients" and self._ap:
            driver.max_clients = value
        elif key in self._settings:
            self._settings[key] = value
        else:
            raise ValueError("unknown config param")


def _text(value):
    # Names are bytes on the chip; they are compared as text of one character a byte, UTF-8 first.
    if isinstance(value, str):
        return value
    try:
        return bytes(value).decode()
    except UnicodeError:
        return "".join(chr(byte) for byte in value)
