"""``appliance device``: the machines on the LAN that may send, and those seen at the door."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from appliance.cli.arguments import Arguments, Parser, Verbs, add_json, port
from appliance.cli.listing import as_json, as_table, safe
from appliance.cli.session import now, opened_box, record
from appliance.errors import OperatorNeeded, Refused, Unknown
from appliance.model import AETitle, Device, ae_title

COLUMNS = {
    "ae_title": "AE TITLE",
    "address": "ADDRESS",
    "port": "PORT",
    "name": "NAME",
    "state": "STATE",
}


def add_to(verbs: Verbs) -> None:
    """Add the verb with its own verbs."""
    device = verbs.add(
        "device",
        "the machines that may send to this box",
        about="A machine may send only once it is listed here. One that tried without being listed is "
        "seen at the door: 'appliance device list' shows it, 'appliance device add' admits it.",
        examples=[
            "appliance device list",
            'appliance device add --ae-title PANO1 --address 192.168.1.40 --name "Panoramic, room 2"',
            "appliance device echo PANO1",
        ],
    )
    own = Verbs(device)
    listing = own.add("list", "show the machines, and those seen at the door", act=list_devices)
    add_json(listing)
    add = own.add(
        "add",
        "let a machine send",
        act=add_device,
        about="Both values are on the machine's own DICOM settings screen.",
        examples=["appliance device add --ae-title PANO1 --address 192.168.1.40"],
    )
    add.add_argument("--ae-title", required=True, metavar="X", help="the machine's own AE title")
    add.add_argument("--address", required=True, metavar="A", help="its IP address, such as 192.168.1.40")
    add.add_argument(
        "--name", default="", metavar="N", help='what people call it, such as "Panoramic, room 2"'
    )
    add.add_argument(
        "--port", type=port, metavar="P", help="where it listens, if it does, to test it by echo"
    )
    remove = own.add("remove", "stop a machine from sending", act=remove_device)
    _add_choice(remove)
    echo = own.add("echo", "ask a machine whether it answers (C-ECHO); needs its port", act=echo_device)
    _add_choice(echo)
    echo.add_argument("--port", type=port, metavar="P", help="where it listens, if it was added without")


def _add_choice(parser: Parser) -> None:
    parser.add_argument("ae_title", metavar="AE_TITLE", help="the machine's AE title")
    parser.add_argument(
        "--address", default="", metavar="A", help="its address, if two have the same AE title"
    )


def list_devices(arguments: Arguments) -> int:
    """Print the devices, and then the visitors."""
    from appliance.catalog import devices

    with opened_box() as box, box.catalog.reading() as conn:
        rows: list[dict[str, object]] = [
            {
                "ae_title": device.ae_title,
                "address": device.address,
                "port": device.port,
                "name": device.name,
                "state": "admitted",
            }
            for device in devices.devices(conn)
        ]
        rows += [
            {
                "ae_title": visitor.ae_title,
                "address": visitor.address,
                "port": None,
                "name": "",
                "state": f"at the door, {visitor.calls} calls",
            }
            for visitor in devices.visitors(conn)
        ]
    if arguments.json:
        as_json(rows)
    else:
        as_table(COLUMNS, rows, empty="No machine may send yet: see 'appliance device add --help'.")
    return 0


def add_device(arguments: Arguments) -> int:
    """Admit one device."""
    from appliance.catalog import devices

    device = Device(
        ae_title=ae_title(arguments.ae_title),
        address=_address(arguments.address),
        name=arguments.name.strip(),
        port=arguments.port,
    )
    hour = now()
    with opened_box() as box, box.catalog.transaction() as tx:
        devices.add_device(tx, device, hour)
        record(
            tx,
            box,
            "device:add",
            f"{device.ae_title}@{device.address}",
            {"name": device.name, "port": device.port},
        )
    print(f"{device.ae_title} at {device.address} may now send.")
    return 0


def remove_device(arguments: Arguments) -> int:
    """Remove one device; what it sent stays."""
    from appliance.catalog import devices

    with opened_box() as box, box.catalog.transaction() as tx:
        device = _chosen(devices.devices(tx), arguments)
        devices.remove_device(tx, device.ae_title, device.address)
        record(tx, box, "device:remove", f"{device.ae_title}@{device.address}")
    print(f"{device.ae_title} at {device.address} may no longer send; what it sent before stays.")
    return 0


def echo_device(arguments: Arguments) -> int:
    """C-ECHO to one device."""
    from appliance.catalog import devices
    from appliance.dicom import scu

    with opened_box() as box:
        with box.catalog.reading() as conn:
            device = _chosen(devices.devices(conn), arguments)
        where = arguments.port or device.port
        if where is None:
            raise OperatorNeeded(
                f"the port of {device.ae_title} is not known",
                hint="give it with --port, as shown in the machine's DICOM settings",
            )
        with box.catalog.transaction() as tx:
            record(tx, box, "device:echo", f"{device.ae_title}@{device.address}")
        seconds = scu.echo(
            device.address, where, called=device.ae_title, calling=AETitle(box.config.ae_title)
        )
    print(f"{device.ae_title} at {device.address} port {where} answered in {seconds * 1000:.0f} ms.")
    return 0


def _chosen(known: Iterable[Device], arguments: Arguments) -> Device:
    """The one device of `known` that the arguments mean."""
    title = ae_title(arguments.ae_title)
    found = [
        device for device in known if device.ae_title == title and arguments.address in ("", device.address)
    ]
    if not found:
        raise Unknown(f"no machine {safe(title)} is listed", hint="see 'appliance device list'")
    if len(found) > 1:
        addresses = ", ".join(device.address for device in found)
        raise Refused(
            f"{len(found)} machines are called {safe(title)}", hint=f"add --address, one of {addresses}"
        )
    return found[0]


def _address(text: str) -> str:
    """`text` as a plain IP address, as the receiving side will see it."""
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        raise Refused(
            f"'{safe(text)}' is not an IP address", hint="give it as numbers, such as 192.168.1.40"
        ) from None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
