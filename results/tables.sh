#!/bin/sh
# Makes the tables, the pictures and the archives of the runs, from the project's root.
set -e
runs=results/runs

table() { # FILE HEADING ARGUMENTS
    file=results/tables/$1.md
    printf '# %s\n\n' "$2" > "$file"
    shift 2
    python -m eeipu.benchmarks table "$@" --markdown >> "$file"
}

METHODS=eeipu+cache,eeipu,eeipu-paper+cache,ei+cache,ei,eips+cache,eips,carbo+cache,carbo
METHODS=$METHODS,ms-carbo+cache,ms-carbo,ms-bo+cache,ms-bo,lambo+cache,lambo,pbgi+cache,pbgi
METHODS=$METHODS,tpe+cache,tpe,gp+cache,gp,random-grid+cache,random-grid,random+cache,random
PARTS=$(cd $runs/hartmann6-in-3/cpu-declared && ls | sed -n 's/^\(eeipu+cache+.*\)-seed0-.*/\1/p' | paste -sd ,)
table synthetic "Synthetic pipelines" synthetic --out $runs --against ei+cache \
    --methods $METHODS
table synthetic-against-ei "Synthetic pipelines against EI without a cache" synthetic --out $runs \
    --methods $METHODS
table synthetic-stages "Synthetic pipelines, stage by stage" synthetic --out $runs --stages \
    --methods eeipu+cache,eeipu,ei+cache,ei
table variants "Variants of synthetic pipelines" variants --out $runs --against ei+cache \
    --methods eeipu+cache,ei+cache,ei,random+cache,carbo
table ablations "What the parts of EEIPU are worth" branin2-ackley3-levy2 hartmann6-in-3 \
    upstream-costs --out $runs --against eeipu+cache --methods "eeipu+cache,$PARTS"
table fresh "Synthetic pipelines, other seeds" --out results/runs-fresh --against ei+cache
table real "Real pipelines" real --out $runs --against ei+cache
table real-against-ei "Real pipelines against EI without a cache" real --out $runs
table real-stages "Real pipelines, stage by stage" real --out $runs --stages \
    --methods eeipu+cache,ei+cache,ei

# EEIPU against each of the others: the rows for all problems.
leads=results/tables/synthetic-leads.md
against() {
    python -m eeipu.benchmarks table synthetic --out $runs --markdown --methods eeipu+cache --against "$1"
}
printf '# EEIPU with a cache against each other method, nine synthetic pipelines\n\n' > $leads
against ei | sed -n '/^| problem/,/^| ---/p' | sed 's/^| problem | method/| against | method/' >> $leads
for method in $(echo $METHODS | tr , '\n' | grep -v '^eeipu+cache$'); do
    against "$method" | sed -n "s/^| all problems /| $method /p" >> $leads
done

rm -f results/figures/*.png
python -m eeipu.benchmarks plot synthetic --out $runs --figures results/figures \
    --methods eeipu+cache,eeipu,ei+cache,ei,ms-bo+cache,carbo+cache,lambo+cache,tpe+cache,random+cache
python -m eeipu.benchmarks plot real --out $runs --figures results/figures \
    --methods eeipu+cache,ei+cache,ei,random+cache

pack() { # ARCHIVE DIRECTORIES: the same bytes from the same runs
    archive=results/runs/$1.tar.xz
    shift
    (cd results && find "$@" -name '*-seed*.json' -print0 | LC_ALL=C sort -z |
        tar --null -T - --mtime=2026-11-21 --owner=0 --group=0 --numeric-owner -cf -) |
        xz -9e > "$archive"
}
for group in synthetic variants real; do
    names=$(python -m eeipu.benchmarks list | awk -v group=$group '$2 == group { print "runs/" $1 }')
    pack $group $(cd results && ls -d $names 2> /dev/null)
done
pack fresh runs-fresh
pack twice runs-twice
