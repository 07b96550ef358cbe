"""What can be audited: ``subject:action``, each with its kind, what it concerns, how it ends and what it says.

A word that is not here cannot be written. The viewer, the reports, the count for the yearly review (O-22.1 s.103,
r.2 s.6) and the DICOM audit messages are derived from what stands beside a word, so a new one needs nothing else but
its sentence in the languages (``audit.said.SUBJECT.ACTION``).

The subject of an entry is an identifier (a row id, a UID, an AE title, a login), never a patient's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Kind(StrEnum):
    """What sort of act a word is: the first three are those that R-22.1 s.103 wants logged."""

    ACCESS = "access"  # somebody saw, listed or searched
    USE = "use"  # data was made, received, changed or destroyed on this box
    COMMUNICATION = "communication"  # data left this box, or was to
    CHANGE = "change"  # settings, devices, destinations, people
    SECURITY = "security"  # signing in and out, refusals, keys, damage
    MACHINE = "machine"  # the box about itself


class Concerns(StrEnum):
    """What a word is about."""

    STUDY = "study"  # one study: its entries carry its UID
    STUDIES = "studies"  # several, or what isn't known to be one
    NOTHING = "nothing"  # no patient


class Outcome(StrEnum):
    """How an act ended."""

    DONE = "done"
    REFUSED = "refused"  # it was not allowed
    FAILED = "failed"  # it was allowed and did not succeed


@dataclass(frozen=True, slots=True)
class Word:
    """What one word of the vocabulary means; `says` is a sentence in the past, `outcome` how it ends by itself."""

    kind: Kind
    concerns: Concerns
    says: str
    outcome: Outcome = Outcome.DONE


_ACCESS, _USE, _COMMUNICATION = Kind.ACCESS, Kind.USE, Kind.COMMUNICATION
_CHANGE, _SECURITY, _MACHINE = Kind.CHANGE, Kind.SECURITY, Kind.MACHINE
_STUDY, _STUDIES, _NOTHING = Concerns.STUDY, Concerns.STUDIES, Concerns.NOTHING
_REFUSED, _FAILED = Outcome.REFUSED, Outcome.FAILED

VOCABULARY: Mapping[str, Word] = MappingProxyType(
    {
        "appliance:start": Word(_MACHINE, _NOTHING, "the appliance started"),
        "appliance:stop": Word(_MACHINE, _NOTHING, "the appliance stopped"),
        "instance:receive": Word(_USE, _STUDY, "an instance was received and sealed"),
        "instance:duplicate": Word(
            _USE, _STUDY, "other bytes came under the identity of a recorded instance; both are kept"
        ),
        "instance:patient_conflict": Word(
            _USE, _STUDY, "an instance names another patient than its study does"
        ),
        "instance:refuse": Word(_USE, _STUDIES, "an instance was refused", _REFUSED),
        "instance:corrupt": Word(_SECURITY, _STUDIES, "a sealed object is not what was written", _FAILED),
        "plan:print": Word(_MACHINE, _NOTHING, "the disaster recovery plan was taken"),
        "guard:freeze": Word(
            _SECURITY, _NOTHING, "the ransomware guard began to hold: nothing is overwritten or removed"
        ),
        "guard:release": Word(_SECURITY, _NOTHING, "the ransomware guard was released"),
        "object:remove": Word(_USE, _NOTHING, "sealed objects that no instance refers to were removed"),
        "study:view": Word(_ACCESS, _STUDY, "a study was opened"),
        "study:glimpse": Word(_ACCESS, _STUDY, "a small picture of a study was seen"),
        "study:list": Word(_ACCESS, _STUDIES, "a list of studies was seen"),
        "study:hide": Word(_CHANGE, _STUDY, "a sample study was taken from view"),
        "study:search": Word(_ACCESS, _STUDIES, "studies were searched"),
        "study:evict": Word(_USE, _STUDY, "the files of a study left this disk: archives have them"),
        "study:recall": Word(_USE, _STUDY, "the files of a study were brought back from an archive"),
        "study:want": Word(_USE, _STUDY, "the files of a study were asked for from an archive"),
        "study:tier": Word(_USE, _STUDY, "a bucket was told how far away a study may lie"),
        "tiers:list": Word(_ACCESS, _STUDIES, "the list of studies that may leave this disk was seen"),
        "study:export": Word(_COMMUNICATION, _STUDY, "a study was exported"),
        "study:grant": Word(_CHANGE, _STUDY, "a study was granted to a person"),
        "study:revoke": Word(_CHANGE, _STUDY, "the grant of a study was taken back"),
        "hold:add": Word(_CHANGE, _STUDIES, "a study or a patient was put on hold"),
        "hold:release": Word(_CHANGE, _STUDIES, "a hold was released"),
        "hold:list": Word(_ACCESS, _STUDIES, "the list of holds was seen"),
        "visit:add": Word(_CHANGE, _STUDIES, "a visit of a patient was entered"),
        "visit:withdraw": Word(_CHANGE, _STUDIES, "a visit of a patient that was entered was withdrawn"),
        "visit:list": Word(_ACCESS, _STUDIES, "the visits of a patient that were entered were seen"),
        "retention:list": Word(_ACCESS, _STUDIES, "the list of studies that are due was seen"),
        "retention:export": Word(_COMMUNICATION, _STUDIES, "the list of studies that are due was exported"),
        "retention:change": Word(_CHANGE, _NOTHING, "the clinic's own rule of retention was changed"),
        "retention:clock": Word(_CHANGE, _NOTHING, "a person said that the clock of the box is right"),
        "retention:look-again": Word(
            _CHANGE, _NOTHING, "a person looked at what is held again, after a restore"
        ),
        "destruction:ask": Word(_USE, _STUDIES, "the destruction of studies was asked for"),
        "destruction:view": Word(_ACCESS, _STUDIES, "a request to destroy studies was seen"),
        "destruction:approve": Word(_USE, _STUDIES, "the destruction of studies was approved"),
        "destruction:withdraw": Word(_USE, _STUDIES, "a request to destroy studies was withdrawn"),
        "destruction:expire": Word(_USE, _STUDIES, "a request to destroy studies expired"),
        "destruction:leave-out": Word(_USE, _STUDY, "a study was taken out of a request to destroy"),
        "study:destroy": Word(_USE, _STUDY, "a study was destroyed"),
        "study:return": Word(_USE, _STUDY, "a study that was destroyed came in again, as a new one"),
        "tombstone:lay": Word(
            _COMMUNICATION, _NOTHING, "what opened a destroyed study was destroyed in an archive"
        ),
        "destruction:complete": Word(_USE, _NOTHING, "every place has done its part of a destruction"),
        "destruction:find": Word(
            _USE, _NOTHING, "an archive told of a destruction from before the box was restored"
        ),
        "destruction:certify": Word(_COMMUNICATION, _NOTHING, "a certificate of destruction was issued"),
        "backup:destroy": Word(_USE, _NOTHING, "older backups in an archive were made unreadable"),
        "study:import": Word(_USE, _STUDIES, "files were imported"),
        "delivery:list": Word(_ACCESS, _STUDIES, "a list of deliveries was seen"),
        "delivery:confirm": Word(_COMMUNICATION, _STUDY, "a delivery was confirmed by its destination"),
        "delivery:fail": Word(_COMMUNICATION, _STUDY, "a destination refused a delivery", _FAILED),
        "delivery:retry": Word(_COMMUNICATION, _STUDY, "a delivery was sent on its way again"),
        "delivery:pause": Word(_COMMUNICATION, _STUDY, "a delivery was paused"),
        "delivery:resume": Word(_COMMUNICATION, _STUDY, "a paused delivery was resumed"),
        "delivery:cancel": Word(_COMMUNICATION, _STUDY, "a delivery was cancelled"),
        "manifest:write": Word(_COMMUNICATION, _STUDY, "the manifest of a study was written to a bucket"),
        "device:add": Word(_CHANGE, _NOTHING, "a device was admitted"),
        "device:change": Word(_CHANGE, _NOTHING, "a device was changed"),
        "device:remove": Word(_CHANGE, _NOTHING, "a device was removed"),
        "device:echo": Word(_MACHINE, _NOTHING, "a device was called to see whether it answers"),
        "door:knock": Word(_SECURITY, _NOTHING, "an unknown caller was refused", _REFUSED),
        "destination:add": Word(_CHANGE, _NOTHING, "a destination was added"),
        "destination:change": Word(_CHANGE, _NOTHING, "a destination was changed"),
        "destination:remove": Word(_CHANGE, _NOTHING, "a destination was removed"),
        "destination:pause": Word(_CHANGE, _NOTHING, "a destination was paused"),
        "destination:resume": Word(_CHANGE, _NOTHING, "a destination was resumed"),
        "destination:test": Word(_CHANGE, _NOTHING, "a destination was tested"),
        "destination:trust": Word(_CHANGE, _NOTHING, "the key of a file server was compared and pinned"),
        "rule:add": Word(_CHANGE, _NOTHING, "a rule was added"),
        "rule:remove": Word(_CHANGE, _NOTHING, "a rule was removed"),
        "key:show": Word(_SECURITY, _NOTHING, "the recovery key was shown"),
        "key:check": Word(_SECURITY, _NOTHING, "the recovery key was checked"),
        "key:rotate": Word(_SECURITY, _NOTHING, "the recovery key was replaced"),
        "key:rotate-root": Word(_SECURITY, _NOTHING, "the root key was replaced"),
        "key:rewrap": Word(
            _SECURITY, _NOTHING, "study keys and catalog were moved under the newest root key"
        ),
        "key:reseal": Word(_SECURITY, _NOTHING, "the root key was sealed to this machine anew"),
        "disk:show-key": Word(
            _SECURITY, _NOTHING, "the recovery key of the disk was shown on the box's screen"
        ),
        "disk:hide-key": Word(
            _SECURITY, _NOTHING, "the recovery key of the disk was taken off the box's screen"
        ),
        "pin:choose": Word(_SECURITY, _NOTHING, "a PIN that the disk asks for at each start was chosen"),
        "pin:remove": Word(_SECURITY, _NOTHING, "it was asked that the disk opens without a PIN again"),
        "pin:change": Word(
            _SECURITY, _NOTHING, "whether the disk asks for a PIN was changed, or could not be"
        ),
        "notice:acknowledge": Word(_CHANGE, _NOTHING, "a person took a notice in hand"),
        "notice:prefer": Word(_CHANGE, _NOTHING, "a person chose what to hear of"),
        "notice:test": Word(_MACHINE, _NOTHING, "a notice was raised as a test"),
        "alert:change": Word(_CHANGE, _NOTHING, "the rule of an alert was changed"),
        "escalation:change": Word(_CHANGE, _NOTHING, "who hears next of what is critical was changed"),
        "mail:test": Word(_COMMUNICATION, _NOTHING, "a letter was sent as a test"),
        "webhook:add": Word(_CHANGE, _NOTHING, "a webhook was added"),
        "webhook:remove": Word(_CHANGE, _NOTHING, "a webhook was removed"),
        "webhook:test": Word(_COMMUNICATION, _NOTHING, "a webhook was tested"),
        "setting:change": Word(_CHANGE, _NOTHING, "a setting was changed"),
        "configuration:export": Word(_CHANGE, _NOTHING, "the configuration was exported"),
        "configuration:import": Word(_CHANGE, _NOTHING, "a configuration was imported"),
        "setup:step": Word(_CHANGE, _NOTHING, "a step of setting up was answered"),
        "setup:later": Word(_CHANGE, _NOTHING, "a step of setting up was left for later"),
        "setup:test": Word(_MACHINE, _STUDY, "the test study was sent and followed"),
        "setup:see": Word(_ACCESS, _STUDY, "a person said to have seen the test image"),
        "setup:hide": Word(_USE, _STUDY, "the test study was taken out of the lists, or put back"),
        "setup:report": Word(_CHANGE, _NOTHING, "the report of setting up was made"),
        "setup:finish": Word(_CHANGE, _NOTHING, "setting up was finished"),
        "certificate:issue": Word(_CHANGE, _NOTHING, "certificates were made for a host name"),
        "certificate:renew": Word(_CHANGE, _NOTHING, "the server certificate was issued anew"),
        "access:refuse": Word(
            _SECURITY, _NOTHING, "a page or an act that a role does not include was refused", _REFUSED
        ),
        "access:pace": Word(
            _SECURITY, _NOTHING, "an account asked for more than one may in so short a time", _REFUSED
        ),
        "access:forge": Word(
            _SECURITY, _NOTHING, "a request that no page of this box had made was refused", _REFUSED
        ),
        "user:claim": Word(_SECURITY, _NOTHING, "the box was claimed by its owner"),
        "user:claim-fail": Word(_SECURITY, _NOTHING, "a wrong claim code was tried", _REFUSED),
        "user:add": Word(_CHANGE, _NOTHING, "a person was given an account"),
        "user:change": Word(_CHANGE, _NOTHING, "an account was changed"),
        "user:reset": Word(_SECURITY, _NOTHING, "the password of an account was reset"),
        "user:invite": Word(_CHANGE, _NOTHING, "a person was invited to have an account"),
        "user:link": Word(_SECURITY, _NOTHING, "a link to choose a new password was made"),
        "user:password": Word(_SECURITY, _NOTHING, "a person chose a password by a link"),
        "user:link-fail": Word(_SECURITY, _NOTHING, "a link that is not good was tried", _REFUSED),
        "user:deactivate": Word(_CHANGE, _NOTHING, "an account was deactivated"),
        "user:reactivate": Word(_CHANGE, _NOTHING, "an account was reactivated"),
        "user:end-sessions": Word(_SECURITY, _NOTHING, "all sessions of an account were ended"),
        "user:login": Word(_SECURITY, _NOTHING, "a person signed in"),
        "user:login-fail": Word(_SECURITY, _NOTHING, "a sign-in failed", _REFUSED),
        "user:lock": Word(
            _SECURITY, _NOTHING, "an account was held shut for a while, after too many failures", _REFUSED
        ),
        "user:logout": Word(_SECURITY, _NOTHING, "a person signed out"),
        "user:second-factor-fail": Word(
            _SECURITY, _NOTHING, "the password was right, and the second factor was not", _REFUSED
        ),
        "user:second-factor-add": Word(_SECURITY, _NOTHING, "an account was given a second factor"),
        "user:second-factor-remove": Word(_SECURITY, _NOTHING, "a second factor was taken from an account"),
        "user:recovery-codes": Word(_SECURITY, _NOTHING, "an account was given new recovery codes"),
        "user:recovery-code-use": Word(_SECURITY, _NOTHING, "a person signed in with a recovery code"),
        "user:passkey-block": Word(
            _SECURITY, _NOTHING, "a passkey whose counter went back was blocked: there is a copy", _REFUSED
        ),
        "user:confirm": Word(_SECURITY, _NOTHING, "a person at a session proved again who it is"),
        "user:confirm-fail": Word(
            _SECURITY, _NOTHING, "a person at a session failed to prove who it is", _REFUSED
        ),
        "access:break-glass": Word(_ACCESS, _STUDY, "a closed study was opened in an emergency"),
        "access:break-glass-fail": Word(
            _SECURITY, _NOTHING, "emergency access was asked for, and nothing had that number", _REFUSED
        ),
        "access:review": Word(_SECURITY, _STUDY, "an emergency access was looked into"),
        "access:address": Word(
            _SECURITY, _NOTHING, "the console was asked for from an address that may not open it", _REFUSED
        ),
        "token:add": Word(_SECURITY, _NOTHING, "a token was made for a machine"),
        "token:remove": Word(_SECURITY, _NOTHING, "a token was taken back"),
        "token:fail": Word(_SECURITY, _NOTHING, "a token that is not good was shown", _REFUSED),
        "session:end": Word(_SECURITY, _NOTHING, "a session was ended, by a person or for a newer one"),
        "user:expire": Word(_SECURITY, _NOTHING, "sessions that were over were ended"),
        "audit:view": Word(_ACCESS, _STUDIES, "the audit was looked at"),
        "audit:verify": Word(_SECURITY, _NOTHING, "the audit was verified"),
        "audit:export": Word(_COMMUNICATION, _STUDIES, "the audit was exported"),
        "audit:report": Word(_ACCESS, _STUDIES, "a report of the audit was made"),
        "audit:anchor": Word(
            _MACHINE, _NOTHING, "the state of the audit was written down away from this box"
        ),
        "backup:make": Word(_COMMUNICATION, _NOTHING, "a backup was laid in an archive"),
        "backup:fail": Word(_MACHINE, _NOTHING, "a backup could not be made", _FAILED),
        "backup:drill": Word(_MACHINE, _NOTHING, "a backup was tried out"),
        "backup:certify": Word(_USE, _NOTHING, "the certificate of a restore drill was printed"),
        "restore:admit": Word(_SECURITY, _NOTHING, "somebody typed the claim code, to restore a backup"),
        "restore:look": Word(
            _USE, _NOTHING, "somebody looked at which backups a blank box can be restored from"
        ),
        "restore:start": Word(_USE, _NOTHING, "somebody began to restore a backup in the browser"),
        "backup:restore": Word(_USE, _STUDIES, "a blank box was restored from an archive"),
        "instance:recover": Word(_USE, _STUDY, "an instance was recorded again from a manifest"),
        "instance:mend": Word(_USE, _STUDY, "a damaged object was mended from an archive"),
        "support:open": Word(_SECURITY, _NOTHING, "a session of remote support was opened"),
        "support:close": Word(_SECURITY, _NOTHING, "a session of remote support was ended"),
        "support:expire": Word(_SECURITY, _NOTHING, "a session of remote support was over its time"),
        "support:enter": Word(_SECURITY, _NOTHING, "somebody of the vendor came in"),
        "support:refuse": Word(_SECURITY, _NOTHING, "somebody was not let in to support the box", _REFUSED),
        "support:act": Word(_SECURITY, _NOTHING, "somebody of the vendor asked the box for something"),
        "support:leave": Word(
            _SECURITY, _NOTHING, "somebody of the vendor left; the recording has this checksum"
        ),
        "support:replay": Word(_SECURITY, _NOTHING, "a recording of remote support was looked at"),
        "support:file": Word(_MACHINE, _NOTHING, "a support file was made, without anything of a patient"),
        "support:take": Word(_COMMUNICATION, _NOTHING, "a support file was taken from the box"),
        "support:ticket": Word(
            _COMMUNICATION, _NOTHING, "a ticket with a support file was sent to whoever supports the box"
        ),
        "heartbeat:agree": Word(
            _SECURITY, _NOTHING, "heartbeats to whoever looks after the box were agreed to"
        ),
        "heartbeat:withdraw": Word(_SECURITY, _NOTHING, "heartbeats were forbidden again"),
        "heartbeat:send": Word(
            _COMMUNICATION, _NOTHING, "a heartbeat was taken, for the first time or after it was not"
        ),
        "heartbeat:fail": Word(_MACHINE, _NOTHING, "a heartbeat was not taken; it is tried again", _FAILED),
        "update:arrive": Word(_MACHINE, _NOTHING, "a new version of the image came, and waits for its start"),
        "update:start": Word(_MACHINE, _NOTHING, "a version of the image was started"),
        "update:choose": Word(
            _MACHINE, _NOTHING, "a version of the image was chosen at the machine for every start"
        ),
        "update:return": Word(
            _MACHINE, _NOTHING, "a version of the image did not prove itself; the box went back", _FAILED
        ),
        "update:replace": Word(
            _MACHINE, _NOTHING, "a version that waited was replaced before it was started"
        ),
        "update:restart": Word(_CHANGE, _NOTHING, "a person started the version that waits"),
        "fleet:take": Word(_SECURITY, _NOTHING, "the box took what the vendor wants of it"),
        "fleet:refuse": Word(_SECURITY, _NOTHING, "the box refused what the vendor wants of it", _REFUSED),
        "store:scrub": Word(_SECURITY, _NOTHING, "everything stored was read again"),
        "store:verify": Word(_SECURITY, _NOTHING, "the sealed objects were verified"),
    }
)
