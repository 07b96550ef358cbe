"""What can be audited: ``subject:action``, each with what it says. A word that is not here cannot be written.

The subject of an entry is an identifier (a row id, a UID, an AE title, a login), never a patient's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

VOCABULARY: Mapping[str, str] = MappingProxyType(
    {
        "appliance:create": "this box was set up",
        "appliance:start": "the appliance started",
        "appliance:stop": "the appliance stopped",
        "instance:receive": "an instance was received and sealed",
        "instance:duplicate": "other bytes came under the identity of a recorded instance; both are kept",
        "instance:patient_conflict": "an instance names another patient than its study does",
        "instance:refuse": "an instance was refused",
        "instance:corrupt": "a sealed object is not what was written",
        "object:remove": "a sealed object that no instance refers to was removed",
        "study:view": "a study was opened",
        "study:export": "a study was exported",
        "study:search": "studies were searched",
        "study:import": "files were imported",
        "delivery:confirm": "a delivery was confirmed by its destination",
        "delivery:fail": "a destination refused a delivery",
        "delivery:retry": "a delivery was sent on its way again",
        "delivery:pause": "a delivery was paused",
        "delivery:resume": "a paused delivery was resumed",
        "delivery:cancel": "a delivery was cancelled",
        "manifest:write": "the manifest of a study was written to a bucket",
        "device:add": "a device was admitted",
        "device:change": "a device was changed",
        "device:remove": "a device was removed",
        "door:knock": "an unknown caller was refused",
        "destination:add": "a destination was added",
        "destination:change": "a destination was changed",
        "destination:remove": "a destination was removed",
        "destination:pause": "a destination was paused",
        "destination:resume": "a destination was resumed",
        "destination:test": "a destination was tested",
        "rule:add": "a rule was added",
        "rule:remove": "a rule was removed",
        "key:show": "the recovery key was shown",
        "key:check": "the recovery key was checked",
        "key:rotate": "the root key was replaced",
        "setting:change": "a setting was changed",
        "certificate:issue": "certificates were made for a host name",
        "certificate:renew": "the server certificate was issued anew",
        "user:claim": "the box was claimed by its owner",
        "user:claim-fail": "a wrong claim code was tried",
        "user:add": "a person was given an account",
        "user:change": "an account was changed",
        "user:reset": "the password of an account was reset",
        "user:disable": "an account was closed",
        "user:login": "a person signed in",
        "user:login-fail": "a sign-in failed",
        "user:logout": "a person signed out",
        "access:refuse": "a page or an act that a role does not include was refused",
        "audit:verify": "the audit was verified",
        "audit:export": "the audit was exported",
        "store:verify": "the sealed objects were verified",
    }
)
