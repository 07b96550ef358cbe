"""What an operator chooses in the console or at the command line: a typed registry, its values and their history.

::

    SETTINGS        every key there is, with kind, default, bounds and who may change it
    get             the value of a key, or its default; `get_several` reads many at once
    change          validates all or nothing, keeps old and new, writes the audit, in the caller's transaction
    history, undo   what was changed, by whom, when; undoing one change is itself a change

Chose a table over the file of `appliance.config`; because these are changed by people in a browser, need a history, and
must hold in every process at once. The file keeps what is needed before the catalog can be opened: ports, folders.
Rejected: free keys with any JSON, whose typing errors nobody would see.

A secret is a setting of kind `Secret`: sealed under the root key, read through `secret` by what uses it, and never
shown, listed, exported, kept in the history or logged.
"""

from appliance.settings.changing import (
    Change,
    NotAccepted,
    change,
    check,
    get,
    get_section,
    get_several,
    history,
    is_careful,
    is_set,
    revision,
    secret,
    undo,
)
from appliance.settings.kinds import (
    Choice,
    Choices,
    Decimal,
    Flag,
    HoursOfDay,
    Kind,
    Networks,
    OneNumber,
    Secret,
    Span,
    Text,
    Texts,
    WholeNumber,
)
from appliance.settings.registry import SECTIONS, SETTINGS, Careful, Setting, setting

__all__ = [
    "SECTIONS",
    "SETTINGS",
    "Careful",
    "Change",
    "Choice",
    "Choices",
    "Decimal",
    "Flag",
    "HoursOfDay",
    "Kind",
    "Networks",
    "NotAccepted",
    "OneNumber",
    "Secret",
    "Setting",
    "Span",
    "Text",
    "Texts",
    "WholeNumber",
    "change",
    "check",
    "get",
    "get_section",
    "get_several",
    "history",
    "is_careful",
    "is_set",
    "revision",
    "secret",
    "setting",
    "undo",
]
