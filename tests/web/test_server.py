"""The console as a process: where it listens, whom it believes, how it stops."""

import http.client
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask

from appliance import identity, web
from appliance.box import Box, open_box
from appliance.catalog import processes
from appliance.config import Config, WebConfig
from appliance.errors import OperatorNeeded
from appliance.web import server
from appliance.web.application import create_app
from appliance.web.console import Assets
from tests.web.conftest import LOGIN, PASSWORD, add_owner, csrf_of, fill


@pytest.fixture
def box(data_dir: Path, free_port: Callable[[], int]) -> Iterator[Box]:
    opened = open_box(Config(data=data_dir, web=WebConfig(port=free_port())))
    yield opened
    opened.close()


@pytest.fixture
def served(box: Box, eventually) -> Iterator[Callable[[], http.client.HTTPConnection]]:
    """The console, running; gives connections to it."""
    stop = threading.Event()
    serving = threading.Thread(target=web.serve, args=(box, stop), daemon=True)
    serving.start()

    opened: list[http.client.HTTPConnection] = []

    def connection() -> http.client.HTTPConnection:
        opened.append(http.client.HTTPConnection("127.0.0.1", box.config.web.port, timeout=30))
        return opened[-1]

    def answers() -> bool:
        try:
            socket.create_connection(("127.0.0.1", box.config.web.port), timeout=5).close()
        except OSError:
            return False
        return True

    eventually(answers)
    yield connection
    for each in opened:
        each.close()
    stop.set()
    serving.join(60)
    assert not serving.is_alive()


def get(connection: http.client.HTTPConnection, path: str, **headers: str) -> http.client.HTTPResponse:
    connection.request(
        "GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )
    return connection.getresponse()


def test_what_a_proxy_here_passes_on_is_not_this_machine(served) -> None:
    assert get(served(), "/metrics").status == 200
    assert get(served(), "/metrics", X_Forwarded_For="192.168.1.9").status == 403


def test_behind_tls_the_cookies_are_secure(served, box: Box) -> None:
    add_owner(box)
    answer = get(served(), "/sign-in", X_Forwarded_Proto="https", X_Forwarded_For="192.168.1.9")
    assert answer.status == 200
    assert "Secure" in (answer.headers["Set-Cookie"] or "")


def test_signs_of_life_are_recorded(served, box: Box, eventually) -> None:
    def beating() -> bool:
        with box.catalog.reading() as conn:
            return any(each.name == "web" for each in processes.processes(conn))

    eventually(beating)


def test_a_console_that_answers_nothing_gives_no_sign_of_life(
    box: Box, eventually, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows() -> list[str]:
        with box.catalog.reading() as conn:
            return [each.name for each in processes.processes(conn)]

    caplog.set_level(logging.WARNING, "appliance")
    monkeypatch.setattr(server, "ANSWER_SECONDS", 0.1)
    monkeypatch.setattr(server, "BEAT_SECONDS", 0.01)
    stop = threading.Event()
    console = create_app(box).extensions["console"]
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        port = hanging.getsockname()[1]
        beats = threading.Thread(target=server._beat, args=(box, console, port, stop), daemon=True)
        beats.start()
        eventually(lambda: caplog.text.count("does not answer itself") >= 2)
        assert rows() == [], "a thread that beats while nobody is answered says that all is well"
        stop.set()
        beats.join(60)


def test_an_arrival_reaches_a_browser_by_its_stream(served, box: Box) -> None:
    add_owner(box)
    connection = served()
    page = get(connection, "/sign-in")
    visit = page.headers["Set-Cookie"].split(";")[0]
    body = f"csrf={csrf_of(page.read().decode())}&login={LOGIN}&password={PASSWORD.replace(' ', '+')}"
    connection.request(
        "POST", "/sign-in", body, {"Cookie": visit, "Content-Type": "application/x-www-form-urlencoded"}
    )
    answer = connection.getresponse()
    assert answer.status == 303
    session = answer.headers["Set-Cookie"].split(";")[0]
    with get(served(), "/events", Cookie=session) as stream:
        assert_told_of_an_arrival(box, stream)


def assert_told_of_an_arrival(box: Box, stream: http.client.HTTPResponse) -> None:
    assert stream.status == 200
    assert stream.headers["Content-Type"].startswith("text/event-stream")
    assert stream.readline().startswith(b"retry")
    before = told(stream)
    fill(box, scale=0.05)
    while told(stream)["studies"] == before["studies"]:
        pass


def told(stream: http.client.HTTPResponse) -> dict[str, int]:
    """The numbers of the next event; the server's time-out ends a wait for one that never comes."""
    while not (line := stream.readline()).startswith(b"data:"):
        assert line, "the stream has ended"
    return dict(json.loads(line.removeprefix(b"data:")))


def test_an_address_in_use_is_said_with_its_remedy(box: Box) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", box.config.web.port))
        taken.listen()
        with pytest.raises(OperatorNeeded, match="APPLIANCE_WEB_PORT"):
            web.serve(box, threading.Event())


def test_assets_that_are_not_built_are_said_with_their_remedy(tmp_path: Path) -> None:
    with pytest.raises(OperatorNeeded, match="make setup"):
        Assets.read(tmp_path)


def test_the_application_needs_no_request_to_be_made(box: Box) -> None:
    app = create_app(box)
    assert len(list(app.url_map.iter_rules())) > 20
    app.extensions["console"].darkroom.close()
    assert identity.claim_code(box) is not None


def test_a_stop_lets_what_is_being_answered_finish_and_closes_nothing_under_a_thread(
    box: Box, eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that wakes the loop through a closed pipe writes into whatever file has its number since."""
    begun, go_on, stop = threading.Event(), threading.Event(), threading.Event()
    made = create_app

    def slow(opened: Box):
        app = made(opened)

        def answer(environ, start_response):
            if environ["PATH_INFO"] == "/asked":  # not the console, which asks itself whether it answers
                begun.set()
                go_on.wait(30)
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"x" * 3_000_000]

        app.wsgi_app = answer  # type: ignore[method-assign]
        return app

    monkeypatch.setattr("appliance.web.server.create_app", slow)
    complaints: list[object] = []
    monkeypatch.setattr(threading, "excepthook", complaints.append)
    serving = threading.Thread(target=web.serve, args=(box, stop), daemon=True)
    serving.start()
    got: list[int] = []

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", box.config.web.port, timeout=30)
        connection.request("GET", "/asked")
        got.append(len(connection.getresponse().read()))
        connection.close()

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", box.config.web.port)) == 0

    eventually(listens)
    asking = threading.Thread(target=ask)
    asking.start()
    assert begun.wait(30)
    stop.set()
    go_on.set()
    asking.join(30)
    serving.join(30)
    assert not serving.is_alive()
    assert got == [3_000_000]
    assert complaints == []
    assert not [each for each in threading.enumerate() if each.name.startswith("waitress")]


def test_no_body_is_moved_into_a_temporary_file(served, box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waitress does that with what is large, and a picture of a patient would lie on the disk in clear."""
    import waitress.buffers

    def refuse(*arguments: object, **named: object) -> None:
        raise AssertionError("a temporary file was made")

    monkeypatch.setattr(waitress.buffers.TempfileBasedBuffer, "newfile", refuse)
    complaints: list[object] = []
    monkeypatch.setattr(logging.getLogger("waitress"), "handle", complaints.append)
    page = "x" * 700_000
    connection = served()
    connection.request(
        "POST", "/sign-in", f"csrf={page}", {"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert connection.getresponse().status in (400, 413)
    monkeypatch.setattr(
        Flask, "wsgi_app", lambda self, environ, start: [(start("200 OK", []) and b"") or b"y" * 9_000_000]
    )
    assert len(get(served(), "/").read()) == 9_000_000
    assert complaints == []
