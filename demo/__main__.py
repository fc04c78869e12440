"""The main job: `python -m demo` runs the whole fleet on this machine, feeds it orders and audits what became of them."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn
from urllib.parse import urlsplit
from uuid import uuid5

import typer
from rich.console import Console

from demo import retail, sample
from demo.audit import account, audit
from demo.embedded import Embedded
from demo.feed import Feed, FeedError, settle
from demo.fleet import COMMAND, Fleet, FleetError
from demo.ground import Ground
from demo.order import Intake, Invoice
from demo.progress import Progress
from demo.promises import promises
from demo.report import Report, report
from demo.stocking import opening_stock
from servers.errors import ServerFailed, ServerMissing
from services.orders.app import ORDERS

Source = Callable[[], Iterable[Invoice]]

HOME = Path(".demo")
PAGE_WIDTH = 120
NOT_CLEAN, BAD_INPUT = 1, 2
MOST_PLENTIFUL = "SELECT sku FROM items ORDER BY on_hand DESC LIMIT 1"
TOPICS = ("SAGA_BROKER", "SAGA_EMBEDDED", "SAGA_REGISTRY")
ORDER = (
    '{"order_id": "mine-1", "customer_id": "4711", "country": "Spain", '
    '"lines": [{"sku": "%s", "quantity": 1, "unit_price": 250}]}'
)

stderr = Console(stderr=True)
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def demo(
    orders: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Orders in the UCI Online Retail format; default: a sample of our own.")
    ] = None,
    real: Annotated[
        bool, typer.Option("--real", help="Run on Kafka, PostgreSQL and a schema registry, started here unless given.")
    ] = False,
    kafka: Annotated[str | None, typer.Option(metavar="SERVERS", help="With --real: yours, host:port; or SAGA_BROKER.")] = None,
    postgres: Annotated[
        str | None, typer.Option(metavar="URL", help="With --real: yours, whose user creates databases; or SAGA_DATABASE.")
    ] = None,
    registry: Annotated[str | None, typer.Option(metavar="URL", help="With --real: yours; or SAGA_REGISTRY.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the fleet up until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Run the fleet, by default on the embedded broker and SQLite, feed it orders, audit what became of them.

    Exits 1 if any claim of the audit is false or the fleet fails, 2 if the orders cannot be read or an option makes no sense.
    """
    servers = {"kafka": kafka, "postgres": postgres, "registry": registry}
    if not real and (useless := [f"--{name}" for name, given in servers.items() if given]):
        _fail(f"found {' and '.join(useless)} without --real; add --real", BAD_INPUT)
    source: Source = partial(retail.read, orders) if orders else sample.invoices
    try:
        intake = Intake.of(source())
    except retail.BadInput as error:
        _fail(error, BAD_INPUT)
    if not intake.ordered:
        reasons = ", ".join(intake.refused) or "there is no row"
        _fail(f"{orders}: none of its {intake.invoices} invoices can be ordered ({reasons}); give a file with sales", BAD_INPUT)
    with _terminable(), _home() as home:
        try:
            with _ground(home, servers if real else None) as ground:
                clean = _run(home, ground, source, intake, keep=keep, as_json=as_json)
        except (FleetError, FeedError, ServerMissing, ServerFailed) as error:
            _fail(error, NOT_CLEAN)
        if not clean:
            _fail(f"the audit is not clean; {'logs' if real else 'databases and logs'} are in {home}", NOT_CLEAN)


@contextmanager
def _ground(home: Path, servers: Mapping[str, str | None] | None) -> Iterator[Ground]:
    """The embedded ground, or that of real servers, each with the address of the user's own or None."""
    if servers is None:
        yield Embedded(home)
        return
    from demo.real import given, real  # its clients are no business of those who run without servers

    with real(home, given(**servers), _tell) as ground:
        yield ground


def _run(home: Path, ground: Ground, source: Source, intake: Intake, *, keep: bool, as_json: bool) -> bool:
    opening = opening_stock(intake.demand)
    _tell(f"starting the fleet in {home}")
    with Fleet(home, opening=opening, ground=ground) as fleet:
        seconds = _feed(fleet, source, intake)
        findings = [account(intake), *audit(fleet.books, opening=opening, totals=intake.totals), *promises(ground)]
        drawn_up = report(fleet.books, intake, findings, seconds)
        _show(drawn_up, as_json)
        if keep:
            _keep(fleet)
    return drawn_up.clean


def _feed(fleet: Fleet, source: Source, intake: Intake) -> float:
    """Send all orders and wait for the end of their workflows; answers how many seconds that took."""
    began = time.monotonic()
    feed = Feed(fleet.url, fleet.books)
    with Progress(fleet.books, intake.ordered, stderr) as progress:

        def watch() -> None:
            fleet.require_alive()
            progress.show(feed.sent)

        feed.send((invoice.order for invoice in source() if invoice.order), watch)
        settle(fleet.books, watch)
        progress.show(feed.sent, last=True)
    return time.monotonic() - began


def _show(drawn_up: Report, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(drawn_up.json().decode() + "\n")
    else:
        drawn_up.show(Console(width=None if sys.stdout.isatty() else PAGE_WIDTH))


def _keep(fleet: Fleet) -> None:
    """Say how to play with the fleet, and wait for Ctrl-C."""
    [(sku,)] = fleet.books.rows("stock", MOST_PLENTIFUL)
    order, mine = ORDER % sku, uuid5(ORDERS, "mine-1")
    environment = fleet.environment("orders")
    saga = f"SAGA_DATABASE={_shown(environment['SAGA_DATABASE'])} {COMMAND}"
    topics = " ".join(f"{name}={_shown(environment[name])}" for name in TOPICS if environment.get(name))
    stderr.print(
        f"\nThe fleet is up at {fleet.url}; Ctrl-C stops it. Databases and logs are in {fleet.home}.\n"
        f"Try, in this order:\n\n"
        f"  curl -s {fleet.url}/orders -H 'Content-Type: application/json' -d '{order}'\n"
        f"  curl -s {fleet.url}/orders/mine-1\n"
        f"  curl -s http://127.0.0.1:{fleet.gateway_port}/ledger | head -c 1000\n"
        f"  {saga} show {mine}\n"
        f"  {topics} {COMMAND} trace {mine} --schemas schemas/checkout\n"
        f"  {topics} {COMMAND} observe --schemas schemas/checkout\n"
        f"  {topics} {COMMAND} state checkout --schemas schemas/checkout -o checkout.avro\n",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    try:
        while True:
            fleet.require_alive()
            time.sleep(0.2)
    except KeyboardInterrupt:
        stderr.print("stopping")


def _shown(url: str) -> str:
    """The URL, its password left for its owner to fill in."""
    password = urlsplit(url).password
    return url.replace(f":{password}@", ":***@") if password else url


@contextmanager
def _home() -> Iterator[Path]:
    """A new folder for one run; kept if the run failed, gone if it was clean or interrupted."""
    HOME.mkdir(exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="run-", dir=HOME))
    try:
        yield home
    except (KeyboardInterrupt, SystemExit):
        shutil.rmtree(home)
        raise
    except typer.Exit:
        if not any(home.iterdir()):  # nothing was started
            home.rmdir()
        raise
    shutil.rmtree(home)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the run as Ctrl-C does: by an exception that stops the fleet on its way."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts it in the background has it ignored
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _tell(text: str) -> None:
    stderr.print(text, markup=False, highlight=False, soft_wrap=True)


def _fail(reason: object, code: int) -> NoReturn:
    _tell(f"error: {reason}")
    raise typer.Exit(code)


if __name__ == "__main__":
    app()
