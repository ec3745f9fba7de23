import pytest
import torch

from avatar.models.threads import SMALL, one_thread_if_small


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("multiplications", "device", "inside"), [
    (SMALL, "cpu", 1),
    (SMALL + 1, "cpu", 2),
    (SMALL, "cuda", 2),
])  # fmt: skip
def test_small_work_on_a_cpu_is_done_by_one_thread(two_threads, multiplications, device, inside):
    with one_thread_if_small(multiplications, torch.device(device)):
        assert torch.get_num_threads() == inside
    assert torch.get_num_threads() == 2


def test_the_threads_come_back_after_an_error(two_threads):
    with pytest.raises(RuntimeError), one_thread_if_small(1, torch.device("cpu")):
        raise RuntimeError
    assert torch.get_num_threads() == 2
