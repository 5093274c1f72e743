#!/usr/bin/env bash
# Every method and every table of synood, on the playground: sh docs/whole_family.sh [DIR]. Four to ten minutes on two cores.
# On ImageNet the same commands take `--suite imagenet-ood --data-root DIR` and models by their hub ids: docs/evaluation.md.
set -euo pipefail
study=${1:-family}
export SYNOOD_WORKSPACE=$study
data=$study/data
say() { printf '\n## %s\n\n' "$*"; }

say "The pipeline and its five rows"
synood demo "$study" --quiet

say "A head of the conjugated semantic pool (on 20,000 words, for time)"
synood mine-labels --pool csp --limit 20000 --quiet
csp=$(synood show head --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["artifact"])')

say "Why a word is kept or dropped"
synood mine-labels --candidates "$data/candidates.txt" --explain leopard --explain cat --explain guitar --quiet

say "Every method on the same images, with baselines on the classifier"
synood eval --suite "$data/test.toml" --head head@1 --head head@4 --head "$csp" \
  --method all --baselines all --against NegLabel --timing --compare published --quiet

say "The same scores under the other convention, as LaTeX, without models"
synood eval --from eval --positive ood --bootstrap 0 --latex --quiet

say "Suites"
synood suites list
synood suites check "$data/test.toml" --data-root "$data"

say "Sweeps: the strategies of Table 5, one seed"
ood=(); for set in near context-only far textures; do ood+=(--ood "$set=$data/test/ood/$set"); done
synood sweep table-5 --seed 0 --candidates "$data/candidates.txt" --ind "$data/test/ind" "${ood[@]}" --quiet

say "Table 4 with the text-to-image source and the control, on 40 images"
synood sweep table-4 --seed 0 --m 40 --candidates "$data/candidates.txt" --ind "$data/test/ind" "${ood[@]}" --quiet
