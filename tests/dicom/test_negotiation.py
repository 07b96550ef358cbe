"""Which contexts are taken, held against an independent reading of the standard's own tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom._uid_dict import UID_dictionary
from pynetdicom import AllStoragePresentationContexts

from appliance.dicom.negotiation import VERIFICATION, YIELDING, Outcome, Proposed, Roles, choose, is_storage
from appliance.model import Uid

from .peers import BIG_ENDIAN, CT, DEFLATED, EXPLICIT, IMPLICIT, JPEG_LOSSLESS

MODALITY_WORKLIST = "1.2.840.10008.5.1.4.31"
SOP_CLASSES = {uid: name for uid, (name, kind, *_) in UID_dictionary.items() if kind == "SOP Class" and name}
STORED = {
    uid
    for uid, name in SOP_CLASSES.items()
    if "Storage" in name and "Commitment" not in name and not name.startswith("Media Storage Directory")
}

uids = st.one_of(
    st.sampled_from([*SOP_CLASSES]),
    st.from_regex(r"1\.2\.(826|840)\.[0-9]{1,6}(\.[0-9]{1,4}){1,4}", fullmatch=True),
).map(Uid)
syntaxes = st.one_of(
    st.sampled_from([IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED, JPEG_LOSSLESS, *YIELDING]),
    st.from_regex(r"1\.3\.[0-9]{1,5}", fullmatch=True),
).map(Uid)
contexts = st.lists(
    st.tuples(uids, st.lists(syntaxes, max_size=6, unique=True)), min_size=0, max_size=128
).map(
    lambda proposals: [Proposed(2 * n + 1, uid, tuple(offered)) for n, (uid, offered) in enumerate(proposals)]
)


@pytest.mark.parametrize("uid", SOP_CLASSES)
def test_storage_is_what_the_standard_calls_storage(uid: str) -> None:
    assert is_storage(Uid(uid)) == (uid in STORED)


def test_every_storage_class_of_the_library_is_accepted() -> None:
    assert all(is_storage(Uid(str(context.abstract_syntax))) for context in AllStoragePresentationContexts)


@pytest.mark.parametrize(
    "uid", ["1.2.826.0.1.3680043.8.498.1", "1.2.840.10008.5.1.4.1.1.9999", "2.25.1", "1.2.840.113619.4.30"]
)
def test_private_and_unknown_classes_are_stored(uid: str) -> None:
    assert is_storage(Uid(uid))


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ([EXPLICIT, IMPLICIT], EXPLICIT),
        ([IMPLICIT, EXPLICIT], IMPLICIT),
        ([JPEG_LOSSLESS, EXPLICIT], JPEG_LOSSLESS),
        ([BIG_ENDIAN, IMPLICIT], IMPLICIT),
        ([DEFLATED, BIG_ENDIAN, JPEG_LOSSLESS], JPEG_LOSSLESS),
        ([BIG_ENDIAN], BIG_ENDIAN),
        ([DEFLATED, BIG_ENDIAN], DEFLATED),
        (["1.2.3.999", EXPLICIT], "1.2.3.999"),
    ],
)
def test_the_preferred_syntax_is_kept_but_for_those_that_yield(offered: list[str], chosen: str) -> None:
    (answer,) = choose([Proposed(1, Uid(CT), tuple(Uid(each) for each in offered))])
    assert (answer.outcome, answer.transfer_syntax) == (Outcome.ACCEPTED, chosen)


@given(contexts)
def test_every_context_is_answered_with_one_of_its_own_syntaxes(proposed: list[Proposed]) -> None:
    answers = choose(proposed)
    assert [answer.context_id for answer in answers] == [context.context_id for context in proposed]
    for context, answer in zip(proposed, answers, strict=True):
        wanted = context.abstract_syntax == VERIFICATION or is_storage(context.abstract_syntax)
        assert (answer.outcome is Outcome.ACCEPTED) == (wanted and bool(context.transfer_syntaxes))
        if answer.outcome is not Outcome.ACCEPTED:
            continue
        assert answer.transfer_syntax in context.transfer_syntaxes
        before = context.transfer_syntaxes[: context.transfer_syntaxes.index(answer.transfer_syntax)]
        if answer.transfer_syntax in YIELDING:
            assert not before
            assert all(each in YIELDING for each in context.transfer_syntaxes)
        else:
            assert all(each in YIELDING for each in before)


@given(contexts)
def test_contexts_do_not_disturb_one_another(proposed: list[Proposed]) -> None:
    assert choose(proposed) == tuple(choose([context])[0] for context in proposed)


def test_reasons_for_refusal() -> None:
    proposed = [
        Proposed(1, Uid(MODALITY_WORKLIST), (Uid(EXPLICIT),)),
        Proposed(3, Uid(CT), ()),
        Proposed(5, Uid(""), (Uid(EXPLICIT),)),
    ]
    assert [answer.outcome for answer in choose(proposed)] == [
        Outcome.ABSTRACT_SYNTAX_NOT_SUPPORTED,
        Outcome.TRANSFER_SYNTAXES_NOT_SUPPORTED,
        Outcome.ABSTRACT_SYNTAX_NOT_SUPPORTED,
    ]


def test_one_who_will_not_be_the_user_sends_nothing() -> None:
    (answer,) = choose([Proposed(1, Uid(CT), (Uid(EXPLICIT),))], {Uid(CT): Roles(scu=False, scp=True)})
    assert answer.outcome is Outcome.USER_REJECTION
