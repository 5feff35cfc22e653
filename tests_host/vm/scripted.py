"""A server on 127.0.0.1 whose every connection is one script of a test."""

import socket
import threading


class ScriptedServer:
    """Listens on a free port and runs one script (a function of a peer) per connection.

    peer: makes what a script is given from a connected socket. context: an ssl.SSLContext, for
    TLS. receive_buffer: bytes that the system takes in before a script reads; its own choice
    else. What a script raises is raised again by `check`.
    """

    def __init__(self, peer, scripts, context=None, receive_buffer=None):
        self._peer = peer
        self._scripts = scripts
        self._context = context
        self.errors = []
        self._listener = socket.socket()
        if receive_buffer:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._listener.close()

    def _serve(self):
        for script in self._scripts:
            try:
                self._listener.settimeout(10)
                sock = self._listener.accept()[0]
                sock.settimeout(10)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with sock:
                    if self._context:
                        sock = self._context.wrap_socket(sock, server_side=True)
                    with sock:
                        script(self._peer(sock))
            except (OSError, EOFError, AssertionError) as error:
                self.errors.append(error)
                return

    def check(self):
        """Wait for the scripts' end and raise what went wrong in one of them."""
        self._thread.join(10)
        assert not self._thread.is_alive(), "the server's script has not ended"
        if self.errors:
            raise self.errors[0]
