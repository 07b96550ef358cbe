"""French as a Québec clinic reads it: its typography and its words, in every sentence and page of help."""

import re
from collections.abc import Iterator

import pytest

from appliance.web.console import web_ui
from tests.web.translations import LANGUAGES, texts_of

FRENCH = LANGUAGES.words("fr").sentences
BANNED = {
    r"e-?mails?\b|\bmails?\b": "courriel",
    r"\bpassword\b|\bmots? de passes\b": "mot de passe",
    r"\bupload\w*|\buploader\b|\btélécharge\w* (?:vers|sur) le": "téléverser",
    r"(?<!appliance )(?<!/media/)\bbackups?\b": "sauvegarde",
    r"\blogin\b|\bloguer\b": "identifiant, se connecter",
    r"\bcliqu\w+ sur\b": "choisissez (a screen is touched as often as clicked)",
    r"\bsupporte(?:r|nt|z)?\b(?! technique)": "prendre en charge",
    r"\bdigital\w*": "numérique",
    r"\bcloud\b": "infonuagique, nuage",
    r"\bcanceller\b|\bcancellé\w*": "annuler",
    r"\bchecker\b|\bbooter\b|\breset\b": "vérifier, démarrer, réinitialiser",
    r"\bpopulation de patients\b|\bpatients? suspects?\b": "say it otherwise",
    r"\brendez vous\b": "rendez-vous",
    r"\bcédule\w*|\bcéduler\b": "horaire",
    r"\bwi-?fi public gratuit\b|\bweek-?end\b": "fin de semaine",
    r"\bhacke\w*|\bspam\b|\bphishing\b": "pirater, pourriel, hameçonnage",
    r"\btoken\b": "jeton",
    r"\btimeout\b": "délai dépassé",
    r"\b(?:tu|ton|tes)\b": "vous",
    r"\bexercices?\b": "essai (de restauration), as the button and the certificate say",
}
"""Words that are not ours, and what to say instead (Office québécois de la langue française)."""


def sentences() -> Iterator[tuple[str, str]]:
    """Every French text with where it stands."""
    for key, sentence in FRENCH.items():
        if key == "causes":
            yield from ((f"causes: {cause}", said) for cause, said in sentence.items())
        else:
            yield from ((key, text) for text in texts_of(sentence))
    for path in (web_ui() / "help" / "fr").glob("*.html"):
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            yield f"{path.name}:{number}", re.sub(r"<[^>]+>", "", re.sub(r"<code>.*?</code>", "X", line))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            r"(?<![\u00a0\u202f\d/A-Za-z]):(?=\s|$)|[A-Za-zÀ-ÿ]:(?=\s|$)",
            "a no-break space goes before a colon",
        ),
        (r"«(?!\u00a0|\u202f)|(?<!\u00a0|\u202f)»", "no-break spaces go inside « »"),
        (r"\s[;!?]", "no space goes before ; ! ? in Québec"),
        (r"(?<=[A-Za-zÀ-ÿ])'(?=[A-Za-zÀ-ÿ])", "the apostrophe is ’"),
        (r"[“”]|\"", "quotation marks are « »"),
        (r"\d [%$]|\d [kMGT]?o\b", "a no-break space goes between a number and its unit"),
        (r"\.\.\.", "an ellipsis is …"),
    ],
)
def test_typography(wrong: str, said: str) -> None:
    found = {place: text for place, text in sentences() if re.search(wrong, text)}
    assert not found, said


@pytest.mark.parametrize(("wrong", "right"), list(BANNED.items()))
def test_words(wrong: str, right: str) -> None:
    said = ((place, re.sub(r"\{\w+\}", "", text)) for place, text in sentences())
    found = {place: text for place, text in said if re.search(wrong, text, re.IGNORECASE)}
    assert not found, f"say: {right}"
