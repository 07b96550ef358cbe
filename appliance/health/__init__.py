"""Whether the box is ready, and what to do where it isn't: the one judgement behind ``appliance status``,
``/health/ready``, ``/metrics``, the console's start page and its notices.

::

    gathering ──▶ Facts ──▶ checks/* (pure, one a file) ──▶ Problems ──▶ Status

Everything is read, nothing written, and no judgement is remembered: what is mended disappears at the next question.
A problem has a code for scripts, words and a fix for people, a severity, and where the console can help, an act.

Its names are loaded when they are asked for: whoever wants a severity or the codes alone, as the vendor's playbooks do each time they ask
after a box, does not load all that is read of a box.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from appliance.health.attempts import BACKUP, DRILL
    from appliance.health.checks import CHECKS, CODES
    from appliance.health.facts import Facts, Queue
    from appliance.health.gathering import (
        AUDIT_CHECK,
        VERIFICATION,
        gather,
        keys_folder,
        recovery_is_pending,
    )
    from appliance.health.judgement import Status, closed, judge, status, status_of
    from appliance.health.metrics import metrics_text
    from appliance.health.problem import Act, Problem, Severity, Verb

__all__ = [
    "AUDIT_CHECK",
    "BACKUP",
    "CHECKS",
    "CODES",
    "DRILL",
    "VERIFICATION",
    "Act",
    "Facts",
    "Problem",
    "Queue",
    "Severity",
    "Status",
    "Verb",
    "closed",
    "gather",
    "judge",
    "keys_folder",
    "metrics_text",
    "recovery_is_pending",
    "status",
    "status_of",
]

_NAMES = {
    "attempts": ("BACKUP", "DRILL"),
    "checks": ("CHECKS", "CODES"),
    "facts": ("Facts", "Queue"),
    "gathering": ("AUDIT_CHECK", "VERIFICATION", "gather", "keys_folder", "recovery_is_pending"),
    "judgement": ("Status", "closed", "judge", "status", "status_of"),
    "metrics": ("metrics_text",),
    "problem": ("Act", "Problem", "Severity", "Verb"),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """One of `__all__`, at its first use (PEP 562)."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = found
        return found
