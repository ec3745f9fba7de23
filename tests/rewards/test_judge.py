import json
import time
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tests_chat_server import ChatServer, fenced, says, status
from tests_judge import candidate_of, client, clip, images_of, judged, prompt, texts_of, verdict, written

from avatar.chat import ChatClient
from avatar.errors import AvatarError, ConfigError
from avatar.rewards import Format, Judge, rehearse, score
from avatar.rewards.judging.request import CRITERIA, SYSTEM, VERDICT, media_parts, pick_frames
from avatar.types import Clip, Completion, Prompt

KEY = "sk-never-to-be-seen"


# -- what is sent ------------------------------------------------------------------------------------------------------


def test_the_request_shows_eight_frames_caption_question_gold_and_the_quoted_completion():
    with ChatServer(lambda _: verdict(1, 1, 1, 1)) as server:
        judged(server, [written(reasoning='She says "hi"\nand leaves.')])
    [request] = server.requests
    system, user = request["messages"]
    assert (system["role"], system["content"], user["role"]) == ("system", SYSTEM, "user")
    # 16 frames, 8 wanted: the middle of each pair, floor((k + 1/2) 16 / 8) = 1, 3, ... 15, of grey 10, 30, ... 150
    shown = [np.asarray(image).mean() for image in images_of(request)]
    assert shown == pytest.approx([10, 30, 50, 70, 90, 110, 130, 150], abs=2)
    lines = texts_of(request).split("\n")
    assert lines[0] == "8 frames, in order:"
    assert 'Question: "Who rings?"' in lines
    assert 'Audio caption: "Two bells ring on the left."' in lines
    assert 'Gold answer: "left: cyclist"' in lines
    assert candidate_of(request) == {"reasoning": 'She says "hi"\nand leaves.', "answer": "Left: cyclist"}
    assert "Think first" not in json.dumps(request)  # how the policy is told to write is not graded


def test_options_and_earlier_turns_are_told():
    asked = prompt(problem_type="choice", options=("a dog", "a cat"), gold="A")
    first = [{"role": "user", "content": "Look!"}, {"role": "assistant", "content": "I do."}]
    asked = Prompt("p", [*first, *asked.messages[1:]], asked.clips, "A", "choice", asked.options, audio_caption="x")
    with ChatServer(lambda _: verdict(1, 1, 1, 1)) as server:
        judged(server, [written("B")], [asked])
    lines = texts_of(server.requests[0]).split("\n")
    assert 'Options: ["a dog", "a cat"]' in lines
    assert 'Earlier in the chat: ["user: Look!", "assistant: I do."]' in lines
    assert 'Question: "Who rings?"' in lines


def test_the_answer_is_held_to_a_schema_of_four_scores_and_nothing_else():
    with ChatServer(lambda _: verdict(1, 1, 1, 1)) as server:
        judged(server, [written()])
    [request] = server.requests
    assert request["response_format"]["json_schema"]["schema"] == VERDICT
    assert list(VERDICT["properties"]) == VERDICT["required"] == list(CRITERIA)
    assert set(CRITERIA) == {"audio_grounding", "visual_identification", "location_accuracy", "caption_correctness"}
    assert all(name in SYSTEM for name in CRITERIA)


def test_large_frames_are_made_smaller_and_keep_their_shape():
    asked = prompt(clip(2, height=600, width=1200))
    with ChatServer(lambda _: verdict(1, 1, 1, 1)) as server:
        judged(server, [written()], [asked], max_side=512)
    assert [image.size for image in images_of(server.requests[0])] == [(512, 256)] * 2


@given(total=st.integers(1, 60), num=st.integers(1, 12))
def test_frames_are_even_over_the_clip(total, num):
    clip = Clip("c", torch.arange(total)[:, None, None, None])
    shown = pick_frames(clip, num).flatten().tolist()
    assert len(shown) == len(set(shown)) == min(num, total)
    gaps = [b - a for a, b in pairwise(shown)] or [0]
    assert 0 <= max(gaps) - min(gaps) <= 1
    assert abs(shown[0] - (total - 1 - shown[-1])) <= 1  # as much is left out before as after


def test_clips_share_the_frames_by_their_length_and_each_is_shown():
    clips = [clip(12, height=56), clip(0), clip(6, height=28), clip(1, height=84)]

    def shown(num_frames):
        urls = media_parts(prompt(*clips), num_frames, 512)[1:]
        heights = [image.height for image in images_of({"messages": [{}, {"content": urls}]})]
        assert heights == sorted(heights, key=[56, 28, 84].index)  # in the order of the clips
        return [heights.count(height) for height in (56, 28, 84)]

    # One each; then to the most frames per frame shown: 12/1, 12/2, 6/1, 12/3 before 6/2 and 12/4
    assert shown(7) == [4, 2, 1]
    assert shown(1) == [1, 1, 1]
    assert shown(99) == [12, 6, 1]


@pytest.mark.parametrize(
    ("clips", "caption", "line"),
    [
        ((clip(0),), "A flute.", "There is no picture."),
        ((clip(sound=False),), None, "Audio caption: there is no sound"),
        ((clip(),), None, "Audio caption: not described"),
        ((clip(),), " ", "Audio caption: not described"),
    ],
)
def test_what_is_not_there_is_said(clips, caption, line):
    with ChatServer(lambda _: verdict(1, 1, 1, 1)) as server:
        judged(server, [written()], [prompt(*clips, caption=caption)], need_caption=False)
    assert line in texts_of(server.requests[0]).split("\n")
    assert len(images_of(server.requests[0])) == (0 if clips[0].frames is None else 8)


def test_sound_without_a_caption_is_an_error_that_says_the_way_out():
    with ChatServer(lambda _: verdict(1, 1, 1, 1)) as server:
        with pytest.raises(ConfigError, match=r"prompt 'p' has sound and no audio_caption.*need_caption: false"):
            judged(server, [written()], [prompt(caption=None)])
        with pytest.raises(ConfigError, match="no audio_caption"):
            Judge(client(server)).check(prompt(caption=None))
        judged(server, [written()], [prompt(clip(sound=False), caption=None)])
    assert len(server.requests) == 1


# -- what comes back ---------------------------------------------------------------------------------------------------


def test_the_reward_is_the_mean_of_the_four_scores():
    with ChatServer(lambda _: verdict(0.9, 0.4, 0.0, 0.1)) as server:
        judge, scored = judged(server, [written()])
    assert scored.rewards.tolist() == pytest.approx([(0.9 + 0.4 + 0.0 + 0.1) / 4])  # 0.35
    assert scored.valid.tolist() == [True]
    assert {name: float(part) for name, part in scored.parts.items()} == pytest.approx(
        dict(zip([*CRITERIA, "refused"], (0.9, 0.4, 0.0, 0.1, 0.0), strict=True))
    )
    assert judge.counts == {"asked": 1, "cached": 0, "failed": 0, "refused": 0}


@settings(deadline=None, max_examples=20, phases=[Phase.generate])  # a server a try: no time to shrink
@given(st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 4), min_size=1, max_size=8), st.randoms())
def test_each_completion_of_two_ragged_groups_gets_its_own_verdict(scores, random):
    """Rewards stand where their completions do, whatever the order in which answers come."""
    prompts = [prompt(question="Q0"), prompt(clip(3), question="Q1")]
    group, delays = [random.randint(0, 1) for _ in scores], [random.uniform(0, 0.01) for _ in scores]
    table = {(f"Q{g}", f"answer {i}", [8, 3][g]): s for i, (g, s) in enumerate(zip(group, scores, strict=True))}

    def answer(request):
        time.sleep(delays[int(candidate_of(request)["answer"].split()[1])])
        question = next(q for q in ("Q0", "Q1") if f'Question: "{q}"' in texts_of(request))
        asked = (question, candidate_of(request)["answer"], len(images_of(request)))
        return verdict(*table.get(asked, (-1, -1, -1, -1)))

    completions = [written(f"answer {i}") for i in range(len(scores))]
    completions.insert(1, Completion(torch.tensor([1]), torch.zeros(1), "no tags", True))
    group.insert(1, 1)
    with ChatServer(answer) as server:
        judge, scored = judged(server, completions, prompts, group)
    means = [sum(s) / 4 for s in scores]
    means.insert(1, 0.0)
    assert scored.rewards.tolist() == pytest.approx(means, abs=1e-6)
    assert scored.valid.all()
    assert [int(x) for x in scored.parts["refused"]] == [int(i == 1) for i in range(len(completions))]
    assert (judge.counts["asked"], judge.counts["refused"]) == (len(scores), 1)


def test_equal_completions_are_judged_once_and_each_gets_the_verdict():
    with ChatServer(lambda _: verdict(1, 1, 1, 0)) as server:
        judge, scored = judged(server, [written(), written("dog"), written(), written()])
    assert len(server.requests) == 2
    assert scored.rewards.tolist() == [0.75] * 4
    assert judge.counts["asked"] == 4


def test_a_verdict_in_a_fence_is_read():
    with ChatServer(lambda _: verdict(1, 0, 1, 0), then=fenced) as server:
        assert judged(server, [written()])[1].rewards.tolist() == [0.5]


@pytest.mark.parametrize(
    "reply",
    [
        "I'd say it is very good",
        "",
        verdict(1, 1, 1, 1.5),
        verdict(1, 1, 1, -0.1),
        verdict(1, 1, 1, True),
        verdict(1, 1, 1, None),
        verdict(1, 1, 1, float("nan")),
        verdict(1, 1, 1, "1"),
        '{"audio_grounding": 1, "visual_identification": 1, "location_accuracy": 1}',
        verdict(1, 1, 1, 1)[:-1] + ', "more": 1}',
        '{"audio_grounding": 0, ' + verdict(1, 1, 1, 1)[1:],
        "[1, 1, 1, 1]",
        verdict(0, 0, 0, 0) + verdict(1, 1, 1, 1),
    ],
)
def test_nonsense_is_no_verdict(reply):
    with ChatServer(then=says(reply)) as server, pytest.warns(UserWarning, match="gave no verdict on 1 of 1"):
        judge, scored = judged(server, [written()])
    assert scored.valid.tolist() == [False]
    assert len(server.requests) == 2  # asked again with the complaint
    assert judge.counts["failed"] == 1


def test_a_better_second_answer_counts():
    with ChatServer(lambda _: verdict(1, 1, 1, 1), script=[says("well...")]) as server:
        _, scored = judged(server, [written()])
    assert scored.rewards.tolist() == [1.0]


# -- failures ----------------------------------------------------------------------------------------------------------


def half_down(request):
    """The behaviour of a server that fails on dogs."""
    return status(500) if "dog" in candidate_of(request)["answer"] else None


def answer_or_fail(call):
    (half_down(call.request) or says(verdict(1, 1, 1, 1)))(call)


def test_skip_leaves_out_what_could_not_be_judged_and_nothing_else():
    with ChatServer(then=answer_or_fail) as server, warnings.catch_warnings():
        warnings.simplefilter("error")
        judge, scored = judged(server, [written(), written("dog"), written("dog", finished=False)])
    assert scored.valid.tolist() == [True, False, True]
    assert scored.rewards.tolist()[::2] == [1.0, 0.0]  # the unfinished one is a 0 that needs no judge
    for part in scored.parts.values():
        assert part.isnan().tolist() == [False, True, False]
    assert judge.counts == {"asked": 2, "cached": 0, "failed": 1, "refused": 1}


def test_zero_says_so_and_counts():
    with ChatServer(then=answer_or_fail) as server, pytest.warns(UserWarning, match=r"1 of 2 .*\(1 down\).*count as 0"):
        judge, scored = judged(server, [written(), written("dog")], on_failure="zero")
    assert scored.rewards.tolist() == [1.0, 0.0]
    assert scored.valid.tolist() == [True, True]
    assert judge.counts["failed"] == 1


def test_stop_names_endpoint_kind_and_cause():
    with ChatServer(then=answer_or_fail) as server, pytest.raises(AvatarError) as error:
        judged(server, [written(), written("dog")], on_failure="stop")
    for word in (server.endpoint, "'judge'", "1 down", "500", "on_failure: skip"):
        assert word in str(error.value)


@pytest.mark.parametrize(("behave", "kind"), [(status(503), "down"), (status(401), "refused"), (says("?"), "nonsense")])
def test_a_batch_without_any_verdict_is_loud_under_skip(behave, kind):
    with ChatServer(then=behave) as server, pytest.warns(UserWarning, match=rf"2 of 2 completions \(2 {kind}\)"):
        _, scored = judged(server, [written(), written("dog")])
    assert not scored.valid.any()


def test_a_dead_server_is_down_and_its_cached_verdicts_are_not_lost(tmp_path):
    args = {"client_args": {"cache": str(tmp_path / "cache")}}
    with ChatServer(lambda _: verdict(0.5, 0.5, 0.5, 0.5)) as server:
        judged(server, [written(), written()], **args)
        server.stop()
        judge, scored = judged(server, [written(), written("dog"), written()], **args)
    assert scored.valid.tolist() == [True, False, True]
    assert scored.rewards.tolist()[::2] == [0.5, 0.5]
    assert judge.counts == {"asked": 3, "cached": 2, "failed": 1, "refused": 0}


def test_the_key_is_sent_and_shown_nowhere(monkeypatch, tmp_path):
    monkeypatch.setenv("JUDGE_KEY", KEY)
    args = {"client_args": {"api_key_env": "JUDGE_KEY", "cache": str(tmp_path)}, "on_failure": "stop"}
    with ChatServer(lambda _: verdict(1, 1, 1, 1)) as server:
        judge, _ = judged(server, [written()], **args)
        assert server.headers[0]["authorization"] == f"Bearer {KEY}"
        server.stop()
        with pytest.raises(AvatarError) as error:
            judged(server, [written("dog")], **args)
    assert KEY not in str(error.value) + repr(judge.client) + json.dumps(server.requests)
    assert not any(KEY in path.read_text() for path in tmp_path.rglob("*") if path.is_file())


def test_check_asks_the_server_and_rehearsing_sends_no_completion():
    with ChatServer(then=status(404, "no such model")) as server:
        rehearse([Judge(client(server))], prompt())
        assert server.requests == []
        assert "GET /v1/models" in server.paths
        with pytest.raises(ConfigError, match="other"):
            rehearse([Judge(ChatClient(server.endpoint, "other", attempts=1, backoff=0.0))], prompt())
        server.stop()
        with pytest.raises(ConfigError, match=server.endpoint):
            rehearse([Judge(client(server))], prompt())


def test_in_a_sum_a_missing_verdict_takes_its_completion_out():
    with ChatServer(then=answer_or_fail) as server:
        rewards = [Format(0.5), Judge(client(server), 0.5, label="referee")]
        whole = score(rewards, [prompt()], [written(), written("dog")], torch.tensor([0, 0]))
    assert whole.rewards.tolist() == [1.0, 0.5]  # 0.5 x 1 + 0.5 x 1, 0.5 x 1 + nothing
    assert whole.valid.tolist() == [True, False]
    assert whole.parts["referee/location_accuracy"][0] == 1
    assert whole.parts["referee"].isnan().tolist() == [False, True]


@pytest.mark.parametrize(
    ("argument", "value"), [("on_failure", "ignore"), ("num_frames", 0), ("max_chars", 0), ("max_side", 0)]
)
def test_arguments_out_of_range_are_refused(argument, value):
    with pytest.raises(ConfigError, match=argument):
        Judge(ChatClient("http://127.0.0.1:9/v1", "judge"), **{argument: value})
