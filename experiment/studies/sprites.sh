#!/usr/bin/env bash
# Trains what disentanglement.py reads: the VAE and the β-VAE, and GECO at the training errors that these end with.
#
#   experiment/studies/sprites.sh runs/sprites 0 1 2 3 4      (a folder and seeds; seed 0 tells κ, so it comes first)
#
# A run that is there is skipped, and one that was stopped goes on. PYTHON names the interpreter; it needs Numba.
set -euo pipefail
python=${PYTHON:-python} out=$(realpath -m "${1:?name a folder for the runs, and seeds}")
shift
cd "$(dirname "$0")/../.."

train() { # the run's name, then its options
  local run=$out/$1
  shift
  if [ -f "$run/summary.json" ]; then
    return
  elif [ -f "$run/checkpoint.npz" ]; then
    "$python" run.py --resume "$run"
  else
    "$python" run.py --data sprites --nll-samples 10 --backend numba --out "$run" "$@"
  fi
}

for seed in "$@"; do
  train "vae-$seed" --method vae --seed "$seed"
  for beta in 2 4 8 16; do
    train "beta$beta-$seed" --method beta-vae --beta "$beta" --seed "$seed"
  done
done
for like in vae beta2 beta4 beta8 beta16; do
  if [ ! -f "$out/$like-0/summary.json" ]; then
    echo "$out/$like-0 has not ended, and its error is κ; run seed 0 first" >&2
    exit 2
  fi
  kappa=$("$python" -c 'import csv, sys
*_, last = csv.DictReader(open(sys.argv[1]))
error = last.get("error") or last["distortion"]  # the name until version 0.2
print(round(float(error) ** 0.5, 3))' "$out/$like-0/metrics.csv")
  for seed in "$@"; do
    train "geco-like-$like-$seed" --method geco --kappa "$kappa" --seed "$seed"
  done
done
