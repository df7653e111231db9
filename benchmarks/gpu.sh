#!/usr/bin/env bash
# All the GPU work in one command, in under ten minutes: benchmarks/gpu.sh FOLDER [--dry_run]
#
# Tests first: nothing is timed on red tests. Then a memory checker on a tiny run, the benchmarks, the figures. FOLDER
# gets JSON, tables, figures and log.txt. Needs torch, triton, einops, pytest; matplotlib for the figures; the examples'
# packages for the growth of the whole model. --dry_run: tiny sizes on a CPU under Triton's interpreter, to see that
# everything runs; its figures mean nothing. PYTHON names the interpreter.
set -euo pipefail

folder=${1:?"usage: benchmarks/gpu.sh FOLDER [--dry_run]"}
mode=${2:-}
[ -z "$mode" ] || [ "$mode" = --dry_run ] || { echo "expected --dry_run, got $mode" >&2; exit 2; }
python=${PYTHON:-python}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
cd "$(dirname "$0")/.."
export PYTHONPATH=.${PYTHONPATH:+:$PYTHONPATH}
exec > >(tee "$folder/log.txt") 2>&1

summary=()
failed=0
SECONDS=0
total=570 # of ten minutes

# part NAME LIMIT COMMAND...: run it for at most LIMIT seconds, or what is left; report it and go on
part() {
    local name=$1 limit=$2 start=$SECONDS status=0 words
    shift 2
    local left=$((total - SECONDS))
    if [ "$limit" -gt "$left" ]; then limit=$left; fi
    if [ "$limit" -le 0 ]; then
        summary+=("$name|not run: no time left|0")
        failed=1
        return 1
    fi
    echo "== $name, at most $limit s: $*"
    timeout --kill-after=10 "$limit" "$@" || status=$?
    case $status in
        0) words="ok" ;;
        124 | 137) words="stopped after $limit s; what it wrote is kept" ;;
        *) words="FAILED, exit status $status" ;;
    esac
    summary+=("$name|$words|$((SECONDS - start))")
    if [ "$status" -ne 0 ]; then failed=1; fi
    return "$status"
}

skip() {
    summary+=("$1|not run: $2|0")
    echo "== $1 is not run: $2"
}

finish() {
    printf '\n%-22s %-58s %s\n' part outcome seconds
    local line name words seconds
    for line in "${summary[@]}"; do
        IFS='|' read -r name words seconds <<<"$line"
        printf '%-22s %-58s %s\n' "$name" "$words" "$seconds"
    done
    if [ -n "$mode" ]; then echo "dry run: figures mean nothing"; fi
    exit "$failed"
}

# the project's own options ask for plug-ins that a GPU machine need not have, and a warning must not cost a GPU run
pytest=("$python" -m pytest -o addopts=--strict-markers -o filterwarnings=default -p no:cacheprovider -q -m gpu)
kernels=tests/ops/test_triton_gpu.py
tests=("$kernels" tests/test_folded_gpu.py)
arguments=(--folder "$folder")
if [ -n "$mode" ]; then
    export TRITON_INTERPRET=1
    arguments+=(--dry_run)
fi

part "what there is" 60 "$python" -c '
import einops, pytest, torch, triton
name = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
print(f"{name}; torch {torch.__version__}, Triton {triton.__version__}")' || finish

if [ -n "$mode" ]; then
    part "tests, collected" 60 "${pytest[@]}" --collect-only "${tests[@]}" || finish
else
    status=0
    part "tests" 200 "${pytest[@]}" -rs --maxfail=10 "${tests[@]}" || status=$?
    # out of time is not red: every kernel is compiled on the way, and the benchmark checks what it times
    if [ "$status" -ne 0 ] && [ "$status" -ne 124 ] && [ "$status" -ne 137 ]; then
        skip "benchmarks" "the tests are red"
        finish
    fi
fi

if [ -n "$mode" ]; then
    skip "memory checker" "dry run"
elif command -v compute-sanitizer >/dev/null; then
    # without the caching allocator, so that every tensor has bounds of its own
    part "memory checker" 60 env PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool memcheck --error-exitcode 9 \
        "$python" -m pytest -o addopts= -o filterwarnings=default -p no:cacheprovider -q "$kernels" \
        -k "touches_nothing and 63" || true
else
    skip "memory checker" "compute-sanitizer is not installed"
fi

growth=60
encoder=30
budget=$((total - SECONDS - growth - encoder - 40)) # the rest is for the figures
if [ "$budget" -lt 30 ]; then
    skip "expert mixture" "no time left"
    failed=1
else
    part "expert mixture" $((budget + 20)) "$python" benchmarks/expert_mixture_gpu.py "${arguments[@]}" \
        --budget "$budget" || true
fi
part "growth" $((growth + 10)) "$python" benchmarks/growth.py "${arguments[@]}" --budget "$growth" || true
part "encoder" "$encoder" "$python" benchmarks/bottleneck_encoder.py "${arguments[@]}" || true
if "$python" -c 'import matplotlib' 2>/dev/null; then
    part "figures" 40 "$python" benchmarks/plots.py "$folder" ${mode:+"$mode"} || true
else
    skip "figures" "matplotlib is not installed; benchmarks/plots.py draws them elsewhere"
fi
if [ -z "$mode" ] && [ -f "$folder/expert_mixture_gpu.json" ]; then
    part "table" 20 "$python" benchmarks/table.py --folder "$folder" || true
fi
finish
