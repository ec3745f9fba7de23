import pytest
from tests_sweep import make_world


@pytest.fixture(scope="session")
def sweep_world(micro, tmp_path_factory):
    """A folder with ``data/micro`` and ``base.yaml``; not to be written to but below ``runs/``."""
    return make_world(tmp_path_factory.mktemp("sweep"), micro)


@pytest.fixture
def here(sweep_world, monkeypatch):
    """Being in that folder."""
    monkeypatch.chdir(sweep_world)
    return sweep_world
