"""A network between a client and the collector on which answers get lost."""

import selectors
import socket
import struct
import threading
from types import TracebackType
from typing import Self

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: close with a reset instead of a goodbye."""


class LossyNetwork:
    """Passes bytes on; of the first `losses` answers only the reset of the connection arrives."""

    def __init__(self, port: int, losses: int = 1) -> None:
        self.losses = losses
        self.lost = 0
        self._target = ("127.0.0.1", port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server, selectors.DefaultSelector() as ready:
            ready.register(client, selectors.EVENT_READ, server)
            ready.register(server, selectors.EVENT_READ, client)
            try:
                while True:
                    for key, _ in ready.select():
                        data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                        if not data:
                            return
                        if key.fileobj is server and self._is_lost():
                            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                            return
                        key.data.sendall(data)
            except OSError:
                return

    def _is_lost(self) -> bool:
        with self._lock:
            if self.lost >= self.losses:
                return False
            self.lost += 1
            return True
