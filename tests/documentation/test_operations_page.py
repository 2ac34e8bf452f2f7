"""The pages name every setting with its default, every metric and every alert."""

import re
import runpy
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


def test_the_tables_of_settings_are_those_of_the_code():
    table = runpy.run_path(str(REPOSITORY / "docs" / "settings_table.py"))
    for name, settings in table["PAGES"].items():
        page = (REPOSITORY / "docs" / name).read_text()
        assert table["with_table"](page, settings) == page
        assert all(f"| `{field.upper()}` |" in page for field in settings.model_fields)
        assert all(field.description for field in settings.model_fields.values())
    assert first_column("Settings") == {name.upper() for name in Settings.model_fields}


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
