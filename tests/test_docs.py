"""What the documents promise is there: every registered name, every metric key, every linked file."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_generated_page_is_up_to_date():
    sys.path.insert(0, str(ROOT / "scripts"))
    from write_docs import registry_page

    assert (ROOT / "docs" / "registry.md").read_text() == registry_page(), "run `make docs`"


def test_the_evidence_is_what_the_kept_runs_come_to():
    sys.path.insert(0, str(ROOT / "scripts"))
    from write_evidence import page

    assert (ROOT / "docs" / "evidence.md").read_text() == page(ROOT / "docs" / "evidence"), "run `make evidence`"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_config_and_module_that_a_page_names_exists(page):
    for target in re.findall(r"`((?:configs|avatar|tests|docs|scripts)/[\w./-]+)`", page.read_text()):
        assert "mine" in target or (ROOT / target).exists(), target


def test_the_example_record_of_the_data_page_is_valid():
    from avatar.data.schema import parse_record

    example = re.search(r"```json\n(.*?)```", (ROOT / "docs" / "data.md").read_text(), re.DOTALL)
    record = parse_record(example[1].encode(), "docs/data.md")
    assert record.options == ["sound", "flash", "same"]


def test_the_estimator_that_contributing_shows_works():
    import torch

    from avatar.advantages import Advantage
    from avatar.registry import Registry
    from avatar.types import Completion, Experience

    code = re.search(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)[1]
    code = "\n".join(line.removeprefix("   ") for line in code.splitlines())
    registry = Registry("advantage", "test")
    names = {
        "ADVANTAGES": registry,
        "Advantage": Advantage,
        "Experience": Experience,
        "Tensor": torch.Tensor,
        "torch": torch,
    }
    exec(code, names)  # noqa: S102
    completions = [Completion(torch.tensor([1, 2]), torch.zeros(2), "", True)] * 5
    rewards, group = torch.tensor([0.0, 2.0, 1.0, 1.0, 4.0]), torch.tensor([0, 0, 1, 1, 1])
    experience = Experience.from_completions(completions, group, rewards, torch.ones(5, dtype=torch.bool))
    # group 0: mean 1; group 1: mean 2
    assert registry["MeanBaseline"]().estimate(experience).tolist() == [-1.0, 1.0, -1.0, -1.0, 2.0]
