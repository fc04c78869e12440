"""Reads the UCI Online Retail format: CSV in Latin-1, plain or gzipped, one line of an invoice a row, in one pass.

Every invoice comes out once, as an order or refused with a reason; a bad line is dropped and counted, and its order goes on
with the rest. Prices become pence exactly: one that is no whole number of pence is refused, not rounded.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

from demo.order import Invoice, Line, Order

HEADER = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country")
GZIP_MAGIC = b"\x1f\x8b"
WHOLE, PRICE = re.compile(r"-?[0-9]{1,18}"), re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,6})?")
INT32 = 2**31

Row = list[str]


class BadInput(Exception):
    """The file as a whole cannot be read; the text says what was found, what was expected and what to do."""


def read(path: Path) -> Iterator[Invoice]:
    """The invoices of a file, in its order. Raises BadInput if it cannot be opened, is cut off, or has another header."""
    try:
        with path.open("rb") as file:
            yield from parse(file, str(path))
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(
            f"{path}: {type(error).__name__}: {error}; expected a CSV file in the UCI Online Retail format, plain or gzipped. "
            f"Check the path, or fetch the file again."
        ) from error


def parse(file: BinaryIO, name: str) -> Iterator[Invoice]:
    """As `read`, for an open file, which it closes; `name` is how messages call it."""
    zipped = file.read(2) == GZIP_MAGIC
    file.seek(0)
    with io.TextIOWrapper(gzip.GzipFile(fileobj=file) if zipped else file, encoding="latin-1", newline="") as text:
        rows = _rows(text)
        _check_header(next(rows, []), name)
        seen: set[str] = set()
        for number, group in groupby(rows, key=lambda row: row[0].strip()):
            read_one = _repeated if number in seen else _invoice
            yield read_one(number, group)
            seen.add(number)


def _rows(text: Iterable[str]) -> Iterator[Row]:
    """Rows that are not blank; one that the CSV reader cannot take is a row of one empty field."""
    reader = csv.reader(text)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            row = [""]
        if row:
            yield row


def _check_header(found: Row, name: str) -> None:
    if tuple(found) != HEADER:
        raise BadInput(
            f"{name}: found the header {', '.join(found)[:300] or '(none)'}; expected {', '.join(HEADER)}. "
            f"Convert the file to the UCI Online Retail format (comma-separated, Latin-1), or run without --orders."
        )


def _repeated(number: str, rows: Iterator[Row]) -> Invoice:
    return Invoice(number, sum(1 for _ in rows), refused="repeated invoice number")


def _invoice(number: str, rows: Iterator[Row]) -> Invoice:
    lines: list[Line] = []
    dropped: Counter[str] = Counter()
    buyers: set[tuple[str, str]] = set()
    for row in rows:
        match _line(row):
            case Line() as line:
                lines.append(line)
                buyers.add((row[6].strip(), row[7].strip()))
            case reason:
                dropped[reason] += 1
    count = len(lines) + dropped.total()
    if refused := _refusal(number, lines, dropped, buyers):
        return Invoice(number, count, refused=refused, dropped=dropped)
    [(customer, country)] = buyers
    return Invoice(number, count, Order(number, customer or None, country, tuple(lines)), dropped=dropped)


def _refusal(number: str, lines: list[Line], dropped: Counter[str], buyers: set[tuple[str, str]]) -> str | None:
    if not number:
        return "no invoice number"
    if number.startswith("C"):
        return "cancellation"
    if not lines:
        return "truncated row" if set(dropped) == {"truncated row"} else "no valid line"
    if len(buyers) > 1:
        return "lines of several customers or countries"
    return None if all(country for _, country in buyers) else "no country"


def _line(row: Row) -> Line | str:
    """The line, or the reason why it is dropped."""
    if len(row) != len(HEADER):
        return "truncated row" if len(row) < len(HEADER) else "too many fields"
    sku, quantity, price = row[1].strip(), row[3].strip(), row[5].strip()
    if not sku:
        return "no stock code"
    if not WHOLE.fullmatch(quantity):
        return "quantity is no whole number"
    if not 0 < int(quantity) < INT32:
        return "quantity not positive" if int(quantity) <= 0 else "quantity too large"
    if not PRICE.fullmatch(price):
        return "price is no number"
    pence = Decimal(price) * 100
    if pence <= 0:
        return "price not positive"
    if pence != int(pence):
        return "price is no whole number of pence"
    return Line(sku, int(quantity), int(pence)) if pence < INT32 else "price too large"
