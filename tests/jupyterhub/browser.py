"""What a person does with a browser: log in by the form, start a server, run a notebook's cells."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import urljoin, urlsplit

import nbformat
import requests
import websocket
from jupyter_client.session import Session
from nbformat.v4 import output_from_msg

OUTPUTS = {"stream", "display_data", "execute_result", "error"}


class CellError(Exception):
    """A cell raised; the text is its traceback."""


class Browser:
    """A session with a hub: cookies, forms, redirects, and nothing that a browser cannot do."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()

    def close(self) -> None:
        self._session.close()

    def get(self, path: str) -> requests.Response:
        reply = self._session.get(urljoin(self.url, path), timeout=60)
        reply.raise_for_status()
        return reply

    def log_in(self, user: str, password: str) -> None:
        form = self.get("/hub/login").text
        token = re.search(r'name="_xsrf"\s+value="([^"]+)"', form)
        assert token is not None, form
        reply = self._session.post(
            urljoin(self.url, "/hub/login"),
            data={"username": user, "password": password, "_xsrf": token[1]},
            timeout=60,
        )
        reply.raise_for_status()

    def start_server(self, user: str) -> str:
        """Start the user's server, watch its progress as the page does, and return its path."""
        self.get(f"/hub/spawn/{user}")
        progress = urljoin(self.url, f"/hub/api/users/{user}/server/progress")
        with self._session.get(
            progress, params={"_xsrf": self._token("/hub/")}, stream=True, timeout=60
        ) as events:
            events.raise_for_status()
            for line in events.iter_lines(decode_unicode=True):
                if line.startswith("data:"):
                    event = json.loads(line.removeprefix("data:"))
                    assert not event.get("failed"), event
                    if event.get("ready"):
                        break
        path: str = urlsplit(event["url"]).path
        page = self.get(path)  # asks the hub who this is, and comes back
        assert urlsplit(page.url).path.startswith(path), page.url
        return path

    @contextmanager
    def kernel(self, server: str) -> Iterator[Kernel]:
        """Start a kernel on a server, and leave it there as one who closes the page does."""
        kernels = urljoin(self.url, f"{server}api/kernels")
        headers = {"X-XSRFToken": self._token(server)}
        reply = self._session.post(kernels, json={"name": "python3"}, headers=headers, timeout=60)
        reply.raise_for_status()
        url = f"{kernels}/{reply.json()['id']}/channels"
        cookies = self._session.prepare_request(requests.Request("GET", url)).headers["Cookie"]
        socket = websocket.create_connection(
            url.replace("http", "ws", 1), cookie=cookies, timeout=120
        )
        with closing(socket):
            yield Kernel(socket)

    def _token(self, path: str) -> str:
        token = self._session.cookies.get("_xsrf", path=path)
        assert token is not None, f"no cookie _xsrf of {path}"
        return token


class Kernel:
    """A kernel behind a websocket, with Jupyter's messages as JSON.

    Attributes
    ----------
    widgets
        What each widget shows now, by its id.
    """

    def __init__(self, socket: websocket.WebSocket) -> None:
        self._socket = socket
        self._session = Session()
        self.widgets: dict[str, dict[str, Any]] = {}

    def run(self, code: str) -> list[nbformat.NotebookNode]:
        """Run a cell and return its outputs.

        Raises
        ------
        CellError
            It raised.
        """
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
        request = self._session.msg("execute_request", content)
        self._socket.send(json.dumps(request | {"channel": "shell"}, default=str))
        outputs, replied, idle = [], False, False
        while not (replied and idle):
            message = self._receive()
            self._update_widget(message)
            if message["parent_header"].get("msg_id") != request["header"]["msg_id"]:
                continue
            kind = message["header"]["msg_type"]
            if kind in OUTPUTS:
                outputs.append(output_from_msg(message))
            replied |= kind == "execute_reply"
            idle |= kind == "status" and message["content"]["execution_state"] == "idle"
        for output in outputs:
            if output.output_type == "error":
                raise CellError("\n".join(output.traceback))
        return outputs

    def _update_widget(self, message: dict[str, Any]) -> None:
        content = message["content"]
        if message["header"]["msg_type"] == "comm_open":
            self.widgets[content["comm_id"]] = content["data"].get("state", {})
        elif message["header"]["msg_type"] == "comm_msg":
            self.widgets[content["comm_id"]] |= content["data"].get("state", {})

    def _receive(self) -> dict[str, Any]:
        frame = self._socket.recv()
        # Messages with buffers, those of widgets, are binary: their offsets, then the JSON.
        if isinstance(frame, bytes):
            count = int.from_bytes(frame[:4], "big")
            ends = [int.from_bytes(frame[4 * i : 4 * i + 4], "big") for i in range(1, count + 1)]
            frame = frame[ends[0] : ends[1] if count > 1 else None].decode()
        message: dict[str, Any] = json.loads(frame)
        return message
