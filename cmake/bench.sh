#!/bin/sh
# Measures everything against everything and writes one table: sh cmake/bench.sh [switches]
#
#   --quick       a part of the rows, briefly: 5 minutes instead of 20
#   --out DIR     where results go (default BUILD_DIR/results): table.md, rows.csv, roofline.svg, and json/ with what was measured
#   --before DIR  results of an earlier run to compare with
#   --no-torch    do not install torch (about 3 GB with all it asks for); --no-python: nor numpy and scipy
#   --only REGEX  problems whose names match
#
# Interrupt it at any moment: the same command goes on. A result that is older than its program is measured again.
# Environment: BUILD_DIR (default build-bench), CXX, LOWRANK_EIGEN, REPETITIONS, MIN_TIME (seconds of each),
# RUN_WITH (a command to put before each measurement, such as taskset -c 2,3).
. "$(dirname "$0")/setup.sh"
build=${BUILD_DIR:-$root/build-bench}
out= before= quick= only=. torch=torch python=yes
while [ $# -gt 0 ]; do
  case $1 in
    --quick) quick=yes ;;
    --out) out=$2; shift ;;
    --before) before=$2; shift ;;
    --only) only=$2; shift ;;
    --no-torch) torch= ;;
    --no-python) python= ;;
    *) sed -n '2,14s/^# \{0,1\}//p' "$0"; exit 2 ;;
  esac
  shift
done
out=${out:-$build/results}
json=$out/json
mkdir -p "$json" "$build"
: >"$json/absent"
absent() { phase "absent: $1"; echo "$1" >>"$json/absent"; }

# -- peers -------------------------------------------------------------------------------------------------------------

setup
for package in libopenblas-dev liblapacke-dev libblis-openmp-dev libdnnl-dev libfftw3-dev; do
  install_peer "$package" || absent "$package"
done
interpreter=$build/python/bin/python
if [ -n "$python" ]; then
  if [ ! -x "$interpreter" ]; then
    install_peer python3-venv || true
    python3 -m venv "$build/python" >"$build/python.log" 2>&1 || absent "a virtual environment of Python"
  fi
  for package in numpy scipy $torch; do
    "$interpreter" -c "import $package" 2>/dev/null && continue
    phase "installing $package"
    [ -x "$interpreter" ] && "$interpreter" -m pip install --no-cache-dir "$package" >"$build/python.log" 2>&1 || absent "$package"
  done
fi
if [ -z "$python" ]; then absent "numpy, scipy, torch (not wanted)"; elif [ -z "$torch" ]; then absent "torch (not wanted)"; fi

# -- programs ----------------------------------------------------------------------------------------------------------

phase "configuring $build"
cmake -S "$root" -B "$build" -DCMAKE_BUILD_TYPE=Release -DLOWRANK_BUILD_TESTS=OFF \
  ${LOWRANK_EIGEN:+"-DLOWRANK_EIGEN=$LOWRANK_EIGEN"} >"$build/configure.log" || { cat "$build/configure.log"; exit 1; }
programs="roof step bf16_basis"
for file in "$root"/bench/*.cpp; do
  name=$(basename "$file" .cpp)
  case $name in roof | step | report | memory | jacobian) ;; *) programs="$programs $name" ;; esac
done
tunings="step_default_tuning gemm_default_tuning adapter_default_tuning"
known=$(cmake --build "$build" --target help)
targets=
for name in $programs $tunings; do
  case $known in *"bench_$name"*) targets="$targets bench_$name" ;; esac
done
phase "building with $jobs jobs:$targets bench_report pretrain"
cmake --build "$build" --parallel "$jobs" --target $targets bench_report pretrain >"$build/build.log" || { tail -30 "$build/build.log"; exit 1; }

# -- what to measure ---------------------------------------------------------------------------------------------------

# OpenBLAS finds the kernels of the processor by itself; a variable that pins older ones would halve the peer's speed. One that is older than
# the processor may fall back to SSE3, at a quarter of it: then it gets the best that the processor has.
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
if "$build/bench/bench_gemm" --benchmark_filter='^$' 2>&1 | grep -q 'its kernels Prescott'; then
  for pair in avx512vl:SkylakeX avx2:Haswell; do
    if grep -q "${pair%:*}" /proc/cpuinfo; then export OPENBLAS_CORETYPE="${pair#*:}"; break; fi
  done
fi
# A unit is one problem in one program; the programs that have the same problem follow each other.
repetitions=${REPETITIONS:-${quick:+3}} min_time=${MIN_TIME:-${quick:+0.02}}
repetitions=${repetitions:-3} min_time=${min_time:-0.05}
if [ -n "$quick" ]; then large= chosen='^roof/|^(adamw|(adamw|lion|sgd|adam_bf16|adam8bit)_given_norm|galore_r32|galore_r128|fira_r128|apollo_r128|apollo_mini|dct_adamw_r128)/4096x4096/|^galore_r32/512x|^busy_core/.*/rows|^galore_clipped_r32/4096x4096/|^galore_bf16_r(32|128)/4096x4096/|^(project|lift)_bf16_r128/4096x4096/|^(spmm|spmm_transposed|sddmm)/(512x512|2048x2048)/N1024|^dct2/(1024|5461)/|_r128/2048x|^orth_r256|^(project|lift)_r32/4096x4096|^newton_schulz/2048|^(transpose|row_norms|column_norms)|^(lora|sltrain).*N4096'
else large=--large chosen=.; fi
unwanted='^(warm_r256|cold_r[0-9]+)/4096x'  # their gradient's spectrum takes a minute each
list() {  # list <program> <its command...>: problem and program
  program=$1; shift
  case $program in *_tuning) whose='/eigen/threads:' ;; *) whose=. ;; esac
  "$@" --benchmark_list_tests=true 2>/dev/null | grep "$whose" | sed -n 's,/[^/]*/threads:.*,,p' | awk '!seen[$0]++' |
    grep -vE "$unwanted" | grep -E "$chosen" | grep -E "$only" | sed "s,\$, $program,"
}
command_of() {
  case $1 in
    python) echo "$interpreter $root/bench/peers.py" ;;
    *default_tuning) echo "$build/bench/bench_$1 --work" ;;
    *) echo "$build/bench/bench_$1 --work $large" ;;
  esac
}
{
  for target in $targets; do list "${target#bench_}" $(command_of "${target#bench_}"); done
  if [ -x "$interpreter" ]; then list python $(command_of python); fi
} >"$json/listed" || true
awk '{ print $1 }' "$json/listed" | awk '!seen[$0]++' >"$json/problems"
# a problem that only others have is of no use
awk 'NR == FNR { if ($2 != "python" && $2 != "composed" && $2 !~ /tuning/) ours[$1] = 1; line[NR] = $0; n = NR; next }
     ours[$1] { for (i = 1; i <= n; ++i) { split(line[i], part, " "); if (part[1] == $1) print line[i] } }' \
  "$json/listed" "$json/problems" >"$json/units"
echo "pretrain pretrain" | grep -E "$only" >>"$json/units" || true

# -- measuring ---------------------------------------------------------------------------------------------------------

file_of() { echo "$json/$(echo "$1" | tr / @)@$2.json"; }
program_of() {
  case $1 in
    python) echo "$root/bench/peers.py" ;;
    pretrain) echo "$build/examples/pretrain" ;;
    *) echo "$build/bench/bench_$1" ;;
  esac
}
measure() {  # measure <problem> <program> <file>
  case $2 in
    pretrain) ${RUN_WITH:-} sh "$root/bench/pretrain.sh" "$build/examples/pretrain" "$build/pretrain-runs" "${quick:+40}" >"$3.part" 2>"$build/measure.log" ;;
    *)
      times=$repetitions
      case $1 in exact_*) times=1 ;; esac  # seconds each
      case $2 in *_tuning) filter="^$1/eigen/threads:" ;; *) filter="^$1/[^/]*/threads:" ;; esac
      case $1 in exact_*/4096x*) filter="^$1/lapack" ;; esac
      ${RUN_WITH:-} $(command_of "$2") "--benchmark_filter=$filter" "--benchmark_repetitions=$times" "--benchmark_min_time=$min_time" \
        --benchmark_enable_random_interleaving=true --benchmark_out_format=json "--benchmark_out=$3.part" >"$build/measure.log" 2>&1 ;;
  esac
}

total=$(wc -l <"$json/units") done=0 measured=0 begin=$(date +%s)
while read -r problem program; do
  file=$(file_of "$problem" "$program")
  if [ ! -f "$file" ] || [ "$(program_of "$program")" -nt "$file" ]; then
    left=
    if [ "$measured" -gt 4 ]; then
      seconds=$((($(date +%s) - begin) * (total - done) / measured))
      left=", $((seconds / 60)) min $((seconds % 60)) s left at most"
    fi
    phase "$((done + 1)) of $total: $problem ($program)$left"
    if measure "$problem" "$program" "$file" </dev/null && [ -s "$file.part" ]; then
      mv "$file.part" "$file"
    else
      rm -f "$file.part"
      phase "no result of $problem ($program)"
    fi
    measured=$((measured + 1))
  fi
  done=$((done + 1))
done <"$json/units"

phase "writing $out/table.md, rows.csv, roofline.svg"
"$build/bench/bench_report" "$out" ${before:+--before "$before"} >/dev/null
sed -n '2,/^$/d; /^|/q; p' "$out/table.md"
