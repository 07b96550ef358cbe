"""What is printed: PDF out of templates like the pages', in memory from the first byte to the last.

Chose WeasyPrint over drawing with coordinates, because a sheet that is HTML is translated, checked and changed like a
page. It fetches nothing: whatever a template refers to is refused, so no address in a paper can reach out. No file is
written: the recovery key passes through here.
"""

from __future__ import annotations

import functools
import io
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import segno
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from appliance.lifecycle.certificate import digest
from appliance.web.certificate_words import worded
from appliance.web.console import web_ui
from appliance.web.language import Languages

LOGGERS = ("weasyprint", "fontTools")
"""Libraries whose messages quote what they draw."""


@dataclass(frozen=True, slots=True)
class Attached:
    """A file that a PDF holds (ISO 32000-1 7.11.4), byte for byte, under a name that a reader shows."""

    name: str
    data: bytes


@functools.cache
def _templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(web_ui() / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def recovery_sheet(languages: Languages, language: str, key: str, *, clinic: str, made: datetime) -> bytes:
    """The recovery key in large type and as a QR code, with what to do with it in `language` and the other one first to
    hand: whoever opens the drawer in ten years may read either."""
    other = "en" if language == "fr" else "fr"
    qr = io.BytesIO()
    segno.make(key, error="m", micro=False).save(qr, kind="svg", scale=5, border=2, xmldecl=False)
    texts = [(languages.words(code), code) for code in (language, other)]
    return _printed(
        "papers/recovery.html",
        {
            "groups": key.split("-"),
            "qr": Markup(qr.getvalue().decode()),  # drawn here, from symbols and nothing else
            "clinic": clinic,
            "made": texts[0][0].moment(made),
            "texts": texts,
            "language": language,
        },
    )


def report(languages: Languages, language: str, report: Any, attached: Attached | None = None) -> bytes:
    """A report in `language`: the one of setting up, a certificate of destruction; with `attached` in the same file."""
    words = languages.words(language)
    return _printed("papers/report.html", {"report": report, "t": words, "language": language}, attached)


def certificate(languages: Languages, language: str, signed: bytes, fingerprint: str) -> bytes:
    """A certificate of destruction as paper: `signed` (`appliance.lifecycle.certificate.issue`) in words, and attached.

    The paper bears the SHA-256 of that file, and its words are taken out of it: each issue says another moment, so a paper without its own
    file could be altered, and no other file would show it.
    """
    told = json.loads(signed)["document"]
    text = worded(told, fingerprint, languages.words(language), digest(signed))
    return report(languages, language, text, Attached(f"{told['certificate']}.json", signed))


def _printed(template: str, values: Mapping[str, Any], attached: Attached | None = None) -> bytes:
    import weasyprint  # takes a second, and most processes never print

    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    html = _templates().get_template(template).render(**values)
    held = [] if attached is None else [_attachment(attached)]
    pdf: bytes = weasyprint.HTML(string=html, url_fetcher=_refused).write_pdf(
        pdf_variant="pdf/ua-1", attachments=held
    )
    return pdf


def _attachment(attached: Attached) -> Any:
    import weasyprint

    return weasyprint.Attachment(
        file_obj=io.BytesIO(attached.data), name=attached.name, relationship="Source", url_fetcher=_refused
    )


def _refused(*_: Any, **__: Any) -> Any:
    raise ValueError("a paper refers to nothing outside itself")
