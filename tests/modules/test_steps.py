import math

import pytest
import torch
from torch import nn

from avatar.modules.steps import of_all_ranks, part_norms, step_seed, zero_loss


def test_steps_and_ranks_draw_from_different_streams():
    seeds = {step_seed(seed, step, rank) for seed in range(3) for step in range(50) for rank in range(8)}
    assert len(seeds) == 3 * 50 * 8


@pytest.mark.parametrize("seed", [0, 2**32, 2**63 - 1])
def test_a_seed_is_one_that_torch_takes(seed):
    torch.Generator().manual_seed(step_seed(seed, 10**6, 1000))


def test_a_process_alone_has_its_own_items():
    assert of_all_ranks([1, "b"]) == [1, "b"]
    assert of_all_ranks([]) == []


def parameters():
    """Of several shapes and types, one of them frozen, one in use twice."""
    torch.manual_seed(0)
    shapes = [(3, 4), (5,), (), (2, 0)]
    made = [nn.Parameter(torch.randn(shape)) for shape in shapes] + [nn.Parameter(torch.randn(3).bfloat16())]
    return made, nn.Parameter(torch.randn(3), requires_grad=False)


def test_the_loss_of_nothing_is_zero_with_a_gradient_of_zero_for_every_parameter_that_takes_one():
    learning, frozen = parameters()
    loss = zero_loss([*learning, frozen])
    assert (loss.shape, float(loss.detach())) == ((), 0.0)
    loss.backward()
    for parameter in learning:
        assert parameter.grad is not None
        assert parameter.grad.shape == parameter.shape
        assert not parameter.grad.any()
    assert frozen.grad is None


def test_a_step_down_the_loss_of_nothing_moves_nothing():
    learning, frozen = parameters()
    before = [p.detach().clone() for p in learning]
    optimizer = torch.optim.SGD(learning, lr=1.0)
    zero_loss([*learning, frozen]).backward()
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, learning, strict=True))


def test_parameters_may_come_from_a_generator():
    layer = nn.Linear(3, 2)
    zero_loss(p for p in layer.parameters()).backward()
    assert layer.weight.grad is not None
    assert layer.bias.grad is not None


def test_norms_of_the_two_parts_of_a_gradient():
    a, b = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))
    a.grad, b.grad = torch.tensor([3.0, 4.0]), torch.tensor([12.0])
    assert part_norms([a, b], {}) == {}
    norms = part_norms([a, b], {a: torch.tensor([3.0, 0.0])})
    # Fresh: (0, 4) and (12): sqrt(16 + 144); replayed: 3.
    assert float(norms["grad_norm/fresh"]) == pytest.approx(math.sqrt(160))
    assert float(norms["grad_norm/replayed"]) == pytest.approx(3.0)
