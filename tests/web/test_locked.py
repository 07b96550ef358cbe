"""A box that its machine can't open any more: what it says, to whom it opens, and that nothing else is shown."""

from __future__ import annotations

import secrets
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from appliance import audit
from appliance.box import open_box
from appliance.config import Config, WebConfig
from appliance.errors import SealedElsewhere
from appliance.store import keys
from appliance.store.recovery import RecoveryKey
from appliance.web import locked
from appliance.web.locked import Paper, create_locked_app

LANGUAGES = ("en", "fr", "es", "zh")


@pytest.fixture
def config(data_dir: Path) -> Config:
    return Config(data=data_dir)


@pytest.fixture
def printed(config: Config) -> str:
    """The recovery key on paper, of a box whose machine has changed since."""
    box = open_box(config)
    folder = config.data / "keys"
    paper = str(keys.show_recovery(folder, box.root))
    keys.check_recovery(folder, box.root, paper)
    box.close()
    (folder / keys.MACHINE_KEY).write_bytes(secrets.token_bytes(32))
    with pytest.raises(SealedElsewhere, match="another machine"):
        open_box(config)
    return paper


@pytest.fixture
def paper() -> Paper:
    return Paper()


@pytest.fixture
def client(config: Config, printed: str, paper: Paper) -> Iterator[FlaskClient]:
    with create_locked_app(config, paper).test_client() as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/studies/1", "/api/v1/studies", "/health/deep", "/sign-in", "/setup"])
def test_every_address_asks_for_the_recovery_key_and_shows_nothing_else(
    client: FlaskClient, path: str
) -> None:
    answer = client.get(path)
    assert answer.status_code == 503
    assert "This box needs its recovery key" in answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_speaks_the_language_of_the_browser(client: FlaskClient, language: str) -> None:
    told = client.get("/", headers={"Accept-Language": language}).text
    assert f'lang="{language}' in told.split("<head>")[0]
    assert {client.get(f"/?lang={language}").text} == {told}, "the links say the same"


def test_a_key_of_another_box_and_a_slip_of_the_finger_are_told_apart_and_open_nothing(
    client: FlaskClient, printed: str, paper: Paper
) -> None:
    strange = client.post("/?lang=fr", data={"key": str(RecoveryKey.generate())})
    assert strange.status_code == 422
    assert "pas celle de ce boîtier" in strange.text
    groups = printed.split("-")
    groups[3] = groups[3][::-1] if groups[3] != groups[3][::-1] else groups[4]
    slip = client.post("/", data={"key": "-".join(groups)})
    assert slip.status_code == 422
    assert slip.text.count('role="alert"') == 1
    for worst in ("", "\x00", "é" * 45, "漢字-" * 9, "A" * 3000, "<script>"):
        answer = client.post("/", data={"key": worst})
        assert answer.status_code == 422
        assert "<script>" not in answer.text
    assert client.post("/", data={"key": "A" * 9000}).status_code == 413
    assert client.post("/", data={}).status_code == 422
    assert printed not in slip.text
    assert not paper.typed.is_set()


def test_the_right_key_opens_it_and_is_not_asked_for_again(
    client: FlaskClient, config: Config, printed: str, paper: Paper
) -> None:
    done = client.post("/", data={"key": f"  {printed.lower()} "})
    assert done.status_code == 200
    assert "The box is open" in done.text
    assert 'data-away="/"' in done.text
    assert paper.typed.is_set()
    assert client.get("/").status_code == 200
    assert client.get("/health/deep").status_code == 503, "the console does not work yet"
    open_box(config).close()
    again = keys.open_with_recovery(keys.recovery_slot(config.data / "keys"), RecoveryKey.parse(printed))
    assert again == keys.open_keys(config.data / "keys"), "the paper stays as it is"


def test_a_box_without_its_seal_or_with_a_damaged_one_asks_too(config: Config, printed: str) -> None:
    folder = config.data / "keys"
    for name in (keys.MACHINE_KEY, keys.ROOT_MACHINE):
        keys.reseal(folder, printed)
        kept = (folder / name).read_bytes()
        (folder / name).unlink()
        with pytest.raises(SealedElsewhere):
            open_box(config)
        (folder / name).touch(0o600)
        (folder / name).write_bytes(kept[:-1])
        with pytest.raises(SealedElsewhere):
            open_box(config)


def test_the_console_takes_the_place_of_the_page_and_the_audit_says_who_opened_it(
    config: Config, printed: str, free_port: Callable[[], int], eventually: Callable[..., None]
) -> None:
    port = free_port()
    there = Config(data=config.data, web=WebConfig(port=port))
    stop, boxes = threading.Event(), []
    waiting = threading.Thread(target=lambda: boxes.append(locked.opened(there, stop)))
    waiting.start()
    address = f"http://127.0.0.1:{port}/"

    def asks() -> bool:
        try:
            urllib.request.urlopen(address, timeout=5)
        except urllib.error.HTTPError as error:
            return error.code == 503
        except OSError:
            return False
        return False

    try:
        eventually(asks)
        body = urllib.parse.urlencode({"key": printed}).encode()
        with urllib.request.urlopen(address, data=body, timeout=60) as answer:
            assert answer.status == 200
    except BaseException:
        stop.set()
        raise
    finally:
        waiting.join(60)
    (box,) = boxes
    with box.catalog.reading() as conn:
        (row,) = [each for each in audit.export(conn) if each["action"] == "key:reseal"]
    assert (row["actor"], row["address"]) == ("visitor", "127.0.0.1")
    box.close()


def test_who_stops_the_console_meanwhile_is_not_kept_waiting(
    config: Config, printed: str, free_port: Callable[[], int]
) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(SystemExit) as ended:
        locked.opened(Config(data=config.data, web=WebConfig(port=free_port())), stop)
    assert ended.value.code == 0
