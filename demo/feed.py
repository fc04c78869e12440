"""Sends orders to the shop's API, and waits until the fleet is done with them.

A bounded number of workflows is open at any time: a partition of the embedded broker silently drops what lies beyond 5 MB, and
what is behind every consumer may be dropped without harm.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import httpx

from demo.books import Books, Standing
from demo.order import Order

POLL = 0.05


class FeedError(Exception):
    """An order was not taken in; the text gives the API's answer."""


@dataclass(slots=True)
class Feed:
    """Feeds the API at `url`; `patience` is for how many seconds an order is sent again when the API is busy or away.

    Sending an order again is harmless, since the API knows it by its order id.
    """

    url: str
    books: Books
    concurrency: int = 8
    open_limit: int = 400
    patience: float = 30.0
    sent: int = 0
    _stopping: threading.Event = field(default_factory=threading.Event)

    def send(self, orders: Iterable[Order], watch: Callable[[], None] = lambda: None) -> None:
        """Send all orders, calling `watch` between them. Raises FeedError for one that is refused."""
        under_way: set[Future[None]] = set()
        with httpx.Client(base_url=self.url, timeout=10) as http, ThreadPoolExecutor(self.concurrency) as pool:
            try:
                for order in orders:
                    self._wait_for_room(watch)
                    under_way.add(pool.submit(self._post, http, order))
                    self.sent += 1
                    under_way = _reap(under_way, self.concurrency, watch)
                _reap(under_way, 1, watch)
            except BaseException:
                self._stopping.set()
                raise

    def _wait_for_room(self, watch: Callable[[], None]) -> None:
        ended = 0 if self.sent < self.open_limit else self.books.ended()
        while self.sent - ended >= self.open_limit:
            watch()
            self._stopping.wait(POLL)
            ended = self.books.ended()

    def _post(self, http: httpx.Client, order: Order) -> None:
        give_up = time.monotonic() + self.patience
        while not self._stopping.is_set():
            try:
                response = http.post("/orders", json=order.json())
            except httpx.TransportError as error:
                problem, pause = f"{type(error).__name__}: {error}", 0.2
            else:
                if response.status_code == httpx.codes.ACCEPTED:
                    return
                problem, pause = f"{response.status_code} {response.text}", float(response.headers.get("Retry-After", 0))
                if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    raise FeedError(f"order {order.order_id}: expected 202, found {problem}")
            if time.monotonic() > give_up:
                raise FeedError(f"order {order.order_id}: not taken in after {self.patience:.0f} s; the last answer: {problem}")
            self._stopping.wait(pause)


def settle(books: Books, watch: Callable[[], None] = lambda: None, *, patience: float = 30.0) -> Standing:
    """Wait until no workflow is open in any service, or nothing has moved for `patience` seconds; answers how it stands."""
    standing, moved = books.standing(), time.monotonic()
    while not standing.settled and time.monotonic() - moved < patience:
        watch()
        time.sleep(POLL)
        before, standing = standing, books.standing()
        if standing != before:
            moved = time.monotonic()
    return standing


def _reap(under_way: set[Future[None]], most: int, watch: Callable[[], None]) -> set[Future[None]]:
    """Wait until fewer than `most` are under way; raises what one of them raised."""
    watch()
    while len(under_way) >= most:
        done, under_way = wait(under_way, timeout=POLL, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()
        watch()
    return under_way
