"""What the viewer shows: strips of thumbnails by series, and one instance with its presets, badges and facts."""

from __future__ import annotations

from dataclasses import dataclass, replace

from appliance.catalog import Reading, sight
from appliance.catalog.sight import InstanceRow
from appliance.errors import Corrupt, OperatorNeeded, Transient, Unknown
from appliance.imaging import Facts, NotShown
from appliance.model import InstanceId, Uid
from appliance.replication import recall
from appliance.web import access
from appliance.web.console import console
from appliance.web.language import Words

_CT_WINDOWS = (("bone", 500, 2500), ("soft_tissue", 40, 400), ("lung", -600, 1500))


@dataclass(frozen=True, slots=True)
class Frame:
    """An instance in a strip."""

    id: InstanceId
    label: str
    mark: str
    has_pixels: bool


@dataclass(frozen=True, slots=True)
class Strip:
    """A series."""

    title: str
    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class Preset:
    """A tone to choose; `value` is what the viewer sends: tone, centre, width, parted by bars."""

    value: str
    label: str


@dataclass(frozen=True, slots=True)
class Badge:
    """A word that must be seen beside the picture."""

    text: str
    tone: str


@dataclass(frozen=True, slots=True)
class ViewerPart:
    """One instance in the viewer. `facts` are label and value, ready to show."""

    instance: InstanceId
    study: int
    frames: int
    presets: tuple[Preset, ...]
    grey: bool
    badges: tuple[Badge, ...]
    facts: tuple[tuple[str, str], ...]
    alternative: str


def filmstrip(conn: Reading, study_id: int, words: Words) -> tuple[Strip, ...]:
    """The series of a study with their instances, in order, as far as whoever asks may see them."""
    strips: list[tuple[Uid, str, list[Frame]]] = []
    for row in sight.instances_of(conn, access.sight(), study_id):
        if not strips or strips[-1][0] != row.series_instance_uid:
            said = (words.modality(row.modality), row.series_description)
            title = " · ".join(dict.fromkeys(part for part in said if part))
            strips.append((row.series_instance_uid, title or words("study.series"), []))
        frames = strips[-1][2]
        frames.append(
            Frame(
                id=row.id,
                label=words("study.image_number", number=row.instance_number or str(len(frames) + 1)),
                mark=_mark(row, words),
                has_pixels=bool(row.rows and row.columns),
            )
        )
    return tuple(Strip(title, tuple(frames)) for _, title, frames in strips)


def _mark(row: InstanceRow, words: Words) -> str:
    if row.version:
        return words("viewer.version", number=row.version + 1)
    if row.number_of_frames > 1:
        return f"{row.number_of_frames}×"
    return row.image_laterality if row.image_laterality in ("R", "L") else ""


def viewer_of(instance_id: InstanceId, words: Words) -> ViewerPart:
    """The viewer with that instance. Raises `Unknown`."""
    with console().box.catalog.reading() as conn:
        row = sight.instance(conn, access.sight(), instance_id)
    if row is None:
        raise access.not_there("image", instance_id)
    try:
        with recall.open_object(console().box, row.object_id, row.key_id, row.sealed_bytes) as reader:
            facts = console().darkroom.describe(reader, row.size_bytes)
    except (NotShown, Corrupt, Unknown, Transient, OperatorNeeded):
        facts = None  # the picture says why
    if facts is not None and not access.sight().identified:
        facts = _without_words(facts)
    return ViewerPart(
        instance=row.id,
        study=row.study_id,
        frames=facts.frames if facts else 1,
        presets=_presets(row, facts, words),
        grey=facts is not None and not facts.colour,
        badges=_badges(row, facts, words),
        facts=_facts(row, facts, words),
        alternative=words("viewer.picture_of", modality=words.modality(row.modality)),
    )


def _without_words(facts: Facts) -> Facts:
    """`facts` without what people and machines typed."""
    windows = tuple(replace(window, explanation="") for window in facts.windows)
    return replace(facts, windows=windows, region="", teeth=())


def _presets(row: InstanceRow, facts: Facts | None, words: Words) -> tuple[Preset, ...]:
    presets = [Preset("recorded", words("tone.recorded")), Preset("full", words("tone.full"))]
    for number, window in enumerate(facts.windows[:8] if facts else ()):
        label = window.explanation[:40] or words("tone.window", number=number + 1)
        presets.append(Preset(f"window|{window.center:g}|{window.width:g}", label))
    if row.modality == "CT":
        presets += [
            Preset(f"window|{center}|{width}", words(f"tone.{name}")) for name, center, width in _CT_WINDOWS
        ]
    return tuple(presets)


def _badges(row: InstanceRow, facts: Facts | None, words: Words) -> tuple[Badge, ...]:
    badges = []
    if row.patient_conflict:
        badges.append(Badge(words("badge.patient_conflict"), "bad"))
    if row.version:
        badges.append(Badge(words("badge.version", number=row.version + 1), "wait"))
    if facts is not None and facts.lossy:
        badges.append(Badge(words("badge.lossy"), "wait"))
    if facts is not None and facts.spacing_mm is None:
        badges.append(Badge(words("badge.uncalibrated"), "wait"))
    return tuple(badges)


def _facts(row: InstanceRow, facts: Facts | None, words: Words) -> tuple[tuple[str, str], ...]:
    recorded: list[tuple[str, str]] = [("fact.modality", words.modality(row.modality))]
    if facts is not None:
        side = facts.laterality  # the instance's own: its series may say what only its first image was
        recorded += [
            ("fact.side", words(f"side.{side}") if words.has(f"side.{side}") else side),
            ("fact.region", facts.region),
            ("fact.teeth", words.several(facts.teeth)),
            ("fact.size", f"{facts.columns} × {facts.rows}"),
            ("fact.frames", str(facts.frames) if facts.frames > 1 else ""),
        ]
        if facts.spacing_mm is not None:
            across, down = words.decimal(facts.spacing_mm[1]), words.decimal(facts.spacing_mm[0])
            recorded.append(("fact.spacing", f"{across} × {down} mm"))
    if access.sight().identified:
        recorded += [("fact.from", row.origin_name), ("fact.received", words.moment(row.received_utc))]
    recorded += [
        ("fact.bytes", words.size(row.size_bytes)),
    ]
    return tuple((words(key), value) for key, value in recorded if value)
