#!/usr/bin/env bash
# The frontier: momentum SGD, Nesterov SGD, LARS, LAMB and Muon at every batch, tuned and by two rules from what batch 256 chose,
# Muon's untuned recipe and the full-batch column on the paper's network, with CIFAR_DIR the same comparison at CIFAR-10's full
# batch, and the figures of it all.
# usage: scripts/reproduce_frontier.sh DATA_DIR [BATCHES="256 8192 32768 full"] [JOBS=2] [RUNS=runs/frontier] [MODEL=lenet5] [CIFAR_DIR]
# The other batches of the frontier are 1024, 2048, 4096 and 16384. The rules need 256 among BATCHES, or its searches in RUNS:
# without a rate chosen there an optimizer has none, and the script goes on.
# Stopped at any point, the same command goes on; what has ended is not made again. With DRY_RUN=1 it prints its commands.
# cost: on two cores about 24 hours with lenet5 (15,000 images/s) for the four batches, and 6 hours for lenet's column (2,400);
# CIFAR-10 takes 13 hours more (resnet9, 2,000)
set -euo pipefail
data=${1:?"give the folder of mnist.npz, or of the IDX files: scripts/reproduce_frontier.sh DATA_DIR [BATCHES] [JOBS] [RUNS]"}
batches=${2:-256 8192 32768 full} jobs=${3:-2} runs=${4:-runs/frontier} model=${5:-lenet5} cifar=${6:-}
optimizers="sgd nesterov lars lamb muon" seeds="1 2 3 4 5"

# A run that diverges (exit code 3) is a result; anything else that is not 0 ends the script.
run() {
    if [[ -n ${DRY_RUN:-} ]]; then echo "python -m tf_hugebatch.$*"; return; fi
    local code=0
    python -m "tf_hugebatch.$@" || code=$?
    [[ $code == 0 || $code == 3 ]] || exit "$code"
}
chosen() {  # the values that a search chose, as words, its peak as the rate of the words' $2; none where it found none
    if [[ -n ${DRY_RUN:-} ]]; then echo "--$2=0.1"; return; fi
    python -c 'import json, sys
path, rate = sys.argv[1:]
for name, value in ((json.load(open(path)).get("chosen") or {}).get("values") or {}).items():
    print("--" + {"peak_learning_rate": rate}.get(name, name) + f"={value}")' "$1/result.json" "$2"
}

for name in $optimizers; do
    space=${name/nesterov/sgd}
    for batch in $batches; do
        run sweep_main --flagfile=flags/frontier/$name.flags --batch_size="$batch" --model="$model" --data_dir="$data" \
            --space=flags/sweeps/frontier_$space.json --method=random --trials=20 --confirm=3 --final_seeds=5 --jobs="$jobs" \
            --sweep_dir="$runs/$model/${name}_$batch"
    done
done

# B_L: the setting of 256 with its rate scaled, and nothing else.
for name in $optimizers; do
    start="$runs/$model/${name}_256" words=""
    if [[ " $batches " == *" 256 "* || -f $start/result.json ]]; then words=$(chosen "$start" learning_rate); fi
    if [[ -z $words ]]; then
        echo "$name: no rate is chosen in $start, so no rules; they need 256 among BATCHES, or RUNS that hold its search" >&2
    fi
    for batch in ${words:+$batches}; do
        if [[ $batch == 256 ]]; then continue; fi
        for rule in linear sqrt; do
            for seed in $seeds; do
                run mnist_main --flagfile=flags/frontier/$name.flags $words --lr_scaling=$rule --batch_size="$batch" \
                    --model="$model" --data_dir="$data" --seed="$seed" --selected_on=validation \
                    --run_dir="$runs/rules/$model/${name}_${batch}_$rule/seed$seed"
            done
        done
    done
done

# Whether the gradient noise scale, measured early, says where large batches begin, and moves with the optimizer.
if [[ " $batches " == *" 256 "* ]]; then
    for name in $optimizers; do
        words=$(chosen "$runs/$model/${name}_256" peak_learning_rate)
        for seed in ${words:+1 2 3}; do
            run mnist_main --flagfile=flags/frontier/$name.flags $words --batch_size=256 --model="$model" --data_dir="$data" \
                --diagnostics=noise_scale --micro_batch_size=128 --seed="$seed" --selected_on=validation \
                --run_dir="$runs/noise/$model/$name/seed$seed"
        done
    done
fi

# The full batch on the paper's network: each optimizer's choice on the small one, and Muon's recipe as it was before any search.
if [[ " $batches " == *" full "* ]]; then
    for name in $optimizers; do
        words=$(chosen "$runs/$model/${name}_full" peak_learning_rate)
        for seed in ${words:+$seeds}; do
            run mnist_main --flagfile=flags/frontier/$name.flags $words --batch_size=full --model=lenet --data_dir="$data" \
                --seed="$seed" --selected_on=validation --run_dir="$runs/lenet/${name}_full/seed$seed"
        done
    done
    for seed in $seeds; do
        run mnist_main --flagfile=flags/frontier/muon_full.flags --data_dir="$data" --seed="$seed" \
            --run_dir="$runs/muon_full/lenet/seed$seed"
    done
fi

# CIFAR-10 at full batch in 60 updates: tried at the full batch of a tenth of the training set, the other nine validating.
if [[ -n $cifar ]]; then
    for name in $optimizers; do
        run sweep_main --flagfile=flags/frontier/cifar10_$name.flags --data_dir="$cifar" --validation_examples=45000 \
            --space=flags/sweeps/frontier_${name/nesterov/sgd}.json --method=random --trials=20 --confirm=3 --final_seeds=3 --jobs="$jobs" \
            --sweep_dir="$runs/cifar10/${name}_full"
    done
fi

run report_main --runs="$runs" --figure=frontier,full_batch,noise_by_optimizer --output="$runs/report"
