"""The page of mistakes says what the mistakes say."""

import importlib.util
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent.parent / "docs" / "scripts"


@pytest.fixture(scope="module")
def mistakes():
    spec = importlib.util.spec_from_file_location("mistakes", SCRIPTS / "mistakes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_script_writes(mistakes):
    assert mistakes.PAGE.read_text() == mistakes.page(), "run: python docs/scripts/mistakes.py"


def test_each_refusal_names_what_was_given(mistakes):
    for lines in mistakes.MISTAKES.values():
        for code in lines:
            said = mistakes.refusal(code)
            assert said.startswith(("ValueError: ", "TypeError: "))
            assert len(said) > 30


def test_a_line_that_is_no_mistake_is_found_out(mistakes):
    with pytest.raises(ValueError, match="is no mistake"):
        mistakes.refusal("FactorizedConv(16, 32, (3, 3))")
