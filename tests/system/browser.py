"""A browser without a screen: it keeps cookies, reads forms, and signs its requests as the console asks."""

from __future__ import annotations

import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from http.cookiejar import CookieJar

PATIENCE_SECONDS = 300


class Browser:
    """One person at the console at port `port` of this machine, or of another; over TLS, whose certificate is not judged: the screen's
    fingerprint is for people."""

    def __init__(self, port: int, *, tls: bool = False, host: str = "127.0.0.1") -> None:
        self._base = f"{'https' if tls else 'http'}://{host}:{port}"
        self._password = ""
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        cookies = urllib.request.HTTPCookieProcessor(CookieJar())
        self._opener = urllib.request.build_opener(cookies, urllib.request.HTTPSHandler(context=trusting))

    def get(self, path: str) -> bytes:
        """The body of a page, after redirections; raises `urllib.error.HTTPError`."""
        with self._opener.open(self._base + path, timeout=PATIENCE_SECONDS) as answer:
            return bytes(answer.read())

    def post(self, path: str, /, *, on: str = "", **fields: str) -> str:
        """Fill in the form of `path` that is on that page, or `on` another, and send it; the page that follows."""
        return self.posted(path, on=on, **fields).decode()

    def posted(self, path: str, /, *, on: str = "", **fields: str) -> bytes:
        """Likewise; what follows, as it came: a file, say. Where the console asks first who it is, whoever became the owner says so."""
        token = _field("csrf", self.get(on or path))
        assert token, f"{on or path} has no form"
        answer = self._send(path, {"csrf": token, **fields})
        if b'name="confirm_password"' not in answer:
            return answer
        who = {"csrf": _field("csrf", answer), "held": _field("held", answer)}
        return self._send(path, who | {"confirm_password": self._password})

    def _send(self, path: str, fields: Mapping[str, str]) -> bytes:
        body = urllib.parse.urlencode(fields).encode()
        with self._opener.open(self._base + path, body, timeout=PATIENCE_SECONDS) as answer:
            return bytes(answer.read())

    def claim(self, code: str, *, login: str, name: str, password: str) -> None:
        """Become the owner."""
        page = self.post("/claim", code=code, login=login, name=name, password=password, again=password)
        assert "/sign-out" in page, page[:2000]
        self._password = password


def _field(name: str, page: bytes) -> str:
    """What a hidden field of a page has; empty if there is none."""
    found = re.search(rf'name="{name}" value="([^"]+)"', page.decode())
    return found[1] if found else ""
