"""Reads lines, runs one command at a time, answers in order (guide 3.4, 3.5; D5, D6, D8).

The table says for each word which function serves it:

    word, with "?" for a query -> (module, function, takes a suffix, takes a parameter)

A module is imported when one of its commands is first used. The function is called with the
context that the engine was given and the command; it may be a coroutine function; it returns what
`reply.Writer.ok` takes, or raises AtError.
"""

import asyncio
import gc
import sys

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
from firmware.log import ERROR, log

# Escapes decoded before other tasks get a turn.
_ESCAPES = const(128)


class Engine:
    """The AT port.

    uart: where commands come from. line: the buffer they are collected in (`framing.Framer`).
    writer: a `reply.Writer` on the UART. table, package: the commands and the package that their
    modules are in. context: handed to every command.
    """

    def __init__(self, uart, line, writer, profile, table, package, context):
        self._reader = asyncio.StreamReader(uart)
        self._writer = writer
        self._table = table
        self._package = package
        self._context = context
        self._functions = {}
        self._command = grammar.Command(profile.max_word)
        self.framer = framing.Framer(profile.max_line, line)
        self.after_reply = None

    async def run(self):
        """Serve the port for ever."""
        framer = self.framer
        while True:
            kind = framer.take()
            if kind is None:
                count = await self._reader.readinto(framer.room())
                if count:
                    framer.filled(count)
                continue
            await self._answer(kind)
            framer.release()

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
                await writer.error(OVERFLOW)
        except Exception as error:  # noqa: BLE001
            # A defect of ours, or no memory: the host gets a reply in any case, the log the
            # whole story, and the port goes on.
            log(ERROR, "command", self._command.word, "failed")
            sys.print_exception(error)
            gc.collect()
            writer.give_up()
        if self.after_reply:
            action = self.after_reply
            self.after_reply = None
            await writer.drained()
            await action()

    async def _run_command(self):
        """Run the command; the only place where its failure becomes a reply."""
        try:
            result = await self._execute()
        except AtError as error:
            await self._writer.error(error.code, error.detail)
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
            function = getattr(__import__(path, None, None, (name,)), name)
            self._functions[word] = function
        return function

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
