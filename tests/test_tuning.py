"""Every tuned number says what it is, and the documentation has them all."""

from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from occupy import tuning

GROUPS = ("SHARED", "MAP", "SET", "COMPONENTS", "B_FACTOR")
NUMBERS = [(group, one) for group in GROUPS for one in fields(getattr(tuning, group))]
PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "tuning.md"


def test_there_are_at_most_sixty_tuned_numbers():
    assert 0 < sum(one.metadata["kind"] == "tuned" for _, one in NUMBERS) <= 60


@pytest.mark.parametrize(("group", "one"), NUMBERS, ids=lambda x: x if isinstance(x, str) else x.name)
def test_each_says_what_it_is_and_stands_in_the_documentation(group, one):
    value, text = getattr(getattr(tuning, group), one.name), PAGE.read_text(encoding="utf-8")
    section = text[text.index(f"tuning.{group}`") :].split("\n## ")[0]
    assert value > 0
    assert one.metadata["what"]
    assert one.metadata["source"]
    if one.metadata["kind"] == "tuned":
        assert "%" in one.metadata["effect"]
        assert f"| `{one.name}` | {value:g} | {one.metadata['unit']} |" in section
    else:
        assert f"`{one.name}` {value:g}" in section


def test_numbers_cannot_be_changed_by_accident():
    with pytest.raises(FrozenInstanceError):
        tuning.MAP.core = 0.5
