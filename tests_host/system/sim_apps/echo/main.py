"""Test application: answers each line on the host's UART with what it holds, in brackets."""

import asyncio

import machine

uart = machine.UART(1, 115200, tx=17, rx=16, rxbuf=1024, txbuf=1024, timeout=0, timeout_char=0)
event = machine.Pin(26, machine.Pin.OUT, value=0)


async def main():
    reader = asyncio.StreamReader(uart)
    event.on()
    while True:
        line = await reader.readline()
        uart.write(b"[" + line[:-1] + b"]\n")


print("echo up, cause", machine.reset_cause())
asyncio.run(main())
