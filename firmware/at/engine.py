"""Reads lines, runs one command at a time, answers in order (guide 3.4, 3.5; D5, D6, D8).

The table says for each word which function serves it:

    word, with "?" for a query -> (module, function, takes a suffix, takes a parameter)

A module is imported when one of its commands is first used. Those that are needed once in a while
are borrowed: imported for one command, and dropped after it, since code that is not frozen into
the image costs memory. The function is called with the context that the engine was given and the
command; it may be a coroutine function; it returns what `reply.Writer.ok` takes, or raises
AtError.
"""

import asyncio
import gc
import sys
import time

from micropython import const

from firmware.at import framing, grammar
from firmware.at.errors import (
    NOT_FOUND,
    OVERFLOW,
    PARAMETER,
    PARSE,
    QUERY,
    AtError,
)
from firmware.borrowed import drop
from firmware.log import ERROR, log

# Escapes decoded before other tasks get a turn.
_ESCAPES = const(128)

# How often a command that waits for a line looks at the UART.
_POLL_MS = const(10)


class Engine:
    """The AT port.

    uart: where commands come from. line: the buffer they are collected in (`framing.Framer`).
    writer: a `reply.Writer` on the UART. table, package: the commands and the package that their
    modules are in. occasional: names of the modules that are borrowed, and of those that only
    they use, in one text with a space around each. context: handed to every command.
    """

    def __init__(self, uart, line, writer, profile, table, package, occasional, context):
        self._uart = uart
        self._reader = asyncio.StreamReader(uart)
        self._writer = writer
        self._table = table
        self._package = package
        self._occasional = occasional
        self._context = context
        # Occasional modules may have been imported: to be dropped after the running command.
        self.borrowed = False
        self._functions = {}
        self._command = grammar.Command(profile.max_word)
        self.framer = framing.Framer(profile.max_line, line)
        self._kept = None
        self.after_reply = None
        # Lines that were no command, and commands that were too long: for DIAG INFO.
        self.noise = 0
        self.overflows = 0

    async def run(self):
        """Serve the port for ever."""
        framer = self.framer
        while True:
            kind = self._kept or framer.take()
            self._kept = None
            if kind is None:
                count = await self._reader.readinto(framer.room())
                if count:
                    framer.filled(count)
                continue
            await self._answer(kind)
            if self._kept is None:
                framer.release()

    async def line(self, timeout_ms):
        """What `framing.Framer.take` says of the next line, or None when none has ended in time.

        For a command that reads lines which are no commands (7.10.2): `framer.line()` or
        `framer.unfinished()` is then what has come. The bytes of the command itself are gone.
        """
        framer = self.framer
        framer.release()
        started = time.ticks_ms()
        while True:
            kind = framer.take()
            if kind is not None:
                return kind
            count = self._uart.readinto(framer.room())
            if count:
                framer.filled(count)
            elif time.ticks_diff(time.ticks_ms(), started) > timeout_ms:
                return None
            else:
                await asyncio.sleep_ms(_POLL_MS)

    def keep(self, kind):
        """Let the line that `line` has just announced as `kind` be the next to be answered."""
        self._kept = kind

    async def _answer(self, kind):
        """Answer one line: every line that asks for a reply gets exactly one."""
        writer = self._writer
        try:
            if kind == framing.COMMAND:
                await self._run_command()
            elif kind == framing.ATTENTION:
                await writer.ok()
            elif kind == framing.MALFORMED:
                await writer.error(PARSE)
            elif kind == framing.OVERFLOW:
                self.overflows += 1
                await writer.error(OVERFLOW)
            else:
                self.noise += 1
        except Exception as error:  # noqa: BLE001
            # A defect of ours, or no memory: the host gets a reply in any case, the log the
            # whole story, and the port goes on.
            self.borrowed = True
            gc.collect()
            writer.give_up()
            self._tell(error)
        if self.borrowed:
            self._give_back()
        if self.after_reply:
            action = self.after_reply
            self.after_reply = None
            await writer.drained()
            await action()

    def _tell(self, error):
        try:
            log(ERROR, "command", self._command.word, "failed")
            sys.print_exception(error)
        except MemoryError:
            # A text that is there already.
            print("command failed, no memory to tell of it")

    async def _run_command(self):
        """Run the command; the only place where its failure becomes a reply."""
        try:
            result = await self._execute()
        except AtError as error:
            await self._writer.error(error.code, error.detail)
        except MemoryError:
            # Nothing of the reply has been sent yet: that begins below.
            self._give_back()
            print("command failed, no memory")
            await self._writer.error(PARAMETER, b"no memory")
        else:
            await self._writer.ok(result)

    async def _execute(self):
        framer = self.framer
        command = self._command
        command.parse(framer.buf, framer.start, framer.end)
        function = self._look_up(command)
        if framer.buf.find(b"\\", command.start, command.end) >= 0:
            await self._unescape(command)
        result = function(self._context, command)
        if hasattr(result, "send"):
            result = await result
        return result

    def _look_up(self, command):
        """The function for `command`, after the checks that the table allows."""
        word = command.word
        row = self._table.get(word)
        if row is None:
            if command.query and word[:-1] in self._table:
                raise AtError(QUERY)
            raise AtError(NOT_FOUND)
        module, name, suffix, parameter = row
        if command.suffix is not None and not suffix:
            raise AtError(PARAMETER)
        if command.start < command.end and not parameter:
            raise AtError(PARAMETER)
        function = self._functions.get(word)
        if function is None:
            path = self._package + "." + module
            function = self.borrow(path, name)
            if not self._is_occasional(path):
                self._functions[word] = function
        return function

    def serves(self, word):
        """True when `word` (upper case, with its `?`) is a command."""
        return word in self._table

    def borrow(self, path, name):
        """Import `name` from the module `path`; if that is an occasional one, for the running
        command only."""
        if self._is_occasional(path):
            self.borrowed = True
        return getattr(__import__(path, None, None, (name,)), name)

    def _is_occasional(self, path):
        return " " + path + " " in self._occasional

    def _give_back(self):
        """Drop the occasional modules from memory. Memory may be what is lacking."""
        for _ in range(2):
            try:
                drop(self._occasional)
                self.borrowed = False
                break
            except MemoryError:
                # What has been dropped so far makes room for the rest, now or after the next
                # command.
                print("no memory to drop modules with")
                gc.collect()
        gc.collect()

    async def _unescape(self, command):
        """Decode the parameter in place, with turns for other tasks in between."""
        buf = command.buf
        source = target = command.start
        while True:
            source, target = grammar.unescape(buf, source, command.end, target, _ESCAPES)
            if source == command.end:
                command.end = target
                return
            await asyncio.sleep_ms(0)
