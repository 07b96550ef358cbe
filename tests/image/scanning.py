"""What OpenSCAP and lynis say of a box that runs, from within it: figures, the rules that do not pass although nobody has said why, and those
that would pass although somebody has said why not."""

from __future__ import annotations

import hashlib
import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.image.machine import Hardware, Machine, switched_on
from tests.image.promises import BUILT, image, kept, running

SCANNERS = BUILT / "out" / "scanners.raw"
THERE = "/run/scanners"
RULES = f"{THERE}/usr/share/xml/scap/ssg/content"
TAILORING = Path(__file__).parents[2] / "image-build/openscap/tailoring.xml"
RULE, RESULT = r"[a-z._]*content_rule_([\w-]+)", r"<result>(\w+)</result>"
PASSED, DOES_NOT_APPLY = "pass", "notapplicable"
"""Of XCCDF's words for a result those that leave nothing to do; `notchecked` is not among them, since it says nothing of the box."""
ALL, OURS = "xccdf_org.ssgproject.content_profile_anssi_bp28_enhanced", "xccdf_ca.clinicbox_profile_image"
SCAN_SECONDS = 3 * 3600.0
PROGRAM = (
    f"OSCAP_SCHEMA_PATH={THERE}/usr/share/openscap/schemas OSCAP_XSLT_PATH={THERE}/usr/share/openscap/xsl"
    f" OSCAP_CPE_PATH={THERE}/usr/share/openscap/cpe"
    f" {THERE}/usr/lib64/ld-linux-x86-64.so.2"
    f" --library-path {THERE}/usr/lib/x86_64-linux-gnu {THERE}/usr/bin/oscap"
)


def scan(hardware: Hardware) -> None:
    """Both programs, on a disk that is plugged into a box of the test's image."""
    if not SCANNERS.exists():
        raise SystemExit("there is no disk with them: image-build/build scanners")
    hardware.assemble(image(".test"))
    with switched_on(hardware) as machine:
        running(machine)
        machine.plug(SCANNERS, "scanners")
        walls(machine)
        machine.inside(f"mkdir {THERE}")
        machine.wait_until(
            f"mount -t erofs -o ro,nodev,nosuid /dev/disk/by-label/SCANNERS {THERE}", each_seconds=60
        )
        same_tailoring(machine)
        tell_packages(machine)
        whole = openscap(machine, ALL)
        print(f"OpenSCAP, ANSSI-BP-028 (enhanced), nothing taken out: {_said(whole)}")
        for line in unmet(whole):
            print(f"  {line}")
        needless = without_need(whole, excepted(TAILORING.read_text()))
        for line in needless:
            print(f"  an exception without need: {line}")
        tailored = openscap(machine, OURS, "--tailoring-file", f"{RULES}/tailoring.xml")
        print(f"OpenSCAP with the tailoring file: {_said(tailored)}")
        for line in unmet(tailored):
            print(f"  {line}")
        index, hints = lynis(machine)
        warnings = sum(hint.startswith("warning") for hint in hints)
        print(f"lynis: hardening index {index}, {warnings} warnings, {len(hints) - warnings} suggestions")
        for hint in hints:
            print(f"  {hint}")
        broken = [*unmet(tailored), *(f"an exception without need: {line}" for line in needless)]
        kept(
            "what does not pass has its reason in the tailoring file, and what passes has none",
            not broken,
            "\n".join(broken),
        )
        machine.power_off()


# --- what is made of the answers -------------------------------------------------------------------------------------


def excepted(tailoring: str) -> frozenset[str]:
    """The rules that a tailoring file takes out."""
    selects = ET.fromstring(tailoring).iter("{http://checklists.nist.gov/xccdf/1.2}select")
    return frozenset(
        name[1]
        for each in selects
        if each.get("selected") == "false" and (name := re.fullmatch(RULE, each.get("idref", "")))
    )


def results_of(test_result: str) -> dict[str, str]:
    """The result of each rule that the profile selects, from the lines of a TestResult."""
    rules = re.findall(rf'<rule-result idref="{RULE}"', test_result)
    results = re.findall(RESULT, test_result)
    assert rules and len(rules) == len(results), test_result[:2000]
    return {rule: result for rule, result in zip(rules, results, strict=True) if result != "notselected"}


def unmet(results: Mapping[str, str]) -> list[str]:
    """Each rule that applies and did not pass, with its result: also one that can't be checked, of which nobody knows."""
    return sorted(
        f"{result}: {rule}" for rule, result in results.items() if result not in (PASSED, DOES_NOT_APPLY)
    )


def without_need(whole: Mapping[str, str], exceptions: Iterable[str]) -> list[str]:
    """Each exception, with what became of its rule where nothing was taken out, that hides nothing: the rule passed, does not apply, or
    is not of the profile."""
    found = {rule: whole.get(rule, "not of the profile") for rule in exceptions}
    return sorted(
        f"{result}: {rule}"
        for rule, result in found.items()
        if rule not in whole or result in (PASSED, DOES_NOT_APPLY)
    )


# --- what the box is asked -------------------------------------------------------------------------------------------


def same_tailoring(machine: Machine) -> None:
    """What the disk brings is what is judged here: it may have been made of an earlier commit."""
    brought = machine.inside(f"sha256sum <{RULES}/tailoring.xml").split()[0]
    if brought != hashlib.sha256(TAILORING.read_bytes()).hexdigest():
        raise SystemExit("the disk has another tailoring file: image-build/build scanners")


def walls(machine: Machine) -> None:
    """What the tailoring file says of mounts that its rules can't see, and of those that changed for them."""
    machine.inside("ls /boot")  # which mounts it
    mounts = [line.split() for line in machine.inside("cat /proc/mounts").splitlines()]
    for place, kind in (("/boot", "vfat"), ("/tmp", "tmpfs")):
        options = {frozenset(each[3].split(",")) for each in mounts if each[1:3] == [place, kind]}
        wanted = {"nodev", "nosuid", "noexec"}
        kept(
            f"nothing on {place} is a device or a program",
            bool(options) and all(wanted <= each for each in options),
            str(options),
        )
    kept(
        "the kernel's symbol map is not there",
        machine.inside("ls /boot | grep -c System.map", check=False) == "0\n",
    )


def tell_packages(machine: Machine) -> None:
    """What is in the root, where Debian's programs look for it: the image has no database of packages, and most rules ask that
    first, to say that they do not apply, or that they can't be checked."""
    listed = json.loads(image().with_suffix(".manifest").read_text())["packages"]
    status = "".join(
        f"Package: {each['name']}\nStatus: install ok installed\nArchitecture: {each['architecture']}\n"
        f"Maintainer: Debian\nVersion: {each['version']}\nDescription: {each['name']}\n\n"
        for each in listed
    )
    machine.inside(f"mkdir -p /var/lib/dpkg/info && cat >/var/lib/dpkg/status <<'END'\n{status}END")


def openscap(machine: Machine, profile: str, *words: str) -> dict[str, str]:
    """The result of each rule of the profile that was asked."""
    where = "/run/scan.xml"
    asked = f"{PROGRAM} xccdf eval --profile {profile} --results {where} {' '.join(words)} {RULES}/ssg-debian13-ds.xml"
    # 2 says that some rule failed.
    machine.inside(
        f"{asked} >/run/scan.log 2>&1; test $? = 0 -o $? = 2 || {{ tail /run/scan.log; false; }}",
        seconds=SCAN_SECONDS,
    )
    text = machine.inside(
        f"sed -n '/<TestResult/,/<.TestResult>/p' {where} | grep -E '<(rule-result|result)[ >]'"
    )
    return results_of(text)


def lynis(machine: Machine) -> tuple[str, list[str]]:
    """The hardening index, and each warning and suggestion."""
    folder = "/run/lynis"
    machine.inside(
        f"mkdir {folder} && cd {folder} && cp -r {THERE}/usr/share/lynis/* {THERE}/etc/lynis/* {THERE}/usr/sbin/lynis ."
    )
    machine.inside(
        f"cd {folder} && sh ./lynis audit system --quick --no-colors --profile ./default.prf"
        " --logfile /run/lynis.log --report-file /run/lynis.dat >/run/lynis.out 2>&1; true",
        seconds=SCAN_SECONDS,
    )
    report = machine.inside("cat /run/lynis.dat")
    found = dict(line.split("=", 1) for line in report.splitlines() if line.startswith("hardening_index="))
    hints = [line for line in report.splitlines() if re.match(r"(warning|suggestion)\[\]=", line)]
    return found["hardening_index"], hints


def _said(results: dict[str, str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(Counter(results.values()).items()))
