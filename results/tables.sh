#!/bin/sh
# Makes the tables, the pictures and the archives of the runs that are there, from the project's root.
set -e
runs=results/runs
group() { python -m eeipu.benchmarks list | awk -v group="$1" '$2 == group { print $1 }'; }

table() { # FILE HEADING ARGUMENTS
    file=results/tables/$1.md
    printf '# %s\n\n' "$2" > "$file"
    shift 2
    python -m eeipu.benchmarks table "$@" --markdown >> "$file"
}

METHODS=eeipu+cache,eeipu,eeipu-paper+cache,ms-bo+cache,ms-carbo+cache,eips+cache,carbo+cache,carbo
METHODS=$METHODS,ei+cache,ei,pbgi+cache,gp+cache,gp,tpe+cache,tpe,lambo+cache,lambo
METHODS=$METHODS,random-grid+cache,random-grid,random+cache,random
table synthetic "Synthetic pipelines" synthetic --out $runs --against ei+cache --methods $METHODS
table synthetic-against-ei "Synthetic pipelines, against EI without a cache" synthetic --out $runs \
    --methods $METHODS
table synthetic-stages "Synthetic pipelines, stage by stage" synthetic --out $runs --stages \
    --methods eeipu+cache,eeipu,ei+cache,ei
table variants "Variants of synthetic pipelines" variants --out $runs --against ei+cache \
    --methods eeipu+cache,ei+cache,ei,carbo,random+cache
table real "Real pipelines" real --out $runs --against ei+cache
table real-against-ei "Real pipelines, against EI without a cache" real --out $runs
table real-stages "Real pipelines, stage by stage" real --out $runs --stages \
    --methods eeipu+cache,ei+cache,ei
changed() { (cd "$runs/$1/cpu-declared" && ls) | sed -n 's/^\(eeipu+cache+.*\)-seed0-.*/\1/p' | paste -sd ,; }
table ablations "What the parts of EEIPU are worth" branin2-ackley3-levy2 hartmann6-in-3 \
    --out $runs --against eeipu+cache --methods "eeipu+cache,$(changed hartmann6-in-3)"
table ablations-upstream "What cost models should see, where costs depend on earlier stages" \
    upstream-costs --out $runs --against eeipu+cache \
    --methods "eeipu+cache,eeipu+cache+cost-inputs=own,eeipu+cache+cost-inputs=upstream"
if [ -d results/runs-fresh ]; then
    table fresh "Synthetic pipelines, other seeds" --out results/runs-fresh --against ei+cache
fi
if [ -d results/runs-twice ]; then
    table twice "Synthetic pipelines, twice the budget" --out results/runs-twice --against ei+cache
fi

# EEIPU against each of the others: the rows for all problems.
leads=results/tables/synthetic-leads.md
against() {
    python -m eeipu.benchmarks table synthetic --out $runs --markdown --methods eeipu+cache --against "$1"
}
printf '# EEIPU with a cache against each other method, nine synthetic pipelines\n\n' > $leads
against ei | sed -n 's/^| problem | method/| against/p; /^| ---/s/| --- | ---/| ---/p' >> $leads
for method in $(echo $METHODS | tr , '\n' | grep -v '^eeipu+cache$'); do
    against "$method" | sed -n "s/^| all problems | eeipu+cache/| $method/p" >> $leads
done

rm -f results/figures/*.png
python -m eeipu.benchmarks plot synthetic --out $runs --figures results/figures \
    --methods eeipu+cache,eeipu,ei+cache,ei,ms-bo+cache,carbo+cache,lambo+cache,tpe+cache,random+cache
for problem in $(group synthetic); do # what stages cost, and the optimiser's time, are in tables
    rm results/figures/"$problem"-*-stages.png results/figures/"$problem"-*-overhead.png
done
python -m eeipu.benchmarks plot real --out $runs --figures results/figures \
    --methods eeipu+cache,ei+cache,ei,random+cache

pack() { # ARCHIVE DIRECTORIES: the same bytes from the same runs
    archive=results/runs/$1.tar.xz
    shift
    (cd results && find "$@" -name '*-seed*.json' -print0 | LC_ALL=C sort -z |
        tar --null -T - --mtime=2026-11-21 --owner=0 --group=0 --numeric-owner -cf -) |
        xz -9e > "$archive"
}
for name in synthetic variants real; do
    pack $name $(cd results && for each in $(group $name); do ls -d runs/"$each" || true; done 2> /dev/null)
done
if [ -d results/runs-fresh ]; then pack fresh runs-fresh; fi
if [ -d results/runs-twice ]; then pack twice runs-twice; fi
