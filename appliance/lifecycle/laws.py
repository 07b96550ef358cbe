"""How long the provinces want records kept, with the source of each figure, and a clinic's figures beside them. Pure.

Chosen: the law is data of the software, so that an update brings a change of it, and the clinic's own figures are rows of
the catalog, which no update touches. A clinic may lengthen and never shorten below the law (`check_own`). What is only
prudent (`Basis.ADVICE`) holds until the clinic decides. Where a province's rule for a kind of record isn't known here,
nothing of that kind is ever due, until the clinic has looked it up and given a figure of its own.

A figure is measured by the law of the province whenever it is used (`counts`), not only when it is given: the province may be another
one since, by whatever way it was changed, and so may the law of a later version. What is too short by now counts no more, and what was
given for another province, or nobody knows for which, only lengthens: it takes no advice's place, and makes nothing due where no law is
known. Rejected: to refuse another province while such a figure stands, because the setup and a restore ask nobody; and to let none of
another province count, because studies would be due sooner without it.

A figure that nobody has compared with its text says so (`verified` is None) wherever it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from types import MappingProxyType

from appliance.errors import Refused
from appliance.lifecycle.policy import Basis, RecordType, Rule, RuleBook, Starts

MAJORITY_YEARS: Mapping[str, int] = MappingProxyType(
    {
        "AB": 18, "BC": 19, "MB": 18, "NB": 19, "NL": 19, "NS": 19, "NT": 19,
        "NU": 19, "ON": 18, "PE": 18, "QC": 18, "SK": 18, "YT": 19,
    }
)  # fmt: skip
"""The age of majority, by province and territory."""

LEAST_UNKNOWN_YEARS = 10
"""The least that a clinic may choose where no law is known here: what most of the known ones ask for."""
MOST_YEARS = 100

_DENTAL, _MEDICAL = RecordType.DENTAL, RecordType.MEDICAL
_ENTRY, _MAJORITY = Starts.LAST_ENTRY, Starts.MAJORITY
_LAW, _ADVICE = Basis.LAW, Basis.ADVICE
_READ = date(2026, 11, 25)
"""When the texts were read for this table."""
_COLLECTED = date(2026, 11, 22)
"""When the figures were gathered from what the orders and colleges publish."""
_CMPA = "CMPA / ACPM, Retention and transfer of clinical records"
_RCDSO = "RCDSO, Dental Recordkeeping"
_CPSBC = "CPSBC Bylaws, s. 3-6(2)"
_BC_DENTAL = "BC College of Oral Health Professionals, Dental Recordkeeping Guidelines"
_NEW_LIMITS = date(2013, 6, 1)
"""The day on which the Limitation Act of British Columbia (S.B.C. 2012, c. 13) came into force."""

LAWS: Mapping[str, tuple[Rule, ...]] = MappingProxyType(
    {
        "QC": (
            Rule("qc-medical", _MEDICAL, _ENTRY, 10, _LAW, "M-9, r. 20.3.1, s. 14 (CMQ)", _READ),
            Rule("qc-medical-minor", _MEDICAL, _MAJORITY, 10, _ADVICE, _CMPA, _READ),
            Rule("qc-dental", _DENTAL, _ENTRY, 5, _LAW, "D-3, r. 16 (ODQ)"),
            Rule("qc-dental-minor", _DENTAL, _MAJORITY, 5, _ADVICE, "D-3, r. 16 (ODQ)"),
        ),
        "ON": (
            Rule("on-medical", _MEDICAL, _ENTRY, 10, _LAW, "CPSO, Medical Records Management", _COLLECTED),
            Rule("on-medical-minor", _MEDICAL, _MAJORITY, 10, _LAW, "CPSO, Medical Records Management", _COLLECTED),
            Rule("on-medical-prudent", _MEDICAL, _ENTRY, 15, _ADVICE, "CPSO, Medical Records Management", _COLLECTED),
            Rule("on-dental", _DENTAL, _ENTRY, 10, _LAW, _RCDSO, _READ),
            Rule("on-dental-minor", _DENTAL, _MAJORITY, 10, _LAW, _RCDSO, _READ),
        ),
        "BC": (
            Rule("bc-medical", _MEDICAL, _ENTRY, 16, _LAW, _CPSBC, _READ),
            Rule("bc-medical-minor", _MEDICAL, _MAJORITY, 16, _LAW, _CPSBC, _READ),
            Rule("bc-dental", _DENTAL, _ENTRY, 16, _LAW, _BC_DENTAL, _READ),
            Rule("bc-dental-minor", _DENTAL, _MAJORITY, 16, _LAW, _BC_DENTAL, _READ),
            Rule(
                "bc-dental-before-2013", _DENTAL, _ENTRY, 31, _LAW, _BC_DENTAL, _READ,
                entries_before=_NEW_LIMITS, not_beyond=date(2029, 6, 1),
            ),
            Rule(
                "bc-dental-before-2013-minor", _DENTAL, _MAJORITY, 31, _LAW, _BC_DENTAL, _READ,
                entries_before=_NEW_LIMITS, not_beyond=date(2029, 6, 1),
            ),
        ),
        "AB": (
            Rule("ab-medical", _MEDICAL, _ENTRY, 10, _LAW, "CPSA, Patient Record Retention"),
            Rule("ab-medical-minor", _MEDICAL, _MAJORITY, 2, _LAW, "CPSA, Patient Record Retention"),
            Rule("ab-medical-minor-prudent", _MEDICAL, _MAJORITY, 10, _ADVICE, _CMPA, _READ),
        ),
    }
)  # fmt: skip
"""What is known, by province. A province that isn't here has its rules too: the clinic must look them up.

The two of British Columbia for records from before June 2013 can apply to nothing that a box with a true clock has received, of whatever
year the images are: an entry is never before its receipt (`policy.entry_of`), and no way gives a receipt from before the box. An image
counts as received when it comes in, out of files too (`ingest.importing`), and a restore takes over the hour that the box before
wrote down (`replication.retold`). Only a clock that stood before June 2013 while nothing else was known of the hour makes such a receipt
(`catalog.known_clock`). They are here because they are the law of that province, and the clinic is shown them.
"""


@dataclass(frozen=True, slots=True)
class OwnFigure:
    """A figure of the clinic's own: `years` for records of a type, counted from `starts`; who gave it, when and why.

    `province` is the one for which it was given, and measured; empty where earlier software noted none.
    """

    record_type: RecordType
    starts: Starts
    years: int
    reason: str = ""
    by: str = ""
    at_utc: datetime | None = None
    province: str = ""

    @property
    def id(self) -> str:
        """How a decision names it."""
        return f"clinic-{self.record_type}-{self.starts}"

    @property
    def source(self) -> str:
        """What it rests on, as lists and certificates for programs say it, in English; `causes` of each language has it for people."""
        if self.at_utc is None:
            return "the clinic's own period"
        day = self.at_utc.astimezone(UTC).date()
        return f"the clinic's own period, set by {self.by} on {day} UTC: {self.reason}"


def book(province: str, own: Sequence[OwnFigure]) -> RuleBook:
    """The rules that hold in `province` for a clinic with figures of its own.

    The law always holds; advice only where the clinic has not chosen for itself, in this province. Without a province no rule is known,
    the clinic's own neither: they were measured by a law that is not known either.
    """
    if not province:
        return RuleBook(max(MAJORITY_YEARS.values()), ())
    counting = [each for each in own if counts(province, each)]
    chosen = {(each.record_type, each.starts) for each in counting if each.province == province}
    known = tuple(
        rule
        for rule in LAWS.get(province, ())
        if rule.basis is Basis.LAW or (rule.record_type, rule.starts) not in chosen
    )
    mine = tuple(
        Rule(each.id, each.record_type, each.starts, each.years, Basis.CLINIC, each.source)
        for each in counting
    )
    return RuleBook(MAJORITY_YEARS[province], known + mine)


def counts(province: str, figure: OwnFigure) -> bool:
    """Whether a figure that was given once counts in `province`; none does while no province is known.

    One that is too short, or of another province, must not stand where no law is known: it alone would say there when something is due.
    """
    if not province or figure.years < least_years(province, figure.record_type, figure.starts)[0]:
        return False
    return (
        figure.province == province
        or figure.starts is Starts.MAJORITY
        or figure.record_type is RecordType.MAMMOGRAPHY
        or _is_known(province, figure.record_type)
    )


def least_years(province: str, record_type: RecordType, starts: Starts) -> tuple[int, Rule | None]:
    """The least that a clinic may choose, with the law that says so; None where it is the care of this software."""
    laws = [
        rule
        for rule in LAWS.get(province, ())
        if rule.basis is Basis.LAW
        and rule.record_type is record_type
        and rule.starts is starts
        and rule.entries_before is None
    ]
    if laws:
        longest = max(laws, key=lambda each: each.years)
        return longest.years, longest
    beside_another = (
        _is_known(province, record_type) or record_type is RecordType.MAMMOGRAPHY or starts is Starts.MAJORITY
    )
    return (1 if beside_another else LEAST_UNKNOWN_YEARS), None


def _is_known(province: str, record_type: RecordType) -> bool:
    return any(rule.record_type is record_type for rule in LAWS.get(province, ()))


def check_own(province: str, figure: OwnFigure) -> None:
    """Raise `Refused`, with the source of the law, for a figure that is too short or absurd, and for any while no province is known."""
    if not province:
        raise Refused(
            "it is not known in which province the clinic is", hint="choose the province of the clinic"
        )
    least, law = least_years(province, figure.record_type, figure.starts)
    if figure.years < least and law is not None:
        raise Refused(
            f"the law asks for at least {least} years: {law.source}",
            hint="a clinic may keep records longer than the law asks for, and never shorter",
        )
    if figure.years < least:
        raise Refused(
            f"without a law that is known here, records are kept for at least {least} years",
            hint="look up what your province and your order ask for, and give that figure",
        )
    if figure.years > MOST_YEARS:
        raise Refused(f"records are kept for at most {MOST_YEARS} years", hint="give a smaller number")
