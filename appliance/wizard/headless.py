"""Setting up from an answers file: the same engine as the pages, and idempotent, so that a second run changes nothing.

Each step comes to one of four outcomes: *done* now, *kept* as it was, *later* because nothing was answered, *failed*
with a cause. A failure doesn't stop the steps behind it that do not need it; the test study is run last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from appliance import audit, certificates, health, identity, settings
from appliance.box import Box
from appliance.catalog import Transaction, devices, people
from appliance.dicom.door import plain_address
from appliance.errors import ApplianceError, Refused
from appliance.identity import Role
from appliance.model import DestinationSettings, Device, ae_title
from appliance.store import keys
from appliance.wizard import copies, machines, places, progress, runs, trial
from appliance.wizard.answers import Answers
from appliance.wizard.steps import DEFERRABLE, State, Step
from appliance.wizard.trial import Picture

ReadSecret = Callable[[str, str], str]
"""The secret of that name in the file of that path, or on standard input."""


class Ending(StrEnum):
    """What a step came to."""

    DONE = "done"
    KEPT = "kept"
    LATER = "later"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One step, with a cause or what is left to do; `exit_code` is the error's, 0 without one."""

    step: str
    ending: Ending
    words: str = ""
    exit_code: int = 0


def run(box: Box, answers: Answers, secret: ReadSecret, picture: Picture, actor: str) -> Iterator[Outcome]:
    """Do each step, and tell what it came to as it ends. Never raises for a step that fails."""
    work = _Work(box, answers, secret, picture, actor)
    steps: tuple[tuple[Step, object, Callable[[], Ending]], ...] = (
        (Step.CLAIM, answers.owner, work.owner),
        (Step.CLINIC, answers.clinic, work.clinic),
        (Step.NETWORK, answers.network, work.network),
        (Step.RECOVERY, answers.recovery, work.recovery),
        (Step.STORAGE, answers.copies, work.copies),
        (Step.DEVICES, answers.devices, work.devices),
        (Step.TRIAL, answers.trial, work.trial),
    )
    for step, answered, act in steps:
        if not answered:
            yield work.left(step)
            continue
        try:
            ending = act()
        except ApplianceError as error:
            yield Outcome(step, Ending.FAILED, str(error), error.exit_code)
        else:
            yield Outcome(step, ending)
            if ending is Ending.DONE:
                work.record(step)
    yield work.report()


@dataclass(frozen=True)
class _Work:
    box: Box
    answers: Answers
    secret: ReadSecret
    picture: Picture
    actor: str

    def left(self, step: Step) -> Outcome:
        """Nothing was answered: as it is, or later."""
        with self.box.catalog.transaction() as tx:
            if progress.plan_of(self.box, tx).place(step).state is State.DONE:
                return Outcome(step, Ending.KEPT)
            if step in DEFERRABLE:
                progress.leave_for_later(tx, step, _now())
        words = "print it with 'appliance key show-recovery', then answer recovery.key_file"
        return Outcome(step, Ending.LATER, words if step is Step.RECOVERY else "nothing was answered")

    def record(self, step: Step) -> None:
        """Note that `step` was answered."""
        with self.box.catalog.transaction() as tx:
            progress.take_up(tx, step, _now())
            self._append(tx, "setup:step", step.value)

    def owner(self) -> Ending:
        wanted = self.answers.owner
        assert wanted is not None
        with self.box.catalog.reading() as conn:
            if people.anybody(conn):
                return Ending.KEPT
        password = self.secret("Password", wanted.password_file)
        with self.box.catalog.transaction() as tx:
            if people.anybody(tx):
                return Ending.KEPT
            person = identity.add_user(
                tx,
                login=wanted.login,
                name=wanted.name,
                role=Role.OWNER,
                password=password,
                language=wanted.language,
                now=_now(),
            )
            self._append(tx, "user:add", f"user:{person.login}", {"role": Role.OWNER.value})
            with suppress(Refused):  # as at the claim: a language that the box cannot speak by itself yet
                change = {"language.default": wanted.language}
                settings.change(tx, self.box.audit_key, change, actor=self.actor, now=_now())
        return Ending.DONE

    def clinic(self) -> Ending:
        wanted = self.answers.clinic
        assert wanted is not None
        values = {f"clinic.{name}": getattr(wanted, name) for name in wanted.__slots__}
        with self.box.catalog.transaction() as tx:
            changed = settings.change(tx, self.box.audit_key, values, actor=self.actor, now=_now())
        return Ending.DONE if changed else Ending.KEPT

    def network(self) -> Ending:
        wanted = self.answers.network
        assert wanted is not None
        host_name = certificates.normal_host_name(wanted.host_name)
        ending = Ending.KEPT
        with self.box.catalog.transaction() as tx:
            found = certificates.installed(tx)
            if found is None or found.host_name != host_name:
                clinic, addresses = settings.get(tx, "clinic.name"), certificates.own_addresses()
                certificates.install(
                    tx, self.box, host_name=host_name, clinic=clinic, addresses=addresses, now=_now()
                )
                self._append(tx, "certificate:issue", host_name, {"addresses": list(addresses)})
                ending = Ending.DONE
        certificates.write_files(self.box)
        return ending

    def recovery(self) -> Ending:
        wanted, folder = self.answers.recovery, health.keys_folder(self.box)
        assert wanted is not None
        if keys.recovery_confirmed(folder):
            return Ending.KEPT
        keys.check_recovery(folder, self.box.root, self.secret("Recovery key", wanted.key_file))
        with self.box.catalog.transaction() as tx:
            self._append(tx, "key:check", "recovery key")
        return Ending.DONE

    def copies(self) -> Ending:
        """Each copy that was answered, one after the other: the first that fails ends it."""
        return Ending.DONE if [each for each in self._places() if self._copy(*each)] else Ending.KEPT

    def _places(self) -> Iterator[tuple[DestinationSettings, str]]:
        """Where copies go, each with the fingerprint of its key, if it has one."""
        if (cloud := self.answers.cloud) is not None:
            secret = self.secret("Secret access key", cloud.secret_file) if cloud.secret_file else ""
            yield (
                places.bucket(
                    name=cloud.bucket,
                    region=cloud.region,
                    access_key_id=cloud.access_key_id,
                    endpoint_url=cloud.endpoint_url,
                    canadian=cloud.canadian,
                    secret=secret,
                ),
                "",
            )
        if (disk := self.answers.disk) is not None:
            yield places.disk(disk.path), ""
        if (server := self.answers.server) is not None:
            yield (
                places.server(
                    address=server.address,
                    port=server.port,
                    folder=server.folder,
                    user=server.user,
                    secret=self.secret("Password", server.password_file),
                ),
                server.fingerprint,
            )
        if (share := self.answers.share) is not None:
            yield (
                places.share(
                    address=share.address,
                    port=share.port,
                    share=share.share,
                    folder=share.folder,
                    user=share.user,
                    domain=share.domain,
                    secret=self.secret("Password", share.password_file),
                ),
                "",
            )

    def _copy(self, wanted: DestinationSettings, fingerprint: str) -> bool:
        """Keep and try one copy; whether anything was to be done. The same as before is not asked again."""
        with self.box.catalog.transaction() as tx:
            before = copies.found(tx, wanted.kind)
            if before is not None and copies.is_the_same(before, wanted, fingerprint):
                last = copies.latest(self.box, tx, before)
                if last is not None and last.passed:
                    return False
            place = copies.keep(tx, self.box, wanted, fingerprint, self.actor, _now())
        _raise_failed(copies.run(self.box, place, self.actor, fingerprint))
        return True

    def devices(self) -> Ending:
        ending = Ending.KEPT
        with self.box.catalog.transaction() as tx:
            known = {(each.ae_title, each.address, each.name, each.port) for each in devices.devices(tx)}
            for each in self.answers.devices:
                title, address = ae_title(each.ae_title), plain_address(each.address)
                device = Device(title, address, machines.plain_name(each.name), each.port or None)
                if (device.ae_title, device.address, device.name, device.port) not in known:
                    machines.admit(tx, self.box, device, self.actor, _now())
                    ending = Ending.DONE
        return ending

    def trial(self) -> Ending:
        with self.box.catalog.transaction() as tx:
            before = runs.latest(self.box, tx, trial.RUN)
            made = trial.kept(tx)
            current = made is not None and before is not None and before.subject == made.study_instance_uid
            here_only = before is not None and any(each.state == "left-out" for each in before.parts)
            if current and before is not None and before.passed and not (here_only and self.answers.copies):
                return Ending.KEPT
            made = trial.prepare(tx, _now(), fresh=current and here_only)
        _raise_failed(trial.run(self.box, made, self.picture, self.actor))
        return Ending.DONE

    def report(self) -> Outcome:
        """Finished once nothing is undone but a person's look at the test image."""
        with self.box.catalog.transaction() as tx:
            plan = progress.plan_of(self.box, tx)
            undone = [
                each.step
                for each in plan.places
                if each.state not in (State.DONE, State.LATER) and each.step not in (*DEFERRABLE, Step.REPORT)
            ]
            found = runs.latest(self.box, tx, trial.RUN)
            if undone == [Step.TRIAL] and found is not None and found.passed:
                undone = []
            if undone:
                return Outcome(Step.REPORT, Ending.LATER, f"not yet: {', '.join(undone)}")
            if progress.read(tx).finished is not None:
                return Outcome(Step.REPORT, Ending.KEPT)
            for step in DEFERRABLE:
                if plan.place(step).state is not State.DONE:
                    progress.leave_for_later(tx, step, _now())
            progress.finish(tx, self.actor, _now())
            self._append(tx, "setup:finish", "setup")
        words = "open /setup in the console: look at the test image, and take the report along"
        return Outcome(Step.REPORT, Ending.DONE, words)

    def _append(
        self, tx: Transaction, action: str, subject: str, details: dict[str, object] | None = None
    ) -> None:
        entry = audit.Entry(action, subject, self.actor, details or {})
        audit.append(tx, self.box.audit_key, [entry], _now())


def _raise_failed(run: runs.Run) -> None:
    if (part := run.failed) is not None:
        raise ApplianceError(f"{part.name}: {part.cause}", hint=part.hint)


def _now() -> datetime:
    return datetime.now(UTC)
