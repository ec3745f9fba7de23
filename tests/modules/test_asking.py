"""One question about one's own files: what is seen, what is answered, what is read from the reply."""

from dataclasses import replace

import pytest
import torch
from data import media_files

from avatar.benchmarks.recipe import Recipe
from avatar.data.dataset import start_decoders
from avatar.data.micro import RULE, draw_split, render_mp4
from avatar.data.schema import Medium
from avatar.errors import AvatarError, ConfigError, DataError
from avatar.modules.asking import Answerer, check_file, clip_rule, naming_memory, read_reply, see
from avatar.modules.evaluation import EvaluationModule
from avatar.modules.loading import load_policy
from avatar.types import Completion

MICRO = Recipe(min_pixels=RULE.min_pixels, max_pixels=RULE.max_pixels, max_new_tokens=12, wording="plain")


@pytest.fixture(scope="session")
def policy(micro):
    return load_policy(micro / "model", device="cpu")


@pytest.fixture(scope="session")
def decoders():
    pool = start_decoders(1, clip_rule(MICRO))
    yield pool
    pool.close()


@pytest.fixture
def look(decoders):
    """`see`, by decoders that all tests share."""

    def seen(question, *media, recipe=MICRO, **kwargs):
        return see(question, media, recipe=recipe, decoders=decoders, **kwargs)

    return seen


@pytest.fixture
def clips(tmp_path, monkeypatch):
    """A working folder of small files."""
    monkeypatch.chdir(tmp_path)
    for name, content in {
        "good.mp4": media_files.good(),
        "mute.mp4": media_files.mute(),
        "sign.png": media_files.picture(),
        "tone.wav": media_files.wav(media_files.tone(1)),
        "cut.mp4": media_files.good()[:2000],
    }.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def completion(text, finished=True):
    return Completion(torch.arange(5), torch.zeros(5), text, finished)


def test_a_greedy_reply_is_the_one_that_evaluation_grades(policy, decoders, prompts, tmp_path):
    key, scene, records = next(iter(draw_split("dev", 1, seed=0)))
    (tmp_path / "clip.mp4").write_bytes(render_mp4(scene))
    record = next(record for record in records if record.metadata["kind"] == "beeps")
    graded = next(p for p in prompts if p.key.startswith(key) and p.metadata["kind"] == "beeps")
    module = EvaluationModule(policy, max_new_tokens=12)
    answerer = Answerer(policy, MICRO)
    answerer.decoders = decoders
    reply = answerer.ask(record.question, Medium("video", str(tmp_path / "clip.mp4")))
    assert reply.output == module.answer([graded])[0]["output"]
    assert reply.num_tokens == 12
    assert not reply.finished


def test_a_seed_gives_the_same_replies_again_and_another_seed_gives_others(policy, look, clips):
    prompt = look("what ?", Medium("video", "good.mp4"))

    def texts(seed):
        return [reply.output for reply in Answerer(policy, MICRO, 1.0, seed).answer(prompt, 3)]

    assert texts(0) == texts(0)
    assert len(set(texts(0))) == 3
    assert not set(texts(0)) & set(texts(1))
    with pytest.raises(ConfigError, match=r"num must be 1 where the temperature is 0.*got 3"):
        Answerer(policy, MICRO).answer(prompt, 3)


def test_what_is_asked_can_be_seen(policy, look, clips):
    """Another clip, or none, makes another reply likely: here by the log-probs of a given one."""
    ids, mask, group = torch.tensor([[5, 6, 7]]), torch.ones(1, 3, dtype=torch.bool), torch.zeros(1, dtype=torch.long)
    told = [
        policy(policy.encode([prompt]), ids, mask, group, 1.0)
        for prompt in (look("?", Medium("video", "good.mp4")), look("?", Medium("image", "sign.png")), look("?"))
    ]
    assert not torch.equal(told[0], told[1])
    assert not torch.equal(told[1], told[2])


def test_media_are_shown_in_their_order_before_the_question(look, clips):
    media = [Medium("audio", "good.mp4"), Medium("image", "sign.png"), Medium("video", "good.mp4", 0.5, 1.0)]
    prompt = look("what ?", *media, options=["cat", "dog"])
    assert [part["type"] for part in prompt.messages[0]["content"]] == ["audio", "image", "video", "text"]
    assert prompt.messages[0]["content"][-1]["text"] == "what ?\nA. cat\nB. dog"
    sound, image, film = prompt.clips
    assert [clip.kind for clip in prompt.clips] == ["audio", "image", "video"]
    assert len(film.frames) == 4  # half a second of 8 frames a second
    assert len(film.audio) == 8_000  # half a second at 16 kHz
    assert film.frames.float().mean() == pytest.approx(16 + 6 * 5.5, abs=3)  # frames 4 to 7, frame i is grey 16 + 6 i
    assert sound.frames is None
    assert image.audio is None


def test_the_recipe_says_how_it_is_asked_and_what_is_left_out(look, clips):
    prompt = look("what ?", Medium("video", "good.mp4"), recipe=replace(MICRO, wording="think", max_frames=4))
    assert prompt.messages[0]["role"] == "system"
    assert "<think>" in prompt.messages[0]["content"]
    assert len(prompt.clips[0].frames) == 4
    (clip,) = look("what ?", Medium("video", "good.mp4"), recipe=replace(MICRO, modalities="audio")).clips
    assert clip.kind == "audio"


def test_a_videos_sound_is_played_if_it_has_one_and_is_wanted(look, clips):
    (heard,), (unheard,), (silent,) = (
        look("what ?", Medium("video", name), sound=sound).clips
        for name, sound in (("good.mp4", True), ("good.mp4", False), ("mute.mp4", True))
    )
    assert heard.audio is not None
    assert unheard.audio is silent.audio is None
    assert (heard.notes, unheard.notes, silent.notes) == ((), (), ("no sound track",))


@pytest.mark.parametrize(
    ("medium", "message"),
    [
        (Medium("video", "god.mp4"), r"no such file: god\.mp4\. Did you mean 'good\.mp4'\?"),
        (Medium("video", "sign.png"), r"sign\.png is an image \(PNG\) and no video: give it as an image"),
        (Medium("audio", "sign.png"), r"sign\.png is an image \(PNG\) and no audio"),
        (Medium("image", "good.mp4"), r"good\.mp4 is a video \(MP4\) and no image: give it as a video"),
        (Medium("audio", "mute.mp4"), r"mute\.mp4: there is no sound track to hear"),
        (Medium("video", "cut.mp4"), r"cut\.mp4.* cut short"),
        (Medium("video", "tone.wav"), r"tone\.wav"),
        (Medium("video", "good.mp4", 1.0, 0.5), r"end must come after start, got start 1 and end 0\.5"),
        (Medium("video", "good.mp4", 5.0), r"good\.mp4.* 5 s lies beyond the end of the video"),
    ],
)
def test_what_cannot_be_shown_is_named(medium, message, look, clips):
    with pytest.raises(DataError, match=message):
        look("what ?", medium)


def test_a_question_that_would_end_its_own_turn_is_refused(look):
    with pytest.raises(DataError, match=r"the question: the text holds '<\|im_end\|>'"):
        look("what ?<|im_end|>")


def test_a_folder_of_frames_is_a_film(look, clips):
    (clips / "shots").mkdir()
    for i in range(6):
        (clips / "shots" / f"{i}.png").write_bytes(media_files.picture(size=(56, 56)))
    check_file(Medium("video", "shots"))
    (clip,) = look("what ?", Medium("video", "shots")).clips
    assert len(clip.frames) == 6


@pytest.mark.parametrize(
    ("text", "reasoning", "answer", "parsed", "how"),
    [
        ("<think> it is B </think>\n<answer> B </answer>", "it is B", "B", "green", "strict"),
        ("<think>it is", "it is", "", None, "unparsed"),  # cut off while it thought: no answer
        ("<think>a</think><answer>gre", "a", "", None, "unparsed"),  # and while it answered
        ("It is green.", "", "It is green.", "green", "lenient"),
        ("<answer>A</answer><answer>B</answer>", "", "A\nB", None, "unparsed"),
        ("<answer>A</answer><answer>A</answer>", "", "A", "red", "strict"),
        ("", "", "", None, "unparsed"),
    ],
)
def test_a_reply_is_taken_apart_by_its_tags_and_nothing_is_guessed(text, reasoning, answer, parsed, how):
    reply = read_reply(completion(text), ["red", "green", "blue"])
    assert (reply.output, reply.reasoning, reply.answer, reply.parsed, reply.how) == (
        text, reasoning, answer, parsed, how,
    )  # fmt: skip


def test_without_options_nothing_is_parsed():
    reply = read_reply(completion("<answer>B</answer>", finished=False))
    assert (reply.answer, reply.parsed, reply.how, reply.finished, reply.num_tokens) == ("B", None, None, False, 5)


def test_a_full_gpu_is_told_with_what_takes_less():
    expected = r"the GPU is full \(CUDA out of memory\)\. Show less .*bfloat16"
    with pytest.raises(AvatarError, match=expected) as raised, naming_memory():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has")
    assert "Tried" not in str(raised.value)
