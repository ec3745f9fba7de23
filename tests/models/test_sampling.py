"""What is drawn, and the log-probs that are kept of it."""

from math import log, nextafter

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from avatar.models.sampling import DROP_SHARE, draw, write
from avatar.models.text import Decoder
from avatar.types import Prompt, Sampling

TEXT = Prompt("t", [{"role": "user", "content": "how many beeps ?"}], (), "1")
NONE = torch.zeros(0, dtype=torch.long)
BELOW_ONE = nextafter(1.0, 0.0)


# -- drawing -----------------------------------------------------------------------------------------------------------


def grid(num):
    """The middles of ``num`` equal parts of [0, 1)."""
    return (torch.arange(num, dtype=torch.float64) + 0.5) / num


def counts(chances, sampling, num=1600, banned=NONE):
    """How often each token is drawn when the numbers are spread evenly; and the log-probs that came with each."""
    logprobs = torch.tensor(chances, dtype=torch.float64).log().expand(num, -1)
    ids, truncated = draw(logprobs, sampling, grid(num), banned)
    return ids.bincount(minlength=len(chances)).tolist(), truncated, ids


# 1600 numbers on a grid: a token of chance p gets 1600 p of them, and no other number is possible.
@pytest.mark.parametrize(
    ("sampling", "banned", "wanted"),
    [
        (Sampling(1.0), [], [300, 0, 500, 100, 700]),  # 3/16, 0, 5/16, 1/16, 7/16 of 1600
        (Sampling(1.0), [4], [1600 * 3 / 9, 0, 1600 * 5 / 9, 1600 * 1 / 9, 0]),
        (Sampling(1.0, top_k=2), [], [0, 0, 1600 * 5 / 12, 0, 1600 * 7 / 12]),
        (Sampling(1.0, top_k=2), [2], [1600 * 3 / 10, 0, 0, 0, 1600 * 7 / 10]),  # two of those that are left
        (Sampling(1.0, top_p=0.7), [], [0, 0, 1600 * 5 / 12, 0, 1600 * 7 / 12]),  # 7 + 5 of 16 are .75
        (Sampling(1.0, top_p=0.76), [], [1600 * 3 / 15, 0, 1600 * 5 / 15, 0, 1600 * 7 / 15]),
        (Sampling(1.0, top_p=0.85), [4], [1600 * 3 / 8, 0, 1600 * 5 / 8, 0, 0]),  # 5 + 3 of 9 are .89
        (Sampling(1.0, top_k=3, top_p=0.79), [], [0, 0, 1600 * 5 / 12, 0, 1600 * 7 / 12]),  # 7 + 5 of 15 are .8
        (Sampling(1.0, top_p=1e-9), [], [0, 0, 0, 0, 1600]),
        (Sampling(1.0, top_p=1e-9), [4, 2], [1600, 0, 0, 0, 0]),
        (Sampling(0.0), [], [0, 0, 0, 0, 1600]),
        (Sampling(0.0), [4], [0, 0, 1600, 0, 0]),
        (Sampling(0.0, top_k=1, top_p=0.1), [4], [0, 0, 1600, 0, 0]),
    ],
    ids=str,
)
def test_each_token_is_drawn_as_often_as_its_chance_says(sampling, banned, wanted):
    found, truncated, ids = counts([3 / 16, 0, 5 / 16, 1 / 16, 7 / 16], sampling, banned=torch.tensor(banned).long())
    assert all(abs(a - b) < 1 for a, b in zip(found, wanted, strict=True)), found
    if sampling.temperature == 0:
        assert (truncated == 0).all()
    else:  # the log-prob among what could be drawn is that of its share
        shares = torch.tensor(wanted, dtype=torch.float64) / 1600
        torch.testing.assert_close(truncated, shares.log()[ids], atol=1e-12, rtol=0)


def test_the_number_of_likeliest_is_cut_before_their_share():
    """Chances .4, .3, .2, .1. The two likeliest have 4/7 and 3/7, and .55 < 4/7: one is left. The other order would
    keep .4 + .3 >= .55, and two of these."""
    found, _, _ = counts([0.4, 0.3, 0.2, 0.1], Sampling(1.0, top_k=2, top_p=0.55))
    assert found == [1600, 0, 0, 0]


@pytest.mark.parametrize(("num", "kept"), [(2, 1), (4, 2), (8, 4)])
def test_a_share_that_is_met_to_the_bit_is_enough(num, kept):
    """Half of the tokens of one chance have exactly a half of it; the first of them are kept."""
    found, _, _ = counts([1 / num] * num, Sampling(1.0, top_p=0.5))
    assert found == [1600 // kept] * kept + [0] * (num - kept)


@given(
    st.lists(st.integers(0, 20), min_size=2, max_size=12).filter(any),
    st.floats(0.01, 0.999),
    st.integers(0, 6),
    st.data(),
)
@settings(max_examples=150, deadline=None)
def test_top_p_keeps_the_fewest_likeliest_that_have_the_share(weights, p, k, data):
    """Against a loop: the likeliest first, until their share is reached. Of ties either may go."""
    banned = data.draw(st.sets(st.integers(0, len(weights) - 1), max_size=len(weights) - 1))
    allowed = {i: w for i, w in enumerate(weights) if w and i not in banned}
    assume(allowed)
    likeliest = sorted(allowed.values(), reverse=True)[: k or None]
    shares = [sum(likeliest[: i + 1]) / sum(likeliest) for i in range(len(likeliest))]
    assume(all(abs(share - p) > 1e-9 for share in shares))  # else rounding decides
    kept = next(i for i, share in enumerate(shares) if share > p) + 1
    nucleus = likeliest[:kept]
    ids, truncated = draw(
        torch.tensor(weights, dtype=torch.float64).log().log_softmax(-1).expand(200, -1),
        Sampling(1.0, top_k=k, top_p=p), grid(200), torch.tensor(sorted(banned)).long(),
    )  # fmt: skip
    for token, logprob in zip(ids.tolist(), truncated.tolist(), strict=True):
        assert token in allowed
        assert weights[token] >= nucleus[-1]
        assert logprob == pytest.approx(log(weights[token] / sum(nucleus)), abs=1e-9)
    assert len(set(ids.tolist())) <= kept


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("uniform", [0.0, 5e-324, 0.5, BELOW_ONE])
@pytest.mark.parametrize("sampling", [Sampling(1.0), Sampling(1.0, top_k=3), Sampling(1.0, top_p=0.9)], ids=str)
def test_at_the_ends_of_the_unit_interval_nothing_banned_or_impossible_is_drawn(sampling, uniform, dtype):
    """Tokens 0 and 7 are banned, 1 and 6 have no chance: they lie at both ends of the cumulative distribution."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(500, 8, generator=generator, dtype=dtype)
    logits[:, [1, 6]] = -torch.inf
    numbers = torch.full((500,), uniform, dtype=torch.float64)
    ids, truncated = draw(logits.log_softmax(-1), sampling, numbers, torch.tensor([7, 0]))
    assert torch.isin(ids, torch.tensor([2, 3, 4, 5])).all()
    assert (truncated <= 1e-6).all()
    if uniform < 0.1:
        assert (ids <= draw(logits.log_softmax(-1), sampling, numbers + 0.5, torch.tensor([7, 0]))[0]).all()


def test_a_greater_number_never_draws_an_earlier_token():
    logprobs = torch.randn(30, generator=torch.Generator().manual_seed(0)).log_softmax(-1).expand(5000, -1)
    ids, _ = draw(logprobs, Sampling(1.0), grid(5000), torch.tensor([3, 9]))
    assert (ids.diff() >= 0).all()
    assert len(ids.unique()) > 20


@pytest.mark.parametrize("gap", [50.0, 800.0, 3000.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("sampling", "wanted"),
    [
        (Sampling(0.0), [0, 1000, 0, 0]),
        (Sampling(1.0), [0, 500, 300, 200]),
        (Sampling(1.0, top_k=2), [0, 625, 375, 0]),  # 5/8 and 3/8
        (Sampling(1.0, top_p=0.6), [0, 625, 375, 0]),
    ],
    ids=str,
)
def test_a_head_that_wants_nothing_but_a_banned_token_still_draws_another(sampling, wanted, dtype, gap):
    """The banned token is ``gap`` nats above chances of .5, .3 and .2: e^-800 is 0 even in float64.

    Logits that are ten apart are 1000 apart at a temperature of .01.
    """
    logits = torch.tensor([gap, log(0.5), log(0.3), log(0.2)], dtype=dtype)
    ids, truncated = draw(logits.log_softmax(-1).expand(1000, -1), sampling, grid(1000), torch.tensor([0]))
    found = ids.bincount(minlength=4).tolist()
    slack = 1 + (1000 * gap * 2**-23 if dtype == torch.float32 else 0)  # float32 is no finer near ``gap``
    assert all(abs(a - b) <= slack for a, b in zip(found, wanted, strict=True)), found
    assert truncated.isfinite().all()
    assert (truncated <= 1e-3).all()


def test_rows_are_drawn_each_from_its_own_distribution_and_number():
    """Together as one by one."""
    generator = torch.Generator().manual_seed(0)
    logprobs = torch.randn(40, 20, generator=generator).log_softmax(-1)
    numbers = torch.rand(40, dtype=torch.float64, generator=generator)
    for sampling in (Sampling(1.0), Sampling(1.0, top_k=4, top_p=0.8), Sampling(0.0)):
        ids, truncated = draw(logprobs, sampling, numbers, torch.tensor([1]))
        for i in range(40):
            alone = draw(logprobs[i : i + 1], sampling, numbers[i : i + 1], torch.tensor([1]))
            assert (ids[i], truncated[i]) == (alone[0][0], alone[1][0])


# -- writing -----------------------------------------------------------------------------------------------------------

STOP, WORDS = 0, 6


class Script(Decoder):
    """Rows that are told what to write: what tells token t of row i is [i, t]; it checks what it is given."""

    def __init__(self, lines):
        self.lines, self.rows, self.t, self.held = lines, list(range(len(lines))), 0, []

    def hidden(self):
        return torch.tensor([[row, self.t] for row in self.rows], dtype=torch.float32)

    def logprobs_of(self, hidden):
        """The script has nearly all of the probability, token 5 the rest."""
        scores = torch.full((len(hidden), WORDS), -torch.inf)
        for i, (row, t) in enumerate(hidden.int().tolist()):
            scores[i, 5] = log(0.25)
            line = self.lines[row]
            scores[i, line[t] if t < len(line) else 3] = log(0.75)
        return scores

    def keep(self, rows):
        assert (rows.diff() > 0).all()
        self.rows = [self.rows[i] for i in rows.tolist()]

    def step(self, ids):
        for row, token in zip(self.rows, ids.tolist(), strict=True):
            if self.t < len(self.lines[row]):
                assert token in (self.lines[row][self.t], 5)
        self.held.append(list(self.rows))
        self.t += 1
        return self.hidden()


def write_script(lines, limit, sampling=None):
    script = Script(lines)
    chosen = sampling or Sampling(0.0, limit)
    columns = write(
        script.hidden(),
        script,
        script.logprobs_of,
        chosen,
        torch.Generator().manual_seed(0),
        torch.tensor([STOP]),
        NONE,
    )
    return script, columns


def test_what_is_written_lies_in_the_row_of_its_prompt_whoever_finishes_first():
    lines = [[1, 2, 1, 1, STOP], [2, STOP], [1, 1, 4, 2, 2, STOP], [STOP], [4, 4, STOP]]
    script, (ids, logprobs, truncated) = write_script(lines, 20)
    assert ids.shape == (5, 6)  # as many as the longest
    for row, line in enumerate(lines):
        assert ids[row, : len(line)].tolist() == line
        torch.testing.assert_close(logprobs[row, : len(line)], torch.full((len(line),), log(0.75)))
    # One in eight of five is any: row 3 ends at once, then 1, 4 and 0; a row is not read at its stop.
    assert script.held == [[0, 1, 2, 4], [0, 2, 4], [0, 2], [0, 2], [2]]
    assert (truncated == 0).all()


def test_rows_that_have_finished_are_held_until_they_are_one_in_so_many():
    """17 rows: 2 / 17 is less than 1 / 8, 3 / 17 is more; then 1 of the 14 left is less, and 2 / 14 more."""
    ends = {3: 2, 4: 1, 8: 3, 9: 4, 10: 5}  # row: tokens with the stop
    lines = [[1] * (ends.get(row, 8) - 1) + [STOP] for row in range(17)]
    script, (ids, _, _) = write_script(lines, 20)
    assert DROP_SHARE == 8
    assert [len(rows) for rows in script.held] == [17, 17, 14, 14, 12, 12, 12]
    for row, line in enumerate(lines):
        assert ids[row, : len(line)].tolist() == line


@pytest.mark.parametrize("limit", [1, 3])
def test_at_the_limit_nothing_more_is_read(limit):
    script, (ids, _, _) = write_script([[1, 1, 1, 1, STOP], [2, 2, 2, STOP]], limit)
    assert ids.tolist() == [[1] * limit, [2] * limit]
    assert script.held == [[0, 1]] * (limit - 1)


def test_when_all_have_finished_nothing_more_is_read():
    script, (ids, _, _) = write_script([[1, STOP], [STOP]], 9)
    assert ids[0].tolist() == [1, STOP]
    assert script.held == [[0]]


def test_each_row_draws_its_own_numbers_until_it_ends():
    """Row i takes number (i, t) of one table at token t: whether others have ended changes nothing."""
    lines = [[3] * 12, [3, STOP], [3] * 12, [STOP], [3] * 12]
    sampling = Sampling(1.0, 12)
    _, (ids, logprobs, _) = write_script(lines, 12, sampling)
    numbers = torch.rand(5, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for row, line in enumerate(lines):
        for t, word in enumerate(line):
            # In the order of the vocabulary the script's word comes first, with .75 of the probability; then 5.
            wanted = word if numbers[row, t] < 0.75 else 5
            assert ids[row, t] == wanted
            assert logprobs[row, t] == pytest.approx(log(0.75 if wanted == word else 0.25))
            if wanted == STOP:
                break


# -- the whole model ---------------------------------------------------------------------------------------------------


def drawn(adapter, prefixes, nums, sampling, seed=0):
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
    completions = drawn(adapter, prefixes, 4, Sampling(temperature, 4, top_k=k))[0]
    for completion in completions:
        scored = distribution(adapter, prefixes[0], completion.ids, temperature)
        scored[:, adapter.media_ids] = -torch.inf
        top = scored.topk(k)
        assert (top.indices == completion.ids[:, None]).any(-1).all()
        among = top.values.log_softmax(-1)  # sums to 1 over the k
        chosen = among[top.indices == completion.ids[:, None]]
        torch.testing.assert_close(completion.truncated_logprobs, chosen, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(("top_k", "top_p"), [(0, 0.5), (0, 0.95), (9, 0.6), (3, 0.999)])
def test_truncated_logprobs_are_those_among_the_tokens_that_could_be_drawn(adapter, top_k, top_p):
    """Sort what is allowed, cut it to k, keep the fewest of these that have the share p; their chances sum to one."""
    prefixes = adapter.encode([TEXT])
    for completion in drawn(adapter, prefixes, 4, Sampling(0.8, 4, top_k, top_p))[0]:
        scored = distribution(adapter, prefixes[0], completion.ids, 0.8)
        scored[:, adapter.media_ids] = -torch.inf
        for t, token in enumerate(completion.ids):
            ordered = scored[t].double().sort(descending=True)
            chances = ordered.values[: top_k or None].softmax(-1)
            num = int((chances.cumsum(-1) < top_p).sum()) + 1
            place = (ordered.indices[:num] == token).nonzero()
            assert len(place) == 1, "drawn from the nucleus"
            among = ordered.values[:num].log_softmax(-1)[place[0, 0]]
            assert completion.truncated_logprobs[t] == pytest.approx(float(among), abs=1e-5)


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.3])
@pytest.mark.parametrize("top_k", [0, 5])
def test_behaviour_logprobs_are_those_of_the_full_vocabulary(adapter, prompts, temperature, top_k):
    prefixes = adapter.encode(prompts[:4])
    groups = drawn(adapter, prefixes, 3, Sampling(temperature, 12, top_k))
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
    greedy = [g[0] for g in drawn(adapter, prefixes, 1, Sampling(0.0, 10))]
    for sampling in (Sampling(1.0, 10, top_k=1), Sampling(0.0, 10, top_k=7)):
        for completion, wanted in zip([g[0] for g in drawn(adapter, prefixes, 1, sampling)], greedy, strict=True):
            assert torch.equal(completion.ids, wanted.ids)
            assert completion.truncated_logprobs is None or (completion.truncated_logprobs == 0).all()
    assert all(c.truncated_logprobs is None for c in greedy)


def test_a_number_beyond_the_vocabulary_is_all_allowed_tokens(adapter, prompts):
    prefixes = adapter.encode(prompts[:2])
    every = drawn(adapter, prefixes, 2, Sampling(1.0, 8, top_k=10**6))
    plain = drawn(adapter, prefixes, 2, Sampling(1.0, 8))
    assert [c.ids.tolist() for g in every for c in g] == [c.ids.tolist() for g in plain for c in g]


def test_each_prompt_gets_as_many_completions_as_it_was_given(adapter, prompts):
    prefixes = adapter.encode(prompts[:4])
    groups = drawn(adapter, prefixes, [3, 0, 1, 2], Sampling(1.0, 8))
    assert [len(g) for g in groups] == [3, 0, 1, 2]
    ids = torch.nn.utils.rnn.pad_sequence([c.ids for g in groups for c in g], batch_first=True)
    behaviour = torch.nn.utils.rnn.pad_sequence([c.behaviour_logprobs for g in groups for c in g], batch_first=True)
    mask = torch.arange(ids.shape[1]) < torch.tensor([len(c.ids) for g in groups for c in g])[:, None]
    scored = adapter.logprobs(prefixes, ids, mask, torch.tensor([0, 0, 0, 2, 3, 3]), 1.0)
    torch.testing.assert_close(scored, behaviour, atol=1e-5, rtol=0)  # so each row followed its own prompt


def test_equal_numbers_draw_what_one_number_draws(adapter, prompts):
    prefixes = adapter.encode(prompts[:3])
    one, many = (drawn(adapter, prefixes, nums, Sampling(1.0, 8)) for nums in (2, [2, 2, 2]))
    for a, b in zip([c for g in one for c in g], [c for g in many for c in g], strict=True):
        assert torch.equal(a.ids, b.ids)
        assert torch.equal(a.behaviour_logprobs, b.behaviour_logprobs)


def test_nothing_asked_for_is_nothing_drawn(adapter, prompts):
    assert drawn(adapter, adapter.encode(prompts[:2]), [0, 0], Sampling()) == [[], []]
    assert drawn(adapter, [], 4, Sampling()) == []


def test_a_number_for_each_prompt_or_none(adapter, prompts):
    with pytest.raises(ValueError, match="zip"):
        drawn(adapter, adapter.encode(prompts[:2]), [1], Sampling())
