"""The playbooks as Ansible and its linter read them; what they write, as the programs that read it see it."""

import configparser
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from appliance.config import DicomConfig, WebConfig

PROVISIONING = Path(__file__).parents[2] / "provisioning"
SLEEPS = tuple(
    f"{each}.target" for each in ("sleep", "suspend", "hibernate", "hybrid-sleep", "suspend-then-hibernate")
)
"""By what systemd would put a machine to sleep (systemd.special(7))."""
UNHEARD = {
    *("HandleSuspendKey", "HandleSuspendKeyLongPress", "HandleHibernateKey", "HandleHibernateKeyLongPress"),
    *("HandleLidSwitch", "HandleLidSwitchExternalPower", "HandleLidSwitchDocked"),
}
"""What logind would do so for (logind.conf(5)); the power key is not among them: by it a clinic switches a box off."""
ROLES = sorted(each.name for each in (PROVISIONING / "roles").iterdir())


def tool(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def played_here(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What comes of a play that a test has made, `site.yml` in `folder`, at this machine."""
    home = {"ANSIBLE_HOME": str(folder.parent / "ansible"), "ANSIBLE_PYTHON_INTERPRETER": sys.executable}
    return subprocess.run(
        [tool("ansible-playbook"), "-i", "localhost,", "site.yml", *words],
        cwd=folder,
        env=os.environ | home | {"NO_COLOR": "1"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def asked(*words: str) -> subprocess.CompletedProcess[str]:
    home = os.environ | {
        "ANSIBLE_HOME": str(Path(os.environ.get("TMPDIR", "/tmp")) / "ansible"),
        "NO_COLOR": "1",
    }
    return subprocess.run(words, cwd=PROVISIONING, env=home, capture_output=True, text=True, check=False)


def defaults(role: str) -> dict[str, Any]:
    path = PROVISIONING / "roles" / role / "defaults/main.yml"
    return dict(yaml.safe_load(path.read_text())) if path.exists() else {}


def rendered(role: str, template: str, **more: object) -> str:
    folder = PROVISIONING / "roles" / role / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    return environment.get_template(template).render({**defaults(role), **more})


@pytest.mark.slow
@pytest.mark.timeout(900)  # it starts Ansible for each file, which a machine that is busy takes minutes for
def test_the_linter_of_the_trade_finds_nothing() -> None:
    told = asked(tool("ansible-lint"), "--offline", "--strict", "-q")
    assert told.returncode == 0, told.stdout + told.stderr


def test_the_playbook_is_one() -> None:
    told = asked(tool("ansible-playbook"), "--syntax-check", "-i", "inventory/hosts.example.yml", "site.yml")
    assert told.returncode == 0, told.stderr


def test_every_role_is_used_and_every_handler_that_is_notified_exists() -> None:
    (play,) = yaml.safe_load((PROVISIONING / "site.yml").read_text())
    assert sorted(each["role"] for each in play["roles"]) == ROLES
    for role in ROLES:
        folder = PROVISIONING / "roles" / role
        handlers = {each["name"] for each in yaml.safe_load((folder / "handlers/main.yml").read_text())}
        begun, *_ = yaml.safe_load((folder / "tasks/main.yml").read_text())
        after = [each for name, each in tasks(role).items() if name != begun["name"]]
        assert {each["notify"] for each in after if "notify" in each} == handlers, role
        assert set(begun["notify"]) == handlers, f"{role}: whatever a run that was cut has left undone"


def test_the_firewall_lets_in_what_is_promised_and_drops_the_rest() -> None:
    rules = rendered("firewall", "nftables.conf.j2")
    assert rules.count("policy drop;") == 3, "what comes in, what would pass through, and what goes out"
    comes_in = rules[: rules.index("chain forward")]
    accepted = set(re.findall(r"tcp dport \{ ([\d, ]+) \} accept", comes_in))
    assert accepted == {f"443, {DicomConfig().port}"}
    assert "dport 22 " not in rules, "nobody speaks SSH to the box unless somebody says so"
    assert "ip saddr 192.0.2.0/24 tcp dport 22" in rendered(
        "firewall", "nftables.conf.j2", firewall_ssh_from=["192.0.2.0/24"]
    )
    answers = [
        each.strip()
        for each in rendered(
            "firewall", "nftables.conf.j2", firewall_ssh_from=["192.0.2.0/24", "fd00::/8"]
        ).splitlines()
        if "sport 22" in each
    ]
    assert answers == [
        f"{each} tcp sport 22 tcp flags & ack == ack meta skuid root accept"
        for each in ("ip daddr 192.0.2.0/24", "ip6 daddr fd00::/8")
    ], "and answers to them are no calls"
    assert "sport 22" not in rules
    assert str(WebConfig().port) not in rules, "the console without TLS is for the front alone"


def test_a_port_is_open_exactly_where_something_listens() -> None:
    """What faces the network is the socket unit of DICOM and the front: who adds a listener opens its port, and nobody before."""
    units = [each.read_text() for each in (PROVISIONING.parent / "systemd/system").glob("*.socket")]
    listening = {
        int(port)
        for text in units
        for port in re.findall(r"^Listen(?:Stream|Datagram)=(?:\S+:)?(\d+)$", text, re.MULTILINE)
    }
    assert listening == {DicomConfig().port}
    front = rendered("front", "nginx.conf.j2")
    listening |= {int(port) for port in re.findall(r"^ *listen (?:\S*:)?(\d+) ", front, re.MULTILINE)}
    assert set(defaults("firewall")["firewall_ports"]) == listening


def test_the_firewall_lets_out_whom_it_names_and_rejects_the_rest() -> None:
    rules = rendered("firewall", "nftables.conf.j2")
    chain = rules[rules.index("  chain output {") :].splitlines()
    lines = [each.strip() for each in chain[1:] if each.strip()[:1] not in ("", "#", "}")]
    assert lines[-1] == "reject with icmpx admin-prohibited", "nobody waits for what can't come"
    accepting = [each for each in lines if each.endswith(" accept")]
    at_will = [each for each in accepting if "skuid" not in each]
    assert at_will == [
        'oif "lo" accept',
        "ct state established,related accept",
        "meta l4proto { icmp, icmpv6, igmp } accept",
        "udp sport 68 udp dport 67 accept",
        "ip6 daddr { fe80::/10, ff02::1:2 } udp sport 546 udp dport 547 accept",
        "udp dport 53 accept",
        "tcp dport 53 accept",
    ], "an address and names: what every machine asks of its network"
    by_account = [each for each in accepting if "skuid" in each]
    beyond = [each for each in by_account if "@lan" not in each]
    assert beyond == [
        "meta skuid { root, _chrony } udp dport 123 accept",
        "meta skuid { root, _chrony } tcp dport 4460 accept",
        "meta skuid { root, appliance } tcp dport { 22, 25, 80, 443, 465, 587, 6514 } accept",
        "meta skuid { _apt } tcp dport { 80, 443 } accept",
        "meta skuid appliance-support tcp dport { 22, 443 } accept",
    ]
    for port in (104, DicomConfig().port, DicomConfig().tls_port, 445):
        assert not any(str(port) in re.findall(r"\d+", each) for each in beyond), (
            "names in clear, and shares, stay in the clinic"
        )
    near = [each for each in by_account if "@lan" in each]
    assert near
    assert all("{ root, appliance }" in each for each in near), "a session of support sees no clinic"


def test_new_rules_take_the_place_of_the_old_and_no_packet_passes_in_between() -> None:
    """Debian's nftables.service flushes all as it stops: restarted, a box is open for a moment, or for good if the new rules do not load."""
    handlers = yaml.safe_load((PROVISIONING / "roles/firewall/handlers/main.yml").read_text())
    units = [each["ansible.builtin.systemd_service"] for each in handlers]
    assert units == [{"name": "nftables", "state": "reloaded"}]
    assert rendered("firewall", "nftables.conf.j2").count("\nflush ruleset\n") == 1, (
        "in one file with what follows"
    )
    dropin = PROVISIONING.parent / "systemd/system/nftables.service.d/appliance.conf"
    assert dropin.read_text().endswith("\n[Service]\nExecStop=\n"), "nor is it open after a stop"
    copied = tasks("firewall")["They go only when others come"]["ansible.builtin.copy"]
    assert copied["src"] == "{{ firewall_units }}/system/nftables.service.d/appliance.conf"
    assert Path(copied["dest"]).parent == Path(
        tasks("firewall")["A place to say how its rules go"]["ansible.builtin.file"]["path"]
    )


def test_the_accounts_that_the_rules_name_are_there_before_the_rules() -> None:
    named = ["root", "_apt", "_chrony"]  # Debian's own, the last one of a package that `base` adds
    conf = (PROVISIONING.parent / "systemd/sysusers.d/appliance.conf").read_text()
    named += re.findall(r"^u (\S+)", conf, re.MULTILINE)
    rules = rendered("firewall", "nftables.conf.j2")
    for accounts in re.findall(r"skuid (\{ [^}]+ \}|\S+)", rules):
        assert set(re.findall(r"[\w-]+", accounts)) <= set(named), (
            "one name that is not known, and no rule loads"
        )
    order = list(tasks("firewall"))
    assert order.index("Make them") < order.index("What comes in and goes out, and nothing else")


def test_the_front_keeps_no_address_of_a_page_and_no_picture_on_disk() -> None:
    front = rendered("front", "nginx.conf.j2")
    for line in (
        "access_log off;",
        "proxy_buffering off;",
        "proxy_request_buffering off;",
        "ssl_session_tickets off;",
        "proxy_set_header X-Forwarded-For $remote_addr;",
    ):
        assert f"  {line}" in front, line
    assert "TLSv1.1" not in front
    assert "listen [::]:443 " in front
    assert "listen [::]" not in rendered("front", "nginx.conf.j2", front_ipv6=False), "nginx would not start"
    looked = tasks("front")["The front"]["vars"]["front_ipv6"]
    assert looked == "{{ front_ipv6_known.stat.exists }}"
    assert f"proxy_pass http://127.0.0.1:{WebConfig().port};" in front


def tasks(role: str) -> dict[str, dict[str, Any]]:
    """The tasks of a role by their names; `main.yml` is its first file."""
    files = sorted((PROVISIONING / "roles" / role / "tasks").glob("*.yml"))
    return {str(each["name"]): each for path in files for each in yaml.safe_load(path.read_text())}


def test_there_is_no_swap_in_fstab_nor_one_that_systemd_finds_by_itself() -> None:
    """systemd-gpt-auto-generator(8) takes a partition of the type for swap exactly where fstab names none."""
    base = tasks("base")
    line = base["No swap, so that no picture of a patient reaches the disk in clear"][
        "ansible.builtin.lineinfile"
    ]
    assert re.search(line["regexp"], "UUID=1234 none swap sw 0 0")
    assert not re.search(line["regexp"], "LABEL=BACKUP /mnt/backup ext4 nofail 0 2")
    found = base["No swap that systemd finds by itself"]["ansible.builtin.systemd_service"]
    assert found == {"name": "swap.target", "masked": True}


def test_no_key_and_no_lid_puts_a_provisioned_box_to_sleep() -> None:
    base = tasks("base")
    masked = base["Nothing may put it to sleep"]
    assert masked["ansible.builtin.systemd_service"] == {"name": "{{ item }}", "masked": True}
    assert set(masked["loop"]) == set(SLEEPS)
    copied = base["No key and no lid does"]["ansible.builtin.copy"]
    source = jinja2.Template(copied["src"]).render(
        base_units=jinja2.Template(defaults("base")["base_units"]).render(playbook_dir=PROVISIONING)
    )
    said = configparser.RawConfigParser()
    said.optionxform = str  # type: ignore[assignment,method-assign]
    said.read(source)
    assert dict(said["Login"]) == dict.fromkeys(UNHEARD, "ignore")
    assert Path(copied["dest"]).parent == Path(
        base["A place to say which keys are heard"]["ansible.builtin.file"]["path"]
    )


def test_ssh_is_by_key_and_by_its_port_alone() -> None:
    base = tasks("base")
    said = base["SSH by key alone, and not for root's password"]["ansible.builtin.copy"][
        "content"
    ].splitlines()
    assert {
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "PermitRootLogin prohibit-password",
    } <= set(said)
    link = base["SSH by its port alone"]["ansible.builtin.file"]
    assert (link["src"], link["state"]) == ("/dev/null", "link")
    assert link["dest"] == "/etc/systemd/system-generators/systemd-ssh-generator"


def test_the_packages_hold_what_remote_support_starts() -> None:
    names = tasks("base")["Packages"]["ansible.builtin.apt"]["name"]
    assert "openssh-server" in names, "and with it ssh; setpriv and timeout are in every Debian"


def test_a_backup_disk_is_mounted_for_the_appliance_alone_and_holds_up_no_start() -> None:
    assert defaults("appliance")["appliance_backup_disk"] == ""
    line = tasks("appliance")["The backup disk"]["ansible.builtin.lineinfile"]["line"]
    values = defaults("appliance") | {"appliance_backup_disk": "LABEL=BACKUP"}
    source, place, kind, options, *_ = jinja2.Template(line).render(values).split()
    assert (source, place, kind) == ("LABEL=BACKUP", "/mnt/backup", "ext4")
    assert {"nofail", "nodev", "nosuid", "noexec"} <= set(options.split(","))
    owned = tasks("appliance")["It is the appliance's own"]["ansible.builtin.file"]
    assert (owned["owner"], owned["mode"]) == ("appliance", "0700")
    mounted = tasks("appliance")["Mount it"]
    assert "appliance_backup_mounted.rc != 0" in mounted["when"], "whatever the run before has left undone"
    assert "ignore_errors" not in mounted and "failed_when" not in mounted, (
        "the system's disk is no backup disk"
    )


def test_the_example_names_no_real_machine() -> None:
    text = (PROVISIONING / "inventory/hosts.example.yml").read_text()
    for address in re.findall(r"\d+\.\d+\.\d+\.\d+", text):
        assert address.startswith("192.0.2."), "of the block for documentation (RFC 5737)"


def test_what_a_playbook_is_given_and_what_it_writes_is_not_in_version_control() -> None:
    """Keys of a fleet, addresses of clinics, how their boxes do: whatever the playbooks name, in the folder in which they are run."""
    papers = (*PROVISIONING.glob("*.yml"), PROVISIONING / "README.md", PROVISIONING / "ansible.cfg")
    texts = [path.read_text() for path in papers]
    named = {
        name
        for text in texts
        for name in re.findall(
            r"(?:-i |^inventory = |fleet_key_file=|playbook_dir \}\}/)((?:inventory/|fleet)[\w.-]+)",
            text,
            re.MULTILINE,
        )
    }
    assert named == {"inventory/hosts.yml", "inventory/fleet.yml", "fleet.key", "fleet-health.json"}
    for name in (*named, "inventory/hosts.yaml", "inventory/another.yml", "another.key", "b.key.json"):
        done = subprocess.run(
            ["git", "check-ignore", "--quiet", "--no-index", name], cwd=PROVISIONING, check=False
        )
        assert done.returncode == 0, name
    for name in ("inventory/hosts.example.yml", "inventory/fleet.example.yml", "site.yml"):
        done = subprocess.run(
            ["git", "check-ignore", "--quiet", "--no-index", name], cwd=PROVISIONING, check=False
        )
        assert done.returncode == 1, name
