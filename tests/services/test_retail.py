from __future__ import annotations

import gzip
import io
from collections import Counter
from pathlib import Path

import pytest

from demo.order import Intake, Invoice, Line, Order
from demo.retail import HEADER, BadInput, parse, read

TITLE = ",".join(HEADER)
GOOD = "536365,85123A,WHITE HANGING HEART,6,01/12/2010 08:26,2.55,17850,United Kingdom"


def invoices(*rows: str, header: str = TITLE) -> list[Invoice]:
    return list(parse(io.BytesIO("\r\n".join([header, *rows]).encode("latin-1")), "orders.csv"))


def row(number: str = "1", *, sku: str = "MUG", quantity: str = "1", price: str = "2.55", **buyer: str) -> str:
    customer, country = buyer.get("customer", "17850"), buyer.get("country", "Spain")
    return f"{number},{sku},a mug,{quantity},01/12/2010 08:26,{price},{customer},{country}"


def test_lines_of_one_invoice_become_one_order() -> None:
    found = invoices(GOOD, GOOD.replace("85123A", "71053").replace("2.55", "3.4"))

    order = Order("536365", "17850", "United Kingdom", (Line("85123A", 6, 255), Line("71053", 6, 340)))
    assert found == [Invoice("536365", 2, order)]


def test_a_missing_customer_is_a_guest() -> None:
    [invoice] = invoices(row(customer=""))

    assert invoice.order is not None
    assert invoice.order.customer_id is None


def test_descriptions_are_latin_1_and_may_contain_commas() -> None:
    [invoice] = invoices('1,MUG,"caf\xe9, \xa3 cup",2,01/12/2010 08:26,1.25,17850,EIRE')

    assert invoice.order == Order("1", "17850", "EIRE", (Line("MUG", 2, 125),))


@pytest.mark.parametrize(("price", "pence"), [("0.29", 29), ("1.1", 110), ("4.35", 435), ("295", 29500), ("0.010", 1)])
def test_prices_become_pence_exactly(price: str, pence: int) -> None:
    [invoice] = invoices(row(price=price))

    assert invoice.order is not None
    assert invoice.order.total == pence


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (row(quantity="0"), "quantity not positive"),
        (row(quantity="-3"), "quantity not positive"),
        (row(quantity="1.5"), "quantity is no whole number"),
        (row(quantity="2147483648"), "quantity too large"),
        (row(price="0"), "price not positive"),
        (row(price="-1.00"), "price not positive"),
        (row(price="0.001"), "price is no whole number of pence"),
        (row(price="NaN"), "price is no number"),
        (row(price="1e3"), "price is no number"),
        (row(price="99999999999"), "price too large"),
        (row(sku=""), "no stock code"),
        ("1,MUG,a mu", "truncated row"),
        (row() + ",more", "too many fields"),
    ],
)
def test_a_bad_line_is_dropped_and_counted_and_the_order_goes_on(bad: str, reason: str) -> None:
    [invoice] = invoices(row(sku="LAMP"), bad)

    assert invoice.order == Order("1", "17850", "Spain", (Line("LAMP", 1, 255),))
    assert invoice.dropped == Counter([reason])
    assert invoice.lines == 2


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([row("C1", quantity="-1")], "cancellation"),
        ([row(price="0"), row(quantity="-1")], "no valid line"),
        (["1,MUG,a m"], "truncated row"),
        ([row(""), row("")], "no invoice number"),
        ([row(), row(country="France")], "lines of several customers or countries"),
        ([row(), row(customer="")], "lines of several customers or countries"),
        ([row(country="")], "no country"),
    ],
)
def test_an_invoice_that_is_no_order_is_refused_with_a_reason(rows: list[str], reason: str) -> None:
    [invoice] = invoices(*rows)

    assert invoice.order is None
    assert invoice.refused == reason
    assert invoice.lines == len(rows)


def test_a_number_that_comes_back_later_is_refused_rather_than_ordered_twice() -> None:
    found = invoices(row("1"), row("2"), row("1"), row("1"))

    assert [(invoice.number, invoice.refused, invoice.lines) for invoice in found] == [
        ("1", None, 1),
        ("2", None, 1),
        ("1", "repeated invoice number", 2),
    ]


def test_a_row_that_is_no_csv_is_counted_and_reading_goes_on() -> None:
    found = invoices(row("1"), row("2", sku="M" * 200_000), row("3"))

    assert [(invoice.number, invoice.refused) for invoice in found] == [("1", None), ("", "no invoice number"), ("3", None)]


def test_every_invoice_and_every_line_is_accounted_for() -> None:
    rows = [row("1"), row("1", price="0"), row("C2"), row("3", price="0"), row("4"), row("4", quantity="-1"), "4,MU"]

    intake = Intake.of(invoices(*rows))

    assert (intake.invoices, intake.ordered, intake.refused) == (4, 2, Counter({"cancellation": 1, "no valid line": 1}))
    assert (intake.lines, intake.kept, intake.refused_lines) == (7, 2, 2)
    assert intake.dropped == Counter({"price not positive": 1, "quantity not positive": 1, "truncated row": 1})
    assert intake.totals == {"1": 255, "4": 255}
    assert intake.demand == Counter(MUG=2)


def test_blank_lines_are_nobodys() -> None:
    assert [invoice.lines for invoice in invoices(row(), "", "")] == [1]


@pytest.mark.parametrize(
    "header",
    [TITLE.replace("UnitPrice,CustomerID", "Price,Customer ID"), TITLE.replace(",", ";"), "\xef\xbb\xbf" + TITLE, ""],
    ids=["another format", "semicolons", "byte order mark", "nothing"],
)
def test_another_format_is_refused_with_what_was_found_expected_and_to_be_done(header: str) -> None:
    with pytest.raises(BadInput) as caught:
        invoices(row(), header=header)

    message = str(caught.value)
    assert "orders.csv" in message
    assert (header.split(",")[0] or "found the header 1, MUG") in message
    assert ", ".join(HEADER) in message
    assert "Convert the file" in message


def test_an_empty_file_is_another_format() -> None:
    with pytest.raises(BadInput, match=r"found the header \(none\)"):
        list(parse(io.BytesIO(b""), "orders.csv"))


def test_plain_and_gzipped_files_read_alike(tmp_path: Path) -> None:
    text = f"{TITLE}\n{GOOD}\n".encode("latin-1")
    plain, zipped = tmp_path / "a.csv", tmp_path / "b.csv"
    plain.write_bytes(text)
    zipped.write_bytes(gzip.compress(text))

    assert list(read(plain)) == list(read(zipped)) == invoices(GOOD)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.csv: FileNotFoundError"):
        list(read(tmp_path / "none.csv"))


def test_a_gzip_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "cut.csv.gz"
    file.write_bytes(gzip.compress(f"{TITLE}\n{GOOD}\n".encode("latin-1"))[:-12])

    with pytest.raises(BadInput, match="EOFError"):
        list(read(file))
