"""The owner's own account: a second factor, so that a password that was seen opens nothing."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Response

from appliance.identity.permissions import Permission
from appliance.web import forms
from appliance.web.access import needs
from appliance.web.pages import show
from appliance.web.views.setup.frame import SetupPage, blueprint, in_turn, setup_page
from appliance.wizard.steps import Step


@dataclass(frozen=True, slots=True)
class AccountPage(SetupPage):
    """Whose account it is."""

    name: str
    login: str


@blueprint.get("/account")
@needs(Permission.CHANGE_SETTINGS)
@in_turn(Step.ACCOUNT)
def account() -> Response:
    """The account, and the way to its second factor."""
    person = forms.session().person
    page = setup_page(AccountPage, Step.ACCOUNT, name=person.name, login=person.login)
    return show("setup/account.html", page)
