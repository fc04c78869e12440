"""A plain httpx client on an ASGI application in the same process: no server, no port."""

from __future__ import annotations

import asyncio
from threading import Lock

import httpx
from starlette.types import ASGIApp


def client(app: ASGIApp) -> httpx.Client:
    return httpx.Client(transport=_InProcess(app), base_url="http://service")


class _InProcess(httpx.BaseTransport):
    """One request at a time, whoever asks: a server's event loop would see to that."""

    def __init__(self, app: ASGIApp) -> None:
        self.asgi, self._turn = httpx.ASGITransport(app), Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with self._turn:
            return asyncio.run(self._answer(request, request.read()))

    async def _answer(self, request: httpx.Request, content: bytes) -> httpx.Response:
        sent = httpx.Request(request.method, request.url, headers=request.headers, content=content)
        response = await self.asgi.handle_async_request(sent)
        body = await response.aread()
        return httpx.Response(response.status_code, headers=response.headers, content=body, request=request)
