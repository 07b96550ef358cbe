"""Settings: what an operator chooses, its history and undo. What may be said is described by the registry itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from appliance import settings
from appliance.catalog import Reading
from appliance.identity.permissions import Permission
from appliance.settings.registry import unknown_key
from appliance.web import forms
from appliance.web.address_list import keep_a_way_in
from appliance.web.api.operation import confirmed, operation, unchanged
from appliance.web.api.shape import After, Fault, Limit, Next, Row, Shape
from appliance.web.console import console, now


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. Of a secret the value is null, and `state` says whether it was given."""

    key: Annotated[str, Shape("section.name", example="sessions.idle_minutes")]
    kind: str
    value: Any
    default: Any
    state: Literal["default", "set", "given", "not given"]


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings."""

    items: tuple[Setting, ...]


@dataclass(frozen=True, slots=True)
class SettingsChange:
    """New values by key; null is the default. All of them are made, or none."""

    values: Mapping[str, Any]

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """From the registry."""
        return {
            "type": "object",
            "description": " ".join((cls.__doc__ or "").split()),
            "properties": {
                key: {"anyOf": [each.kind.schema(), {"type": "null"}]}
                for key, each in settings.SETTINGS.items()
            },
            "additionalProperties": False,
            "minProperties": 1,
            "examples": [{"sessions.idle_minutes": 15}],
        }

    @classmethod
    def from_json(cls, value: Any, at: str, faults: list[Fault]) -> SettingsChange | None:
        """As the schema says; what each value may be, the registry says when it is changed."""
        if not isinstance(value, dict) or not value:
            faults.append(Fault(at, "this is no object with settings", "send at least one setting"))
            return None
        faults += [
            Fault(f"{at}/{key}", "there is no such setting", unknown_key(key, settings.SETTINGS).hint)
            for key in value
            if key not in settings.SETTINGS
        ]
        return cls(value)


@dataclass(frozen=True, slots=True)
class SettingChange:
    """A change of a setting; null is the default, and always stands for a secret."""

    id: Row
    at_utc: datetime
    actor: str
    key: str
    old: Any
    new: Any
    undoes: Annotated[int | None, Shape("The change that this one took back.")]


@dataclass(frozen=True, slots=True)
class SettingChanges:
    """A page of changes, the latest first."""

    items: tuple[SettingChange, ...]
    next: Next


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """Which changes."""

    limit: Limit = 100
    after: After = None


@operation("GET", "/settings", Permission.VIEW_SETTINGS, gives=Settings, is_tagged=True)
def list_settings() -> Settings:
    """List all settings with their values; secrets only as given or not."""
    with console().box.catalog.reading() as conn:
        return _all(conn)


@operation(
    "PATCH",
    "/settings",
    Permission.CHANGE_SETTINGS,
    gives=Settings,
    takes=SettingsChange,
    is_tagged=True,
    is_guarded=True,
)
def change_settings(body: SettingsChange) -> Settings:
    """Change settings, all or nothing. Every fault is named by its key."""
    if any(settings.setting(key).careful is settings.Careful.YES for key in body.values):
        confirmed()
    box = console().box
    with box.catalog.transaction() as tx:
        unchanged(_all(tx))
        settings.change(tx, box.audit_key, body.values, actor=forms.actor(), now=now(), root=box.root)
        keep_a_way_in(tx)
        return _all(tx)


@operation("GET", "/settings/history", Permission.VIEW_SETTINGS, gives=SettingChanges, asks=HistoryQuery)
def list_setting_changes(query: HistoryQuery) -> SettingChanges:
    """List what was changed, the latest first."""
    with console().box.catalog.reading() as conn:
        rows = settings.history(conn, limit=query.limit + 1, before=query.after)
    shown = rows[: query.limit]
    return SettingChanges(
        tuple(_change(row) for row in shown), shown[-1].id if len(rows) > query.limit else None
    )


@operation(
    "POST",
    "/settings/history/{change_id}/undo",
    Permission.CHANGE_SETTINGS,
    gives=SettingChange,
    status=201,
    refuses=(422,),
)
def undo_setting_change(change_id: int) -> SettingChange:
    """Take the latest change of a setting back. That is a change itself, which is answered."""
    box = console().box
    with box.catalog.transaction() as tx:
        if settings.is_careful(tx, change_id):
            confirmed()
        done = settings.undo(tx, box.audit_key, change_id, actor=forms.actor(), now=now())
        keep_a_way_in(tx)
        return _change(done)


OPERATIONS = (list_settings, change_settings, list_setting_changes, undo_setting_change)


def _all(conn: Reading) -> Settings:
    return Settings(tuple(_setting(conn, each) for each in settings.SETTINGS.values()))


def _setting(conn: Reading, each: settings.Setting) -> Setting:
    given = settings.is_set(conn, each.key)
    if each.is_secret:
        return Setting(each.key, each.kind.name, None, None, "given" if given else "not given")
    value = settings.get(conn, each.key)
    return Setting(each.key, each.kind.name, value, each.default, "set" if given else "default")


def _change(row: settings.Change) -> SettingChange:
    return SettingChange(row.id, row.at_utc, row.actor, row.key, row.old, row.new, row.undoes)
