"""Writing after shared prompts: the log-probs that are kept, who depends on whom, and what is held in memory.

B prompts, N rows that are being written.
"""

import warnings

import pytest
import torch
from tests_plain import plain_logprobs

from avatar.models import shelves
from avatar.models.decoding import ROOM, DecodePlan
from avatar.models.plain import PlainText
from avatar.models.prefix import PrefillPlan
from avatar.models.sampling import DROP_SHARE
from avatar.models.spans import SHORT, size_class
from avatar.types import Clip, Prompt, Sampling

CPU, SCALE, HEADS, HEAD = torch.device("cpu"), 0.3, 2, 8


# -- the plan alone ----------------------------------------------------------------------------------------------------


def prefilled(prompts, num_layers=2, dtype=torch.float64, seed=0):
    """Prompts whose keys and values are random."""
    plan, generator = PrefillPlan(prompts, num_layers, CPU), torch.Generator().manual_seed(seed)
    plan.keys, plan.values = (
        [torch.randn(sum(prompts), HEADS, HEAD, generator=generator, dtype=dtype) for _ in range(num_layers)]
        for _ in range(2)
    )
    return plan


def plain_row(q, keys, values):
    """One softmax over all keys of a row: [H, D] from [H, D], [n, K, D] and [n, K, D]."""
    k, v = (x.repeat_interleave(len(q) // HEADS, 1) for x in (keys, values))
    return torch.einsum("hn,nhd->hd", (torch.einsum("hd,nhd->hn", q, k) * SCALE).softmax(-1), v)


@pytest.mark.parametrize("packed", [False, True], ids=["sorted by size", "as they lie"])
@pytest.mark.parametrize("factor", [1, 2, 4])
@pytest.mark.parametrize(
    ("prompts", "nums"),
    [([5, 3], [1, 2]), ([4, 4, 4], [2, 2, 2]), ([5, 70, 3, 66, 200, 1], [2, 1, 3, 4, 1, 2]), ([40], [1])],
)
def test_a_row_sees_its_prompt_and_all_that_it_has_written(monkeypatch, prompts, nums, factor, packed):
    """Past the room of the first store, with rows and whole prompts leaving on the way; packed is what a GPU does."""
    monkeypatch.setattr(shelves, "has_flash", lambda keys: packed)
    prefill = prefilled(prompts)
    plan, generator = DecodePlan(prefill, nums), torch.Generator().manual_seed(1)
    ends = torch.tensor([0, *prompts]).cumsum(0)
    prompt_of = torch.arange(len(nums)).repeat_interleave(torch.tensor(nums)).tolist()
    written = [[[] for _ in range(2)] for _ in prompt_of]  # of each row and layer: (key, value) of each token
    for step in range(ROOM + 3):
        if step in (3, ROOM - 2, ROOM + 1) and len(prompt_of) > 1:
            left = list(range(1, len(prompt_of)))  # the first row has finished
            plan.keep(torch.tensor(left))
            prompt_of, written = [prompt_of[i] for i in left], [written[i] for i in left]
        with plan.next_token():
            for layer in range(2):
                q, k, v = (
                    torch.randn(len(prompt_of), heads, 1, HEAD, generator=generator, dtype=torch.float64)
                    for heads in (HEADS * factor, HEADS, HEADS)
                )
                out = plan.attend(layer, q, k, v, SCALE)
                for i, b in enumerate(prompt_of):
                    written[i][layer].append((k[i, :, 0], v[i, :, 0]))
                    if step % 21 and step < ROOM - 2:
                        continue
                    seen = [
                        torch.cat([of_prompt[layer][ends[b] : ends[b + 1]], torch.stack(own)])
                        for of_prompt, own in zip(
                            (prefill.keys, prefill.values), zip(*written[i][layer], strict=True), strict=True
                        )
                    ]
                    torch.testing.assert_close(out[i, 0], plain_row(q[i, :, 0], *seen), atol=1e-12, rtol=0)


def held(plan):
    """Bytes behind all tensors that a plan leads to, each piece of memory counted once."""
    seen, storages, ahead = set(), {}, [plan]
    while ahead:
        thing = ahead.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, torch.Tensor):
            storages[thing.untyped_storage().data_ptr()] = thing.untyped_storage().nbytes()
        elif isinstance(thing, (list, tuple)):
            ahead += thing
        elif isinstance(thing, dict):
            ahead += thing.values()
        elif hasattr(thing, "__dict__") and type(thing).__module__.startswith("avatar"):
            ahead += vars(thing).values()
    return sum(storages.values())


def test_what_is_held_of_prompts_does_not_grow_with_what_is_written_after_them():
    """A few bytes of places apart: 2 layers of keys and values, 64 rows to each prompt, would be 64 times as much."""
    prompts, of_prompts = [300, 500], 800 * 2 * 2 * HEADS * HEAD * 8  # tokens, layers, keys and values, float64
    few, many = (held(DecodePlan(prefilled(prompts), [num] * 2)) for num in (1, 64))
    assert few >= of_prompts
    assert many - few < 0.05 * of_prompts


@pytest.mark.parametrize("prompts", [[400, 400], [300, 500], [480, 500]], ids=["equal", "other sizes", "like sizes"])
def test_keys_and_values_of_a_prompt_are_held_once(prompts):
    """And not both as they were read and sorted by length; 480 is filled up to 500."""
    filled = 2 * max(prompts) if prompts == [480, 500] else sum(prompts)
    assert held(DecodePlan(prefilled(prompts), [3, 2])) < 1.05 * filled * 2 * 2 * HEADS * HEAD * 8


def test_a_prompt_that_is_written_to_its_end_is_dropped_and_finished_rows_are_too():
    plan = DecodePlan(prefilled([5, 70, 3]), [1, 2, 1])
    row = (torch.zeros(4, HEADS, 1, HEAD, dtype=torch.float64),) * 3
    with plan.next_token():
        for layer in range(2):
            plan.attend(layer, *row, SCALE)
    assert sorted(shelf.members for shelf in plan._prompts._shelves) == [[0, 2], [1]]
    plan.keep(torch.tensor([1, 2, 3]))  # the row of the first prompt is done
    assert sorted(shelf.members for shelf in plan._prompts._shelves) == [[1], [2]]
    assert plan._keys[0].shape == (3, HEADS, ROOM, HEAD)
    plan.keep(torch.tensor([2]))  # and those of the second
    assert [shelf.members for shelf in plan._prompts._shelves] == [[2]]
    assert [len(shelf.keys[0]) for shelf in plan._prompts._shelves] == [1]


def test_the_store_doubles_when_its_room_is_used_up():
    plan, sizes = DecodePlan(prefilled([2, 3]), [1, 1]), []
    row = (torch.zeros(2, HEADS, 1, HEAD, dtype=torch.float64),) * 3
    for _ in range(2 * ROOM + 1):
        with plan.next_token():
            for layer in range(2):
                plan.attend(layer, *row, SCALE)
        sizes.append({x.shape[2] for x in (*plan._keys, *plan._values)})
    assert sizes == [{ROOM}] * ROOM + [{2 * ROOM}] * ROOM + [{4 * ROOM}]


# -- the whole model ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def posed(prompts):
    """Seven prompts from a few tokens to some 150, of all kinds."""
    clip = prompts[0].clips[0]
    sound = Clip("noise", audio=2 * torch.rand(9000, generator=torch.Generator().manual_seed(0)) - 1)

    def words(key, text):
        return Prompt(key, [{"role": "user", "content": text}], (), "1")

    heard = [{"type": "audio"}, {"type": "text", "text": "how many beeps ?"}]
    return [
        prompts[1],
        words("short", "how ?"),
        words("long", "which is more ? sound / flash / same " * 8),
        Prompt("silent", prompts[0].messages, (Clip("silent", clip.frames, clip.fps),), "1"),
        Prompt("sound", [{"role": "user", "content": heard}], (sound,), "1"),
        prompts[7],
        words("middle", "how many beeps and flashes ? " * 3),
    ]


NUMS = [3, 1, 2, 0, 4, 1, 2]


def written(adapter, posed, sampling, nums=NUMS, seed=0):
    """[(prompt, completion)] in the order in which they are drawn."""
    groups = adapter.generate(adapter.encode(posed), nums, sampling, torch.Generator().manual_seed(seed))
    return [(p, c) for p, group in zip(posed, groups, strict=True) for c in group]


def stacked(completions):
    ids, behaviour = (
        torch.nn.utils.rnn.pad_sequence([getattr(c, name) for c in completions], batch_first=True)
        for name in ("ids", "behaviour_logprobs")
    )
    return ids, torch.arange(ids.shape[1]) < torch.tensor([len(c.ids) for c in completions])[:, None], behaviour


@pytest.mark.parametrize("way", ["shared", "plain"])
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(1.0, 80),
        Sampling(0.7, 20),
        Sampling(1.3, 20),
        Sampling(0.7, 70, top_k=20),
        Sampling(1.0, 20, top_p=0.8),
        Sampling(1.3, 20, top_k=50, top_p=0.6),
        Sampling(0.0, 20),
    ],
    ids=str,
)
@torch.no_grad()
def test_logprobs_taken_while_writing_are_those_of_scoring(adapter, posed, sampling, way):
    prefixes = adapter.encode(posed)
    assert len({size_class(len(p.ids)) for p, num in zip(prefixes, NUMS, strict=True) if num}) > 2, "several batches"
    if way == "plain":
        adapter.text = PlainText(adapter.model.model.language_model)
    pairs = written(adapter, posed, sampling)
    ids, mask, behaviour = stacked([c for _, c in pairs])
    lengths = sorted(len(p.ids) for p in prefixes)
    assert lengths[-1] - lengths[0] > SHORT
    if sampling.max_new_tokens > ROOM:
        assert len(set(mask.sum(-1).tolist())) > 1, "rows finish at different times"
        assert mask.sum(-1).max() > ROOM
    group = torch.arange(len(posed)).repeat_interleave(torch.tensor(NUMS))
    scored = adapter.logprobs(prefixes, ids, mask, group, sampling.temperature or 1.0)
    torch.testing.assert_close(scored, behaviour, atol=1e-5, rtol=0)


@torch.no_grad()
def test_logprobs_taken_while_writing_are_those_of_the_unmodified_forward(adapter, posed):
    for prompt, completion in written(adapter, posed, Sampling(0.7, 70)):
        plain = plain_logprobs(adapter, prompt, completion.ids, 0.7)
        torch.testing.assert_close(completion.behaviour_logprobs, plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize("sampling", [Sampling(0.0, 40), Sampling(1.0, 70), Sampling(1.0, 40, 30, 0.9)], ids=str)
def test_both_ways_write_the_same(adapter, posed, sampling):
    shared = written(adapter, posed, sampling)
    adapter.text = PlainText(adapter.model.model.language_model)
    for (_, ours), (_, plain) in zip(shared, written(adapter, posed, sampling), strict=True):
        assert torch.equal(ours.ids, plain.ids)
        torch.testing.assert_close(ours.behaviour_logprobs, plain.behaviour_logprobs, atol=1e-5, rtol=0)


def test_what_a_row_draws_does_not_depend_on_who_has_finished(adapter, posed):
    """Against a run in which nothing ends a row: the same tokens, up to the first that would have."""
    sampling = Sampling(1.0, 70)
    ended = written(adapter, posed, sampling)
    stop_ids, adapter.stop_ids = adapter.stop_ids, torch.zeros(0, dtype=torch.long)
    endless = written(adapter, posed, sampling)
    assert {len(c.ids) for _, c in endless} == {70}
    assert sum(c.finished for _, c in ended) > 3, "some must end early for this test to mean something"
    for (_, ours), (_, longer) in zip(ended, endless, strict=True):
        assert torch.equal(ours.ids, longer.ids[: len(ours.ids)])
        torch.testing.assert_close(
            ours.behaviour_logprobs, longer.behaviour_logprobs[: len(ours.ids)], atol=1e-5, rtol=0
        )
        stops = torch.isin(longer.ids, stop_ids).nonzero()
        assert len(ours.ids) == (int(stops[0]) + 1 if len(stops) else 70)


def test_what_a_row_draws_does_not_depend_on_the_other_prompts(adapter, posed):
    """The first rows draw the same numbers whoever comes after them."""
    together = written(adapter, posed, Sampling(1.0, 30), [3, 1, 2, 0, 4, 1, 2])
    fewer = written(adapter, posed[:3], Sampling(1.0, 30), [3, 1, 2])
    for (_, ours), (_, theirs) in zip(together[:6], fewer, strict=True):
        assert torch.equal(ours.ids, theirs.ids)


def test_each_prompt_is_read_once_and_finished_rows_are_dropped_when_they_are_many(adapter, posed):
    """The first layer sees the tokens of all prompts that are written after, then one for each row that is held.

    A row of n tokens is read n - 1 times, its last token tells nothing that is asked for. Rows that have finished are
    dropped when they are one in DROP_SHARE of those that are held, or more.
    """
    rows = []
    adapter.model.model.language_model.layers[0].mlp.register_forward_pre_hook(
        lambda _, x: rows.append(x[0].shape[:-1].numel())
    )
    prefixes = adapter.encode(posed)
    lengths = [len(c.ids) for _, c in written(adapter, posed, Sampling(1.0, 70))]
    held_rows, steps = len(lengths), []
    for t in range(max(lengths) - 1):
        going = sum(n - 1 > t for n in lengths)
        held_rows = going if (held_rows - going) / held_rows >= 1 / DROP_SHARE else held_rows
        steps.append(held_rows)
    assert len(set(steps)) > 2, "rows must leave at different times for this test to mean something"
    assert rows == [sum(len(p.ids) for p, num in zip(prefixes, NUMS, strict=True) if num), *steps]


@pytest.mark.parametrize("use_reentrant", [False, True], ids=["not reentrant", "reentrant"])
@pytest.mark.parametrize("way", ["shared", "plain"])
def test_a_policy_in_training_that_recomputes_its_layers_writes_the_same(adapter, posed, way, use_reentrant):
    text = adapter.model.model.language_model
    if way == "plain":
        adapter.text = PlainText(text)
    before = written(adapter, posed, Sampling(1.0, 30))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        text.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": use_reentrant})
    adapter.train()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # there is nothing to be computed again: no checkpoint is made
        after = written(adapter, posed, Sampling(1.0, 30))
    for (_, ours), (_, wanted) in zip(after, before, strict=True):
        assert torch.equal(ours.ids, wanted.ids)
        assert torch.equal(ours.behaviour_logprobs, wanted.behaviour_logprobs)
    assert all(module.training for module in text.modules())
