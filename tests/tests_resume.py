"""Training stand-ins that are killed and go on: ``python tests_resume.py plain|lightning ...``."""

import json
import os
import sys
import time
from pathlib import Path

SEED, BATCH_SIZE, PAUSE = 5, 3, 0.1  # seconds that a step takes at least


def write_whole(path, content):
    """All of it or nothing, however early the process is killed."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content))
    os.replace(partial, path)


def plain(shards, diary, rank, world_size):
    """One epoch on ``shards``; ``diary`` holds the state after each batch and the keys of all batches up to it."""
    from functools import partial

    from avatar.data.dataset import PromptDataset, start_decoders
    from avatar.data.loader import PromptLoader
    from avatar.data.micro import RULE
    from avatar.data.plan import Stretch, plan_epoch

    dataset = PromptDataset([shards], rule=RULE, decoders=start_decoders(2, RULE))
    plans = partial(plan_epoch, [Stretch([dataset.indexes[0].shard_sizes], [1.0])], BATCH_SIZE, SEED)
    loader = PromptLoader(dataset, plans, ahead=8, rank=int(rank), world_size=int(world_size), in_step=True)
    path = Path(diary)
    kept = json.loads(path.read_text()) if path.exists() else {"state": loader.state_dict(), "batches": []}
    loader.load_state_dict(kept["state"])
    for batch in loader:
        assert all(clip.frames is not None for prompt in batch for clip in prompt.clips)
        time.sleep(PAUSE)
        kept["batches"].append([prompt.key for prompt in batch])
        write_whole(path, kept | {"state": loader.state_dict()})
    write_whole(path, kept | {"state": loader.state_dict(), "done": True})


def lightning(shards, folder, devices, max_epochs):
    """Epochs on ``shards`` by the Trainer, each step noted and then saved."""
    import torch
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint

    from avatar.data.micro import SIZE
    from avatar.data.module import ShardData

    class Diary(LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

        def transfer_batch_to_device(self, batch, device, dataloader_idx):
            return batch

        def training_step(self, batch, _):
            time.sleep(PAUSE)
            line = {"step": self.global_step + 1, "keys": [prompt.key for prompt in batch], "rank": self.global_rank}
            with open(Path(folder) / f"steps-{self.global_rank}.jsonl", "a") as file:
                file.write(json.dumps(line) + "\n")
            return (self.weight - 1) ** 2

    torch.manual_seed(SEED)
    saver = ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1)
    data = ShardData(
        train=shards, batch_size=BATCH_SIZE, num_workers=2, min_pixels=28 * 28, max_pixels=SIZE * SIZE, prefetch=4
    )
    trainer = Trainer(
        default_root_dir=folder, accelerator="cpu", devices=int(devices), max_epochs=int(max_epochs), logger=False,
        strategy="ddp" if int(devices) > 1 else "auto", callbacks=[saver], enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Diary(), datamodule=data, ckpt_path=newest(folder))


def newest(folder):
    """The latest checkpoint; None if there is none."""
    steps = [int(path.stem.removeprefix("step=")) for path in Path(folder).glob("step=*.ckpt")]
    return str(Path(folder) / f"step={max(steps)}.ckpt") if steps else None


if __name__ == "__main__":
    {"plain": plain, "lightning": lightning}[sys.argv[1]](*sys.argv[2:])
