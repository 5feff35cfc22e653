# lib.mqtt: sys.argv = PORT QOS COUNT WINDOW; prints the microseconds for COUNT messages.
import asyncio
import gc
import sys
import time

from lib.mqtt import MQTTClient

PORT, QOS, COUNT, WINDOW = map(int, sys.argv[1:5])


async def main():
    client = MQTTClient(b"bench-ours", "127.0.0.1", PORT, keepalive=60, window=WINDOW)
    await client.connect()
    message = b"x" * 100
    topic = b"bench/t"
    gc.collect()
    start = time.ticks_us()
    for _ in range(COUNT):
        await client.publish(topic, message, qos=QOS, wait=False)
    await client.flush()
    print(time.ticks_diff(time.ticks_us(), start))
    await client.disconnect()


asyncio.run(main())
