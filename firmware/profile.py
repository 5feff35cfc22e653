"""What one revision of the ExpressLink guide puts on the wire.

All that a later revision changes (line ends, limits, texts, event names) is in one object, so
that a module can speak another revision by being handed another profile.
"""


class V05:
    """Programmer's guide v0.5."""

    tech_spec = b"v0.5"

    # Lines (3.1, 3.2, 3.3): end of line, longest line from `AT` to before the end of line, longest
    # command word.
    eol = b"\n"
    max_line = 5120
    max_word = 32

    # Configuration keys (5.1.1.1) and the topic list (4.1.1.2).
    max_key = 16
    max_topic = 16

    # Replies (3.6).
    connected = b"1 CONNECTED"
    disconnected = b"0 DISCONNECTED"

    # Table 1, the text of code n behind the n-th bar. One object, not two dozen.
    errors = (
        b"|OVERFLOW"
        b"|PARSE ERROR"
        b"|COMMAND NOT FOUND"
        b"|PARAMETER ERROR"
        b"|INVALID ESCAPE"
        b"|NO CONNECTION"
        b"|TOPIC OUT OF RANGE"
        b"|TOPIC UNDEFINED"
        b"|INVALID KEY LENGTH"
        b"|INVALID KEY NAME"
        b"|UNKNOWN KEY"
        b"|KEY READONLY"
        b"|KEY WRITEONLY"
        b"|UNABLE TO CONNECT"
        b"|TIME NOT AVAILABLE"
        b"|LOCATION NOT AVAILABLE"
        b"|MODE NOT AVAILABLE"
        b"|ACTIVE CONNECTION"
        b"|HOST IMAGE NOT AVAILABLE"
        b"|INVALID ADDRESS"
        b"|INVALID OTA UPDATE"
        b"|INVALID QUERY"
        b"|INVALID SIGNATURE"
    )

    # Table 4.
    events = {
        1: b"MSG",
        2: b"STARTUP",
        3: b"CONLOST",
        4: b"OVERRUN",
        5: b"OTA",
        6: b"SHADOW",
        7: b"CONFMODE",
    }
