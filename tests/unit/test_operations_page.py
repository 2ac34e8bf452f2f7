"""The operations page names every setting with its default, every metric and every alert."""

import re
from pathlib import Path

import yaml
from ferserve.settings import Settings
from in_process import serving
from prometheus_client.parser import text_string_to_metric_families

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "operations.md").read_text()


def first_column(section: str) -> set[str]:
    """The words in code of the first column of a section's table."""
    table = PAGE.split(f"## {section}\n")[1].split("\n## ")[0]
    return {
        name
        for row in re.findall(r"^\| (`.*?) \|", table, re.M)
        for name in re.findall(r"`(\w+)`", row)
    }


def test_every_setting_stands_on_the_page_and_no_other():
    assert first_column("Settings") == {name.upper() for name in Settings.model_fields}


def test_numbers_on_the_page_are_the_defaults():
    for name, default in re.findall(r"^\| `(\w+)` \| ([\d,]+) \|", PAGE, re.M):
        assert Settings.model_fields[name.lower()].default == int(default.replace(",", "")), name


async def test_every_metric_stands_on_the_page_and_no_other(standin_models):
    async with serving(standin_models, metrics_emotions=True) as client:
        page = (await client.get("/metrics")).text
    exposed = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in text_string_to_metric_families(page)
        if family.name.startswith("ferserve_") and not family.name.endswith("_created")
    }
    assert first_column("Metrics") == exposed


def test_every_alert_stands_on_the_page_and_no_other():
    rules = yaml.safe_load((REPOSITORY / "deploy" / "prometheus" / "alerts.yml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    assert first_column("Alerts") == alerts
