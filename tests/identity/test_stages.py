"""The steps of signing in, restated: what leads in, and that nothing else does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import settings
from appliance.errors import NotAuthorised
from appliance.identity import stages
from appliance.identity.roles import Role
from appliance.identity.stages import STEPS, Proof, Stage, Standing, step

SECOND = (Proof.ONE_TIME_CODE, Proof.PASSKEY, Proof.RECOVERY_CODE)


def test_a_password_alone_opens_only_an_account_that_has_and_owes_nothing_more() -> None:
    assert step(Stage.OUTSIDE, Proof.PASSWORD, Standing.FREE) is Stage.SIGNED_IN
    assert step(Stage.OUTSIDE, Proof.PASSWORD, Standing.ENROLLED) is Stage.SECOND_FACTOR_DUE
    assert step(Stage.OUTSIDE, Proof.PASSWORD, Standing.OBLIGED) is Stage.ENROLMENT_DUE


@pytest.mark.parametrize("proof", SECOND)
def test_every_second_factor_finishes_what_a_password_began(proof: Proof) -> None:
    assert step(Stage.SECOND_FACTOR_DUE, proof, Standing.ENROLLED) is Stage.SIGNED_IN


@pytest.mark.parametrize("proof", [Proof.ONE_TIME_CODE, Proof.RECOVERY_CODE, Proof.NEW_FACTOR])
def test_a_second_factor_other_than_a_passkey_is_not_a_first_one(proof: Proof) -> None:
    for standing in Standing:
        with pytest.raises(NotAuthorised):
            step(Stage.OUTSIDE, proof, standing)


def test_nobody_adds_a_factor_in_the_place_of_showing_the_one_there_is() -> None:
    with pytest.raises(NotAuthorised):
        step(Stage.SECOND_FACTOR_DUE, Proof.NEW_FACTOR, Standing.ENROLLED)
    for proof in SECOND:
        with pytest.raises(NotAuthorised):
            step(Stage.ENROLMENT_DUE, proof, Standing.ENROLLED)


@given(st.lists(st.sampled_from(Proof), max_size=6), st.sampled_from(Standing))
def test_no_order_of_proofs_enters_a_protected_account_with_one_factor(
    proofs: list[Proof], standing: Standing
) -> None:
    """Refused proofs leave the stage as it is, as the workflow does."""
    stage, shown = Stage.OUTSIDE, []
    for proof in proofs:
        try:
            stage = step(stage, proof, standing)
        except NotAuthorised:
            continue
        shown.append(proof)
        if stage is Stage.SIGNED_IN:
            break
    if stage is Stage.SIGNED_IN and standing is not Standing.FREE:
        assert shown == [Proof.PASSKEY] or len(shown) == 2


def test_nothing_leads_on_from_being_signed_in() -> None:
    assert not [where for where in STEPS if where[0] is Stage.SIGNED_IN]


def test_an_account_is_obliged_by_its_role_until_it_is_enrolled() -> None:
    obliged = frozenset({"owner"})
    assert stages.standing(enrolled=False, role="owner", roles_obliged=obliged) is Standing.OBLIGED
    assert stages.standing(enrolled=True, role="owner", roles_obliged=obliged) is Standing.ENROLLED
    assert stages.standing(enrolled=False, role="student", roles_obliged=obliged) is Standing.FREE


def test_the_setting_knows_every_role() -> None:
    kind = settings.SETTINGS["access.second_factor_roles"].kind
    assert kind.check([role.value for role in Role]) == [role.value for role in Role]
    with pytest.raises(Exception, match="none of the choices"):
        kind.check(["dentist"])
