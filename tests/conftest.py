"""Set before torch is imported, as avatar.cli does: see there."""

import os
import signal

# A shell's background job is started deaf to Ctrl-C, and what it starts is too; the tests of it need ears.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("GOMP_SPINCOUNT", "1000")
os.environ["HF_HUB_OFFLINE"] = "1"  # a test that reaches for the network fails

from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def micro(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small micro-world with its tiny model: 18 clips for chains, 9 for guesses, 5 to train on, 2 and 4 held out."""
    from avatar.commands.data.synth import synth

    folder = tmp_path_factory.mktemp("micro")
    synth(str(folder / "data"), seed=0, scale=0.03)
    return folder / "data"


@pytest.fixture(scope="session")
def prompts(micro: Path) -> list:
    """The ten prompts of the dev split: ragged questions, with picture and sound."""
    from avatar.data.dataset import PromptDataset
    from avatar.data.micro import RULE
    from avatar.data.prompts import PromptStyle

    dataset = PromptDataset([micro / "dev"], PromptStyle(letter_options=False), RULE)
    return [dataset[i] for i in range(len(dataset))]


@pytest.fixture
def adapter(micro: Path):
    """The tiny model, freshly loaded, towers frozen."""
    from avatar.models import load_adapter

    loaded = load_adapter(str(micro / "model"), "float32", "sdpa", 64)
    loaded.freeze_towers()
    return loaded


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Small models on a shared machine: one thread is steadier, and as many give the same bits."""
    torch.set_num_threads(1)
