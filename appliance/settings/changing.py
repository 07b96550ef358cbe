"""Reading and changing settings in the caller's transaction. See the package for why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from appliance import audit
from appliance.catalog import Reading, Transaction, operator_settings
from appliance.catalog.operator_settings import ChangeRow
from appliance.errors import Refused, Unknown
from appliance.settings.kinds import Decimal, WholeNumber
from appliance.settings.registry import SETTINGS, TOGETHER, Careful, Setting, setting
from appliance.store.keys import RootKey


class NotAccepted(Refused):
    """Some of the values are wrong, so none was changed. `refusals` says by key what is wrong with each."""

    def __init__(self, refusals: Mapping[str, Refused]) -> None:
        key, first = next(iter(refusals.items()))
        super().__init__(f"{key}: {first.message}", hint=first.hint, field=key.partition(".")[2])
        self.refusals = refusals


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one setting. None as `old` or `new` means the default; of a secret neither is ever known.

    `undoes` is the id of the change that this one took back.
    """

    id: int
    at_utc: datetime
    actor: str
    key: str
    old: Any
    new: Any
    undoes: int | None


# --- reading ---------------------------------------------------------------------------------------------------------


def get(reading: Reading, key: str) -> Any:
    """The value of `key`, or its default. Raises `Unknown`; ValueError for a secret, which `secret` reads."""
    chosen = setting(key)
    if chosen.is_secret:
        raise ValueError(f"{key} is a secret")
    return _effective(chosen, operator_settings.get(reading, key))


def get_several(reading: Reading, keys: Sequence[str]) -> dict[str, Any]:
    """The value of each of `keys`, or its default, read at once. Raises as `get`."""
    chosen = [setting(key) for key in keys]
    if any(each.is_secret for each in chosen):
        raise ValueError("one of these is a secret")
    kept = operator_settings.values(reading, keys)
    return {each.key: _effective(each, kept.get(each.key)) for each in chosen}


def get_section(reading: Reading, section: str) -> dict[str, Any]:
    """The values of a section by the part of the key after the dot, without its secrets."""
    keys = [each.key for each in SETTINGS.values() if each.section == section and not each.is_secret]
    if not keys:
        raise Unknown("there is no such section of the settings", hint="list the settings to see their names")
    return {key.partition(".")[2]: value for key, value in get_several(reading, keys).items()}


def secret(reading: Reading, root: RootKey, key: str) -> str:
    """A secret in clear, empty if there is none: for what uses it, never to be shown. Raises `Unknown`, `Corrupt`."""
    if not setting(key).is_secret:
        raise ValueError(f"{key} is no secret")
    sealed = operator_settings.get(reading, key)
    return "" if sealed is None else root.unseal(bytes.fromhex(sealed), _context(key)).decode()


def is_set(reading: Reading, key: str) -> bool:
    """Whether somebody has chosen a value, or given the secret."""
    return operator_settings.get(reading, setting(key).key) is not None


def is_careful(reading: Reading, change_id: int) -> bool:
    """Whether a change is of a setting that asks who it is; one that there is not is no such change."""
    row = operator_settings.change(reading, change_id)
    return row is not None and row.key in SETTINGS and SETTINGS[row.key].careful is Careful.YES


def revision(reading: Reading) -> int:
    """A number that every change makes greater: what a page or a caller saw before it changes something."""
    return operator_settings.last_change(reading)


def history(
    reading: Reading, *, key: str | None = None, limit: int = 100, before: int | None = None
) -> list[Change]:
    """Changes, the newest first, of one key or of all; for the next page pass the last id as `before`."""
    if key is not None:
        setting(key)
    return [_change(row) for row in operator_settings.changes(reading, key=key, limit=limit, before=before)]


# --- changing --------------------------------------------------------------------------------------------------------


def change(
    tx: Transaction,
    audit_key: bytes,
    changes: Mapping[str, Any],
    *,
    actor: str,
    now: datetime,
    root: RootKey | None = None,
) -> tuple[Change, ...]:
    """Give settings new values (None: the default), all of them or none. Each that differs is kept and audited.

    `root` seals secrets, and is needed only for those. Raises `NotAccepted`, which names each wrong key; `Unknown` for
    a key that there is not. Gives what was changed, which may be nothing.
    """
    checked = _checked(tx, changes)
    return tuple(
        done
        for key, value in checked.items()
        if (done := _put(tx, audit_key, setting(key), value, actor=actor, now=now, root=root)) is not None
    )


def check(reading: Reading, changes: Mapping[str, Any]) -> dict[str, Any]:
    """`changes` in their normal forms, without doing them. Raises as `change`."""
    return {key: _effective(setting(key), value) for key, value in _checked(reading, changes).items()}


def undo(tx: Transaction, audit_key: bytes, change_id: int, *, actor: str, now: datetime) -> Change:
    """Give a setting back the value that it had before one change.

    Raises `Unknown` if there is no such change; `Refused` if the setting was changed again since, if it is a secret, or
    if the earlier value would not be accepted today.
    """
    row = operator_settings.change(tx, change_id)
    if row is None:
        raise Unknown("there is no such change", hint="look at the history again")
    if row.key not in SETTINGS:
        raise Refused("this setting does not exist any more", hint="nothing needs to be undone")
    chosen = setting(row.key)
    if chosen.is_secret:
        raise Refused("a secret is not kept once it is replaced", hint="type it again")
    if operator_settings.last_change(tx, row.key) != row.id:
        raise Refused("this setting was changed again since", hint="undo the latest change first")
    checked = _checked(tx, {row.key: row.old})
    done = _put(tx, audit_key, chosen, checked[row.key], actor=actor, now=now, undoes=row.id)
    if done is None:
        raise Refused("this change has no effect any more", hint="nothing needs to be undone")
    return done


def _checked(reading: Reading, changes: Mapping[str, Any]) -> dict[str, Any]:
    """`changes` in their normal forms, None for what is as the default. Raises `NotAccepted` or `Unknown`."""
    refusals: dict[str, Refused] = {}
    checked: dict[str, Any] = {}
    for key, value in changes.items():
        chosen = setting(key)
        try:
            normal = None if value is None else chosen.kind.check(value)
        except Refused as refusal:
            refusals[key] = refusal
            continue
        checked[key] = None if normal == _default(chosen) else normal
    if not refusals:
        kept = operator_settings.all_values(reading)
        before, after = _values(kept), _values({**kept, **checked})
        for together in TOGETHER:
            # What did not fit together before, as after an update, is no reason to refuse another change.
            standing = together(before)
            refusals |= {
                key: refusal
                for key, refusal in together(after).items()
                if key in changes or key not in standing
            }
    if refusals:
        raise NotAccepted(refusals)
    return checked


def _values(kept: Mapping[str, Any]) -> dict[str, Any]:
    return {
        each.key: _effective(each, kept.get(each.key)) for each in SETTINGS.values() if not each.is_secret
    }


def _put(
    tx: Transaction,
    audit_key: bytes,
    chosen: Setting,
    value: Any,
    *,
    actor: str,
    now: datetime,
    root: RootKey | None = None,
    undoes: int | None = None,
) -> Change | None:
    """Record `value` with its history and audit row. None if it is what holds already."""
    old = operator_settings.get(tx, chosen.key)
    details: dict[str, Any]
    if chosen.is_secret:
        if old is None and value is None:
            return None
        kept = None if value is None else _sealed(root, chosen.key, value)
        shown_old = shown_new = None
        details = {"secret": "removed" if value is None else "given"}
    else:
        if old == value:
            return None
        kept, shown_old, shown_new = value, old, value
        details = {"old": _effective(chosen, old), "new": _effective(chosen, value)}
    if undoes is not None:
        details["undoes"] = undoes
    operator_settings.put(tx, chosen.key, kept, now)
    row = operator_settings.add_change(
        tx, key=chosen.key, old=shown_old, new=shown_new, actor=actor, undoes=undoes, now=now
    )
    audit.append(tx, audit_key, [audit.Entry("setting:change", chosen.key, actor, details)], now)
    return _change(row)


def _sealed(root: RootKey | None, key: str, value: str) -> str:
    if root is None:
        raise ValueError(f"{key} is a secret, and nothing was given to seal it with")
    return root.seal(value.encode(), _context(key)).hex()


def _context(key: str) -> bytes:
    return f"setting {key}".encode()


def _default(chosen: Setting) -> Any:
    """A default as JSON gives values back."""
    return list(chosen.default) if isinstance(chosen.default, tuple) else chosen.default


def _effective(chosen: Setting, kept: Any) -> Any:
    """What holds. A number that was chosen before a release narrowed its bounds is taken for the nearest that is within them:
    a figure that a promise forbids must not stay in force because it is old."""
    if kept is None:
        return _default(chosen)
    kind = chosen.kind
    if isinstance(kind, WholeNumber | Decimal) and isinstance(kept, int | float):
        return min(max(kept, kind.least), kind.most)
    return kept


def _change(row: ChangeRow) -> Change:
    return Change(row.id, row.at_utc, row.actor, row.key, row.old, row.new, row.undoes)
