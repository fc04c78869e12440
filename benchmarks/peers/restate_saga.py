"""Four steps as one Restate handler: `python restate_saga.py DATABASE_URL COUNT IN_FLIGHT RESTATE_SERVER`.

Restate's server, a worker (`hypercorn`, as Restate's documents serve) and this client are three processes. Restate's journal
says which step is done; a step that is run twice must find that out itself, so its mark is written with the business statement.
Prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any

import httpx
import psycopg
import psycopg_pool
import restate

DATABASE = os.environ.get("BENCH_DATABASE", "")
DONE = "CREATE TABLE IF NOT EXISTS done (workflow text, step text, PRIMARY KEY (workflow, step))"
STEP = """WITH fresh AS (INSERT INTO done VALUES (%(workflow)s, %(step)s) ON CONFLICT DO NOTHING RETURNING 1)
UPDATE accounts SET events = events + 1 WHERE id = %(account)s AND EXISTS (SELECT FROM fresh)"""
POOL = 20
WARMING = 50

pool = psycopg_pool.AsyncConnectionPool(DATABASE, min_size=POOL, max_size=POOL, open=False, kwargs={"autocommit": True})
saga = restate.Service("saga")


@saga.handler()
async def run(ctx: restate.Context, order: dict[str, Any]) -> str:
    async def act(step: str) -> str:
        await pool.open()
        async with pool.connection() as connection:
            await connection.execute(STEP, {"workflow": order["order"], "step": step, "account": order["account"]})
        return step

    for step in ("place", "reserve", "charge", "ship"):
        await ctx.run_typed(step, act, step=step)
    return "shipped"


app = restate.app([saga])


async def drive(ingress: str, order: dict[str, Any], numbers: range, in_flight: int) -> None:
    """Call the handler for each number, `in_flight` at once."""
    waiting = iter(numbers)
    limits = httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
    async with httpx.AsyncClient(timeout=120, limits=limits) as client:

        async def caller() -> None:
            for number in waiting:
                body = {**order, "order": f"order-{number:010}", "account": number % 10_000}
                (await client.post(f"{ingress}/saga/run", json=body)).raise_for_status()

        await asyncio.gather(*(caller() for _ in range(in_flight)))


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def answered(address: str, **body: Any) -> None:
    """Post until it is taken."""
    limit = time.monotonic() + 60
    while True:
        try:
            httpx.post(address, json=body, timeout=10).raise_for_status()
            return
        except httpx.HTTPError:
            if time.monotonic() > limit:
                raise
            time.sleep(0.2)


def main(url: str, count: int, in_flight: int, server: str) -> None:
    order = json.loads(sys.stdin.read())
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(DONE)
    ingress, admin, fabric, worker = (free_port() for _ in range(4))
    with tempfile.TemporaryDirectory() as home:
        places = {
            "RESTATE_BASE_DIR": home,
            "RESTATE_LISTEN_MODE": "tcp",
            "RESTATE_BIND_ADDRESS": f"127.0.0.1:{fabric}",
            "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
            "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
            "RESTATE_DISABLE_TELEMETRY": "true",
        }
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        serve = [sys.executable, "-m", "hypercorn", "-b", f"127.0.0.1:{worker}", "restate_saga:app"]
        here = os.path.dirname(os.path.abspath(__file__))
        processes = [
            subprocess.Popen([server], env={**os.environ, **places}, cwd=home, **quiet),  # type: ignore[call-overload]
            subprocess.Popen(serve, env={**os.environ, "BENCH_DATABASE": url}, cwd=here, **quiet),  # type: ignore[call-overload]
        ]
        try:
            answered(f"http://127.0.0.1:{admin}/deployments", uri=f"http://127.0.0.1:{worker}")
            answered(f"http://127.0.0.1:{ingress}/saga/run", **order)
            asyncio.run(drive(f"http://127.0.0.1:{ingress}", order, range(WARMING), in_flight))
            began = time.perf_counter()
            asyncio.run(drive(f"http://127.0.0.1:{ingress}", order, range(WARMING, WARMING + count), in_flight))
            seconds = time.perf_counter() - began
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(20)
    print(json.dumps({"seconds": seconds, "updates": 4 * (count + WARMING)}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
