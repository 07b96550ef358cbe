"""What says where a folder on a file server is, or on a share of one: for adding it, and for restoring from it."""

from __future__ import annotations

from pathlib import Path

from appliance.cli.arguments import Arguments, Parser, port


def add_server(parser: Parser) -> None:
    """What says where a folder on a file server is, for adding one and for restoring from one."""
    parser.add_argument("--address", required=True, metavar="A", help="its address or host name")
    parser.add_argument("--port", type=port, default=22, metavar="P", help="its port (default: 22)")
    parser.add_argument("--user", required=True, metavar="U", help="who the box is there")
    parser.add_argument(
        "--folder",
        required=True,
        metavar="D",
        help="the folder, which must exist; from where this user comes in, or from /",
    )
    parser.add_argument(
        "--fingerprint", metavar="F", help="of the server's key, as the server shows it itself"
    )
    parser.add_argument(
        "--secret-file", type=Path, metavar="F", help="a file with the password, readable by you only"
    )


def server_options(arguments: Arguments, login: str) -> dict[str, str | int | bool]:
    """The options that `add_server` asks for."""
    return {
        "address": arguments.address.strip(),
        "port": arguments.port,
        "user": arguments.user.strip(),
        "folder": arguments.folder.strip(),
        "login": login,
    }


def add_share(parser: Parser) -> None:
    """The same for a share."""
    parser.add_argument("--address", required=True, metavar="A", help="the server's address or host name")
    parser.add_argument("--port", type=port, default=445, metavar="P", help="its port (default: 445)")
    parser.add_argument("--share", required=True, metavar="S", help="the share, such as backup")
    parser.add_argument(
        "--folder",
        default="",
        metavar="D",
        help="the folder in it, which must exist (default: the share itself)",
    )
    parser.add_argument("--user", required=True, metavar="U", help="who the box is there")
    parser.add_argument(
        "--domain", default="", metavar="N", help="the domain of that user, where there is one"
    )
    parser.add_argument(
        "--secret-file", type=Path, metavar="F", help="a file with the password, readable by you only"
    )


def share_options(arguments: Arguments) -> dict[str, str | int | bool]:
    """The options that `add_share` asks for."""
    told = {
        name: getattr(arguments, name).strip() for name in ("address", "share", "folder", "user", "domain")
    }
    return {"port": arguments.port, **{name: value for name, value in told.items() if value}}
