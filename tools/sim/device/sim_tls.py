"""Stands for MicroPython's `tls` module: the VM's own, but a certificate is checked against the
virtual clock too. At power-on that clock says the year 2000, when no certificate is valid yet."""

import io as _io
import sys as _sys

import sim_rtc as _rtc

_path = _sys.path
_sys.path = ()
import tls as _tls

_sys.path = _path

PROTOCOL_TLS_CLIENT = _tls.PROTOCOL_TLS_CLIENT
PROTOCOL_TLS_SERVER = _tls.PROTOCOL_TLS_SERVER
PROTOCOL_DTLS_CLIENT = _tls.PROTOCOL_DTLS_CLIENT
PROTOCOL_DTLS_SERVER = _tls.PROTOCOL_DTLS_SERVER
CERT_NONE = _tls.CERT_NONE
CERT_OPTIONAL = _tls.CERT_OPTIONAL
CERT_REQUIRED = _tls.CERT_REQUIRED
MBEDTLS_VERSION = _tls.MBEDTLS_VERSION

# Before this second (2020-01-01) no certificate of ours begins.
_EARLIEST = 631152000


def _too_early():
    raise ValueError("The certificate validity starts in the future")


class _Refused(_io.IOBase):
    # A connection whose handshake, made at the first read or write, finds the date impossible.
    def __init__(self, sock):
        self._sock = sock

    def readinto(self, buf, *nbytes):
        _too_early()

    def read(self, *nbytes):
        _too_early()

    def readline(self):
        _too_early()

    def write(self, buf, *nbytes):
        _too_early()

    def setblocking(self, value):
        self._sock.setblocking(value)

    def close(self):
        self._sock.close()

    def ioctl(self, request, arg):
        if request == 3:
            return arg
        if request == 4:
            self._sock.close()
            return 0
        return -1


class SSLContext:
    def __init__(self, protocol):
        self._context = _tls.SSLContext(protocol)

    @property
    def verify_mode(self):
        return self._context.verify_mode

    @verify_mode.setter
    def verify_mode(self, value):
        self._context.verify_mode = value

    @property
    def verify_callback(self):
        return self._context.verify_callback

    @verify_callback.setter
    def verify_callback(self, value):
        self._context.verify_callback = value

    def load_verify_locations(self, cadata):
        self._context.load_verify_locations(cadata)

    def load_cert_chain(self, cert, key):
        self._context.load_cert_chain(cert, key)

    def get_ciphers(self):
        return self._context.get_ciphers()

    def set_ciphers(self, ciphers):
        self._context.set_ciphers(ciphers)

    def wrap_socket(
        self,
        sock,
        *,
        server_side=False,
        do_handshake_on_connect=True,
        server_hostname=None,
        client_id=None,
    ):
        early = _rtc.now_us() < _EARLIEST * 1000000
        if early and not server_side and self._context.verify_mode != CERT_NONE:
            if do_handshake_on_connect:
                _too_early()
            return _Refused(sock)
        options = {
            "server_side": server_side,
            "do_handshake_on_connect": do_handshake_on_connect,
            "server_hostname": server_hostname,
        }
        if client_id is not None:
            options["client_id"] = client_id
        return self._context.wrap_socket(sock, **options)
