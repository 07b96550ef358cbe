"""How long the console takes, counted in memory and reported with its heartbeat."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from flask import Flask, Response, g, request

from appliance.latency import Histogram

HTML = "text/html"


class Timings:
    """A histogram for each stage that the console measures. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._histograms = {stage: Histogram() for stage in ("render", "query", "page")}

    def note(self, stage: str, seconds: float) -> None:
        """Count one."""
        with self._lock:
            self._histograms[stage].observe(seconds)

    @contextmanager
    def measured(self, stage: str) -> Iterator[None]:
        """Count how long the block takes, if it ends well."""
        began = perf_counter()
        yield
        self.note(stage, perf_counter() - began)

    def as_detail(self) -> dict[str, object]:
        """All of them as JSON."""
        with self._lock:
            return {stage: each.as_detail() for stage, each in self._histograms.items()}


def mount(app: Flask, timings: Timings) -> None:
    """Measure every page of `app`, from the first check to the last header; pictures and streams are no pages."""

    def begin() -> None:
        g.began = perf_counter()

    def end(answer: Response) -> Response:
        if answer.mimetype == HTML and request.endpoint != "static":
            timings.note("page", perf_counter() - g.began)
        return answer

    app.before_request(begin)
    app.after_request(end)
