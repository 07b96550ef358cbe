"""A box with a clinic's morning in it, and browsers, as the tests of the console have them."""

from tests.web.conftest import app, box, client, signed_in

__all__ = ["app", "box", "client", "signed_in"]
