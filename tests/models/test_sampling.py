"""What is drawn, and the log-probs that are kept of it."""

import pytest
import torch

from avatar.types import Prompt, Sampling

TEXT = Prompt("t", [{"role": "user", "content": "how many beeps ?"}], (), "1")


def draw(adapter, prefixes, nums, sampling, seed=0):
    return adapter.generate(prefixes, nums, sampling, torch.Generator().manual_seed(seed))


def distribution(adapter, prefix, ids, temperature):
    """[T, V] log-probs at each token of a completion, by scoring every word of the vocabulary in its place."""
    rows = []
    for t in range(len(ids)):
        words = torch.arange(adapter.model.lm_head.out_features)
        candidates = torch.cat([ids[:t].expand(len(words), -1), words[:, None]], 1)
        mask = torch.ones_like(candidates, dtype=torch.bool)
        group = torch.zeros(len(words), dtype=torch.long)
        rows.append(adapter.logprobs([prefix], candidates, mask, group, temperature)[:, -1])
    return torch.stack(rows)


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.3])
def test_only_the_k_likeliest_allowed_tokens_are_drawn_and_their_chances_sum_to_one(adapter, temperature):
    k, prefixes = 3, adapter.encode([TEXT])
    completions = draw(adapter, prefixes, 4, Sampling(temperature, 4, top_k=k))[0]
    for completion in completions:
        scored = distribution(adapter, prefixes[0], completion.ids, temperature)
        scored[:, adapter.media_ids] = -torch.inf
        top = scored.topk(k)
        assert (top.indices == completion.ids[:, None]).any(-1).all()
        among = top.values.log_softmax(-1)  # sums to 1 over the k
        chosen = among[top.indices == completion.ids[:, None]]
        torch.testing.assert_close(completion.truncated_logprobs, chosen, atol=1e-5, rtol=0)


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.3])
@pytest.mark.parametrize("top_k", [0, 5])
def test_behaviour_logprobs_are_those_of_the_full_vocabulary(adapter, prompts, temperature, top_k):
    prefixes = adapter.encode(prompts[:4])
    groups = draw(adapter, prefixes, 3, Sampling(temperature, 12, top_k))
    completions = [c for g in groups for c in g]
    ids = torch.nn.utils.rnn.pad_sequence([c.ids for c in completions], batch_first=True)
    behaviour = torch.nn.utils.rnn.pad_sequence([c.behaviour_logprobs for c in completions], batch_first=True)
    mask = torch.arange(ids.shape[1]) < torch.tensor([len(c.ids) for c in completions])[:, None]
    scored = adapter.logprobs(prefixes, ids, mask, torch.arange(4).repeat_interleave(3), temperature)
    torch.testing.assert_close(scored, behaviour, atol=1e-5, rtol=0)
    for completion in completions:
        if top_k:
            assert (completion.truncated_logprobs >= completion.behaviour_logprobs - 1e-6).all()
        else:
            assert completion.truncated_logprobs is None


def test_one_likeliest_is_greedy_and_greedy_ignores_the_number(adapter, prompts):
    prefixes = adapter.encode(prompts[:3])
    greedy = [g[0] for g in draw(adapter, prefixes, 1, Sampling(0.0, 10))]
    for sampling in (Sampling(1.0, 10, top_k=1), Sampling(0.0, 10, top_k=7)):
        for completion, wanted in zip([g[0] for g in draw(adapter, prefixes, 1, sampling)], greedy, strict=True):
            assert torch.equal(completion.ids, wanted.ids)
            assert completion.truncated_logprobs is None or (completion.truncated_logprobs == 0).all()
    assert all(c.truncated_logprobs is None for c in greedy)


def test_a_number_beyond_the_vocabulary_is_all_allowed_tokens(adapter, prompts):
    prefixes = adapter.encode(prompts[:2])
    every = draw(adapter, prefixes, 2, Sampling(1.0, 8, top_k=10**6))
    plain = draw(adapter, prefixes, 2, Sampling(1.0, 8))
    assert [c.ids.tolist() for g in every for c in g] == [c.ids.tolist() for g in plain for c in g]


def test_each_prompt_gets_as_many_completions_as_it_was_given(adapter, prompts):
    prefixes = adapter.encode(prompts[:4])
    groups = draw(adapter, prefixes, [3, 0, 1, 2], Sampling(1.0, 8))
    assert [len(g) for g in groups] == [3, 0, 1, 2]
    ids = torch.nn.utils.rnn.pad_sequence([c.ids for g in groups for c in g], batch_first=True)
    behaviour = torch.nn.utils.rnn.pad_sequence([c.behaviour_logprobs for g in groups for c in g], batch_first=True)
    mask = torch.arange(ids.shape[1]) < torch.tensor([len(c.ids) for g in groups for c in g])[:, None]
    scored = adapter.logprobs(prefixes, ids, mask, torch.tensor([0, 0, 0, 2, 3, 3]), 1.0)
    torch.testing.assert_close(scored, behaviour, atol=1e-5, rtol=0)  # so each row followed its own prompt


def test_equal_numbers_draw_what_one_number_draws(adapter, prompts):
    prefixes = adapter.encode(prompts[:3])
    one, many = (draw(adapter, prefixes, nums, Sampling(1.0, 8)) for nums in (2, [2, 2, 2]))
    for a, b in zip([c for g in one for c in g], [c for g in many for c in g], strict=True):
        assert torch.equal(a.ids, b.ids)
        assert torch.equal(a.behaviour_logprobs, b.behaviour_logprobs)


def test_nothing_asked_for_is_nothing_drawn(adapter, prompts):
    assert draw(adapter, adapter.encode(prompts[:2]), [0, 0], Sampling()) == [[], []]
    assert draw(adapter, [], 4, Sampling()) == []


def test_a_number_for_each_prompt_or_none(adapter, prompts):
    with pytest.raises(ValueError, match="zip"):
        draw(adapter, adapter.encode(prompts[:2]), [1], Sampling())
