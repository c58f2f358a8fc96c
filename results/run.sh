#!/bin/sh
# Makes all runs of README.md, and those that are still missing there; call it in the project's root.
# Runs whose results exist are not made again. Arguments are passed to every `run`, such as `--jobs 8`.
export OMP_NUM_THREADS=1
failed=0
run() {
    out=$1
    shift
    python -m eeipu.benchmarks run --cost declared --out "results/$out" "$@" > /dev/null || failed=1
}

MAIN=eeipu+cache,ei+cache,ei,random+cache,random
# Without a cache, ms-carbo is eeipu; on the real pipelines, whose stages pass on no numbers, ms-bo is ei.
OTHERS=eeipu,carbo+cache,eips+cache,ms-carbo+cache,lambo+cache,pbgi+cache,random-grid+cache
OTHERS=$OTHERS,tpe+cache,gp+cache,eeipu-paper+cache
BARE=carbo,eips,lambo,pbgi,random-grid,tpe,gp,eeipu-paper
GRID=random-grid+cache+top-q=all
run runs synthetic --seeds 10 --methods $MAIN,$OTHERS,$BARE,ms-bo+cache,ms-bo "$@"
run runs synthetic --seeds 10 --methods carbo+cache+design=cost-effective,$GRID,$GRID+design=none "$@"
run runs real --seeds 10 --methods $MAIN "$@"
run runs distillation --seeds 27 --methods eeipu+cache,ei+cache "$@"
run runs variants --seeds 10 --methods eeipu+cache,ei+cache,ei,random+cache,carbo "$@"

# Ablations: EEIPU with one part changed.
PARTS=eeipu+cache
for part in cooling=off top-q=1 top-q=3 top-q=10 top-q=all epsilon=0.1 epsilon=1 samples=common \
    cost-inputs=own cost-inputs=upstream design=independent design=prefix-sharing \
    design=cost-effective; do
    PARTS=$PARTS,eeipu+cache+$part
done
run runs branin2-ackley3-levy2 hartmann6-in-3 --seeds 10 --methods $PARTS "$@"
run runs upstream-costs --seeds 10 \
    --methods eeipu+cache+cost-inputs=own,eeipu+cache+cost-inputs=upstream "$@"

# Other seeds, in a directory of their own, so that no table mixes them with the runs above.
run runs-graphs graphs stacking-graph --seeds 10 --methods eeipu+cache,ei+cache "$@"
run runs-fresh synthetic --first-seed 10 --seeds 9 --methods eeipu+cache,ei+cache "$@"

# With the models of today, from the common warm-up and from their own ones.
TODAY=eeipu+cache,ei+cache
OWN=eeipu+cache+n-initial=usual,ei+cache+n-initial=usual,ei+cache+n-initial=5
run runs-now synthetic noisy cheap-early --seeds 10 --methods $TODAY,$OWN "$@"
run runs-now distillation segmentation stacking --seeds 10 --methods eeipu+cache+n-initial=usual,ei+cache+n-initial=usual "$@"
# Once, and not while methods are worked on.
run runs-held-out held-out --seeds 1 --methods $TODAY,$OWN "$@"

# Hours on two cores.
run runs distillation segmentation stacking --seeds 5 --methods $OTHERS,$BARE "$@"
run runs stacking-by-model --seeds 5 --methods $OTHERS "$@"
exit $failed
