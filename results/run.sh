#!/bin/sh
# Makes the runs that README.md speaks of, and those that it lacks, from the project's root. What is there
# already is not made again. Arguments go to every `run`, such as `--jobs 8`.
set -e
export OMP_NUM_THREADS=1
run() { python -m eeipu.benchmarks run --cost declared --out results/runs "$@" > /dev/null; }

METHODS=eeipu+cache,ei+cache,ei,random+cache,random,carbo+cache,carbo,eeipu
METHODS=$METHODS,eips+cache,eips,ms-carbo+cache,ms-carbo,random-grid+cache,random-grid
METHODS=$METHODS,tpe+cache,tpe,eeipu-paper+cache,pbgi+cache,pbgi
METHODS=$METHODS,lambo+cache,lambo,ms-bo+cache,ms-bo,gp+cache,gp
run synthetic --seeds 10 --methods $METHODS "$@"
run real --seeds 5 --methods $METHODS "$@"
run variants --seeds 10 --methods eeipu+cache,ei+cache,ei,random+cache,carbo "$@"

# What the parts of EEIPU are worth.
PARTS=eeipu+cache
for part in cooling=off top-q=1 top-q=3 top-q=10 top-q=all epsilon=0.1 epsilon=1 samples=common \
    cost-inputs=own cost-inputs=upstream design=independent design=prefix-sharing \
    design=cost-effective; do
    PARTS=$PARTS,eeipu+cache+$part
done
run branin2-ackley3-levy2 hartmann6-in-3 upstream-costs --seeds 10 --methods $PARTS "$@"

# Twice the budget, in a directory of its own, so that no table takes the means of both.
run synthetic --seeds 5 --budget-factor 6 --methods eeipu+cache,ei+cache,ei \
    --out results/runs-of-twice-the-budget "$@"
