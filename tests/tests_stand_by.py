"""Two processes that train in step on records of which some cannot be read: ``python tests_stand_by.py WHAT ...``."""

import json
import sys
from pathlib import Path


def main(what, model, shards, folder, steps):
    """``rl`` or ``sft``; each rank notes what it saw and what its weights are."""
    import torch
    from lightning.pytorch import Callback, Trainer
    from tests_replay import Sum

    from avatar.data.module import ShardData
    from avatar.losses import Objective
    from avatar.modules import Policy, RLModule, SFTModule
    from avatar.replay import Replay

    class Diary(Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            line = {
                "step": trainer.global_step,
                "keys": [prompt.key for prompt in batch],
                "weights": module.policy.adapter.fingerprint(),
                "gradient": max(float(p.grad.abs().max()) for p in module.parameters() if p.grad is not None),
            }
            if what == "rl":
                memory = module.memory.state_dict()
                line |= {"generated": module.num_generated, "stored": len(memory["buffer"]["rewards"])}
                line |= {"visited": sorted(memory["tracker"]["keys"])}
            with open(Path(folder) / f"rank{trainer.global_rank}.jsonl", "a") as file:
                file.write(json.dumps(line) + "\n")

    def sgd(parameters):
        return torch.optim.SGD(parameters, lr=0.1)

    torch.manual_seed(1)
    policy = Policy(model, dtype="float32")
    if what == "sft":
        module = SFTModule(policy, optimizer=sgd)
    else:
        module = RLModule(
            policy, num_generations=4, max_new_tokens=6, rewards=[Sum()], objective=Objective(beta=0.0), optimizer=sgd,
            replay=Replay(minimum=4),
        )  # fmt: skip
    data = ShardData(
        train=shards, batch_size=1, letter_options=False, min_pixels=28 * 28, max_pixels=56 * 56, max_failed_share=1.0
    )
    trainer = Trainer(
        max_steps=int(steps), max_epochs=-1, accelerator="cpu", devices=2, strategy="ddp", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
        callbacks=[Diary()],
    )  # fmt: skip
    trainer.fit(module, data)


if __name__ == "__main__":
    main(*sys.argv[1:])
