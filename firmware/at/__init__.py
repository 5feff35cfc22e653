"""The AT front end: bytes to lines, lines to commands, commands to replies.

It knows nothing of what the commands do: the table and the context are handed in.
"""
