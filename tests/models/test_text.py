"""The two ways of running the text model against each other, and how much the one that shares prompts reads.

B prompts, N completions, H hidden. No media here: a prompt is embeddings, and positions that differ by axis.
"""

from collections import defaultdict

import pytest
import torch
from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniTextConfig
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniThinkerTextModel

from avatar.models.decoding import ROOM
from avatar.models.plain import PlainText
from avatar.models.text import Embedded, SharedText

HIDDEN, VOCABULARY = 32, 50
PROMPTS = [5, 40, 3, 44, 90]  # 5 and 3 are of one size, 40 and 44 of another, 90 of a third

# group and length of each completion, rows in any order
CASES = {
    "ragged": [(0, 3), (1, 7), (0, 1), (2, 4), (4, 6), (3, 2), (1, 1)],
    "empty ones": [(1, 0), (0, 4), (2, 0), (1, 2), (4, 0), (0, 0)],
    "one token each": [(2, 1), (0, 1), (2, 1)],
    "one prompt": [(3, 5), (3, 2), (3, 7)],
    "all of one length": [(4, 4), (0, 4), (4, 4), (0, 4)],
    "long ones": [(2, 40), (0, 70), (2, 1), (1, 34)],
    "backwards": [(4, 2), (3, 3), (2, 4), (1, 5), (0, 6)],
}


def text_model():
    torch.manual_seed(0)
    config = Qwen2_5OmniTextConfig(
        hidden_size=HIDDEN, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=3,
        vocab_size=VOCABULARY, initializer_range=0.15,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
    )  # fmt: skip
    config._attn_implementation = "sdpa"
    return Qwen2_5OmniThinkerTextModel(config).eval()


@pytest.fixture
def ways():
    """Equal weights; the one that shares is another model, so that the plain one is as transformers has it."""
    return SharedText(text_model()), PlainText(text_model())


@pytest.fixture
def embedded():
    generator = torch.Generator().manual_seed(1)
    return [
        Embedded(
            torch.randn(n, HIDDEN, generator=generator).requires_grad_(),
            torch.randint(0, 30, (3, n), generator=generator).sort(-1).values,
        )
        for n in PROMPTS
    ]


def completions(name):
    rows = CASES[name]
    group, lengths = ([row[i] for row in rows] for i in range(2))
    ids = torch.randint(0, VOCABULARY, (len(rows), max(lengths)), generator=torch.Generator().manual_seed(2))
    return ids, lengths, group


def rows_read(text, of="mlp"):
    """[layers] lists that collect how many tokens go through each layer in each pass."""
    seen = defaultdict(list)
    for i, layer in enumerate(text.text_model.layers):
        getattr(layer, of).register_forward_pre_hook(lambda _, x, i=i: seen[i].append(x[0].shape[:-1].numel()))
    return seen


# -- scoring -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_both_ways_tell_each_token_the_same_and_have_the_same_gradients(ways, embedded, name):
    ids, lengths, group = completions(name)
    hiddens, gradients = [], []
    slopes = torch.randn(sum(lengths), HIDDEN)
    for way in ways:
        hidden = way.hidden(embedded, ids, lengths, group)
        (hidden * slopes).sum().backward()
        hiddens.append(hidden.detach())
        of_prompts = [torch.zeros_like(p.embeds) if p.embeds.grad is None else p.embeds.grad for p in embedded]
        named = {f"prompt {b}": g for b, g in enumerate(of_prompts)}
        gradients.append(named | {n: p.grad for n, p in way.text_model.named_parameters()})
        for prompt in embedded:
            prompt.embeds.grad = None
    assert hiddens[0].shape == (sum(lengths), HIDDEN)
    torch.testing.assert_close(*hiddens, atol=1e-5, rtol=0)
    ours, plain = gradients
    assert set(ours) == set(plain)
    for key, gradient in plain.items():
        assert (ours[key] is None) == (gradient is None), key
        if gradient is not None:
            assert (ours[key] - gradient).norm() <= 1e-5 * gradient.norm(), key


def test_hidden_states_come_in_the_order_of_the_tokens_of_the_mask(ways, embedded):
    """Each row alone gives its own stretch of what all rows give."""
    ids, lengths, group = completions("ragged")
    with torch.no_grad():
        together = ways[0].hidden(embedded, ids, lengths, group).split(lengths)
        for row, ours in enumerate(together):
            alone = ways[0].hidden(embedded, ids[row : row + 1], lengths[row : row + 1], group[row : row + 1])
            torch.testing.assert_close(ours, alone, atol=1e-5, rtol=0)


def test_nothing_to_tell_is_no_row(ways, embedded):
    for way in ways:
        assert way.hidden(embedded, torch.zeros(2, 3, dtype=torch.long), [0, 0], [0, 1]).shape == (0, HIDDEN)


@torch.no_grad()
@pytest.mark.parametrize("name", CASES)
def test_each_prompt_is_read_once_and_no_token_that_tells_nothing(ways, embedded, name):
    """All layers but the last see the prompts that a token follows, and each completion but its last token.

    The last layer goes on with one row for each of these prompts, and the completions. "ragged": the prompts 5 + 40 + 3
    + 44 + 90 and 2 + 6 + 0 + 3 + 5 + 1 + 0 tokens, 199 in all; then 5 + 17 = 22.
    """
    ids, lengths, group = completions(name)
    shared = ways[0]
    hidden, attended = rows_read(shared), rows_read(shared, "input_layernorm")
    shared.hidden(embedded, ids, lengths, group)
    used = {g for g, length in zip(group, lengths, strict=True) if length}
    written = sum(max(length - 1, 0) for length in lengths)
    whole = sum(PROMPTS[b] for b in used) + written
    assert hidden == {0: [whole], 1: [whole], 2: [len(used) + written]}
    assert attended == {0: [whole], 1: [whole], 2: [whole]}
    if name == "ragged":
        assert (whole, len(used) + written) == (199, 22)


# -- decoding ----------------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize(
    ("nums", "stays"),
    [
        ([1, 1, 1, 1, 1], {}),
        ([3, 1, 2, 4, 2], {2: [0, 2, 3, 5, 6, 7, 8, 9, 10, 11], 4: [1, 2, 5, 9], 5: [3]}),
        ([1, 5, 1, 1, 2], {1: [1, 2, 3, 4, 5, 8], 3: [5]}),  # prompts 0, 2, 3 lose all their rows
        ([2, 2, 2, 2, 2], {ROOM - 1: [0, 1, 4, 7], ROOM: [1, 3], ROOM + 3: [0]}),  # as the store is made larger
        ([2, 2, 2, 2, 2], {2 * ROOM + 1: [0, 9]}),
    ],
)
def test_both_ways_read_the_same_token_after_token(ways, embedded, nums, stays):
    """``stays`` says which rows go on after that many steps."""
    started = [way.prefill(embedded, nums) for way in ways]
    hiddens, decoders = [hidden for hidden, _ in started], [decoder for _, decoder in started]
    num, steps = sum(nums), max(stays, default=4) + 3
    assert hiddens[0].shape == (num, HIDDEN)
    torch.testing.assert_close(*hiddens, atol=1e-5, rtol=0)
    generator = torch.Generator().manual_seed(3)
    for step in range(steps):
        if step in stays:
            rows = torch.tensor(stays[step])
            num = len(rows)
            for decoder in decoders:
                decoder.keep(rows)
        ids = torch.randint(0, VOCABULARY, (num,), generator=generator)
        hiddens = [decoder.step(ids) for decoder in decoders]
        assert hiddens[0].shape == (num, HIDDEN)
        torch.testing.assert_close(*hiddens, atol=1e-5, rtol=0)


@torch.no_grad()
def test_what_is_told_while_writing_is_what_is_told_when_scoring(ways, embedded):
    """Five prompts, 8 rows, 70 tokens each: past the room of the first store."""
    nums, length = [2, 1, 1, 3, 1], 70
    group = [b for b, num in enumerate(nums) for _ in range(num)]
    ids = torch.randint(0, VOCABULARY, (len(group), length), generator=torch.Generator().manual_seed(4))
    for way in ways:
        hidden, decoder = way.prefill(embedded, nums)
        told = [hidden, *(decoder.step(ids[:, t]) for t in range(length - 1))]
        scored = ways[0].hidden(embedded, ids, [length] * len(group), group)
        torch.testing.assert_close(torch.stack(told, 1).flatten(0, 1), scored, atol=1e-5, rtol=0)


@torch.no_grad()
def test_writing_reads_each_prompt_once_and_then_the_rows_that_go_on(ways, embedded):
    """5 + 40 + 3 + 44 + 90 = 182 tokens of prompts, whatever is written after them; then 9, 9, 4, 4, 1 rows."""
    shared = ways[0]
    seen = rows_read(shared)
    _, decoder = shared.prefill(embedded, [4, 1, 1, 1, 2])
    for rows in (range(9), [0, 3, 5, 8], [2]):
        decoder.keep(torch.tensor(list(rows)))
        for _ in range(2 if len(rows) > 1 else 1):
            decoder.step(torch.zeros(len(rows), dtype=torch.long))
    steps = [9, 9, 4, 4, 1]
    assert seen == {0: [182, *steps], 1: [182, *steps], 2: [5, *steps]}


# -- in bf16 -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_in_bfloat16_each_way_is_as_near_to_fp32_as_the_other(ways, embedded):
    """The truth is fp32 with the same rounded weights and prompts; what a way adds to it is its own rounding."""
    rounded = [Embedded(p.embeds.bfloat16(), p.position_ids) for p in embedded]
    wide = [Embedded(p.embeds.float(), p.position_ids) for p in rounded]
    nums, length = [3, 2, 4, 2, 3], 20
    group = [b for b, num in enumerate(nums) for _ in range(num)]
    ids = torch.randint(0, VOCABULARY, (len(group), length), generator=torch.Generator().manual_seed(5))
    arguments = (ids, [length] * len(group), group)
    truth = ways[1].text_model.bfloat16().float()  # rounded once
    wanted = PlainText(truth).hidden(wide, *arguments)
    half = [type(way)(text_model().bfloat16()) for way in ways]

    def written(way):
        hidden, decoder = way.prefill(rounded, nums)
        return torch.stack([hidden, *(decoder.step(ids[:, t]) for t in range(length - 1))], 1).flatten(0, 1)

    for run in (lambda way: way.hidden(rounded, *arguments), written):
        shared, plain = ((run(way).float() - wanted).norm() / wanted.norm() for way in half)
        assert 0 < shared <= 1.5 * plain < 0.05, (shared, plain)
