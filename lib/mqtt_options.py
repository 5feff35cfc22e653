# What CONNECT may say beside client id and keep-alive (MQTT 3.1.1, section 3.1.2.3 and 3.1.3).
# Pure, the same on MicroPython and CPython.

from micropython import const

from lib.mqtt_codec import string

_CLEAN_SESSION = const(0x02)
_WILL = const(0x04)
_WILL_QOS_SHIFT = const(3)
_WILL_RETAIN = const(0x20)
_PASSWORD = const(0x40)
_USER = const(0x80)


def connect_options(clean_session, user=None, password=None, will=None):
    """(flags, what follows the client id) for `mqtt_codec.connect_packet`. `will` is None or a
    tuple (topic, message, retain, qos); a password goes with a user name only."""
    flags = _CLEAN_SESSION if clean_session else 0
    more = b""
    if will:
        flags |= _WILL | will[3] << _WILL_QOS_SHIFT | (_WILL_RETAIN if will[2] else 0)
        more += string(will[0]) + string(will[1])
    if user is not None:
        flags |= _USER
        more += string(user)
        if password is not None:
            flags |= _PASSWORD
            more += string(password)
    return flags, more
