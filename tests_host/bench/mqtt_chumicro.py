# chumicro-mqtt, pipelined. Arguments as mqtt_ours.py; WINDOW bounds the messages in its hands.
import gc
import sys
import time

from chumicro_mqtt import MQTTClient, ProtocolState
from chumicro_sockets.sockets_factory import fixed_connector_factory

PORT, QOS, COUNT, WINDOW = map(int, sys.argv[1:5])

client = MQTTClient(
    transport_factory=fixed_connector_factory("127.0.0.1", PORT), client_id="bench-chumicro"
)
client.connect()
while client.state != ProtocolState.CONNECTED:
    client.handle(time.ticks_ms())
message = b"x" * 100
done = 0


def published(topic, payload):
    global done
    done += 1


gc.collect()
start = time.ticks_us()
if QOS:
    sent = 0
    while done < COUNT:
        while sent < COUNT and sent - done < WINDOW:
            client.publish("bench/t", message, qos=1, on_publish=published)
            sent += 1
        client.handle(time.ticks_ms())
else:
    # Without a callback, which costs it a place in the queue and time; a tick sends one packet.
    for _ in range(COUNT // WINDOW):
        for _ in range(WINDOW):
            client.publish("bench/t", message)
        for _ in range(WINDOW):
            client.handle(time.ticks_ms())
print(time.ticks_diff(time.ticks_us(), start))
client.disconnect()
