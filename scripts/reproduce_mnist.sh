#!/usr/bin/env bash
# The MNIST column of the paper: Table 3, figures 3-5, 16, 18, 19, 21 and 30-33, what B_L needs, with lenet5 then Table 3 on the
# paper's lenet at the settings that lenet5 chose, and the report of it all.
# usage: scripts/reproduce_mnist.sh DATA_DIR [MODEL=lenet5] [JOBS=2] [RUNS=runs/mnist] [LENET_SEEDS="1 2 3 4 5"]
# Stopped at any point, the same command goes on; what has ended is not made again. With DRY_RUN=1 it prints its commands.
# cost: 2.4 thousand million images, on two cores 45 hours with lenet5 (15,000 images/s), 12 days with the paper's lenet (2,400);
# Table 3 on lenet at lenet5's settings takes 6.5 hours a seed more
set -euo pipefail
data=${1:?"give the folder of mnist.npz, or of the IDX files: scripts/reproduce_mnist.sh DATA_DIR [MODEL] [JOBS] [RUNS] [LENET_SEEDS]"}
model=${2:-lenet5} jobs=${3:-2} runs=${4:-runs/mnist} lenet_seeds=${5-1 2 3 4 5}
seeds="1 2 3 4 5"

# A run that diverges (exit code 3) is a result; anything else that is not 0 ends the script.
run() {
    if [[ -n ${DRY_RUN:-} ]]; then echo "python -m tf_hugebatch.$*"; return; fi
    local code=0
    python -m "tf_hugebatch.$@" || code=$?
    [[ $code == 0 || $code == 3 ]] || exit "$code"
}
train() { run mnist_main "$@" --model="$model" --data_dir="$data"; }
search() { run sweep_main "$@" --model="$model" --data_dir="$data" --jobs="$jobs"; }
chosen() {  # the value that a search chose, empty where it found none
    if [[ -n ${DRY_RUN:-} ]]; then echo 0.1; return; fi
    python -c 'import json, sys; chosen = json.load(open(sys.argv[1]))["chosen"]; print(chosen["values"][sys.argv[2]] if chosen else "")' \
        "$1/result.json" "$2"
}

table3=$runs/table3/$model
for solver in sgd lars adam adagrad rmsprop {sgd,adam,adagrad,rmsprop}_layerwise{,_bounded}; do
    for batch in 256 8192; do
        search --flagfile=flags/table3/${solver}_$batch.flags --space=flags/sweeps/table3_${solver}_$batch.json \
            --method=random --trials=20 --confirm=3 --final_seeds=5 --sweep_dir="$table3/${solver}_$batch"
    done
    rate=$(chosen "$table3/${solver}_256" learning_rate)
    for seed in ${rate:+$seeds}; do
        train --flagfile=flags/table3/${solver}_8192.flags --learning_rate="$rate" --selected_on=validation --seed="$seed" \
            --run_dir="$table3/${solver}_8192_rule/seed$seed"
    done
done

# B_L: linear scaling alone from the baseline's rate, batch by batch; 8,192 is there already.
rate=$(chosen "$table3/sgd_256" learning_rate)
for batch in ${rate:+512 1024 2048 4096}; do
    for seed in $seeds; do
        train --flagfile=flags/table3/sgd_256.flags --batch_size=$batch --learning_rate="$rate" --selected_on=validation \
            --seed="$seed" --run_dir="$runs/regimes/$model/linear_$batch/seed$seed"
    done
done

figures=$runs/figures/$model
for name in fig03 fig04 fig05 fig32 fig33; do
    train --flagfile=flags/figures/$name.flags --run_dir="$figures/$name"
done
for solver in sgd lars; do
    search --flagfile=flags/figures/fig16_$solver.flags --space=flags/sweeps/fig16_$solver.json --method=grid --final_seeds=0 \
        --sweep_dir="$figures/fig16_$solver"
done
train --flagfile=flags/figures/fig19_b256.flags --run_dir="$figures/fig19/b256_e10"
durations() {  # FIGURE BATCH NAME WORDS EPOCHS...: five seeds of each duration, one of those that take an hour
    local figure=$1 batch=$2 name=$3 words=$4 epochs seed
    shift 4
    for epochs in "$@"; do
        for seed in $([[ $epochs -lt 300 ]] && echo "$seeds" || echo 1); do
            train --flagfile=flags/figures/fig$figure.flags --batch_size="$batch" --epochs="$epochs" $words --seed="$seed" \
                --run_dir="$figures/fig$figure/b${name}_e$epochs/seed$seed"
        done
    done
}
longer() {  # FIGURE BATCH NAME: peak and warm-up searched at 100 epochs, five seeds of the choice, which the other durations take
    local tuned=$figures/fig$1/b${3}_e100_tuned peak
    search --flagfile=flags/figures/fig$1.flags --batch_size="$2" --epochs=100 --space=flags/sweeps/longer.json --method=random \
        --trials=12 --final_seeds=5 --sweep_dir="$tuned"
    peak=$(chosen "$tuned" peak_learning_rate)
    [[ -z $peak ]] || durations "$1" "$2" "$3" "--peak_learning_rate=$peak --warmup_epochs=$(chosen "$tuned" warmup_epochs) \
        --selected_on=validation" 30 300 1000
}
longer 18 32768 32768
longer 19 full full
durations 21 8192 8192 "" 30 60 100 200
durations 21 16384 16384 "" 30 60 100 200
durations 21 32768 32768 "" 30 60 100 200

# The paper's network takes over what the small one chose, unchanged: what was tuned, at 8,192 and for the plain solvers at 256,
# and the rule from 256.
take_over() {  # SOLVER BATCH NAME SWEEP FLAG...: with what SWEEP of the small network chose of each FLAG
    local solver=$1 batch=$2 folder=$runs/table3/lenet/$3_carried sweep=$table3/$4 words=() flag value seed
    shift 4
    for flag in "$@"; do
        value=$(chosen "$sweep" "$flag")
        [[ -n $value ]] || return 0
        words+=("--$flag=$value")
    done
    for seed in $lenet_seeds; do
        run mnist_main --flagfile=flags/table3/${solver}_$batch.flags "${words[@]}" --model=lenet --data_dir="$data" \
            --selected_on=validation --seed="$seed" --run_dir="$folder/seed$seed"
    done
}
if [[ $model == lenet5 ]]; then
    for solver in sgd lars adam adagrad rmsprop {sgd,adam,adagrad,rmsprop}_layerwise{,_bounded}; do
        [[ $solver == *_* ]] || take_over $solver 256 ${solver}_256 ${solver}_256 learning_rate
        take_over $solver 8192 ${solver}_8192 ${solver}_8192 peak_learning_rate warmup_epochs
        take_over $solver 8192 ${solver}_8192_rule ${solver}_256 learning_rate
    done
fi

run report_main --runs="$runs" --all --output="$runs/report"
