"""A browser without a screen: it keeps cookies, reads forms, and signs its requests as the console asks."""

from __future__ import annotations

import re
import urllib.error
import urllib.parse
import urllib.request
from http.cookiejar import CookieJar


class Browser:
    """One person at the console at port `port` of this machine."""

    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}"
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))

    def get(self, path: str) -> bytes:
        """The body of a page, after redirections; raises `urllib.error.HTTPError`."""
        with self._opener.open(self._base + path, timeout=60) as answer:
            return bytes(answer.read())

    def post(self, path: str, **fields: str) -> str:
        """Fill in the form on `path` and send it; the page that follows."""
        token = re.search(r'name="csrf" value="([^"]+)"', self.get(path).decode())
        assert token is not None, f"{path} has no form"
        body = urllib.parse.urlencode({"csrf": token[1], **fields}).encode()
        with self._opener.open(self._base + path, body, timeout=60) as answer:
            return str(answer.read().decode())

    def claim(self, code: str, *, login: str, name: str, password: str) -> None:
        """Become the owner."""
        page = self.post("/claim", code=code, login=login, name=name, password=password, again=password)
        assert "/sign-out" in page, page[:2000]
