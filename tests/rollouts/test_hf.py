import torch

from avatar.rollouts import HFEngine
from avatar.types import Sampling


def test_the_engine_draws_what_the_adapter_draws_as_many_for_each_prompt_as_asked(adapter, prompts):
    prefixes, sampling = adapter.encode(prompts[:3]), Sampling(1.0, 8, top_k=4)
    ours = HFEngine().generate(adapter, prefixes, [2, 0, 1], sampling, torch.Generator().manual_seed(5))
    plain = adapter.generate(prefixes, [2, 0, 1], sampling, torch.Generator().manual_seed(5))
    assert [[c.ids.tolist() for c in g] for g in ours] == [[c.ids.tolist() for c in g] for g in plain]
    assert [len(g) for g in ours] == [2, 0, 1]
    assert all(torch.equal(a.truncated_logprobs, b.truncated_logprobs) for a, b in zip(ours[0], plain[0], strict=True))
