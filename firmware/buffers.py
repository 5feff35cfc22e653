"""The buffers of fixed size.

app.py imports this before our other modules: once imports and small objects have been strewn
over the heap, no hole in it is large enough.
"""

import gc

# Collect after this many bytes have been handed out, not only when the heap is full: what lives
# long then stays together at the heap's beginning, and TLS finds room behind it.
gc.threshold(2048)

# The longest command (5,120 bytes) with CR and LF.
LINE = bytearray(5122)

# The longest message (5,000 bytes) with the longest topic (256) and what MQTT puts before them.
RECEIVED = bytearray(5376)

# What is put together to be sent in one piece: a packet's head, and all of it when it is short.
SENT = bytearray(1024)
