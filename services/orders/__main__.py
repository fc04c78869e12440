"""The orders process: the worker of its steps, and beside it the HTTP API. Configured by `ORDERS_...` and `SAGA_...`."""

from __future__ import annotations

import logging
import sys
import threading
from contextlib import closing

import uvicorn
from pydantic_settings import BaseSettings, SettingsConfigDict

from saga import assembly
from saga.observe.health import asgi
from saga.settings import Settings
from services.orders.api import api
from services.orders.app import orders


class OrdersSettings(BaseSettings):
    """Where the API listens."""

    model_config = SettingsConfigDict(env_prefix="ORDERS_")
    host: str = "127.0.0.1"
    port: int = 8000


def main() -> None:
    """Serve until SIGTERM or Ctrl-C; the end of either half is the end of the other, so that a supervisor notices."""
    listen, settings = OrdersSettings(), Settings.load()
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # it would report every look at the registry
    with closing(assembly.patiently(lambda: assembly.store(settings))) as store:
        worker = assembly.worker(orders, settings, store)
        application = api(store, asgi(worker))
        server = uvicorn.Server(uvicorn.Config(application, host=listen.host, port=listen.port, log_level="warning"))

        def serve() -> None:
            try:
                server.run()
            finally:
                worker.stop()

        serving = threading.Thread(target=serve, name="orders-api")
        serving.start()
        try:
            worker.run()
        finally:
            server.should_exit = True
            serving.join()
    if not server.started:
        sys.exit(1)


if __name__ == "__main__":
    main()
