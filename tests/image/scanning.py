"""What OpenSCAP and lynis say of a box that runs, from within it: figures, and the rules that fail although nobody has said why."""

from __future__ import annotations

import json
import re
from collections import Counter

from tests.image.machine import Hardware, Machine, switched_on
from tests.image.promises import BUILT, image, kept, running

SCANNERS = BUILT / "out" / "scanners.raw"
THERE = "/run/scanners"
RULES = f"{THERE}/usr/share/xml/scap/ssg/content"
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
        tell_packages(machine)
        whole = openscap(machine, ALL)
        print(f"OpenSCAP, ANSSI-BP-028 (enhanced), nothing taken out: {_said(whole)}")
        for rule in sorted(name for name, result in whole.items() if result in ("fail", "error", "unknown")):
            print(f"  {whole[rule]}: {rule}")
        tailored = openscap(machine, OURS, "--tailoring-file", f"{RULES}/tailoring.xml")
        print(f"OpenSCAP with the tailoring file: {_said(tailored)}")
        index, hints = lynis(machine)
        print(f"lynis: hardening index {index}; {len(hints)} warnings and suggestions")
        for hint in hints:
            print(f"  {hint}")
        broken = sorted(rule for rule, result in tailored.items() if result in ("fail", "error", "unknown"))
        kept("what fails has its reason in the tailoring file", not broken, "\n".join(broken))
        machine.power_off()


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
    rules = re.findall(r'<rule-result idref="[a-z._]*content_rule_([\w-]+)"', text)
    results = re.findall(r"<result>(\w+)</result>", text)
    assert rules and len(rules) == len(results), text[:2000]
    return {
        rule: result
        for rule, result in zip(rules, results, strict=True)
        if result not in ("notselected", "notapplicable")
    }


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
