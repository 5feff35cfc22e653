"""The buffers of fixed size.

app.py imports this before our other modules: once imports and small objects have been strewn
over the heap, no hole in it is large enough.
"""

import gc

# On a small heap (no PSRAM), collect whenever a small part of it has been handed out, 2 KB of 200,
# and not only when it is full: what lives long then stays together at its beginning, and whole
# pieces are left behind it.
_heap = gc.mem_alloc() + gc.mem_free()
gc.threshold(_heap // (96 if _heap < 524288 else 8))

# The longest command (5,120 bytes) with CR and LF.
LINE = bytearray(5122)

# The longest message (5,000 bytes) with the longest topic (256) and what MQTT puts before them.
RECEIVED = bytearray(5376)

# What is put together to be sent in one piece: a packet's head, and all of it when it is short.
SENT = bytearray(1024)
