from itertools import chain

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from avatar.data.loader import Phase
from avatar.data.module import ShardData, plan_in_order, print_failures
from avatar.data.shards import write_shards
from avatar.errors import ConfigError, DataError


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


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"on_error": "ignore"}, "data.on_error must be 'skip' or 'raise', got 'ignore'"),
        ({"batch_size": 0}, "data.batch_size must be at least 1, got 0"),
        ({"eval_batch_size": -3}, "data.eval_batch_size must be at least 1, got -3"),
        ({"max_frames": 0}, "data.max_frames must be at least 1, got 0"),
    ],
)
def test_a_wrong_option_is_refused_at_once_by_name(options, wanted):
    with pytest.raises(ConfigError) as error:
        ShardData(**options)
    assert str(error.value) == wanted


@pytest.mark.parametrize(
    "options", [{"num_workers": -1}, {"train": [Phase("data", batches=0)]}, {"train": [Phase("data", batches=-1)]}]
)
def test_a_number_that_can_train_on_nothing_is_refused_at_once(options):
    with pytest.raises(ConfigError):
        ShardData(**options)


@pytest.mark.parametrize("train", [None, []])
def test_without_training_data_fit_says_what_to_give(train):
    with pytest.raises(ConfigError, match=r"no training data: give --data\.train FOLDER"):
        ShardData(train=train).setup("fit")


@pytest.mark.parametrize("stage", ["test", "predict"])
def test_without_test_data_test_says_what_to_give(stage, shards):
    with pytest.raises(ConfigError, match=r"no test data: give --benchmark NAME or --data\.test FOLDER"):
        ShardData(train=str(shards)).setup(stage)


@pytest.mark.parametrize(("option", "stage"), [("train", "fit"), ("val", "fit"), ("val", "validate"), ("test", "test")])
def test_a_missing_folder_is_named_at_setup_with_the_way_to_make_one(tmp_path, shards, option, stage):
    data = ShardData(**{"train": str(shards), option: str(tmp_path / "nowhere")})
    with pytest.raises(DataError, match=r"nowhere: no such shard folder.*avatar data synth --out"):
        data.setup(stage)


def test_a_missing_folder_of_a_later_phase_is_found_before_the_first(tmp_path, shards):
    data = ShardData(train=[Phase(str(shards), 2), Phase(str(tmp_path / "nowhere"))])
    with pytest.raises(DataError, match="nowhere"):
        data.setup("fit")


def test_validation_comes_in_shard_order(shards, samples):
    data = ShardData(val=str(shards), eval_batch_size=10)
    data.setup("validate")
    batches = keys_of(data.val_dataloader())
    assert [len(batch) for batch in batches] == [10, 10, 5]
    assert list(chain(*batches)) == [f"{key}/q{i}" for key, _, records in samples for i in range(len(records))]


def test_without_a_validation_folder_there_is_nothing_to_validate(shards):
    data = ShardData(train=str(shards))
    data.setup("fit")
    assert data.val_dataloader() == []


def test_the_training_order_follows_the_seed_of_torch(shards):
    orders = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        orders.append(trained_keys(ShardData(train=str(shards), batch_size=5)))
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert sorted(chain(*orders[0])) == sorted(chain(*orders[2]))


def test_phases_follow_one_another(tmp_path, samples):
    for name, part in (("easy", samples[:2]), ("hard", samples[2:])):
        write_shards(tmp_path / name, part)
    data = ShardData(train=[Phase(str(tmp_path / "easy"), 3), Phase(str(tmp_path / "hard"))], batch_size=4)
    batches = trained_keys(data)
    # 3 batches of 4 from the 10 easy ones, then the 15 hard ones once: 4 + 4 + 4 + 3.
    assert [len(batch) for batch in batches] == [4] * 6 + [3]
    easy, hard = ({k.split("/")[0] for k in chain(*part)} for part in (batches[:3], batches[3:]))
    assert easy == {"train-000000", "train-000001"}
    assert hard == {"train-000002", "train-000003", "train-000004"}


def test_the_style_reaches_the_prompts(shards):
    data = ShardData(test=str(shards), system="be brief", letter_options=False, max_frames=2)
    data.setup("test")
    prompt = next(iter(data.test_dataloader()))[1]
    assert prompt.messages[0]["content"] == "be brief"
    assert "red / green" in prompt.messages[1]["content"][1]["text"]
    assert len(prompt.clips[0].frames) == 2


def test_failures_of_all_loaders_are_gathered_and_printed_at_the_end(broken, shards, capsys):
    folder, bad = broken
    data = ShardData(train=str(shards), val=str(folder))
    data.setup("fit")
    list(data.train_dataloader())
    list(data.val_dataloader())
    assert list(data.failures) == bad
    data.teardown("fit")
    shown = words_of(capsys.readouterr().err)
    assert "5recordswereskipped" in shown
    for key, reason in data.failures.items():
        assert key in shown
        assert words_of(reason) in shown


def test_without_failures_nothing_is_printed(shards, capsys):
    data = ShardData(val=str(shards))
    data.setup("validate")
    list(data.val_dataloader())
    data.teardown("validate")
    assert data.failures == {}
    assert capsys.readouterr() == ("", "")


def test_a_long_list_of_failures_is_cut_and_says_how_many_more(capsys):
    print_failures({f"key{i:02}": f"reason{i:02}" for i in range(23)}, most=20)
    shown = words_of(capsys.readouterr().err)
    assert "23recordswereskipped" in shown
    assert "reason19" in shown
    assert "reason20" not in shown
    assert "and3more" in shown


@pytest.mark.parametrize("reason", ["data/clips[v2]/00000.tar: no good", "unknown field '[/video]'"])
def test_brackets_in_a_reason_are_printed_as_they_are(reason, capsys):
    print_failures({"clip[a]": reason})
    shown = words_of(capsys.readouterr().err)
    assert words_of(reason) in shown
    assert "clip[a]" in shown


def test_on_error_reaches_the_loaders(broken):
    data = ShardData(val=str(broken[0]), on_error="raise")
    data.setup("validate")
    with pytest.raises(DataError, match=r"data\.on_error is 'raise'"):
        list(data.val_dataloader())


def test_an_order_by_position_covers_all_once():
    assert [list(batch) for batch in plan_in_order(7, 3, epoch=5)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert plan_in_order(7, 3, epoch=0) == plan_in_order(7, 3, epoch=1)


@pytest.mark.timeout(60)
@pytest.mark.filterwarnings("ignore")
def test_every_validation_sees_the_same_questions_even_if_it_is_cut_short(tmp_path, shards):
    model, data = Diary(), ShardData(train=str(shards), val=str(shards), batch_size=5, eval_batch_size=5)
    trainer_of(
        tmp_path, max_epochs=2, limit_train_batches=1, limit_val_batches=2, num_sanity_val_steps=1
    ).fit(model, datamodule=data)  # fmt: skip
    first, second = (f"train-{clip:06d}/q0" for clip in (0, 1))  # 5 questions a clip: a batch is a clip
    # The sanity check takes one batch, then each of the two epochs two.
    assert [batch[0] for batch in model.validated] == [first, first, second, first, second]


@pytest.mark.timeout(60)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("steps", [2, 5, 7])
def test_training_resumed_by_lightning_sees_what_training_in_one_go_would_have_seen(tmp_path, shards, steps):
    def run(max_steps, ckpt_path=None):
        torch.manual_seed(3)
        model, data = Diary(), ShardData(train=str(shards), batch_size=5)  # 5 batches an epoch
        saver = ModelCheckpoint(tmp_path / str(steps), filename="{step}", every_n_train_steps=steps, save_top_k=-1)
        trainer = trainer_of(
            tmp_path, max_epochs=-1, max_steps=max_steps, enable_checkpointing=True, callbacks=[saver]
        )  # fmt: skip
        trainer.fit(model, datamodule=data, ckpt_path=ckpt_path)
        return model.trained

    whole = run(13)
    rest = run(13, tmp_path / str(steps) / f"step={steps}.ckpt")
    assert len(whole) == 13
    assert rest == whole[steps:]
