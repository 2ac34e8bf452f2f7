#!/usr/bin/env bash
# Trains the three models, and the Custom CNN once more from all three, within 28 minutes on
# one data-centre GPU.
#
#   training/ferserve_training/gpu_run.sh DATA PRETRAINED OUT [custom_cnn] [vgg16] [resnet50v2] [distilled]
#
#   DATA        FER2013: Kaggle zip, its folder, or fer2013.csv
#   PRETRAINED  folder with the two .h5 files of pretrained weights, or "imagenet" to download them
#   OUT         folder of the runs; what is to be carried away is below OUT/carry
#
# Without names it makes all four runs. Where a command may take ten minutes only, three calls do:
# "custom_cnn vgg16", "resnet50v2", "distilled". A run that was cut short is resumed.
#
# Needs JAX for the GPU, and Keras; a host without a network takes them from a folder of wheels:
#   WHEELS=/tmp/wheels   keras optree namex typer annotated-doc shellingham pydantic
#                        pydantic-core typing-inspection annotated-types, and absl-py, rich,
#                        markdown-it-py, mdurl and pygments where the host has not got them
#
# Rehearse on a CPU first:
#   EXTRA="--limit 256 --epochs 1 --batch-size 32" SIDES=32 training/ferserve_training/gpu_run.sh DATA PRETRAINED OUT
set -euo pipefail

data=$1 pretrained=$2 out=$3
python=${PYTHON:-python3}
extra=${EXTRA:-}         # for every run
sides=${SIDES:-224}      # "96,160,224" saves steps, but compiles for every side
holdout=${HOLDOUT:-0.1}  # 0 for the last fit, on all of Training
runs=" ${*:4} "
[[ $runs == "  " ]] && runs=" custom_cnn vgg16 resnet50v2 distilled "

# Minutes of training. The Custom CNN, which leaves a GPU idle between its small steps, runs beside
# VGG16: 8 + 8.5 + 6, a minute for each start, and two for the answers of the teachers.
declare -A minutes=(
    [custom_cnn]=${CUSTOM_CNN_MINUTES:-8} [vgg16]=${VGG16_MINUTES:-8}
    [resnet50v2]=${RESNET50V2_MINUTES:-8.5} [distilled]=${DISTILLED_MINUTES:-6}
)

mkdir -p "$out/carry"
out=$(realpath "$out") data=$(realpath "$data")
[[ $pretrained == imagenet ]] || pretrained=$(realpath "$pretrained")
[[ -z ${WHEELS:-} ]] || WHEELS=$(realpath "$WHEELS")
cd "$(dirname "$0")/../.."
export PYTHONPATH=service:training${PYTHONPATH:+:$PYTHONPATH}
if [[ -n ${WHEELS:-} ]]; then
    "$python" -m pip install --quiet --no-index --find-links "$WHEELS" --target "$out/packages" \
        --no-deps "$WHEELS"/*.whl
    export PYTHONPATH="$out/packages:$PYTHONPATH"
fi
export KERAS_BACKEND=${KERAS_BACKEND:-jax}
# Two processes share the GPU's memory; neither may take it all at the start.
export XLA_PYTHON_CLIENT_PREALLOCATE=false
# A resumed run need not compile again.
export JAX_COMPILATION_CACHE_DIR=$out/compiled

wanted() { [[ $runs == *" $1 "* ]]; }

train() {  # FOLDER MODEL [OPTION...]
    local folder=$1 model=$2
    shift 2
    local resume=()
    [[ -f $out/$folder/run.json ]] && resume=(--resume)
    # $extra is a list of options.
    # shellcheck disable=SC2086
    # Before the command's own end, so that what was reached is carried.
    timeout --foreground 9.3m "$python" -m ferserve train "$model" --data "$data" --out "$out/$folder" \
        --max-minutes "${minutes[$folder]}" --holdout "$holdout" "${resume[@]}" "$@" $extra \
        >>"$out/$folder.log" 2>&1 || status=1
    carry "$folder" || status=1
}

weights() {  # FILE
    [[ $pretrained == imagenet ]] && echo imagenet || echo "$pretrained/$1"
}

# What a run has reached, whatever happens to the others: weights in float16, in parts of 15 MiB,
# and history, description and checksum in one more file.
carry() {  # FOLDER
    local folder=$1
    [[ -f $out/$folder/best.weights.h5 ]] || return 0
    "$python" training/ferserve_training/half_weights.py "$out/$folder/best.weights.h5" "$out/carry/$folder.h5" || return 1
    (
        cd "$out/carry"
        sha256sum "$folder.h5" >"../$folder/sha256"
        split -b 15m "$folder.h5" "$folder.h5."
        rm "$folder.h5"
        tar -cf "$folder.tar" -C "../$folder" run.json history.csv sha256
    )
}

status=0
if wanted custom_cnn; then
    { train custom_cnn custom_cnn --recipe long; exit "$status"; } &
    beside=$!
fi
if wanted vgg16; then
    train vgg16 vgg16 --sides "$sides" --backbone-weights "$(weights vgg16_imagenet_notop.h5)"
fi
if wanted resnet50v2; then
    train resnet50v2 resnet50v2 --sides "$sides" \
        --backbone-weights "$(weights resnet50v2_imagenet_conv1_to_conv4_notop.h5)"
fi
[[ -z ${beside:-} ]] || wait "$beside" || status=1
if wanted distilled; then
    teachers=()
    for teacher in custom_cnn vgg16 resnet50v2; do
        [[ -f $out/$teacher/best.weights.h5 ]] && teachers+=(--teacher "$out/$teacher")
    done
    ((${#teachers[@]})) || { echo "distilled: $out holds no teacher" >&2; exit 1; }
    train distilled custom_cnn --recipe long "${teachers[@]}"
fi
tail -n 2 "$out"/*.log
for run in $runs; do
    [[ -f $out/carry/$run.tar ]] || { echo "$run: no weights" >&2; status=1; }
done
exit $status
