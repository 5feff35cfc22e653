"""Why a network could not be joined, in the words that a person is told."""

# What wifi.py calls it, and what the page and a central of Bluetooth LE get.
_SHOWN = {
    b"Wi-Fi passphrase refused": b"wrong passphrase",
    b"Wi-Fi access point not found": b"not found",
    b"Wi-Fi timeout": b"timeout",
}


def shown(error):
    """The words (bytes) for a `net.wifi.WifiError`: its own, where there are no shorter ones."""
    return _SHOWN.get(error.args[0], error.args[0])
