"""Test application: does what the host's UART tells it, one Python line at a time.

An expression is answered with its repr(), a statement with `None`, an exception with `!` and
its repr(). The loop goes on while nothing is to do, so interrupts and timers work.
"""

import asyncio
import gc  # noqa: F401
import os  # noqa: F401
import socket  # noqa: F401
import sys
import time  # noqa: F401

import esp32  # noqa: F401
import machine
import network
import tls  # noqa: F401

uart = machine.UART(1, 115200, tx=17, rx=16, rxbuf=1024, txbuf=1024, timeout=0, timeout_char=0)
event = machine.Pin(26, machine.Pin.OUT, value=0)
wlan = network.WLAN(network.WLAN.IF_STA)


def do(line):
    try:
        try:
            return repr(eval(line, globals()))
        except SyntaxError:
            exec(line, globals())
            return "None"
    except Exception as e:  # noqa: BLE001
        sys.print_exception(e)
        return "!" + repr(e)


async def main():
    reader = asyncio.StreamReader(uart)
    event.on()
    while True:
        line = await reader.readline()
        uart.write((do(line.decode()) + "\n").encode())


asyncio.run(main())
