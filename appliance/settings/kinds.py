"""What a value of a setting may be: each kind checks a value, reads one from typed text and writes one as text.

A kind's `check` takes a JSON-able value and gives it in its normal form, or raises `Refused` with what would be right.
Messages say nothing of the value itself: it may be a secret, or a typing error that holds one.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from appliance.errors import Refused

MOST_LISTED = 200
_LINE_BREAK = re.compile(r"[\r\n]")


class Kind(Protocol):
    """The shape of all kinds."""

    @property
    def name(self) -> str:
        """The kind in one word, for scripts and pages."""

    def check(self, value: Any) -> Any:
        """`value` in its normal form. Raises `Refused`."""

    def read(self, typed: str) -> Any:
        """The value that `typed` stands for, checked. Raises `Refused`."""

    def write(self, value: Any) -> str:
        """`value` as `read` would take it."""

    def schema(self) -> dict[str, Any]:
        """What `check` accepts, as JSON Schema."""


# --- shapes of texts -------------------------------------------------------------------------------------------------


def email(text: str) -> str:
    """A mail address, as far as one can be told without sending. Raises `Refused`."""
    if not re.fullmatch(r"[^\s@<>,;:\"()\\]{1,64}@[^\s@<>,;:\"()\\]{1,189}", text) or ".." in text:
        raise Refused("this is not a mail address", hint="write it as name@clinic.ca")
    return text


def host(text: str) -> str:
    """A host name or an IP address, without port or scheme. Raises `Refused`."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        label = r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)"
        if not re.fullmatch(rf"{label}(\.{label})*\.?", text, re.ASCII) or len(text) > 253:
            raise Refused(
                "this is not the name or address of a machine",
                hint="write it as mail.clinic.ca or 192.168.1.5",
            ) from None
        return text.lower()


def network(text: str) -> str:
    """An IP address or network in its normal form. Raises `Refused`."""
    try:
        found = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise Refused(
            "an entry of this list is not an address or network", hint="write it as 192.168.1.0/24"
        ) from None
    return str(found.network_address) if found.num_addresses == 1 else str(found)


def certificates(text: str) -> str:
    """Certificates in PEM. Raises `Refused`; whether a library takes them is found out by what uses them."""
    block = r"-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+\n-----END CERTIFICATE-----"
    if not re.fullmatch(rf"({block}\s*)+", text):
        raise Refused(
            "this is not a certificate in PEM",
            hint="paste the whole file, from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----",
        )
    return text


def account(text: str) -> str:
    """The name of an account on another machine. Raises `Refused`."""
    if not re.fullmatch(r"[a-z_][a-z0-9_.-]{0,31}", text):
        raise Refused("this is not the name of an account", hint="write it as the vendor has sent it")
    return text


def ssh_key(text: str) -> str:
    """A public key of SSH, without its comment. Raises `Refused`; whether it is one is found out by what uses it."""
    if text.startswith("sk-"):
        raise Refused(
            "what a key on a security token has signed cannot be verified here",
            hint="paste a key that begins with ssh-ed25519",
        )
    kinds = r"ssh-ed25519|ecdsa-sha2-nistp256|ssh-rsa"
    found = re.fullmatch(rf"({kinds}) ([A-Za-z0-9+/]{{40,}}={{0,2}})( .*)?", text)
    if found is None:
        raise Refused(
            "this is not a public key of SSH",
            hint="paste the line that begins with ssh-ed25519, without options",
        )
    return f"{found[1]} {found[2]}"


def ed25519_key(text: str) -> str:
    """A public key of SSH that verifies a plain signature. Raises `Refused`."""
    line = ssh_key(text)
    if not line.startswith("ssh-ed25519 "):
        raise Refused("this key is of another kind", hint="paste a key that begins with ssh-ed25519")
    return line


def outpost(text: str) -> str:
    """Where heartbeats go: an address of HTTPS, or a bucket with what its objects' names begin with. Raises `Refused`."""
    wrong = Refused(
        "heartbeats cannot go there",
        hint="write it as https://fleet.example.ca/heartbeats or s3://bucket/clinics",
    )
    if not text.isascii() or not text.isprintable() or " " in text:
        raise wrong
    if text.startswith("s3://"):
        if not re.fullmatch(
            r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._-]{1,64}){0,4}", text.rstrip("/")
        ):
            raise wrong
        return text.rstrip("/")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise wrong from error
    if parts.scheme != "https" or not parts.hostname or parts.username or parts.password or port == 0:
        raise wrong
    return text


def storage(text: str) -> str:
    """The address of a provider of S3. Raises `Refused`; whether it may be reached is found out by what connects."""
    wrong = Refused("heartbeats cannot go there", hint="write it as https://s3.example.ca")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise wrong
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise wrong from error
    if parts.scheme not in ("https", "http") or not parts.hostname or port == 0:
        raise wrong
    if parts.username or parts.password or parts.query or parts.fragment:
        raise wrong
    return text.rstrip("/")


# --- kinds -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Text:
    """Characters, on one line unless `lines`. `shape` checks what they say, and raises `Refused`."""

    longest: int = 200
    lines: bool = False
    shape: Callable[[str], str] | None = None
    name: str = "text"

    def check(self, value: Any) -> str:
        if not isinstance(value, str):
            raise Refused("this setting is a text", hint="give a text")
        text = value.replace("\r\n", "\n").strip()
        if len(text) > self.longest:
            raise Refused("this text is too long", hint=f"use at most {self.longest} characters")
        if _LINE_BREAK.search(text) and not self.lines:
            raise Refused("this setting is one line", hint="write it on one line")
        if not all(character.isprintable() or character == "\n" for character in text):
            raise Refused("this text holds characters that cannot be shown", hint="type it again")
        return self.shape(text) if self.shape is not None and text else text

    def read(self, typed: str) -> str:
        return self.check(typed)

    def write(self, value: Any) -> str:
        return str(value)

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "maxLength": self.longest}


@dataclass(frozen=True, slots=True)
class WholeNumber:
    """A whole number from `least` to `most`."""

    least: int
    most: int
    name: str = "whole number"

    def check(self, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise Refused("this setting is a whole number", hint=self._bounds())
        if not self.least <= value <= self.most:
            raise Refused("this number is out of bounds", hint=self._bounds())
        return value

    def read(self, typed: str) -> int:
        if not re.fullmatch(r"\s*-?[0-9]{1,18}\s*", typed, re.ASCII):
            raise Refused("this setting is a whole number", hint=self._bounds())
        return self.check(int(typed))

    def write(self, value: Any) -> str:
        return str(value)

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}

    def _bounds(self) -> str:
        return f"give a number from {self.least} to {self.most}"


@dataclass(frozen=True, slots=True)
class Span(WholeNumber):
    """A time span, counted in whole `unit` as the end of its key says: seconds, minutes, hours or days."""

    unit: str = "seconds"
    name: str = "time span"


@dataclass(frozen=True, slots=True)
class OneNumber:
    """One of a few whole numbers."""

    numbers: tuple[int, ...]
    name: str = "one number of several"

    def check(self, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value not in self.numbers:
            raise Refused(
                "this is none of the choices", hint=f"use one of {', '.join(map(str, self.numbers))}"
            )
        return value

    def read(self, typed: str) -> int:
        typed = typed.strip()
        return self.check(int(typed) if re.fullmatch(r"[0-9]{1,18}", typed, re.ASCII) else None)

    def write(self, value: Any) -> str:
        return str(value)

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "enum": list(self.numbers)}


@dataclass(frozen=True, slots=True)
class Decimal:
    """A number from `least` to `most`, kept to `places` behind the point."""

    least: float
    most: float
    places: int = 3
    name: str = "decimal"

    def check(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise Refused("this setting is a number", hint=self._bounds())
        if not self.least <= value <= self.most:
            raise Refused("this number is out of bounds", hint=self._bounds())
        return round(float(value), self.places)

    def read(self, typed: str) -> float:
        if not re.fullmatch(r"\s*-?[0-9]{1,15}([.,][0-9]{1,15})?\s*", typed, re.ASCII):
            raise Refused("this setting is a number", hint=self._bounds())
        return self.check(float(typed.replace(",", ".")))

    def write(self, value: Any) -> str:
        return f"{value:.{self.places}f}".rstrip("0").rstrip(".")

    def schema(self) -> dict[str, Any]:
        return {"type": "number", "minimum": self.least, "maximum": self.most}

    def _bounds(self) -> str:
        return f"give a number from {self.least:g} to {self.most:g}"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some words. The words of a page for each are ``setting.KEY.WORD``."""

    words: tuple[str, ...]
    name: str = "choice"

    def check(self, value: Any) -> str:
        if not isinstance(value, str) or value not in self.words:
            raise Refused("this is none of the choices", hint=f"use one of {', '.join(self.words)}")
        return value

    def read(self, typed: str) -> str:
        return self.check(typed.strip())

    def write(self, value: Any) -> str:
        return str(value)

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.words)}


@dataclass(frozen=True, slots=True)
class Choices:
    """Any of some words, each once, in their order here; typed with commas, or one a line."""

    words: tuple[str, ...]
    least: int = 0
    name: str = "choices"

    def check(self, value: Any) -> list[str]:
        if not isinstance(value, list | tuple):
            raise Refused("this setting is a list", hint=self._words())
        if not all(isinstance(each, str) and each in self.words for each in value):
            raise Refused("an entry of this list is none of the choices", hint=self._words())
        if len(set(value)) < self.least:
            raise Refused("too few of the choices", hint=self._words())
        return [word for word in self.words if word in value]

    def read(self, typed: str) -> list[str]:
        entries = (each.strip() for each in re.split(r"[,\n]", typed))
        return self.check([each for each in entries if each])

    def write(self, value: Any) -> str:
        return ", ".join(value)

    def schema(self) -> dict[str, Any]:
        return {
            "type": "array",
            "items": {"type": "string", "enum": list(self.words)},
            "maxItems": MOST_LISTED,
        }

    def _words(self) -> str:
        return f"use some of {', '.join(self.words)}"


@dataclass(frozen=True, slots=True)
class Flag:
    """Yes or no."""

    name: str = "flag"

    def check(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise Refused("this setting is yes or no", hint="use yes or no")
        return value

    def read(self, typed: str) -> bool:
        match typed.strip().lower():
            case "yes" | "true" | "on" | "1" | "oui":
                return True
            case "no" | "false" | "off" | "0" | "" | "non":
                return False
            case _:
                raise Refused("this setting is yes or no", hint="use yes or no")

    def write(self, value: Any) -> str:
        return "yes" if value else "no"

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Texts:
    """A list of short texts without commas; typed on one line with commas, or one a line."""

    longest: int = 200
    shape: Callable[[str], str] | None = None
    name: str = "list"

    def check(self, value: Any) -> list[str]:
        if not isinstance(value, list | tuple):
            raise Refused("this setting is a list", hint="give a list of texts")
        if len(value) > MOST_LISTED:
            raise Refused("this list is too long", hint=f"use at most {MOST_LISTED} entries")
        one = Text(self.longest, shape=self.shape)
        found: dict[str, None] = {}  # in order, each once
        for each in value:
            text = one.check(each)
            if "," in text:
                raise Refused("an entry of this list holds a comma", hint="make it two entries")
            if text:
                found[text] = None
        return list(found)

    def read(self, typed: str) -> list[str]:
        return self.check(re.split(r"[,\n]", typed.replace("\r\n", "\n")))

    def write(self, value: Any) -> str:
        return ", ".join(value)

    def schema(self) -> dict[str, Any]:
        return {
            "type": "array",
            "items": {"type": "string", "maxLength": self.longest},
            "maxItems": MOST_LISTED,
        }


@dataclass(frozen=True, slots=True)
class Networks(Texts):
    """A list of addresses and networks (``192.168.1.0/24``)."""

    longest: int = 50
    shape: Callable[[str], str] | None = network
    name: str = "networks"


@dataclass(frozen=True, slots=True)
class HoursOfDay:
    """A part of every day, ``22:00-07:00`` in the box's own time zone, which may pass midnight; or nothing, unless it is `least_minutes`
    long at least."""

    least_minutes: int = 0
    name: str = "hours"

    def check(self, value: Any) -> str:
        if not isinstance(value, str):
            raise Refused("this setting is a part of the day", hint="write it as 22:00-07:00")
        text = re.sub(r"\s|–", lambda found: "-" if found[0] == "–" else "", value)
        if not text and not self.least_minutes:
            return ""
        match = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)-([01]?\d|2[0-3]):([0-5]\d)", text, re.ASCII)
        if match is None:
            raise Refused("this setting is a part of the day", hint="write it as 22:00-07:00")
        start, end = f"{int(match[1]):02d}:{match[2]}", f"{int(match[3]):02d}:{match[4]}"
        if start == end:
            raise Refused("this part of the day begins when it ends", hint="leave it empty for none")
        minutes = 60 * (int(match[3]) - int(match[1])) + int(match[4]) - int(match[2])
        if minutes % (24 * 60) < self.least_minutes:
            raise Refused(
                "this part of the day is too short", hint=f"make it {self.least_minutes} minutes at least"
            )
        return f"{start}-{end}"

    def read(self, typed: str) -> str:
        return self.check(typed)

    def write(self, value: Any) -> str:
        return str(value)

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "maxLength": 20}


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret of one line: sealed, never shown. Empty is none."""

    longest: int = 1000
    name: str = "secret"

    def check(self, value: Any) -> str:
        if not isinstance(value, str) or _LINE_BREAK.search(value) or "\0" in value:
            raise Refused("this secret is not one line of text", hint="type it again")
        if len(value) > self.longest:
            raise Refused("this text is too long", hint=f"use at most {self.longest} characters")
        return value

    def read(self, typed: str) -> str:
        return self.check(typed)

    def write(self, value: Any) -> str:  # noqa: ARG002
        raise ValueError("a secret is never written")

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "maxLength": self.longest, "writeOnly": True}
