"""The thread of the board: descriptors, deadlines, and work that other threads hand over."""

import contextlib
import os
import queue
import selectors
import time


class Loop:
    """One thread runs it; `call`, `post` and `stop` are for any."""

    def __init__(self):
        self.selector = selectors.DefaultSelector()
        self._deadlines = {}
        self._orders = queue.SimpleQueue()
        self._stopping = None
        self._bell, self._ring = os.pipe()
        os.set_blocking(self._bell, False)
        self.selector.register(self._bell, selectors.EVENT_READ, self._obey)

    def run(self, interval, tick):
        """Run until `stop`; returns its reason. tick: called at least every `interval()` s."""
        while self._stopping is None:
            for key, _ in self.selector.select(max(0.0, min(self._until_next(), interval()))):
                # An earlier one of this round may have closed the descriptor.
                if key.fileobj in self.selector.get_map():
                    key.data()
            self._expire()
            tick()
        return self._stopping

    def stop(self, reason=""):
        """End `run`; usable from a signal handler."""
        if self._stopping is None:
            self._stopping = reason
        os.write(self._ring, b"!")

    def post(self, work):
        """Have `work` called in the loop's thread, nobody waits for it."""
        self._orders.put((work, (), None))
        os.write(self._ring, b"!")

    def call(self, work, *arguments):
        """Run `work` in the loop's thread; returns its value or raises its exception."""
        answer = queue.SimpleQueue()
        self._orders.put((work, arguments, answer))
        os.write(self._ring, b"!")
        value, error = answer.get()
        if error is not None:
            raise error
        return value

    def _obey(self):
        with contextlib.suppress(BlockingIOError):
            os.read(self._bell, 64)
        while not self._orders.empty():
            work, arguments, answer = self._orders.get()
            if answer is None:
                work(*arguments)
                continue
            try:
                answer.put((work(*arguments), None))
            except Exception as error:  # noqa: BLE001 - it is raised again by `call`
                answer.put((None, error))

    def after(self, seconds, name, work):
        """Have `work` called after that time; a later call with the same name replaces it."""
        self._deadlines[name] = (time.monotonic() + seconds, work)

    def cancel(self, *names):
        """Forget deadlines by name; all of them when no name is given."""
        for name in names or list(self._deadlines):
            self._deadlines.pop(name, None)

    def _until_next(self):
        now = time.monotonic()
        return min((when - now for when, _ in self._deadlines.values()), default=60.0)

    def _expire(self):
        now = time.monotonic()
        for name, (when, work) in list(self._deadlines.items()):
            # One that was called before may have cancelled or renewed this one.
            if when <= now and self._deadlines.get(name) == (when, work):
                del self._deadlines[name]
                work()
