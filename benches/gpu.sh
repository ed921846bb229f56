#!/usr/bin/env bash
# Checks, calibrates and measures livepoint on a GPU of your own: every part of gpu_report in full, and the calibration of three pairs of machines.
# Writes report.json and *.md to benches/results/gpu. Usage: benches/gpu.sh [gpu|gpu:N|gpu:NAME|gpu:software]
# RESULTS=DIR writes there instead. BIN=DIR takes the programs gpu_report and calibrate from DIR, where there is no Rust; SEEDS sets the runs of each row,
# N_EFF the effective sample sizes of whole runs (N_EFF=10000,1000000 for long ones too).
set -euo pipefail
cd "$(dirname "$0")/.."

backend=${1:-gpu}
seeds=${SEEDS:-20}
jobs=${JOBS:-$(nproc)}
results=${RESULTS:-benches/results/gpu}

if [ -z "${BIN:-}" ]; then
  LIVEPOINT_COMMIT=$(git rev-parse --short HEAD) cargo build --locked --release --example gpu_report --example calibrate
  BIN=${CARGO_TARGET_DIR:-target}/release/examples
fi
mkdir -p "$results"
"$BIN/gpu_report" --list
# What fails says so in its table; the rest is still wanted.
failed=0
"$BIN/gpu_report" --backend "$backend" --part contract,numbers,rates,sampler,end-to-end,ceilings --seeds "$seeds" --jobs "$jobs" \
  --n-eff "${N_EFF:-10000}" --out "$results" || failed=1
for pair in "gpu cpu:1" "gpu gpu" "cpu:1 gpu"; do
  read -r likelihood sampler <<<"$pair"
  "$BIN/calibrate" --problems "gauss3:$seeds,rosen2:$seeds,gauss10corr:$seeds,corners:$seeds,plateau:$seeds" --jobs "$jobs" \
    --likelihood-backend "${likelihood/#gpu/$backend}" --sampler-backend "${sampler/#gpu/$backend}" \
    --markdown "$results/calibration_${likelihood%%:*}_${sampler%%:*}.md" || failed=1
done
exit "$failed"
