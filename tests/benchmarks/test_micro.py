import pytest

from avatar.benchmarks import BENCHMARKS, BenchmarkData
from avatar.data.micro_stages import STAGE_SPLITS, draw_stage_split, render_stage_mp4
from avatar.data.shards import write_shards

KINDS = {
    "micro_vision": {"color", "flashes"},
    "micro_audio_visual": {"beeps", "more", "sum"},
    "micro_localise": {"locate"},
}


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """Three clips of the split of each benchmark, by its key."""
    folder, roots = tmp_path_factory.mktemp("stages"), {}
    for name in KINDS:
        roots[name] = folder / BENCHMARKS[name].default_root
        drawn = draw_stage_split(roots[name].name, 3, 0)
        write_shards(roots[name], ((key, render_stage_mp4(scene), records) for key, scene, records in drawn))
    return roots


@pytest.mark.parametrize("name", KINDS)
def test_a_stages_benchmark_asks_its_kinds_of_questions_and_grades_right_chains_as_right(name, roots):
    benchmark = BENCHMARKS[name]()
    dataset = benchmark.prompts(roots[name], benchmark.recipe)
    prompts = [dataset[i] for i in range(len(dataset))]
    assert {p.metadata["kind"] for p in prompts} == KINDS[name]
    assert [benchmark.grade(p.chain, benchmark.question(p)).score for p in prompts] == [1.0] * len(prompts)


@pytest.mark.parametrize("name", KINDS)
def test_a_benchmark_tells_how_many_questions_its_whole_split_holds(name):
    split = BENCHMARKS[name].default_root.rsplit("/")[-1]
    drawn = draw_stage_split(split, STAGE_SPLITS[split].clips, 0)
    assert sum(len(records) for _, _, records in drawn) == BENCHMARKS[name].num_records >= 300


def test_the_place_must_be_right_and_not_the_colour_alone(roots):
    benchmark = BENCHMARKS["micro_localise"]()
    prompt = benchmark.prompts(roots["micro_localise"], benchmark.recipe)[0]
    question = benchmark.question(prompt)
    left, right = (side.split(": ")[1] for side in prompt.answer.split(" | "))
    assert benchmark.grade(f"<answer>Left: {right} | Right: {left}</answer>", question).score == 0
    assert benchmark.grade(f"<answer>Right: {right} | Left: {left}</answer>", question).score == 1
    assert benchmark.grade(f"<answer>Left: {left}</answer>", question).score == 0


def test_a_stages_benchmark_can_be_asked_for_by_name(roots):
    data = BenchmarkData("micro_localise", str(roots["micro_localise"]))
    with pytest.warns(UserWarning, match="3 of 320 records"):
        data.setup("test")
    assert len(data.dataset) == 3
