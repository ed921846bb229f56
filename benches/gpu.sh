#!/usr/bin/env bash
# Checks, calibrates and measures livepoint on a GPU of your own: contract suite, log Z against the CPU's, evaluations a second, calibration.
# Writes benches/results/gpu/*.md. Usage: benches/gpu.sh [gpu|gpu:N|gpu:NAME|gpu:software]
# RESULTS=DIR writes there instead. BIN=DIR takes the programs gpu_report and calibrate from DIR, where there is no Rust; SEEDS sets the runs of each row.
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
# A part that fails says so in its table; the others are still wanted.
failed=0
for part in contract rates numbers; do
  "$BIN/gpu_report" --backend "$backend" --part "$part" --seeds "$seeds" --jobs "$jobs" --out "$results" || failed=1
done
for pair in "gpu cpu:1" "gpu gpu" "cpu:1 gpu"; do
  read -r likelihood sampler <<<"$pair"
  "$BIN/calibrate" --problems "gauss3:$seeds,rosen2:$seeds,gauss10corr:$seeds,corners:$seeds,plateau:$seeds" --jobs "$jobs" \
    --likelihood-backend "${likelihood/#gpu/$backend}" --sampler-backend "${sampler/#gpu/$backend}" \
    --markdown "$results/calibration_${likelihood%%:*}_${sampler%%:*}.md" || failed=1
done
exit "$failed"
