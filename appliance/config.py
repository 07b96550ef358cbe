"""What the operator wishes: one frozen `Config`, validated once, from a TOML file and the environment.

The TOML file named by ``APPLIANCE_CONFIG`` is read first; the environment variables of the contract win over it::

    data = "/var/lib/appliance"  # APPLIANCE_DATA
    ae_title = "CLINICBOX"  # APPLIANCE_AE_TITLE
    log_level = "INFO"  # APPLIANCE_LOG_LEVEL
    log_format = "text"  # APPLIANCE_LOG_FORMAT

    [dicom]
    port = 11112  # APPLIANCE_DICOM_PORT
    tls_port = 2762  # APPLIANCE_DICOM_TLS_PORT

    [web]
    port = 8080  # APPLIANCE_WEB_PORT

Unknown keys are refused with the nearest right name: a mistyped key that is ignored is a setting that silently does
not hold. The sections are the dataclasses below, so a field's name is its key and its default is the default.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast, get_type_hints

from appliance.errors import OperatorNeeded, Refused
from appliance.model import AETitle, ae_title

MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class DicomConfig:
    """The listening side of DICOM. Times in seconds, sizes in bytes."""

    bind: str = "0.0.0.0"
    port: int = 11112
    tls_port: int = 2762
    workers: int = 2
    max_associations: int = 64
    max_pdu_bytes: int = 128 * 1024
    network_timeout_seconds: int = 180
    acse_timeout_seconds: int = 30

    @property
    def own_address(self) -> str:
        """Where this machine itself calls it, and the address that such a call comes from."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.bind, self.bind)


@dataclass(frozen=True, slots=True)
class WebConfig:
    """The console. It listens on loopback unless told otherwise: TLS is terminated in front of it."""

    bind: str = "127.0.0.1"
    port: int = 8080
    threads: int = 64


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """Space that is never given away, and the size of each worker's intake log."""

    reserve_bytes: int = GIB
    log_bytes: int = 256 * MIB


@dataclass(frozen=True, slots=True)
class CourierConfig:
    """How deliveries leave."""

    workers_per_destination: int = 2
    lease_seconds: int = 300


@dataclass(frozen=True, slots=True)
class Config:
    """Everything an operator can set outside the console."""

    data: Path = Path("var")
    ae_title: AETitle = AETitle("CLINICBOX")
    log_level: str = "INFO"
    log_format: str = "text"
    dicom: DicomConfig = field(default_factory=DicomConfig)
    web: WebConfig = field(default_factory=WebConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    courier: CourierConfig = field(default_factory=CourierConfig)


ENVIRONMENT: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "APPLIANCE_DATA": ("data",),
        "APPLIANCE_AE_TITLE": ("ae_title",),
        "APPLIANCE_LOG_LEVEL": ("log_level",),
        "APPLIANCE_LOG_FORMAT": ("log_format",),
        "APPLIANCE_DICOM_BIND": ("dicom", "bind"),
        "APPLIANCE_DICOM_PORT": ("dicom", "port"),
        "APPLIANCE_DICOM_TLS_PORT": ("dicom", "tls_port"),
        "APPLIANCE_WEB_BIND": ("web", "bind"),
        "APPLIANCE_WEB_PORT": ("web", "port"),
    }
)
"""The variables of the contract and the key that each one sets; ``APPLIANCE_CONFIG`` names the file."""

_LEAST = {
    "workers": 1,
    "max_associations": 1,
    "max_pdu_bytes": 4096,
    "network_timeout_seconds": 1,
    "acse_timeout_seconds": 1,
    "threads": 4,
    "reserve_bytes": 0,
    "log_bytes": 4 * MIB,
    "workers_per_destination": 1,
    "lease_seconds": 10,
}
_LOG_FORMATS = ("text", "json")
_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def load_config(environ: Mapping[str, str]) -> Config:
    """The configuration that `environ` and the file it names describe.

    Raises `OperatorNeeded`, naming the file or variable, the key and what would be right.
    """
    for name in environ:
        if name.startswith("APPLIANCE_") and name not in ENVIRONMENT and name != "APPLIANCE_CONFIG":
            raise _unknown_key(name, [*ENVIRONMENT, "APPLIANCE_CONFIG"], "the environment")
    path = environ.get("APPLIANCE_CONFIG")
    wishes = _read(Path(path)) if path else {}
    sources: dict[str, str] = {}
    for variable, keys in ENVIRONMENT.items():
        if variable in environ:
            section = wishes
            for key in keys[:-1]:
                section = section.setdefault(key, {})
                if not isinstance(section, dict):
                    raise OperatorNeeded(f"{key} in {path} is not a section", hint=f"write it as [{key}]")
            section[keys[-1]] = environ[variable]
            sources[".".join(keys)] = variable
    config: Config = _build(Config, wishes, path=str(path), sources=sources, section="")
    return config


@dataclass(frozen=True, slots=True)
class Wish:
    """One key of the configuration, its value as text, and where that comes from: a variable, the file, or nothing."""

    key: str
    value: str
    source: str


def wishes(config: Config, environ: Mapping[str, str]) -> tuple[Wish, ...]:
    """Every key of `config`, which `load_config` made of `environ`, with where its value comes from.

    `source` is empty for a default. Nothing of the configuration is a secret.
    """
    path = environ.get("APPLIANCE_CONFIG")
    written = _read(Path(path)) if path else {}
    variables = {".".join(keys): variable for variable, keys in ENVIRONMENT.items()}
    found: list[Wish] = []
    for each in fields(config):
        value = getattr(config, each.name)
        section = written.get(each.name, {})
        if not is_dataclass(value):
            inside = [(each.name, value, each.name in written)]
        else:
            inside = [
                (f"{each.name}.{own.name}", getattr(value, own.name), own.name in section)
                for own in fields(value)
            ]
        for key, current, in_file in inside:
            variable = variables.get(key, "")
            source = variable if variable in environ else str(path) if in_file else ""
            found.append(Wish(key, str(current), source))
    return tuple(found)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise OperatorNeeded(
            f"the configuration file {path} does not exist", hint="create it, or unset APPLIANCE_CONFIG"
        ) from error
    except OSError as error:
        raise OperatorNeeded(
            f"the configuration file {path} cannot be read ({error.strerror})", hint="check its permissions"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OperatorNeeded(f"{path} is not TOML: {error}", hint="correct that line") from error


def _build(
    kind: type[Any], wishes: Mapping[str, Any], *, path: str, sources: Mapping[str, str], section: str
) -> Any:
    """An instance of the dataclass `kind` with `wishes` over its defaults; `sources` names variables by dotted key."""
    hints = get_type_hints(kind)
    names = [each.name for each in fields(kind)]
    values: dict[str, Any] = {}
    for key, value in wishes.items():
        dotted = f"{section}{key}"
        if key not in names:
            raise _unknown_key(dotted, [f"{section}{name}" for name in names], path)
        if is_dataclass(hints[key]):
            if not isinstance(value, Mapping):
                raise OperatorNeeded(f"{dotted} in {path} is not a section", hint=f"write it as [{key}]")
            values[key] = _build(
                cast(type[Any], hints[key]), value, path=path, sources=sources, section=f"{dotted}."
            )
        elif dotted in sources:
            values[key] = _value(hints[key], key, _number(hints[key], value), sources[dotted])
        else:
            values[key] = _value(hints[key], key, value, f"{dotted} in {path}")
    return kind(**values)


def _number(hint: object, text: str) -> object:
    """A variable's text as a number where one is wanted and it is one; else as it is, for `_value` to refuse."""
    return int(text) if hint is int and text.strip().isdecimal() else text


def _value(hint: object, key: str, value: object, where: str) -> Any:
    """`value` checked and converted for the field `key`, or `OperatorNeeded`."""
    if key == "ae_title":
        try:
            return ae_title(str(value))
        except Refused as error:
            raise OperatorNeeded(f"{where}: {error.message}", hint=error.hint) from error
    if key == "data":
        if not isinstance(value, str) or not value.strip() or "\0" in value:
            raise OperatorNeeded(
                f"{where} is not a folder name", hint="give a path, such as /var/lib/appliance"
            )
        try:
            return Path(value).expanduser()
        except RuntimeError as error:
            raise OperatorNeeded(
                f"{where} names a home folder that does not exist",
                hint="give a path, such as /var/lib/appliance",
            ) from error
    if key == "log_level":
        if str(value).upper() not in _LOG_LEVELS:
            raise OperatorNeeded(f"{where} is {value!r}", hint="use one of " + ", ".join(_LOG_LEVELS))
        return str(value).upper()
    if key == "log_format":
        if value not in _LOG_FORMATS:
            raise OperatorNeeded(f"{where} is {value!r}", hint="use one of " + ", ".join(_LOG_FORMATS))
        return str(value)
    if hint is int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise OperatorNeeded(f"{where} is {value!r}", hint="give a whole number")
        if key.endswith("port"):
            if not 1 <= value <= 65535:
                raise OperatorNeeded(f"{where} is {value}", hint="a port is a number from 1 to 65535")
        elif value < _LEAST[key]:
            raise OperatorNeeded(f"{where} is {value}", hint=f"the least is {_LEAST[key]}")
        return value
    if not isinstance(value, str) or not value.strip():
        raise OperatorNeeded(f"{where} is {value!r}", hint="give a text")
    return value


def _unknown_key(name: str, known: list[str], where: str) -> OperatorNeeded:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]}?" if nearest else "known here: " + ", ".join(sorted(known))
    return OperatorNeeded(f"there is no setting {name} ({where})", hint=hint)
