#!/usr/bin/env bash
# The whole pipeline on real photographs with tiny random models: scripts/end_to_end.sh PHOTOS [WORKSPACE]
#
# PHOTOS has train/CLASS/*.jpg and test/CLASS/*.jpg with the ten classes of CIFAR-10. Six of them are in-distribution.
# The models are random, so the numbers mean nothing: this shows that every command works, and the second time that
# every artifact is reused.
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
photos=$(cd "$1" && pwd)
work=${2:-$(mktemp -d)}
mkdir -p "$work"
work=$(cd "$work" && pwd)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # models this small gain nothing from threads, and lose where cores are busy
export PATH="$repository/.venv/bin:$PATH"
ind=(bird cat deer dog frog horse)
near=(airplane ship)
far=(automobile truck)

link() { # link FOLDER SPLIT CLASS...: a folder of links to class folders
    local folder=$1 split=$2
    shift 2
    mkdir -p "$folder"
    for class in "$@"; do ln -sfn "$photos/$split/$class" "$folder/$class"; done
}
link "$work/photos" train "${ind[@]}"
link "$work/ind" test "${ind[@]}"
link "$work/near" test "${near[@]}"
link "$work/far" test "${far[@]}"
models=$work/models
if [ ! -d "$models" ]; then
    python "$repository/tests/checkpoints.py" "$models" --classes "$(IFS=,; echo "${ind[*]}")"
fi

run() { # a random captioner may say nothing of an image: exit code 3 means that some items failed and the rest is done
    synood "$@" || [ $? -eq 3 ]
}
run init "$work/ws" && cd "$work/ws"
run select "$work/photos" --per-class 20
run caption --captioner "$models/captioner"
run synthesize --inpainter "$models/inpainter" --classifier "$models/classifier"
run mine-labels --clip "$models/clip"
run train-proj
run train-labels
run eval --ind "$work/ind" --ood near="$work/near" --ood far="$work/far"
run score "$work/near" --head head@3 --format csv -o "$work/scores.csv"
head -n 3 "$work/scores.csv"
run report
run log
