"""The operations page names every setting with its default."""

import re
from pathlib import Path

from service.settings import Settings

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text()


def test_every_setting_stands_on_the_page_and_no_other():
    table = PAGE.split("## Settings")[1].split("##")[0]
    names = {
        name
        for row in re.findall(r"^\| (`.*?) \|", table, re.M)
        for name in re.findall(r"`(\w+)`", row)
    }
    assert names == {name.upper() for name in Settings.model_fields}


def test_numbers_on_the_page_are_the_defaults():
    for name, default in re.findall(r"^\| `(\w+)` \| ([\d,]+) \|", PAGE, re.M):
        assert Settings.model_fields[name.lower()].default == int(default.replace(",", "")), name
