"""What is seldom asked of the station. Imported for one call."""


def scan(wlan, was_on, kinds):
    """See `wifi.Wifi.scan`."""
    try:
        best = {}
        for ssid, _, _, rssi, security, _ in wlan.scan():
            if rssi > best.get(ssid, -1000):
                best[ssid] = rssi
                if kinds is not None:
                    kinds[ssid] = security
        return best
    finally:
        if not was_on:
            wlan.active(False)


def address6(wlan):
    """See `wifi.Wifi.address6`."""
    try:
        found = wlan.ipconfig("addr6")
    except ValueError:
        # This MicroPython has no IPv6 to tell of.
        return b"::"
    # Pairs of address and state; a link-local one is better than none, a global one is best.
    best = b"::"
    for entry in found:
        text = (entry[0] if isinstance(entry, tuple) else entry).encode()
        if best == b"::" or not text.lower().startswith(b"fe80"):
            best = text
    return best
