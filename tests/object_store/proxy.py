"""An HTTP proxy in front of a server that delays, breaks and refuses requests, as networks do."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

FAULTS = ("reset", "reset_in_body", "truncate", "unavailable")
HEAD = 65536
PIECE = 1 << 20
UNAVAILABLE = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/xml\r\n"
    b"Content-Length: 48\r\n\r\n<Error><Code>SlowDown</Code><Message/></Error>  "
)


@dataclass
class Proxy:
    """What a proxy does, and what it did; both may be changed and read while it runs.

    Attributes
    ----------
    delay
        Seconds before each request is passed on.
    rate
        Part of the requests that meet with one of `faults`.
    broken
        Requests of paths with this in them are always refused with a 503.
    requests, injected
        How often there was each method, and each fault.
    paths
        Method and path of every request.
    """

    target: int
    delay: float = 0.0
    rate: float = 0.0
    faults: tuple[str, ...] = FAULTS
    broken: str | None = None
    seed: int = 0
    port: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    injected: Counter[str] = field(default_factory=Counter)
    paths: list[tuple[str, str]] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def fault_of(self, path: str) -> str | None:
        """Draw what happens to a request."""
        if self.broken is not None and self.broken in path:
            return "unavailable"
        if self._random.random() >= self.rate:
            return None
        fault = self._random.choice(self.faults)
        self.injected[fault] += 1
        return fault


@contextmanager
def proxy(target: int, **settings: object) -> Iterator[Proxy]:
    """Run a proxy of a port of this machine in a thread."""
    state = Proxy(target, **settings)  # type: ignore[arg-type]
    loop = asyncio.new_event_loop()
    running: set[asyncio.Task[None]] = set()
    clients: list[socket.socket] = []  # of which some may never be served

    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    listener.setblocking(False)
    state.port = listener.getsockname()[1]

    def accept() -> None:
        """Take what has come: no await in which a connection that is taken could be lost."""
        with suppress(BlockingIOError, ConnectionAbortedError):
            client, _ = listener.accept()
            clients.append(client)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = loop.create_task(_serve(client, state))
            running.add(task)
            task.add_done_callback(running.discard)

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.add_reader(listener, accept)
        loop.run_forever()
        loop.remove_reader(listener)
        for task in running:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*running, return_exceptions=True))
        loop.close()

    thread = threading.Thread(target=run, name="proxy", daemon=True)
    thread.start()
    try:
        yield state
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for connection in (listener, *clients):
            connection.close()


async def _serve(client: socket.socket, state: Proxy) -> None:
    """Pass on the requests of one connection, one after the other."""
    loop = asyncio.get_running_loop()
    client.setblocking(False)
    server: socket.socket | None = None
    try:
        rest = b""
        while True:
            head, rest = await _head(client, rest)
            method, path = (part.decode() for part in head.split(b" ", 2)[:2])
            state.requests[method] += 1
            state.paths.append((method, path))
            fault = state.fault_of(path)
            if state.delay:
                await asyncio.sleep(state.delay)
            if fault == "reset":
                _reset(client)
                return
            if server is None:
                server = socket.socket()
                server.setblocking(False)
                await loop.sock_connect(server, ("127.0.0.1", state.target))
                server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            length = _length(head)
            if fault == "unavailable":
                await _pass(client, None, rest, length)
                await loop.sock_sendall(client, UNAVAILABLE)
                rest = b""
                continue
            await loop.sock_sendall(server, head)
            await _pass(client, server, rest, length)
            answer, begun = await _head(server, b"")
            size = 0 if method == "HEAD" or b" 204 " in answer[:16] else _length(answer)
            await loop.sock_sendall(client, answer)
            if fault in ("reset_in_body", "truncate"):
                half = (len(begun) if size is None else size) // 2
                await _pass(server, client, begun[:half], half)
                if fault == "reset_in_body":
                    _reset(client)
                return  # and the connections are closed
            if size is None:
                await _pass_chunked(server, client, begun)
            else:
                await _pass(server, client, begun, size)
            rest = b""
    except (ConnectionError, EOFError):
        pass
    finally:
        client.close()
        if server is not None:
            server.close()


async def _head(connection: socket.socket, data: bytes) -> tuple[bytes, bytes]:
    """Read up to the empty line; return that and what came with it."""
    loop = asyncio.get_running_loop()
    while b"\r\n\r\n" not in data:
        more = await loop.sock_recv(connection, HEAD)
        if not more:
            raise EOFError
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", rest


def _length(head: bytes) -> int | None:
    """Return the length of the body, None if it comes in pieces of their own lengths."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
        if line.startswith(b"transfer-encoding:"):
            return None
    return 0


async def _pass(
    source: socket.socket, target: socket.socket | None, begun: bytes, length: int | None
) -> None:
    """Pass on a body of known length, of which a part is there; or only take it."""
    assert length is not None, "requests have a length"
    loop = asyncio.get_running_loop()
    if begun and target is not None:
        await loop.sock_sendall(target, begun)
    left = length - len(begun)
    buffer = memoryview(bytearray(min(PIECE, max(left, 0))))
    while left > 0:
        count = await loop.sock_recv_into(source, buffer[:left])
        if count == 0:
            raise EOFError
        if target is not None:
            await loop.sock_sendall(target, buffer[:count])
        left -= count


async def _pass_chunked(source: socket.socket, target: socket.socket, begun: bytes) -> None:
    """Pass on a body to its last, empty piece."""
    loop = asyncio.get_running_loop()
    data = begun
    await loop.sock_sendall(target, begun)
    while not data.endswith(b"0\r\n\r\n"):
        more = await loop.sock_recv(source, HEAD)
        if not more:
            raise EOFError
        await loop.sock_sendall(target, more)
        data = data[-8:] + more


def _reset(connection: socket.socket) -> None:
    """Break a connection off, without the usual good-bye."""
    linger = (1).to_bytes(4, "little") + bytes(4)
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
