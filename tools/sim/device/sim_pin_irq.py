"""Interrupts of machine.Pin; loaded when one is first asked for."""

from micropython import schedule
from sim_host import config, send
from sim_pin import Pin

# pin number -> its _Irq; the watching thread starts with the first one.
_irqs = {}
_watching = False


def _fire(pin):
    # Runs between two bytecodes of the main thread, as a soft interrupt does on the chip.
    irq = _irqs.get(pin & 0x3F)
    if irq is not None and irq.handler is not None:
        edge = Pin.IRQ_RISING if pin & 0x40 else Pin.IRQ_FALLING
        if irq.edges & edge:
            irq.seen = edge
            irq.handler(Pin(pin & 0x3F))


def _watch(source):
    # The pipe gives one byte an edge: bit 6 is the new level, the rest is the pin.
    one = bytearray(1)
    while source.readinto(one):
        try:
            schedule(_fire, one[0])
        except RuntimeError:
            # The queue of scheduled calls is full; the chip loses the interrupt too.
            continue


def _start_watching():
    global _watching
    if not _watching:
        import _thread

        _watching = True
        source = open(config["irq"], "rb")  # noqa: SIM115
        _thread.start_new_thread(_watch, (source,))
        send({"watching": True})


class _Irq:
    def __init__(self, pin):
        self._pin = pin
        self.handler = None
        self.edges = 0
        self.seen = 0

    def __call__(self):
        _fire(self._pin | (0x40 if Pin(self._pin).value() else 0))

    def trigger(self, trigger=None):
        old = self.edges
        if trigger is not None:
            self.edges = trigger
        return old

    def flags(self):
        return self.seen


def make(pin, handler, trigger):
    """What Pin.irq() does once its parameters are checked."""
    irq = _irqs.get(pin._id)
    if irq is None:
        irq = _irqs[pin._id] = _Irq(pin._id)
    irq.handler = handler
    irq.edges = trigger
    _start_watching()
    return irq
