"""The roles that a user has one of, as a clinic knows them. What each may do is in `appliance.identity.permissions`."""

from enum import StrEnum


class Role(StrEnum):
    """What somebody is in the clinic, or to it. The words are kept in the catalog: never rename one."""

    OWNER = "owner"
    """Answers for the box: everything. There is always at least one who is active."""

    PRIVACY_OFFICER = "privacy_officer"
    """In charge of the protection of personal information (Law 25, P-39.1 s.3.1)."""

    PRACTITIONER = "practitioner"
    """Dentist or physician of the clinic, who looks at images and treats."""

    ASSISTANT = "assistant"
    """Hygienist, dental assistant, nurse or front desk."""

    TECHNICIAN = "technician"
    """Imaging technologist or clinic tech: takes the images, looks after the machines and what they send."""

    REFERRER = "referrer"
    """Professional from elsewhere who is shown chosen studies."""

    STUDENT = "student"
    """Trainee who is shown chosen studies without what identifies the patient."""

    VENDOR_SUPPORT = "vendor_support"
    """The vendor's technician: the box, never a patient."""
