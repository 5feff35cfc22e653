"""Reset and the watchdog of the virtual chip."""

from sim_host import halt, registers, send


def reset():
    send({"reset": "hard"})
    halt()


def soft_reset():
    send({"reset": "soft"})
    halt()


class WDT:
    def __init__(self, *, id=0, timeout=5000):
        if id != 0:
            raise ValueError("invalid watchdog")
        if timeout <= 0:
            raise ValueError("WDT timeout too short")
        registers.put("wdt_ms", timeout)
        self.feed()

    def feed(self):
        registers.put("wdt_feeds", (registers.get("wdt_feeds") + 1) & 0xFFFFFFFF)
