import json
from itertools import chain, pairwise

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from avatar.data.micro import SIZE
from avatar.data.module import ShardData
from avatar.data.plan import Phase, Weighted
from avatar.data.shards import write_shards
from avatar.errors import ConfigError, DataError

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def _decoders():
    """Decoders that the datasets of these tests share, so that not each starts its own."""
    made = []
    yield made
    for data in made:
        data.decoders.close()


@pytest.fixture
def data_of(_decoders):
    """Make data for clips of the micro-world."""

    def make(**options):
        data = ShardData(**{"min_pixels": 28 * 28, "max_pixels": SIZE * SIZE, "max_failed_share": 1.0} | options)
        _decoders.append(data)
        return data

    return make


def keys_of(batches):
    return [[prompt.key for prompt in batch] for batch in batches]


def words_of(text):
    return "".join(c for c in text if not c.isspace() and c not in "│┃")  # a folded table reads on


class Diary(LightningModule):
    """Learns nothing and notes what it is shown."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.trained, self.validated = [], []

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        return batch  # prompts are frozen

    def training_step(self, batch, _):
        self.trained.append([prompt.key for prompt in batch])
        return self.weight**2

    def validation_step(self, batch, _):
        self.validated.append([prompt.key for prompt in batch])


def trainer_of(tmp_path, **options):
    return Trainer(
        default_root_dir=tmp_path, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False,
        enable_model_summary=False, **{"enable_checkpointing": False, "num_sanity_val_steps": 0} | options,
    )  # fmt: skip


def trained_keys(data):
    data.setup("fit")
    return keys_of(data.train_dataloader())


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"on_error": "ignore"}, "data.on_error must be 'skip' or 'raise', got 'ignore'"),
        ({"batch_size": 0}, "data.batch_size must be at least 1, got 0"),
        ({"eval_batch_size": -3}, "data.eval_batch_size must be at least 1, got -3"),
        ({"num_workers": 0}, "data.num_workers must be at least 1, got 0"),
        ({"num_workers": -1}, "data.num_workers must be at least 1, got -1"),
        ({"prefetch": -1}, "data.prefetch must be at least 0, got -1"),
        ({"cache_mb": -1}, "data.cache_mb must be at least 0, got -1"),
        ({"shuffle_window": 0}, "data.shuffle_window must be at least 1, got 0"),
        ({"max_failed_share": -0.1}, "data.max_failed_share must be from 0 to 1, got -0.1"),
        ({"max_failed_share": 5}, "data.max_failed_share must be from 0 to 1, got 5"),
        ({"max_failed_share": float("nan")}, "data.max_failed_share must be from 0 to 1, got nan"),
        ({"max_frames": 0}, "data.max_frames must be at least 1, got 0"),
        ({"fps": 0.0}, "data.fps must be above 0, got 0.0"),
        ({"min_pixels": 0}, "data.min_pixels must be at least 1, got 0"),
        ({"max_pixels": 0}, "data.max_pixels must be at least 1, got 0"),
        ({"max_audio_seconds": 0}, "data.max_audio_seconds must be above 0, got 0"),
        ({"max_decoded_mb": 0}, "data.max_decoded_mb must be at least 1, got 0"),
        ({"time_limit": -1.0}, "data.time_limit must be above 0, got -1.0"),
        ({"time_limit": float("nan")}, "data.time_limit must be above 0, got nan"),
        ({"train": [Phase("data", batches=0)]}, "data.train[0].batches must be at least 1, got 0"),
        ({"train": [Phase("data"), Phase("data", batches=-1)]}, "data.train[1].batches must be at least 1, got -1"),
        ({"train": [Phase()]}, "data.train[0] needs either path or mix, and not both"),
        (
            {"train": [Phase("a"), Phase(mix=[Weighted("b")])]},
            "data.train[1].mix needs batches: how many to draw; drawing by weight has no end of its own",
        ),
    ],
)
def test_a_wrong_option_is_refused_at_once_by_name(options, wanted):
    with pytest.raises(ConfigError) as error:
        ShardData(**options)
    assert str(error.value) == wanted


@pytest.mark.parametrize("train", [None, []])
def test_without_training_data_fit_says_what_to_give(train):
    with pytest.raises(ConfigError, match=r"no training data: give --data\.train FOLDER"):
        ShardData(train=train).setup("fit")


@pytest.mark.parametrize("stage", ["test", "predict"])
def test_without_test_data_test_says_what_to_give(stage, shards, data_of):
    with pytest.raises(ConfigError, match=r"no test data: give --benchmark NAME or --data\.test FOLDER"):
        data_of(train=str(shards)).setup(stage)


@pytest.mark.parametrize(("option", "stage"), [("train", "fit"), ("val", "fit"), ("val", "validate"), ("test", "test")])
def test_a_missing_folder_is_named_at_setup_with_the_way_to_make_one(tmp_path, shards, data_of, option, stage):
    data = data_of(**{"train": str(shards), option: str(tmp_path / "nowhere")})
    with pytest.raises(DataError, match=r"nowhere: no such shard folder.*avatar data synth --out"):
        data.setup(stage)


@pytest.mark.parametrize(
    "later", [{"path": "nowhere"}, {"mix": [Weighted("{shards}"), Weighted("nowhere")], "batches": 2}]
)
def test_a_missing_folder_of_a_later_phase_is_found_before_the_first(shards, data_of, later):
    if "mix" in later:
        later = {**later, "mix": [Weighted(str(shards)), later["mix"][1]]}
    with pytest.raises(DataError, match="nowhere"):
        data_of(train=[Phase(str(shards), 2), Phase(**later)]).setup("fit")


# -- orders ------------------------------------------------------------------------------------------------------------


def test_validation_comes_in_shard_order(shards, samples, data_of):
    data = data_of(val=str(shards), eval_batch_size=10)
    data.setup("validate")
    batches = keys_of(data.val_dataloader())
    assert [len(batch) for batch in batches] == [10, 10, 5]
    assert list(chain(*batches)) == [f"{key}/q{i}" for key, _, records in samples for i in range(len(records))]


def test_without_a_validation_folder_there_is_nothing_to_validate(shards, data_of):
    data = data_of(train=str(shards))
    data.setup("fit")
    assert data.val_dataloader() == []


@pytest.mark.parametrize("window", [None, 6])
def test_the_training_order_follows_the_seed_of_torch(shards, data_of, window):
    orders = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        orders.append(trained_keys(data_of(train=str(shards), batch_size=5, shuffle_window=window)))
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert sorted(chain(*orders[0])) == sorted(chain(*orders[2]))


def test_a_window_keeps_the_records_of_a_shard_together(shards, data_of):
    [batch] = trained_keys(data_of(train=str(shards), batch_size=25, shuffle_window=1))
    shard_of = {f"train-{clip:06d}": clip // 2 for clip in range(5)}  # two clips a shard
    visits = [shard_of[key.split("/")[0]] for key in batch]
    assert sum(a != b for a, b in pairwise(visits)) == 2  # 3 shards, each in one go


def test_phases_follow_one_another(tmp_path, samples, data_of):
    for name, part in (("easy", samples[:2]), ("hard", samples[2:])):
        write_shards(tmp_path / name, part)
    batches = trained_keys(
        data_of(train=[Phase(str(tmp_path / "easy"), 3), Phase(str(tmp_path / "hard"))], batch_size=4)
    )
    # 3 batches of 4 from the 10 easy ones, then the 15 hard ones once: 4 + 4 + 4 + 3.
    assert [len(batch) for batch in batches] == [4] * 6 + [3]
    easy, hard = ({k.split("/")[0] for k in chain(*part)} for part in (batches[:3], batches[3:]))
    assert easy == {"train-000000", "train-000001"}
    assert hard == {"train-000002", "train-000003", "train-000004"}


def test_a_phase_may_mix_folders_by_weight_and_its_neighbours_draw_from_their_own(tmp_path, samples, data_of):
    for name, part in (("a", samples[:1]), ("b", samples[1:3]), ("c", samples[3:])):
        write_shards(tmp_path / name, part)
    a, b, c = (str(tmp_path / name) for name in "abc")
    train = [Phase(a), Phase(None, 4, [Weighted(b, 3.0), Weighted(c, 1.0)]), Phase(c, 1)]
    batches = trained_keys(data_of(train=train, batch_size=4))
    clips = [[int(key[6:12]) for key in batch] for batch in batches]
    assert [len(batch) for batch in clips] == [4, 1, 4, 4, 4, 4, 4]
    assert set(chain(*clips[:2])) == {0}
    mixed = list(chain(*clips[2:6]))
    # 16 records, 3 to 1: 12 of the 10 of b, two of them twice, and 4 of c.
    assert sum(clip in (1, 2) for clip in mixed) == 12
    assert sum(clip in (3, 4) for clip in mixed) == 4
    assert set(clips[6]) <= {3, 4}


def test_the_style_and_the_rule_reach_the_prompts(shards, data_of):
    data = data_of(test=str(shards), system="be brief", letter_options=False, max_frames=2, max_pixels=28 * 28)
    data.setup("test")
    prompt = next(iter(data.test_dataloader()))[1]
    assert prompt.messages[0]["content"] == "be brief"
    assert "red / green" in prompt.messages[1]["content"][1]["text"]
    assert prompt.clips[0].frames.shape == (2, 3, 28, 28)


@pytest.mark.parametrize(("options", "frames"), [({"fps": 4.0}, 4), ({"fps": 4.0, "max_frames": 2}, 2), ({}, 8)])
def test_frames_are_taken_by_rate_or_evenly(shards, data_of, options, frames):
    data = data_of(test=str(shards), **options)  # clips of a second, 8 frames
    data.setup("test")
    assert len(next(iter(data.test_dataloader()))[0].clips[0].frames) == frames


def test_a_prompt_is_found_by_its_key(shards, data_of):
    data = data_of(train=str(shards))
    data.setup("fit")
    assert data.prompt("train-000003/q2").key == "train-000003/q2"
    with pytest.raises(DataError, match="no record 'nobody'"):
        data.prompt("nobody")


def test_prefetch_is_how_far_each_worker_may_be_ahead(shards, data_of):
    for num_workers, prefetch, ahead in ((1, 4, 4), (3, 5, 15), (1, 0, 1)):
        data = data_of(train=str(shards), num_workers=num_workers, prefetch=prefetch)
        data.setup("fit")
        assert data.train_dataloader().ahead == ahead


# -- failures ----------------------------------------------------------------------------------------------------------


def test_failures_of_all_loaders_are_gathered_and_printed_at_the_end(broken, shards, data_of, capsys):
    folder, bad = broken
    data = data_of(train=str(shards), val=str(folder))
    data.setup("fit")
    list(data.train_dataloader())
    list(data.val_dataloader())
    assert list(data.failures) == bad
    data.teardown("fit")
    shown = words_of(capsys.readouterr().err)
    assert "5recordswereskipped" in shown
    for key, failure in data.failures.items():
        assert key in shown
        assert words_of(failure.reason) in shown
        assert words_of(failure.cause) in shown


def test_without_failures_nothing_is_printed(shards, data_of, capsys):
    data = data_of(val=str(shards))
    data.setup("validate")
    list(data.val_dataloader())
    data.teardown("validate")
    assert data.failures == {}
    assert capsys.readouterr() == ("", "")


def test_on_error_reaches_the_loaders(broken, data_of):
    data = data_of(val=str(broken[0]), on_error="raise")
    data.setup("validate")
    with pytest.raises(DataError, match=r"data\.on_error is 'raise'"):
        list(data.val_dataloader())


def test_teardown_ends_the_decoders_and_a_later_stage_starts_them_again(shards, data_of):
    data = data_of(test=str(shards), num_workers=2)
    for _ in range(2):
        data.setup("test")
        assert len(list(data.test_dataloader())) == 1
        assert len(data.decoders.pids) == 2
        data.teardown("test")
        assert data.decoders.pids == []


# -- with the real Trainer ---------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_every_validation_sees_the_same_questions_even_if_it_is_cut_short(tmp_path, shards, data_of):
    model, data = Diary(), data_of(train=str(shards), val=str(shards), batch_size=5, eval_batch_size=5)
    trainer_of(
        tmp_path, max_epochs=2, limit_train_batches=1, limit_val_batches=2, num_sanity_val_steps=1
    ).fit(model, datamodule=data)  # fmt: skip
    first, second = (f"train-{clip:06d}/q0" for clip in (0, 1))  # 5 questions a clip: a batch is a clip
    # The sanity check takes one batch, then each of the two epochs two.
    assert [batch[0] for batch in model.validated] == [first, first, second, first, second]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("steps", [2, 5, 7])
@pytest.mark.parametrize("num_workers", [(1, 1), (2, 1), (1, 2)])
def test_training_resumed_by_lightning_sees_what_training_in_one_go_would_have_seen(
    tmp_path, shards, data_of, steps, num_workers
):
    def run(max_steps, num_workers, ckpt_path=None):
        torch.manual_seed(3)
        model, data = Diary(), data_of(train=str(shards), batch_size=5, num_workers=num_workers)  # 5 batches an epoch
        saver = ModelCheckpoint(tmp_path / str(steps), filename="{step}", every_n_train_steps=steps, save_top_k=-1)
        trainer = trainer_of(
            tmp_path, max_epochs=-1, max_steps=max_steps, enable_checkpointing=True, callbacks=[saver]
        )  # fmt: skip
        trainer.fit(model, datamodule=data, ckpt_path=ckpt_path)
        return model.trained

    whole = run(13, num_workers[0])
    rest = run(13, num_workers[1], tmp_path / str(steps) / f"step={steps}.ckpt")
    assert len(whole) == 13
    assert rest == whole[steps:]


@pytest.mark.filterwarnings("ignore")
def test_each_epoch_of_a_run_ends_with_a_table_of_what_it_skipped_and_a_file_names_all(
    tmp_path, broken, data_of, capsys
):
    folder, bad = broken
    model, data = Diary(), data_of(train=str(folder), batch_size=4)
    trainer_of(tmp_path / "run", max_epochs=2).fit(model, datamodule=data)
    assert sorted(chain(*model.trained)) == sorted(["0-good", "3-good", "7-good"] * 2)
    shown = words_of(capsys.readouterr().err)
    for epoch in (0, 1):
        assert f"epoch{epoch}:5of8recordswereskipped;allarenamedin" in shown
    assert "skipped.jsonl" in shown
    assert "cutshort2" in shown
    rows = [json.loads(line) for line in (tmp_path / "run" / "skipped.jsonl").read_text().splitlines()]
    for epoch in (0, 1):
        assert sorted(row["key"] for row in rows if row["epoch"] == epoch) == bad
    assert sorted(data.failures) == bad


@pytest.mark.filterwarnings("ignore")
def test_a_run_stops_where_more_than_the_share_of_its_records_failed(tmp_path, broken, data_of):
    with pytest.raises(
        DataError, match=r"5 of 8 records of this pass could not be read, more than data\.max_failed_share"
    ):
        trainer_of(tmp_path, max_epochs=2).fit(Diary(), datamodule=data_of(train=str(broken[0]), max_failed_share=0.6))
    model = Diary()
    trainer_of(tmp_path, max_epochs=2).fit(model, datamodule=data_of(train=str(broken[0]), max_failed_share=0.625))
    assert len(model.trained) == 6


@pytest.mark.filterwarnings("ignore")
def test_what_only_validation_skips_is_written_down_too(tmp_path, broken, shards, data_of):
    data = data_of(train=str(shards), val=str(broken[0]), batch_size=5, eval_batch_size=8)
    trainer_of(tmp_path / "run", max_epochs=1).fit(Diary(), datamodule=data)
    rows = [json.loads(line) for line in (tmp_path / "run" / "skipped.jsonl").read_text().splitlines()]
    assert [row["key"] for row in rows] == broken[1]


@pytest.mark.filterwarnings("ignore")
def test_a_validation_may_lose_no_more_than_its_share_either(tmp_path, broken, shards, data_of):
    data = data_of(train=str(shards), val=str(broken[0]), eval_batch_size=8, max_failed_share=0.5)
    with pytest.raises(DataError, match="5 of 8 records of this pass could not be read"):
        trainer_of(tmp_path, max_epochs=1).fit(Diary(), datamodule=data)


@pytest.mark.filterwarnings("ignore")
def test_a_validation_in_mid_epoch_takes_nothing_from_what_training_counts(tmp_path, broken, shards, data_of, capsys):
    torch.manual_seed(0)
    data = data_of(train=str(broken[0]), val=str(shards), batch_size=2, eval_batch_size=25)
    trainer_of(tmp_path / "run", max_epochs=1, val_check_interval=1).fit(Diary(), datamodule=data)
    shown = words_of(capsys.readouterr().err)
    assert "epoch0:5of8recordswereskipped" in shown  # of four batches of two, with a validation after each
    assert "of25" not in shown  # the validation skipped nothing
