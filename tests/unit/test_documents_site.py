"""The site: what its pages tell, that links lead on, that nothing is asked of a network, that colours can be read."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import cache
from html.parser import HTMLParser
from importlib import resources
from itertools import pairwise
from pathlib import PurePosixPath
from posixpath import normpath

import pytest

from saga import Saga
from saga.documents.html.markup import element, joined
from saga.documents.html.step_panel import behind
from saga.documents.html.words import duration, type_name
from saga.documents.library import library
from saga.errors import DefinitionError
from saga.protocol.definition import Step
from tests.documented import CHECKOUT, returns

FILES = library([(Saga.load(CHECKOUT), {}), (returns(), {})])
PAGES = {path: content for path, content in FILES.items() if path.endswith(".html")}


class Page(HTMLParser):
    """What a page holds: ids, links, headings, text; and that its tags are closed in order."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.headings: list[int] = []
        self.words: list[str] = []
        self.feed(content)
        self.close()
        assert self.open == []

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.ids += [found["id"] or ""] if "id" in found else []
        self.links += [value or "" for name, value in attributes if name in ("href", "src", "xlink:href", "action")]
        self.headings += [int(tag[1])] if re.fullmatch(r"h\d", tag) else []
        self.open += [] if tag in ("meta", "link", "br", "hr") else [tag]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)


@cache
def page(path: str) -> Page:
    return Page(FILES[path])


def test_there_is_a_page_for_each_saga_participant_and_event() -> None:
    assert {path for path in PAGES if path.startswith("returns/")} == {
        "returns/index.html",
        *(f"returns/participants/{name}.html" for name in ("desk", "ware-house", "workshop")),
        *(f"returns/events/{name.rpartition('.')[2]}.html" for name in returns().published if name.startswith("returns.")),
    }
    assert "index.html" in PAGES


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_well_formed_and_leads_only_to_what_exists(path: str) -> None:
    shown = page(path)

    assert len(shown.ids) == len({*shown.ids})
    for link in shown.links:
        if not link.startswith("data:"):
            target, _, anchor = link.partition("#")
            file = normpath(str(PurePosixPath(path).parent / target)) if target else path
            assert file in FILES, link
            assert not anchor or anchor in page(file).ids, link


@pytest.mark.parametrize("path", PAGES)
def test_a_page_asks_for_nothing_from_a_network(path: str) -> None:
    without_icon = re.sub(r'href="data:[^"]*"', "", PAGES[path])

    assert "default-src 'none'" in without_icon.replace("&#x27;", "'")
    assert re.findall(r"https?://|@import|url\((?!#)|<script|<img|<iframe", without_icon) == []


@pytest.mark.parametrize("path", PAGES)
def test_headings_go_down_one_level_at_a_time(path: str) -> None:
    headings = page(path).headings

    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(headings))


def test_a_step_is_told_with_success_failure_time_and_undoing() -> None:
    text = page("checkout/index.html").text

    assert "Succeeds when every line is on the shelf" in text
    assert "OutOfStock : At least one line cannot be served; nothing is set aside." in text
    assert "30 s . The shelf was not looked at in time." in text
    assert "StockReleased : What was set aside is back on the shelf." in text
    assert "10 min . A customer does not wait longer for a word." in text


def test_an_event_is_told_with_its_fields_and_who_emits_and_consumes_it() -> None:
    text = page("checkout/events/StockReserved.html").text

    assert "Emitted by stock , step reserve" in text
    assert "Consumed by shipping" in text
    assert "Begins dispatch" in text
    assert "checkout.events-checkout.StockReserved" in text
    assert "units long required Units set aside." in text
    assert '"units": 100' in text


def test_what_is_inside_an_event_is_told_and_what_is_sensitive_masked() -> None:
    text = page("returns/events/ReturnOpened.html").text

    assert "customer sensitive Customer required Personal." in text
    assert "mail string required Where to write to." in text
    assert '"mail": "***"' in text
    assert "worth bytes (decimal 10,2) or null null" in text


def test_a_participant_is_told_with_its_names_and_what_it_says_and_handles() -> None:
    text = page("checkout/participants/stock.html").text

    assert "Consumer group checkout.stock" in text
    said, handled = text.split("What it must handle")
    assert "StockReserved success reserve shipping" in said
    assert "OrderPlaced success place orders" in handled
    assert "StockReserved" not in handled.split("Participants")[0]


def test_a_text_of_a_contract_cannot_become_a_tag() -> None:
    assert "Goods that come &lt;back&gt; &amp; are paid for." in FILES["returns/index.html"]
    assert not any("<back>" in content for content in PAGES.values())
    assert element("a", "<x>", joined(["&", element("b", "y")]), href='"<') == '<a href="&quot;&lt;">&lt;x&gt;&amp;<b>y</b></a>'


def test_two_sagas_of_one_name_are_refused() -> None:
    with pytest.raises(DefinitionError, match="found two sagas 'returns'"):
        library([(returns(), {}), (returns(), {})])


@pytest.mark.parametrize(
    ("span", "told"),
    [
        (timedelta(seconds=30), "30 s"),
        (timedelta(seconds=90), "1 min 30 s"),
        (timedelta(days=14), "14 d"),
        (timedelta(milliseconds=500), "0.5 s"),
        (timedelta(0), "0 s"),
    ],
)
def test_durations_are_told_in_words(span: timedelta, told: str) -> None:
    assert duration(span) == told


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ("string", "string"),
        (["null", "shop.Line"], "Line or null"),
        ({"type": "array", "items": "shop.Line"}, "list of Line"),
        ({"type": "map", "values": "long"}, "map to long"),
        ({"type": "enum", "name": "Size", "symbols": ["S", "L"]}, "one of S, L"),
        ({"type": "fixed", "name": "Seal", "size": 4}, "4 bytes"),
        ({"type": "long", "logicalType": "timestamp-micros"}, "long (timestamp-micros)"),
        ({"type": {"type": "string", "logicalType": "uuid"}}, "string (uuid)"),
    ],
)
def test_types_are_told_in_words(schema: object, told: str) -> None:
    assert type_name(schema) == told


STYLE = (resources.files("saga.documents.html") / "style.css").read_text()
TEXTS = ("text", "soft", "link", "good", "bad", "back", "pivot")


def colours(scheme: str) -> dict[str, str]:
    blocks = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    light, dark = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in blocks[:2])
    return light if scheme == "light" else {**light, **dark}


def luminance(colour: str) -> float:
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("ground", ["ground", "paper", "sunk"])
@pytest.mark.parametrize("text", TEXTS)
def test_text_stands_out_from_its_ground(scheme: str, ground: str, text: str) -> None:
    found = colours(scheme)
    low, high = sorted((luminance(found[text]), luminance(found[ground])))

    assert (high + 0.05) / (low + 0.05) >= 4.5


@pytest.mark.parametrize(("gate", "position"), [("prepaid", "open"), ("!prepaid", "shut")])
def test_a_step_behind_a_gate_says_when_it_is_there(gate: str, position: str) -> None:
    said = behind(Step(name="pay", by="bank", gate=gate))

    assert said == f"there only in workflows that began while prepaid was {position}; in others nobody waits for its events"
    assert behind(Step(name="pay", by="bank")) is None
