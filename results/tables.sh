#!/bin/sh
# Makes the tables, pictures and archives of all existing runs; call it in the project's root.
set -e
runs=results/runs
group() { python -m eeipu.benchmarks list | awk -v group="$1" '$2 == group { print $1 }'; }

table() { # FILE HEADING ARGUMENTS
    file=results/tables/$1.md
    printf '# %s\n\n' "$2" > "$file"
    shift 2
    python -m eeipu.benchmarks table "$@" --markdown >> "$file"
}

ran() { # PROBLEM: all methods that have results of this problem
    for method in eeipu eeipu-paper ms-bo ms-carbo eips carbo ei pbgi gp tpe lambo random-grid random; do
        for each in $method+cache $method $method+cache+design=cost-effective \
            $method+cache+top-q=all $method+cache+top-q=all+design=none; do
            case $each in eeipu+cache+*) continue ;; esac # ablations have their own tables
            if ls "$runs/$1/cpu-declared/$each-seed0-"* > /dev/null 2>&1; then echo "$each"; fi
        done
    done | paste -sd ,
}
METHODS=$(ran ackley6-in-3)
table synthetic "Synthetic pipelines" synthetic --out $runs --against ei+cache --methods $METHODS
table synthetic-against-ei "Synthetic pipelines, against EI without a cache" synthetic --out $runs \
    --methods $METHODS
sums= composites=
for problem in $(group synthetic); do
    case $problem in *-in-3) composites="$composites $problem" ;; *) sums="$sums $problem" ;; esac
done
table synthetic-sums "Sums among the synthetic pipelines" $sums --out $runs --against ei+cache \
    --methods $METHODS
table synthetic-composites "Composites among the synthetic pipelines" $composites --out $runs \
    --against ei+cache --methods $METHODS
table synthetic-stages "Synthetic pipelines, stage by stage" synthetic --out $runs --stages \
    --methods eeipu+cache,eeipu,ei+cache,ei
table variants "Variants of synthetic pipelines" variants --out $runs --against ei+cache \
    --methods eeipu+cache,ei+cache,ei,carbo,random+cache
real="distillation segmentation stacking"
main=eeipu+cache,ei+cache,ei,random+cache,random # ten seeds, where the others have five
table real "Real pipelines, ten seeds" $real --out $runs --seeds 10 --against ei+cache --methods $main
table real-against-ei "Real pipelines, ten seeds, against EI without a cache" $real --out $runs \
    --seeds 10 --methods $main
table real-methods "Real pipelines, all methods, five seeds" $real \
    --out $runs --seeds 5 --against ei+cache --methods "$(ran stacking)"
table stacking-by-model "Stacking with a stage for each model, ten seeds" stacking-by-model --out $runs \
    --against ei+cache --methods $main
table stacking-by-model-methods "Stacking with a stage for each model, all methods, five seeds" \
    stacking-by-model --out $runs --seeds 5 --against ei+cache --methods "$(ran stacking-by-model)"
table real-stages "Real pipelines, ten seeds, stage by stage" real --out $runs --seeds 10 --stages \
    --methods eeipu+cache,ei+cache,ei
changed() { (cd "$runs/$1/cpu-declared" && ls) | sed -n 's/^\(eeipu+cache+.*\)-seed0-.*/\1/p' | paste -sd ,; }
table ablations "What the parts of EEIPU are worth" branin2-ackley3-levy2 hartmann6-in-3 \
    --out $runs --against eeipu+cache --methods "eeipu+cache,$(changed hartmann6-in-3)"
table ablations-upstream "What cost models should see, where costs depend on earlier stages" \
    upstream-costs --out $runs --against eeipu+cache \
    --methods "eeipu+cache,eeipu+cache+cost-inputs=own,eeipu+cache+cost-inputs=upstream"
table fresh "Synthetic pipelines, other seeds" synthetic --out results/runs-fresh --against ei+cache
table real-charged "Real pipelines, ten seeds, the seconds of suggestions paid too" $real --out $runs \
    --seeds 10 --against ei+cache --methods $main --charge-suggestions
table stacking-by-model-charged "Stacking with a stage for each model, ten seeds, the seconds of suggestions paid too" \
    stacking-by-model --out $runs --against ei+cache --methods $main --charge-suggestions
table synthetic-anytime "Synthetic pipelines, in the mean over the budget" synthetic --out $runs \
    --against ei+cache --methods $METHODS --anytime
table real-anytime "Real pipelines, ten seeds, in the mean over the budget" $real --out $runs \
    --seeds 10 --against ei+cache --methods $main --anytime
table stacking-by-model-anytime "Stacking with a stage for each model, ten seeds, in the mean over the budget" \
    stacking-by-model --out $runs --against ei+cache --methods $main --anytime

distillation() { # FILE HEADING ARGUMENTS: EEIPU and EI, which have more seeds there
    name=$1 heading=$2
    shift 2
    for when in "" -anytime; do
        table "$name$when" "$heading${when:+, in the mean over the budget}" distillation --out $runs \
            --against ei+cache --methods eeipu+cache,ei+cache ${when:+--anytime} "$@"
    done
}
distillation distillation "Distillation, all 27 seeds"
distillation distillation-later "Distillation, seeds 15 to 26" --first-seed 15

# With the models of today: the common warm-up, and each method's own ones, against EI from its best.
warm_ups=eeipu+cache,eeipu+cache+n-initial=usual,ei+cache,ei+cache+n-initial=usual,ei+cache+n-initial=5
best=ei+cache+n-initial=usual
today() { # FILE HEADING OUT PROBLEMS...
    name=$1 heading=$2 from=$3
    shift 3
    [ -d "$from" ] || return 0
    table "$name" "$heading" "$@" --out "$from" --against $best --methods $warm_ups
    table "$name-anytime" "$heading, in the mean over the budget" "$@" --out "$from" \
        --against $best --methods $warm_ups --anytime
    table "$name-reaching" "$heading, what reaches the end of EI" "$@" --out "$from" \
        --against $best --methods $warm_ups --reaching
}
today own "Synthetic pipelines today, from each method's own warm-up" results/runs-now synthetic
for when in "" -anytime -reaching; do
    [ -d results/runs-now/stacking ] || continue
    table "real-now$when" "Real pipelines today, from each method's own warm-up" distillation segmentation stacking \
        --out results/runs-now --against $best --methods "eeipu+cache+n-initial=usual,$best" ${when:+-$when}
done
today variants-now "Two variants today, from each method's own warm-up" results/runs-now noisy cheap-early
if [ -d results/runs-held-out ]; then
    table held-out "Held-out problems" held-out --out results/runs-held-out --against ei+cache
    table held-out-anytime "Held-out problems, in the mean over the budget" held-out \
        --out results/runs-held-out --against ei+cache --anytime
    table held-out-reaching "Held-out problems, what reaches the end of EI" held-out \
        --out results/runs-held-out --against ei+cache --reaching
    python results/held_out.py > results/tables/held-out-kinds.md
fi

leads() { # FILE HEADING METHODS SEEDS PROBLEMS...
    file=results/tables/$1.md
    shift
    python results/leads.py "$@" > "$file"
}
leads synthetic-leads "nine synthetic pipelines, ten seeds" "$METHODS" 10 synthetic
leads real-leads "three real pipelines, five seeds" "$(ran stacking)" 5 $real
leads stacking-by-model-leads "stacking with a stage for each model, five seeds" \
    "$(ran stacking-by-model)" 5 stacking-by-model

rm -f results/figures/*.png
python -m eeipu.benchmarks plot synthetic --out $runs --figures results/figures \
    --methods eeipu+cache,eeipu,ei+cache,ei,ms-bo+cache,carbo+cache,lambo+cache,tpe+cache,random+cache
for problem in $(group synthetic); do # costs of stages and the optimiser's time are in tables
    rm results/figures/"$problem"-*-stages.png results/figures/"$problem"-*-overhead.png
done
python -m eeipu.benchmarks plot real --out $runs --seeds 10 --figures results/figures \
    --methods eeipu+cache,ei+cache,ei,random+cache

pack() { # ARCHIVE DIRECTORIES OR FILES: equal runs give equal bytes
    archive=results/runs/$1.tar.xz
    shift
    [ $# -gt 0 ] || return 0 # no such runs are here
    (cd results && find "$@" -name '*-seed*.json' -print0 | LC_ALL=C sort -z |
        tar --null -T - --mtime=2026-11-21 --owner=0 --group=0 --numeric-owner -cf -) |
        xz -9e > "$archive"
}
for name in synthetic variants real; do
    pack $name $(cd results && for each in $(group $name); do ls -d runs/"$each" || true; done 2> /dev/null)
done
pack own $(cd results && for each in $(group synthetic); do
    ls runs-now/"$each"/*/*+n-initial=* || true
done 2> /dev/null)
pack variants-now $(cd results && ls -d runs-now/noisy runs-now/cheap-early 2> /dev/null || true)
pack real-now $(cd results && ls -d runs-now/stacking runs-now/segmentation runs-now/distillation 2> /dev/null || true)
pack held-out $(cd results && ls -d runs-held-out 2> /dev/null || true)
pack fresh $(cd results && for each in $(group synthetic); do ls -d runs-fresh/"$each"; done)
