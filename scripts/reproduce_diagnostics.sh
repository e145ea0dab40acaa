#!/usr/bin/env bash
# Why huge batches fail, on MNIST: the diagnostics' figures, figure 11, appendix 6.3 (four noises, LARS and its controls), and
# batch growth instead of decay (Smith et al. 2018).
# usage: scripts/reproduce_diagnostics.sh DATA_DIR [MODEL=lenet5] [JOBS=2] [RUNS=runs/mnist] [PART...]
# parts, all of them where none is named: measured distance growth noise_32768 noise_full
# Stopped at any point, the same command goes on; what has ended is not made again. With DRY_RUN=1 it prints its commands.
# cost: of lenet5 on two idle cores (15,000 images/s): measured 40 minutes, distance an hour and a half, growth 20 minutes, each noise
# part 280 runs of 2 minutes, 9 hours; of the paper's lenet six times that
set -euo pipefail
data=${1:?"give the folder of mnist.npz, or of the IDX files: scripts/reproduce_diagnostics.sh DATA_DIR [MODEL] [JOBS] [RUNS] [PART...]"}
model=${2:-lenet5} jobs=${3:-2} runs=${4:-runs/mnist}
parts=("${@:5}")
[[ ${#parts[@]} -gt 0 ]] || parts=(measured distance growth noise_32768 noise_full)
figures=$runs/figures/$model

# A run that diverges (exit code 3) is a result; anything else that is not 0 ends the script.
run() {
    if [[ -n ${DRY_RUN:-} ]]; then echo "python $*"; return; fi
    local code=0
    python "$@" || code=$?
    [[ $code == 0 || $code == 3 ]] || exit "$code"
}
train() { run -m tf_hugebatch.mnist_main "$@" --model="$model" --data_dir="$data"; }
search() {  # FOLDER BATCH SPACE FLAGS...: 20 trials on 5,000 held-out images, the 3 best with 2 seeds more, 5 seeds of the chosen on all
    local folder=$1 batch=$2 space=$3
    shift 3
    run -m tf_hugebatch.sweep_main "$@" --model="$model" --batch_size="$batch" --data_dir="$data" --jobs="$jobs" \
        --validation_examples=5000 --space="flags/sweeps/$space.json" --method=random --trials=20 --confirm=3 --final_seeds=5 \
        --sweep_dir="$folder"
}

measured() {  # what the prediction of B_L and the figures of layers, noise and sharpness are drawn from
    local regime seed
    # 7,032 updates with every ratio of each are 17 MB; the noise scale, which wants every update, has runs of its own.
    train --regime=baseline --diagnostics=trust,snr,sharpness --log_every_steps=20 --micro_batch_size=128 --eval_every_epochs=10 \
        --run_dir="$figures/measured/baseline"
    for regime in large full; do
        train --regime=$regime --diagnostics=trust,noise_scale,snr,sharpness --micro_batch_size=128 --eval_every_epochs=10 \
            --run_dir="$figures/measured/$regime"
    done
    for seed in 1 2 3; do
        train --regime=baseline --diagnostics=noise_scale --micro_batch_size=128 --seed=$seed \
            --run_dir="$figures/noise_scale/seed$seed"
    done
}
distance() {
    local batch seed
    for batch in 256 1024 8192; do
        for seed in 1 2 3 4 5; do
            train --flagfile=flags/figures/fig11.flags --batch_size=$batch --seed=$seed --run_dir="$figures/fig11/b$batch/seed$seed"
        done
    done
    for batch in 32768 full; do
        train --flagfile=flags/figures/fig11.flags --batch_size=$batch --seed=1 --run_dir="$figures/fig11/b$batch/seed1"
    done
}
growth() {
    local kind seed
    for kind in decay growth; do
        for seed in 1 2 3 4 5; do
            train --flagfile=flags/growth/$kind.flags --seed=$seed --run_dir="$runs/growth/$model/$kind/seed$seed"
        done
    done
}
noise() {  # BATCH: the four noises beside SGD without, LARS, and LARS with ratios that don't change
    local batch=$1 folder=$runs/noise/$model/b$1 kind control
    search "$folder/sgd" "$batch" noise_sgd --flagfile=flags/noise/sgd.flags
    for kind in activations weights gradients labels; do
        search "$folder/sgd_$kind" "$batch" "noise_$kind" --flagfile=flags/noise/sgd_$kind.flags
    done
    search "$folder/lars" "$batch" noise_lars --flagfile=flags/noise/lars.flags
    if [[ -z ${DRY_RUN:-} && ! -d $folder/lars/final ]]; then
        echo "No rate of LARS trains at $batch: there are no ratios to hold, so its controls are left out." >&2
        return
    fi
    run scripts/trust_controls.py "$folder/lars/final" "$folder/controls"
    for control in frozen global shuffled; do
        search "$folder/lars_$control" "$batch" noise_lars --flagfile=flags/noise/lars.flags --flagfile="$folder/controls/$control.flags"
    done
}

for part in "${parts[@]}"; do
    case $part in
        measured | distance | growth) $part ;;
        noise_32768 | noise_full) noise "${part#noise_}" ;;
        *) echo "$part: no such part; there are measured, distance, growth, noise_32768, noise_full" >&2; exit 2 ;;
    esac
done
run -m tf_hugebatch.report_main --runs="$runs" --all --output="$runs/report"
