#!/usr/bin/env bash
# Trains what disentanglement.py reads: the VAE and the β-VAE, runs with a target on the rate at the rates that these
# end with, and the control: the β-VAE on the squared error, whose β is the last multiplier of such a run.
#
#   experiment/studies/sprites.sh runs/sprites 0 1 2 3 4      (a folder and seeds; seed 0 tells β, so it comes first)
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

rates="11.4 8.15 5.43 3.91 2.12"
for seed in "$@"; do
  train "vae-$seed" --method vae --seed "$seed"
  for beta in 2 4 8 16; do
    train "beta$beta-$seed" --method beta-vae --beta "$beta" --seed "$seed"
  done
  for rate in $rates; do
    train "rate$rate-$seed" --method rate --rate "$rate" --seed "$seed"
  done
done
for rate in $rates; do
  if [ ! -f "$out/rate$rate-0/summary.json" ]; then
    echo "$out/rate$rate-0 has not ended, and its multiplier is β; run seed 0 first" >&2
    exit 2
  fi
  beta=$("$python" -c 'import csv, sys
*_, last = csv.DictReader(open(sys.argv[1]))
print(round(float(last["lambda"]), 3))' "$out/rate$rate-0/metrics.csv")
  for seed in "$@"; do
    train "control$rate-$seed" --method beta-vae --likelihood gaussian --beta "$beta" --seed "$seed"
  done
done
