"""What all pages have in common: head, way back, what else there is to read; and the parts of which they are made.

A page asks for nothing from anywhere: style and pictures are inside it, and its own policy forbids the rest.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from hashlib import sha256
from importlib import resources

from saga.documents.html.markup import Content, Markup, element, trusted

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_LIVE = """
const away = document.getElementById("away");
setInterval(async () => {
  if (document.hidden || document.activeElement.closest("form")) return;
  try {
    const answer = await fetch(location.href);
    const found = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
    const opened = new Set([...document.querySelectorAll("details[open]")].map((one) => one.id));
    for (const one of found.querySelectorAll("details")) one.open = opened.has(one.id);
    document.querySelector("main").replaceWith(found);
    away.hidden = true;
  } catch {
    away.hidden = false;
  }
}, 3000);
"""
"""Has what a live page says replaced by what it says now, and tells where nobody answers any more."""
_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Ccircle cx='8' cy='8' r='6' "
    "fill='none' stroke='%232448b8' stroke-width='3'/%3E%3C/svg%3E"
)

Links = Sequence[tuple[str, str]]
"""Texts and where they lead, relative to the page."""


def page(
    title: str,
    *content: Content,
    trail: Links,
    sections: Mapping[str, Links] | None = None,
    here: str = "",
    live: bool = False,
) -> str:
    """A whole page. `trail` leads back up, `sections` list what else there is by heading, `here` is this page in them.

    A `live` page asks its own server every few seconds what it says now.
    """
    side = _side(sections, here) if sections else None
    return (
        "<!DOCTYPE html>\n"
        + element(
            "html",
            _head(title, _POLICY + _live_policy() if live else _POLICY),
            element(
                "body",
                element("a", "Skip to the text", class_="skip", href="#text"),
                element("header", _trail(trail, title), class_="top"),
                element("p", "Nobody answers: this page is not up to date.", class_="trouble", id="away", hidden=True)
                if live
                else None,
                element("div", element("main", *content, id="text"), side, class_="frame" if side else "frame bare"),
                element("script", trusted(_LIVE)) if live else None,
            ),
            lang="en",
        )
        + "\n"
    )


def section(heading: str, *content: Content, id: str | None = None) -> Markup:
    """Content under a heading."""
    return element("section", element("h2", heading), *content, id=id)


def table(headers: Sequence[str], rows: Iterable[Sequence[Content]]) -> Markup:
    """Rows that a phone shows as blocks; the first cell names the row."""
    return element(
        "div",
        element(
            "table",
            element("thead", element("tr", *(element("th", header, scope="col") for header in headers))),
            element("tbody", *(_row(headers, row) for row in rows)),
        ),
        class_="table",
    )


def terms(pairs: Iterable[tuple[str, Content]]) -> Markup:
    """Terms with what they mean here; those without are left out."""
    return element("dl", *(part for term, said in pairs if said for part in (element("dt", term), element("dd", said))))


def link(text: str, target: str) -> Markup:
    """A text that leads somewhere."""
    return element("a", text, href=target)


def bullets(items: Iterable[Content]) -> Markup:
    """A list without an order."""
    return element("ul", *(element("li", item) for item in items), class_="list")


def code(text: str) -> Markup:
    """A block that scrolls by itself, with the keyboard as well."""
    return element("pre", element("code", text), tabindex=0)


@cache
def _live_policy() -> str:
    digest = b64encode(sha256(_LIVE.encode()).digest()).decode()
    return f"; script-src 'sha256-{digest}'; connect-src 'self'"


def _head(title: str, policy: str) -> Markup:
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name_="color-scheme", content="light dark"),
        element("title", title),
        element("link", rel="icon", href=trusted(_ICON)),
        element("style", _style()),
    )


@cache
def _style() -> Markup:
    return trusted((resources.files("saga.documents.html") / "style.css").read_text(encoding="utf-8"))


def _trail(trail: Links, title: str) -> Markup:
    up = (element("li", link(text, target)) for text, target in trail)
    return element("nav", element("ol", *up, element("li", title, aria_current="page")), aria_label="Where you are")


def _side(sections: Mapping[str, Links], here: str) -> Markup:
    parts: list[Markup] = []
    for heading, links in sections.items():
        entries = (
            element("li", element("a", text, href=target, aria_current="page" if text == here else None))
            for text, target in links
        )
        parts += [element("h2", heading), element("ul", *entries)]
    return element("nav", *parts, class_="side", aria_label="In this saga")


def _row(headers: Sequence[str], row: Sequence[Content]) -> Markup:
    first, *rest = row
    cells = (element("td", cell, data_label=header) for header, cell in zip(headers[1:], rest, strict=True) if cell is not None)
    return element("tr", element("th", first, scope="row"), *cells)
