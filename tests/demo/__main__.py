"""``python -m tests.demo [--keep]``: the demonstration that `tests.demo` describes. Exits with 1 if a promise breaks."""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite

from appliance.replication.delivery import State
from tests import synthetic
from tests.bench.wire import Encoded, Sender
from tests.demo import stage
from tests.demo.show import Line, say, step, table
from tests.demo.stage import Appliance, Broken, Bucket, Workstation, wait_for

STAGES = ("received", "stored", "delivered", "replicated")
DELIVERED, REPLICATED = "specialist", "cloud"


@dataclass
class Sent:
    """One instance on its way: what it is, and when it reached each stage, in seconds after it was sent."""

    sop_instance_uid: str
    patient: str
    kind: str
    number: str
    size_bytes: int
    sent: float
    reached: dict[str, float] = field(default_factory=dict)

    def mark(self, name: str) -> None:
        """Note that it has reached the stage `name`, the first time this is seen."""
        self.reached.setdefault(name, time.monotonic() - self.sent)

    def story(self) -> str:
        """One line: what it is, and how soon it reached each stage."""
        steps = [f"{name} {self.reached[name]:5.2f} s" for name in STAGES if name in self.reached]
        return f"{self.patient:<25} {self.kind:<26} {self.number:>2}  " + " → ".join(steps)


def encoded(ds: Dataset) -> Encoded:
    """The data set as a modality sends it: without preamble and file meta group."""
    bare = Dataset(dict(ds))
    buffer = BytesIO()
    dcmwrite(buffer, bare, implicit_vr=False, little_endian=True)
    return Encoded(str(ds.SOPClassUID), str(ds.SOPInstanceUID), (buffer.getvalue(),))


def send(box: Appliance, instances: Sequence[Dataset]) -> list[Sent]:
    """Send over one association as the clinic's X-ray machine; each must be answered with success."""
    morning = [encoded(ds) for ds in instances]
    classes = sorted({each.sop_class_uid for each in morning})
    sent = []
    with Sender(box.dicom_port, classes, called="CLINICBOX", calling=stage.MODALITY) as sender:
        for ds, instance in zip(instances, morning, strict=True):
            began = time.monotonic()
            status = sender.store(instance)
            if status != 0:
                raise Broken(f"an instance was answered with status {status:04X}")
            one = Sent(
                instance.sop_instance_uid,
                name_of(ds),
                kind_of(ds),
                str(ds.get("InstanceNumber", "")),
                instance.size_bytes,
                began,
            )
            one.mark("received")
            sent.append(one)
        sender.release()
    return sent


def name_of(ds: Dataset) -> str:
    """The patient's name for people."""
    return f"{ds.PatientName.given_name} {ds.PatientName.family_name}"


def kind_of(ds: Dataset) -> str:
    """What it is: modality and description."""
    frames = f", {ds.NumberOfFrames} frames" if ds.get("NumberOfFrames") else ""
    return f"{ds.Modality}  {ds.get('SeriesDescription', '')}{frames}"


def watch(box: Appliance, batch: Sequence[Sent], until: Sequence[str], what: str) -> None:
    """Follow `batch` through the stages until all have reached those of `until`, and show each that has."""
    line = Line(what, len(batch), STAGES)
    deadline = time.monotonic() + stage.PATIENCE_SECONDS
    by_uid = {one.sop_instance_uid: one for one in batch}
    arrived: set[str] = set()
    while True:
        for row in box.deliveries():
            one = by_uid.get(row.sop_instance_uid)
            if one is None:
                continue
            one.mark("stored")
            if row.state is State.CONFIRMED:
                if not row.receipt:
                    raise Broken("a delivery is confirmed without a receipt")
                one.mark("delivered" if row.destination == DELIVERED else "replicated")
        for one in batch:
            if one.sop_instance_uid not in arrived and all(name in one.reached for name in until):
                arrived.add(one.sop_instance_uid)
                line.note(one.story())
        line.show(Counter(name for one in batch for name in one.reached))
        if len(arrived) == len(batch):
            line.done()
            return
        if time.monotonic() > deadline or not box.alive():
            line.done()
            raise Broken(f"not all instances were {' and '.join(until)} in time")
        time.sleep(0.05)


def set_up(box: Appliance, bucket: Bucket, station: Workstation) -> None:
    """What a clinic tech does once."""
    box.say(
        "device", "add", "--ae-title", stage.MODALITY, "--address", "127.0.0.1", "--name", "X-ray, room 1"
    )
    box.say(
        *("destination", "add", "s3", REPLICATED, "--bucket", stage.BUCKET, "--region", stage.REGION),
        *("--endpoint-url", f"http://127.0.0.1:{bucket.cable.port}", "--canadian"),
        *("--access-key-id", stage.ACCESS_KEY),
        typed=stage.SECRET + "\n",
    )
    box.say(
        *("destination", "add", "dicom", DELIVERED, "--ae-title", stage.SPECIALIST),
        *("--address", "127.0.0.1", "--port", str(station.port)),
    )
    for name in (REPLICATED, DELIVERED):
        say(box.say("destination", "test", name))
        box.say("rule", "add", "--to", name)


def prove(box: Appliance, bucket: Bucket, station: Workstation, sent: Sequence[Sent]) -> None:
    """Ask everybody concerned; raise `Broken` where an answer isn't the promised one."""
    say(box.say("verify", "--all"))
    say(box.say("audit", "verify").splitlines()[0])
    studies = box.ask("studies")
    kept = sum(row["instances"] for row in studies)
    if kept != len(sent):
        raise Broken(f"{len(sent)} instances were sent and {kept} are kept")
    missing = {one.sop_instance_uid for one in sent} - station.seen
    if missing:
        raise Broken(f"the specialist lacks {len(missing)} instances")
    objects = [key for key in bucket.objects() if key.startswith("objects/")]
    if len(objects) != len(sent):
        raise Broken(f"the bucket holds {len(objects)} sealed objects for {len(sent)} instances")
    say(f"The bucket holds {len(objects)} sealed objects, the specialist {len(station.seen)} images.")
    leak = marker_in(box.data.parent)
    if leak is not None:
        raise Broken(f"a patient's name lies in clear in {leak}")
    say("No patient's name or number lies in clear in data folder or log.")


def marker_in(folder: Path) -> Path | None:
    """The first file below `folder` that holds a patient's name or number in clear."""
    markers = list(synthetic.marker_bytes())
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            if any(marker in content for marker in markers):
                return path
    return None


def summary(sent: Sequence[Sent]) -> None:
    """The table of what went where, and how soon."""
    by_kind: dict[tuple[str, str], list[Sent]] = {}
    for one in sent:
        by_kind.setdefault((one.patient, one.kind), []).append(one)
    rows = []
    for (patient, kind), members in by_kind.items():
        size = sum(one.size_bytes for one in members) / 1e6
        slowest = [max(one.reached[name] for one in members) for name in STAGES]
        rows.append(
            [patient, kind, str(len(members)), f"{size:.1f}", *(f"{seconds:.2f}" for seconds in slowest)]
        )
    total = [str(len(sent)), f"{sum(one.size_bytes for one in sent) / 1e6:.1f}"]
    rows.append(["", "in all", *total, "", "", "", ""])
    headings = ["patient", "what", "images", "MB", *(f"{name} s" for name in STAGES)]
    table(headings, rows, right=range(2, len(headings)))
    say("Seconds after sending, of the slowest image of each line, as seen from outside.")


def play(folder: Path, *, scale: float, keep: bool) -> None:
    """The whole demonstration in `folder`."""
    with stage.s3_server() as bucket, stage.workstation() as station:
        step(
            "Starting the appliance in a temporary folder, with a local S3 server and a specialist's workstation"
        )
        with stage.appliance(folder) as box:
            set_up(box, bucket, station)
            wait_for(box.ready, "the console says that the box is ready")

            step(
                "A morning at the clinic: a panoramic, a full mouth of 18 films, a cephalogram, a CBCT, a photograph"
            )
            first = send(box, list(synthetic.dental_set(1, scale=scale)))
            watch(box, first, STAGES, "images")

            step("The line to the cloud is cut; the X-ray machine knows nothing of it")
            bucket.cable.cut()
            second = send(box, list(afternoon(scale)))
            watch(box, second, ("stored", "delivered"), "images")
            waiting = [row for row in box.ask("deliveries") if row["state"] != "CONFIRMED"]
            if len(waiting) != len(second) or any(row["destination"] != REPLICATED for row in waiting):
                raise Broken(
                    f"{len(waiting)} deliveries wait, and it should be the {len(second)} to the cloud"
                )
            say(f"{len(waiting)} sealed objects wait for the cloud; everything else goes on.")

            step("The line is back; the queue drains by itself")
            bucket.cable.mend()
            watch(box, second, STAGES, "images")

            step("Proof")
            sent = [*first, *second]
            prove(box, bucket, station, sent)
            print()
            summary(sent)
            print(
                f"\nConsole: http://localhost:{box.web_port}"
                + ("" if keep else "  (--keep leaves it running)")
            )
            if keep:
                print(
                    f"Data: {box.data}\nClaim code and log: {folder / 'appliance.log'}\nCtrl-C ends it.",
                    flush=True,
                )
                with_patience(box)


def afternoon(scale: float) -> Iterator[Dataset]:
    """What is sent during the cut: other patients, a joint series and another panoramic."""
    yield synthetic.panoramic(2, patient=synthetic.ZOE, scale=scale)
    yield from synthetic.tmj_series(2, patient=synthetic.ANDRE, scale=scale)


def with_patience(box: Appliance) -> None:
    """Stay until Ctrl-C, or until the appliance ends."""
    try:
        while box.alive():
            time.sleep(0.5)
    except KeyboardInterrupt:
        print()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demonstration; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description="The main job in one terminal.")
    parser.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C")
    parser.add_argument("--scale", type=float, default=1.0, help="size of the images, 1.0 is 25 MB in all")
    arguments = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="appliance-demo-"))
    try:
        play(folder, scale=arguments.scale, keep=arguments.keep)
    except (Broken, OSError) as error:
        print(f"\nNot as promised: {error}", file=sys.stderr)
        log = folder / "appliance.log"
        if log.exists():
            print(
                f"The appliance's last lines:\n{''.join(log.open(errors='replace').readlines()[-15:])}",
                file=sys.stderr,
            )
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        stage.remove(folder)
    say("Everything was as promised.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
