#!/usr/bin/env bash
# The cold starts that the map in docs/evidence.md begins from: two of the micro-world, and two that hardly ever succeed,
# each with clips, weights and order of its own. About ten minutes on two cores. What is there already is left alone.
set -euo pipefail
avatar=${AVATAR:-.venv/bin/avatar}
for seed in 0 1; do
  for world in demo sparse; do
    data=data/micro; start=runs/starts/$world$seed
    if [ "$world" = sparse ]; then data=data/micro_sparse; fi
    if [ "$seed" = 1 ]; then data=${data}_1; fi
    "$avatar" data synth --world "$world" --seed "$seed" --out "$data"
    if [ -d "$start/model" ]; then echo "$start is there already"; continue; fi
    "$avatar" fit --config configs/micro/sft.yaml --seed_everything "$seed" --trainer.default_root_dir "$start" \
      --model.policy.path "$data/model" --data.val "$data/dev" \
      --data.train "[{path: $data/chains, batches: 420}, {path: $data/guesses, batches: 230}]"
  done
done
