"""What the scan of a running box is judged by: each exception is needed, and each rule that does not pass has one."""

from tests.image.scanning import TAILORING, excepted, results_of, unmet, without_need

ANSWER = """\
    <rule-result idref="xccdf_org.ssgproject.content_rule_package_sudo_installed" role="full" time="2026-11-30T00:00:00" severity="medium">
      <result>fail</result>
    <rule-result idref="xccdf_org.ssgproject.content_rule_partition_for_var" role="full" time="2026-11-30T00:00:00" severity="low">
      <result>pass</result>
    <rule-result idref="xccdf_org.ssgproject.content_rule_package_rsyslog-gnutls_installed" role="full" time="" severity="medium">
      <result>notapplicable</result>
    <rule-result idref="xccdf_org.ssgproject.content_rule_security_patches_up_to_date" role="full" time="" severity="high">
      <result>notchecked</result>
    <rule-result idref="xccdf_org.ssgproject.content_rule_sudo_add_noexec" role="full" time="" severity="high">
      <result>notselected</result>
"""
WHOLE = {
    "package_sudo_installed": "fail",
    "partition_for_var": "pass",
    "package_rsyslog-gnutls_installed": "notapplicable",
    "security_patches_up_to_date": "notchecked",
}


def test_each_rule_of_the_profile_has_its_result() -> None:
    assert results_of(ANSWER) == WHOLE


def test_a_rule_that_can_not_be_checked_has_not_passed() -> None:
    results = WHOLE | {"one": "error", "two": "unknown"}
    assert unmet(results) == [
        "error: one",
        "fail: package_sudo_installed",
        "notchecked: security_patches_up_to_date",
        "unknown: two",
    ]
    assert unmet({"one": "pass", "two": "notapplicable"}) == []


def test_an_exception_of_what_passes_anyway_is_named() -> None:
    assert without_need(WHOLE, {"package_sudo_installed", "security_patches_up_to_date"}) == []
    assert without_need(WHOLE, {*WHOLE, "gone"}) == [
        "not of the profile: gone",
        "notapplicable: package_rsyslog-gnutls_installed",
        "pass: partition_for_var",
    ]


def test_the_rules_that_are_taken_out_are_read() -> None:
    names = excepted(TAILORING.read_text())
    assert len(names) == TAILORING.read_text().count("<xccdf:select ")
    assert {"partition_for_home", "package_rsyslog-gnutls_installed"} <= names


def test_what_only_an_image_without_a_start_lacks_is_no_exception() -> None:
    """Its own /var and the ESP are mounted on a running box, and its manager of services is there: these pass."""
    needless = {
        "apparmor_configured",
        "partition_for_boot",
        "partition_for_var",
        "service_chronyd_or_ntpd_enabled",
    }
    assert not needless & excepted(TAILORING.read_text())
