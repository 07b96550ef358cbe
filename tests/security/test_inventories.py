"""The help lists every connection and every log; the source opens no other, and writes nowhere else."""

import ast
import re

from tests.security import source

CONNECTIONS: dict[str, set[str]] = {  # each entry of the help, and the modules in which it is opened
    "DICOM in": {"dicom/scp", "dicom/listener", "dicom/association"},
    "DICOM out": {"dicom/scu"},
    "console": {"web/server"},
    "S3": {
        "replication/destinations/s3",
        "replication/destinations/s3_answers",
        "replication/destinations/s3_client",
        "replication/destinations/s3_errors",
        "replication/destinations/multipart",
        "replication/destinations/protection",
    },
    "SFTP": {"replication/destinations/sftp"},
    "SMB": {"replication/destinations/smb", "replication/destinations/smb_connection"},
    "SMTP": {"notify/smtp"},
    "webhooks": {"notify/posting"},
    "syslog": {"audit_feed"},
    "heartbeats": {"notify/posting", "replication/destinations/s3"},
    "clock": {"wizard/checks"},
    "support": {"fleet/line", "fleet/desk", "fleet/counter"},
    "time": set(),  # the system's, as the next one: its firewall lets them out
    "updates": set(),
    "itself": {"cli/processes", "wizard/checks"},
}
NETWORK = re.compile(
    r"(http\.client|http\.server|smtplib|ftplib|telnetlib|xmlrpc|urllib\.request|urllib3|requests|httpx|aiohttp"
    r"|boto3|botocore|waitress|socketserver|paramiko|smbprotocol|websockets?|pynetdicom\.(ae|association|transport|dul))(\.|$)"
)
OPENING = re.compile(r"socket\.(socket|create_connection|create_server|fromfd)$")
ONLY_NAMES = {"cli/supervisor", "supervision", "wizard/report"}
"""Sockets between a process and its children, and to systemd; the version of a library."""


def test_every_connection_is_listed_and_nothing_else_opens_one() -> None:
    opening = {module for module, name in source.imported() if NETWORK.match(name)}
    opening |= {module for module, node in source.nodes() if OPENING.fullmatch(source.called(node))}
    assert opening - ONLY_NAMES == set().union(*CONNECTIONS.values())
    for language in source.LANGUAGES:
        assert source.entries("protection", "connections", language) == list(CONNECTIONS), language


def test_no_program_of_the_machine_is_run_but_our_own_children_and_those_named() -> None:
    """`fleet/units` asks systemctl, with fixed words; `fleet/line` runs ssh and sshd while a session is open."""
    running = {
        module
        for module, node in source.nodes()
        if re.fullmatch(
            r"subprocess\.\w+|os\.(system|popen|exec\w+|spawn\w+|posix_spawn\w*)", source.called(node)
        )
    }
    assert running == {"cli/supervisor", "imaging/darkroom", "fleet/units", "fleet/line", "fleet/desk"}
    for module, node in source.nodes():
        if source.called(node).startswith("subprocess."):
            assert isinstance(node, ast.Call)
            assert "shell" not in {each.arg for each in node.keywords}, module


LOGS = {  # each entry of the help, and the only module that writes it
    "audit": "catalog/audit_log",
    "syslog": "audit_feed",
    "journal": "logs",
    "notices": "catalog/notices",
    "timeline": "catalog/deliveries",
    "figures": "catalog/samples",
}


def test_every_log_is_listed() -> None:
    assert set(LOGS.values()) <= set(source.modules())
    for language in source.LANGUAGES:
        assert source.entries("protection", "logs", language) == list(LOGS), language


def test_the_journal_goes_to_standard_error_and_nowhere_else() -> None:
    for module, node in source.nodes():
        call = source.called(node)
        if (
            re.search(r"Handler$|basicConfig$|fileConfig$|dictConfig$|addHandler$", call)
            and "logging" in call
        ):
            assert module == "logs", (module, call)
        if re.fullmatch(r"syslog\.\w+|logging\.handlers\.\w+", call):
            raise AssertionError(module)
        if call == "print":
            assert module.startswith("cli/"), module
        if call.endswith("stderr.write"):
            assert module.startswith(("cli/", "imaging/child")), module


def test_an_event_is_a_fixed_text_with_places() -> None:
    """What comes from outside fills a place of a log's text; it never is the text."""
    for module, node in source.nodes():
        if re.fullmatch(r"log\.(debug|info|warning|error|exception|critical)", source.called(node)):
            assert isinstance(node, ast.Call)
            assert isinstance(node.args[0], ast.Constant), f"{module}:{node.lineno}"


FORMATS = {  # whose text is formatted, where it is not written beside the call
    "catalog/audit_search": "a query of the same file, and the places of its values",
    "notify/texts": "a sentence of the languages",
    "web/language": "a sentence of the languages",
    "web/manner": "a pattern of the locale's dates",
    "fleet/line": "the configuration of sshd, of the same file",
    "logs": "a record, by the formatter of the handler",
    "dicom/association_request": "a sentence of a table in the same file",
}


def test_texts_with_places_are_ours() -> None:
    formatting = set()
    for module, node in source.nodes():
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("format", "format_map")
            and not isinstance(node.func.value, ast.Constant)
        ):
            formatting.add(module)
        if (
            isinstance(node, ast.BinOp)
            and isinstance(node.op, ast.Mod)
            and isinstance(node.right, ast.Tuple | ast.Dict)
        ):
            assert isinstance(node.left, ast.Constant), f"{module}:{node.lineno}"
    assert formatting == set(FORMATS)
