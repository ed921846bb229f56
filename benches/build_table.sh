#!/usr/bin/env bash
# Measures what a first build costs: cold build and check of the CPU-only crate, its crates, the size of a program.
# Writes benches/results/build.md. Sources of dependencies are fetched before, so that the network is not timed.
set -euo pipefail
cd "$(dirname "$0")/.."

example=rv_51peg
table=benches/results/build.md
export CARGO_TERM_COLOR=never
# Settings of the caller that change what is built.
unset RUSTFLAGS CARGO_BUILD_RUSTFLAGS CARGO_ENCODED_RUSTFLAGS RUSTC_WRAPPER CARGO_INCREMENTAL

target=$(mktemp -d)
trap 'rm -rf "$target"' EXIT
export CARGO_TARGET_DIR=$target

# Seconds that a command takes, by the clock and of CPU time, "12.3 / 20.1"; ends the script with its output when it fails.
seconds() {
  local TIMEFORMAT='%R %U %S' log="$target/log" times
  if ! times=$( { time "$@" >"$log" 2>&1; } 2>&1 ); then
    cat "$log" >&2
    exit 1
  fi
  awk '{ printf "%.1f / %.1f", $1, $2 + $3 }' <<<"$times"
}

# Crates compiled so far in the log of the last command, this one not counted.
compiled() {
  grep -cE "^ +($1) " "$target/log" || true
}

cargo fetch --locked --quiet
load=$(cut -d' ' -f1 /proc/loadavg 2>/dev/null || echo unknown)

build=$(seconds cargo build --locked --release --no-default-features --example "$example")
built=$(($(compiled Compiling) - 1))
program=$target/stripped
cp "$CARGO_TARGET_DIR/release/examples/$example" "$program"
size=$(wc -c <"$program")
strip "$program"
stripped=$(wc -c <"$program")

rm -rf "$target/release"
library=$(seconds cargo build --locked --release --no-default-features --lib)
library_crates=$(($(compiled Compiling) - 1))

rm -rf "$target/release"
check=$(seconds cargo check --locked --no-default-features)
checked=$(($(compiled 'Compiling|Checking') - 1))

touch src/lib.rs
again=$(seconds cargo check --locked --no-default-features)

model=$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo 2>/dev/null | head -1 || true)
cores=$(nproc 2>/dev/null || sysctl -n hw.ncpu)
commit=$(git describe --always --tags --dirty 2>/dev/null || echo unknown)
note=
if awk -v load="$load" -v cores="$cores" 'BEGIN { exit !(load + 0 > cores / 4) }'; then
  note=" Other programs kept the machine busy, which lengthens the time by the clock: the CPU time is what counts here."
fi
MiB() { awk -v bytes="$1" 'BEGIN { printf "%.2f MiB", bytes / 1048576 }'; }

mkdir -p "$(dirname "$table")"
cat >"$table" <<TABLE
# Build

- command: \`benches/build_table.sh\`, commit $commit
- machine: ${model:-unknown processor}, $cores cores, $(uname -sm); load average $load at the start
- $(rustc --version)

Into an empty target folder, sources of dependencies already on disk. CPU-only: \`--no-default-features\`.$note

| | seconds by the clock / of CPU | crates beside livepoint |
|---|--:|--:|
| \`cargo build --release --example $example\` (with the examples' and tests' own dependencies) | $build | $built |
| \`cargo build --release --lib\` (what a user of the library builds) | $library | $library_crates |
| \`cargo check\` | $check | $checked |
| \`cargo check\` after a change of the library | $again | |

Program \`$example\`: $(MiB "$size"), stripped $(MiB "$stripped").
TABLE
cat "$table"
