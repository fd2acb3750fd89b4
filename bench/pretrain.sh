#!/bin/sh
# Times short runs of the example trainer and prints them as rows for bench_report:
#   sh bench/pretrain.sh <program> <folder for its runs> [steps]
# ms are those of a whole step, forward and backward pass included; optimizer_ms is the optimizer's part.
set -eu
program=$1 runs=$2 steps=${3:-}
steps=${steps:-100}
printf '{"context": {"date": "%s"}, "benchmarks": [' "$(date -u +%Y-%m-%dT%H:%M:%S+00:00)"
comma=
for repetition in 1 2 3; do
  for threads in 1 2; do
    rm -rf "$runs"
    "$program" --method adamw,galore,dct_adamw,fira --out "$runs" --threads "$threads" --steps "$steps" --eval-every 0 \
      --eval-windows 1 --checkpoint-every "$steps" >&2
    # 16 windows of 128 bytes a step: the program's defaults, a byte is a token
    awk -F, -v threads="$threads" -v tokens=2048 -v comma="$comma" '
      NR == 1 { for (i = 1; i <= NF; ++i) at[$i] = i; next }
      { printf "%s\n{\"name\": \"pretrain_step/d128/%s/lowrank/threads:%d\", \"run_type\": \"iteration\", \"real_time\": %s, \"time_unit\": \"ms\", \"tokens_per_s\": %.6g, \"optimizer_ms\": %s}",
               comma, $at["method"], threads, $at["ms_per_step"], 1000 * tokens / $at["ms_per_step"], $at["optimizer_ms"]; comma = "," }
    ' "$runs/results.csv"
    comma=,
  done
done
rm -rf "$runs"
echo ']}'
