"""Pages as PDF: the same templates, laid out for Letter paper by WeasyPrint, which fetches nothing from anywhere."""

from __future__ import annotations

from typing import NoReturn

from appliance.web.console import web_ui


def pdf(html: str) -> bytes:
    """`html` as a PDF. Only what it holds itself is on it: no address is ever followed."""
    from weasyprint import CSS, HTML  # takes a second to import, and few requests need it

    styles = CSS(string=(web_ui() / "styles" / "paper.css").read_text("utf-8"))
    made = HTML(string=html, url_fetcher=_nothing).write_pdf(stylesheets=[styles])
    if made is None:
        raise RuntimeError("a page came out without a PDF")
    return bytes(made)


def _nothing(*_: object, **__: object) -> NoReturn:
    raise ValueError("nothing is fetched for a page on paper")
