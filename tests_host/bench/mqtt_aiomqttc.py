# aiomqttc, which awaits each message. Arguments as mqtt_ours.py; it has no window.
import asyncio
import gc
import sys
import time

PORT, QOS, COUNT, WINDOW = map(int, sys.argv[1:5])


# Its log() wants the board's clock.
class RTC:
    def datetime(self):
        return (2026, 1, 1, 0, 0, 0, 0, 0)


class Machine:
    RTC = RTC


async def main():
    sys.modules["machine"] = Machine
    from aiomqttc import MQTTClient

    client = MQTTClient("bench-aiomqttc", "127.0.0.1", PORT)
    await client.connect()
    message = b"x" * 100
    gc.collect()
    start = time.ticks_us()
    for _ in range(COUNT):
        await client.publish("bench/t", message, qos=QOS)
    took = time.ticks_diff(time.ticks_us(), start)
    await client.disconnect()
    print()
    print(took)


asyncio.run(main())
