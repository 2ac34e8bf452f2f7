"""Results → picture and docs/performance.md, whatever there is of them."""

import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "bench" / "performance.py"
PAGE = REPOSITORY / "docs" / "performance.md"


def written(results: Path, page: Path) -> str:
    command = [sys.executable, SCRIPT, "--results", results, "--page", page]
    subprocess.run(command, check=True, capture_output=True)
    return page.read_text()


def test_the_page_says_what_the_committed_results_say(tmp_path):
    results = tmp_path / "results"
    shutil.copytree(REPOSITORY / "bench" / "results", results)
    (results / "compare.png").unlink()
    page = tmp_path / "page.md"
    shutil.copy(PAGE, page)
    assert written(results, page) == PAGE.read_text()
    assert (results / "compare.png").stat().st_size > 1000


def test_without_results_what_stands_around_the_figures_stays(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "before\n<!-- figures: bench/performance.py -->\nold\n<!-- end of figures -->\nafter\n"
    )
    text = written(tmp_path, page)
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
