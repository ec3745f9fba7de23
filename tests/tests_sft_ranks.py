"""A few cold-start steps on so many processes: ``python tests_sft_ranks.py MODEL SHARDS OUT DEVICES BATCH MICRO``."""

import sys


def main(model, shards, out, devices, batch_size, micro):
    """Rank 0 writes the weights that they come to."""
    import torch
    from lightning.pytorch import Trainer
    from safetensors.torch import save_file

    from avatar.data.module import ShardData
    from avatar.modules import Policy, SFTModule

    def sgd(parameters):
        return torch.optim.SGD(parameters, lr=0.1)

    torch.manual_seed(1)
    policy = Policy(model, dtype="float32")
    module = SFTModule(policy, micro_batch_size=int(micro), max_grad_norm=1e9, optimizer=sgd)
    data = ShardData(
        train=shards, batch_size=int(batch_size), letter_options=False, min_pixels=28 * 28, max_pixels=56 * 56
    )
    trainer = Trainer(
        max_steps=3, max_epochs=-1, accelerator="cpu", devices=int(devices), logger=False,
        strategy="ddp" if int(devices) > 1 else "auto", enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=out,
    )  # fmt: skip
    trainer.fit(module, data)
    if trainer.is_global_zero:
        trained = {k: p.detach().contiguous() for k, p in module.policy.named_parameters() if p.requires_grad}
        save_file(trained, out + "/weights.safetensors")


if __name__ == "__main__":
    main(*sys.argv[1:])
