# No library: the fewest lines of asyncio that publish with a window. Arguments as mqtt_ours.py.
# It has no deadlines, keep-alive, large packets or errors: a bound of what is possible.
import asyncio
import gc
import sys
import time

PORT, QOS, COUNT, WINDOW = map(int, sys.argv[1:5])


async def main():
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    writer.s.setsockopt(6, 1, 1)
    writer.write(b"\x10\x14\x00\x04MQTT\x04\x02\x00\x3c\x00\x08bareloop")
    await writer.drain()
    await reader.readexactly(4)
    message = b"x" * 100
    topic = b"\x00\x07bench/t"
    gc.collect()
    start = time.ticks_us()
    waiting = 0
    for i in range(COUNT):
        if QOS:
            if waiting == WINDOW:
                await reader.readexactly(4)
                waiting -= 1
            writer.write(b"\x32\x6f" + topic + (i + 1).to_bytes(2, "big") + message)
            waiting += 1
        else:
            writer.write(b"\x30\x6d" + topic + message)
        if not i & 15:
            await writer.drain()
    await writer.drain()
    while waiting:
        await reader.readexactly(4)
        waiting -= 1
    print(time.ticks_diff(time.ticks_us(), start))
    writer.write(b"\xe0\x00")
    await writer.drain()
    await writer.wait_closed()


asyncio.run(main())
