"""From measurements to the tables of the README. Pure."""

from collections.abc import Sequence
from statistics import median

from .measure import Column, Measured

BASELINE = "Orthanc +ND"


def tables(measured: Sequence[Measured], columns: Sequence[Column], receivers: Sequence[str]) -> str:
    """Rates, ratios to Orthanc, CPU and settling, as markdown; medians over the rounds."""
    sections = [_rates(measured, columns, receivers)]
    if BASELINE in receivers and len(receivers) > 1:
        sections.append(_ratios(measured, columns, receivers))
    sections.append(_processor(measured, columns, receivers))
    if any(m.settled_seconds is not None for m in measured):
        sections.append(_settling(measured, columns))
    return "\n\n".join(sections)


def rate(measured: Sequence[Measured], column: Column, receiver: str) -> float:
    """The median rate of a cell: MB/s where the column counts in megabytes, else instances/s."""
    return median(
        m.megabytes_per_second if column.in_megabytes else m.instances_per_second
        for m in measured
        if (m.column, m.receiver) == (column.key, receiver)
    )


def _rates(measured: Sequence[Measured], columns: Sequence[Column], receivers: Sequence[str]) -> str:
    head = [
        "receiver",
        *(f"{c.title}, {'MB/s' if c.in_megabytes else 'per s'}" for c in columns),
        "peak RSS MB",
    ]
    rows = [
        [
            receiver,
            *(f"{rate(measured, c, receiver):.0f}" for c in columns),
            f"{max(m.peak_rss_bytes for m in measured if m.receiver == receiver) / 1e6:.0f}",
        ]
        for receiver in receivers
    ]
    return "C-STORE, acknowledged (median of the rounds):\n\n" + _markdown(head, rows)


def _ratios(measured: Sequence[Measured], columns: Sequence[Column], receivers: Sequence[str]) -> str:
    rows = [
        [
            receiver,
            *(f"{rate(measured, c, receiver) / rate(measured, c, BASELINE):.1f}×" for c in columns),
        ]
        for receiver in receivers
    ]
    return f"Ratio to {BASELINE}:\n\n" + _markdown(["receiver", *(c.title for c in columns)], rows)


def _processor(measured: Sequence[Measured], columns: Sequence[Column], receivers: Sequence[str]) -> str:
    def cell(column: Column, receiver: str) -> str:
        per_instance = median(
            m.cpu_seconds / m.instances for m in measured if (m.column, m.receiver) == (column.key, receiver)
        )
        return f"{per_instance * 1000:.2f}"

    rows = [[receiver, *(cell(c, receiver) for c in columns)] for receiver in receivers]
    busiest = max(m.sender_cpu_seconds / m.wall_seconds / _senders(m, columns) for m in measured)
    title = "CPU milliseconds per instance, until the receiver is quiet again"
    note = f"The busiest senders used {busiest:.0%} of a core each."
    return f"{title}:\n\n{_markdown(['receiver', *(c.title for c in columns)], rows)}\n\n{note}"


def _settling(measured: Sequence[Measured], columns: Sequence[Column]) -> str:
    receivers = sorted({m.receiver for m in measured if m.settled_seconds is not None})

    def cell(column: Column, receiver: str) -> str:
        settled = [
            (m.settled_seconds, m.wall_seconds)
            for m in measured
            if (m.column, m.receiver) == (column.key, receiver) and m.settled_seconds is not None
        ]
        return f"{median(w for _, w in settled):.2f} → {median(s for s, _ in settled):.2f}"

    rows = [[receiver, *(cell(c, receiver) for c in columns)] for receiver in receivers]
    title = "Seconds from the first byte until all is acknowledged → until the catalog shows all"
    return f"{title}:\n\n{_markdown(['receiver', *(c.title for c in columns)], rows)}"


def _senders(measured: Measured, columns: Sequence[Column]) -> int:
    return next(c.senders for c in columns if c.key == measured.column)


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
