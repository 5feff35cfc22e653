"""X.509 certificates (RFC 5280): reads them, and checks who signed them.

What is here judges one certificate and one signature. Paths, names, dates and revocation are
left to the caller, or to TLS.
"""

from hashlib import sha256

from micropython import const

from lib import der

# Context tags of TBSCertificate.
_VERSION = const(0xA0)
_ISSUER_ID = const(0x81)
_SUBJECT_ID = const(0x82)
_EXTENSIONS = const(0xA3)

# Object identifiers, as they are encoded.
_EC_KEY = b"\x2a\x86\x48\xce\x3d\x02\x01"
_P256 = b"\x2a\x86\x48\xce\x3d\x03\x01\x07"
_RSA_KEY = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01"
_KEY_USAGE = b"\x55\x1d\x0f"
_ALTERNATIVE_NAME = b"\x55\x1d\x11"
_BASIC_CONSTRAINTS = b"\x55\x1d\x13"
_EXTENDED_KEY_USAGE = b"\x55\x1d\x25"
_ANY_PURPOSE = b"\x55\x1d\x25\x00"
_CODE_SIGNING = b"\x2b\x06\x01\x05\x05\x07\x03\x03"

# The kind of key that makes a signature (SHA-256 with each).
_SIGNATURES = {
    b"\x2a\x86\x48\xce\x3d\x04\x03\x02": "P-256",
    b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b": "RSA",
}
_NULL = b"\x05\x00"
# Bits of the first byte of KeyUsage.
_DIGITAL_SIGNATURE = const(0x80)
_KEY_CERT_SIGN = const(0x04)


class X509Error(ValueError):
    """No certificate, or one with an algorithm that is not here; the text says what."""


def parse(data):
    """The Certificate in `data` (bytes: one DER value and nothing behind it), else X509Error."""
    try:
        return Certificate(data)
    except der.DerError as error:
        raise X509Error("no certificate: %s" % error)


async def signed_by(certificate, key):
    """Whether the signature on `certificate` was made with the public key `key` (a
    Certificate's .key). It gives way to other tasks while it computes.

    X509Error when the signature's algorithm is neither ECDSA nor RSA PKCS #1 v1.5 with SHA-256.
    """
    oid, parameters = certificate.signature_algorithm
    # Parameters should be NULL for RSA and left out for ECDSA; both are met with either.
    kind = _SIGNATURES.get(oid) if parameters in (None, _NULL) else None
    if not kind:
        raise X509Error("signature algorithm %s" % der.dotted(oid))
    if kind != key.algorithm:
        return False
    return await key.verify(sha256(certificate.signed).digest(), certificate.signature)


class Certificate:
    """A certificate that was read; made by parse().

    - der: the whole, as given; signed: the part that is signed (a memoryview of it)
    - version (1 to 3), serial (int), issuer, subject (DER of the names)
    - not_before, not_after: seconds since 1970, UTC
    - is_ca: it may sign certificates: version 3, basic constraints say CA, and key usage, where
      present, has keyCertSign; never with an unknown critical extension
    - path_length: how many CA certificates may stand below it, None when not limited
    - signs_code: key usage and extended key usage, where present, allow to sign code
    - unknown_critical: a critical extension that is not understood here (dotted, None when
      there is none): such a certificate must not be used (RFC 5280, 4.2)
    - signature_algorithm: (object identifier, parameters as DER or None), signature (bytes)
    - key_algorithm: the same of the public key
    """

    def __init__(self, data):
        self.der = data
        outer = der.Reader(data)
        whole = outer.enter(der.SEQUENCE)
        outer.end()
        start = whole.at
        body = whole.enter(der.SEQUENCE)
        self.signed = memoryview(data)[start : whole.at]
        kind = whole.value(der.SEQUENCE)
        self.signature_algorithm = algorithm(der.Reader(kind))
        self.signature = whole.octets()
        whole.end()

        self.version = 1
        if body.peek() == _VERSION:
            field = body.enter(_VERSION)
            self.version = field.integer() + 1
            field.end()
            # Version 1 is the default, which DER leaves out.
            if self.version not in (2, 3):
                raise der.DerError("version")
        self.serial = body.integer()
        if body.value(der.SEQUENCE) != kind:
            raise der.DerError("two signature algorithms")
        self.issuer = _name(body)
        field = body.enter(der.SEQUENCE)
        self.not_before = _time(field)
        self.not_after = _time(field)
        field.end()
        self.subject = _name(body)
        field = body.enter(der.SEQUENCE)
        self.key_algorithm = algorithm(field)
        self._key = field.octets()
        field.end()
        for tag in (_ISSUER_ID, _SUBJECT_ID):
            if self.version > 1 and body.peek() == tag:
                body.content(tag)

        self.is_ca = False
        self.signs_code = True
        self.path_length = None
        self.unknown_critical = None
        if self.version == 3 and body.peek() == _EXTENSIONS:
            field = body.enter(_EXTENSIONS)
            self._extensions(field.enter(der.SEQUENCE))
            field.end()
        body.end()

    @property
    def point(self):
        """The public key when it is a P-256 key, as it stands (SEC 1, 2.3.3: 04, x, y); whether
        it is a point of the curve was not looked at. None for a key of another kind.
        """
        return self._key if self.key_algorithm == (_EC_KEY, b"\x06\x08" + _P256) else None

    @property
    def key(self):
        """The public key: lib.p256.PublicKey or lib.rsa.PublicKey.

        X509Error when the key is of another kind, or none that may be used.
        """
        # The libraries are only loaded for certificates whose key is asked for.
        oid, parameters = self.key_algorithm
        try:
            if self.point is not None:
                from lib import p256

                return p256.PublicKey(self._key)
            if oid == _RSA_KEY and parameters == _NULL:
                from lib import rsa

                reader = der.Reader(self._key)
                pair = reader.enter(der.SEQUENCE)
                reader.end()
                modulus = pair.unsigned()
                exponent = pair.unsigned()
                pair.end()
                return rsa.PublicKey(modulus, exponent)
            if oid == _EC_KEY and parameters and parameters[0] == der.OID:
                oid = der.Reader(parameters).oid()
        except ValueError as error:
            raise X509Error("public key: %s" % error)
        raise X509Error("public key of type %s" % der.dotted(oid))

    def _extensions(self, reader):
        seen = []
        is_ca = False
        usage = 0xFF
        while not seen or reader.peek() >= 0:
            extension = reader.enter(der.SEQUENCE)
            oid = extension.oid()
            critical = extension.peek() == der.BOOLEAN and extension.boolean()
            value = der.Reader(extension.content(der.OCTET_STRING))
            extension.end()
            if oid in seen:
                raise der.DerError("extension twice")
            seen.append(oid)
            if oid == _BASIC_CONSTRAINTS:
                field = value.enter(der.SEQUENCE)
                is_ca = field.peek() == der.BOOLEAN and field.boolean()
                if field.peek() == der.INTEGER:
                    self.path_length = field.unsigned()
                field.end()
            elif oid == _KEY_USAGE:
                bits, _ = value.bits()
                usage = bits[0] if bits else 0
            elif oid == _EXTENDED_KEY_USAGE:
                field = value.enter(der.SEQUENCE)
                self.signs_code = False
                while field.peek() >= 0:
                    if field.oid() in (_CODE_SIGNING, _ANY_PURPOSE):
                        self.signs_code = True
            else:
                if critical and oid != _ALTERNATIVE_NAME:
                    self.unknown_critical = der.dotted(oid)
                continue
            value.end()
        if not usage & _DIGITAL_SIGNATURE:
            self.signs_code = False
        self.is_ca = is_ca and usage & _KEY_CERT_SIGN != 0 and not self.unknown_critical


def algorithm(reader):
    """(object identifier, parameters as DER or None): the AlgorithmIdentifier that is the next
    value of `reader` (lib.der.Reader).
    """
    field = reader.enter(der.SEQUENCE)
    oid = field.oid()
    parameters = field.value() if field.peek() >= 0 else None
    field.end()
    return oid, parameters


def _name(reader):
    # A sequence of sets of (type, value) pairs; returned as it stands.
    start = reader.at
    names = reader.enter(der.SEQUENCE)
    while names.peek() >= 0:
        attributes = names.enter(der.SET)
        while attributes.peek() >= 0:
            attribute = attributes.enter(der.SEQUENCE)
            attribute.oid()
            attribute.value()
            attribute.end()
    return reader.data[start : reader.at]


def _time(reader):
    # YYMMDDHHMMSSZ from 1950 to 2049, or YYYYMMDDHHMMSSZ (RFC 5280, 4.1.2.5).
    tag = reader.peek()
    text = reader.content()
    if tag == der.UTC_TIME:
        text = (b"20" if text < b"5" else b"19") + text
    elif tag != der.GENERALIZED_TIME:
        raise der.DerError("time")
    if len(text) != 15 or text[14:] != b"Z" or not text[:14].isdigit():
        raise der.DerError("time")
    century, year, month, day, hour, minute, second = [
        int(text[i : i + 2]) for i in range(0, 14, 2)
    ]
    year += century * 100
    if month == 2:
        last = 28 + (year % 4 == 0 and (year % 100 != 0 or year % 400 == 0))
    else:
        last = 31 - (month - 1) % 7 % 2
    if not (0 < month < 13 and 0 < day <= last and hour < 24 and minute < 60 and second < 60):
        raise der.DerError("time")
    # Years begin in March here, so that the leap day is the last of a year.
    year -= month < 3
    day += year * 365 + year // 4 - year // 100 + year // 400 + ((month + 9) % 12 * 153 + 2) // 5
    return (((day - 719469) * 24 + hour) * 60 + minute) * 60 + second
