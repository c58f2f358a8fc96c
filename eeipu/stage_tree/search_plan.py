"""The search plan: what all studies request of one stage tree, and what is there already.

A request says "run this path, for this trial of this study" (Shin et al., Hippo, arXiv 2006.11972,
section 4). Clients request and cancel through `SearchPlan`. A scheduler and whoever runs the nodes
report through its `execution`. Below these two, `requests` keeps the requests and their answers,
the room `states` knows which nodes have to run and which states may be dropped, and `database`
stores everything.
"""

from pathlib import Path as FilePath

from eeipu.cache import StageCache
from eeipu.stage_tree.database import PlanDatabase
from eeipu.stage_tree.execution import Execution
from eeipu.stage_tree.nodes import Answer, PlanNode, PlanTree, Request, RequestState
from eeipu.stage_tree.payments import Payments
from eeipu.stage_tree.requests import Answers, RequestBook
from eeipu.stage_tree.states.node_states import NodeStates
from eeipu.stage_tree.states.state_references import StateReferences
from eeipu.stages.paths import Path
from eeipu.stages.stored_paths import path_from_json, path_to_json

__all__ = ["SearchPlan"]

# A worker may die under a node by chance, even twice. The third time, the node is the suspect.
MAX_LOSSES = 3


class SearchPlan:
    """The requests of any number of studies, merged into one stage tree.

    A plan is used by one thread at a time. As a context manager, it is closed at the end.

    A plan with a cache pins the states that somebody still needs, so that other users of the cache
    do not drop them; see `eeipu.stage_tree.states.state_pins` for what is not protected.

    Args:
        location: A file that keeps the plan; `None`: it ends with the process.
        cache: Where states are kept; `None`: nodes have a state once they have run, as in
            simulations.
        max_losses: The number of dead workers after which the node that they ran has failed.
        pins_for: The name under which states are pinned, and whether the pins outlive the process;
            by default those of the plan.
        read_only: Whether to look at the file as it is now, which another plan may have. What is
            done here is then not stored.

    Raises:
        ConfigurationError: The file cannot be opened, or another plan has it.

    Attributes:
        cache: The cache.
        tree: The stage tree of all requests, including those that were answered or cancelled.
        execution: Takes what a scheduler starts and what workers report.
        payments: What workers have spent for each study, in seconds.
    """

    def __init__(
        self,
        location: str | FilePath | None = None,
        cache: StageCache | None = None,
        max_losses: int = MAX_LOSSES,
        pins_for: tuple[str, bool] | None = None,
        *,
        read_only: bool = False,
    ) -> None:
        self.cache = cache
        self.tree = tree = PlanTree()
        self._database = database = PlanDatabase(location, read_only=read_only)
        self._book = RequestBook(database)
        self.payments = Payments(database)
        owner = (database.name, location is not None) if pins_for is None else pins_for
        self._references = StateReferences(cache, database, owner)
        self._states = NodeStates(tree, cache, database, self.payments, self._references)
        self._answers = Answers(self._book, self._states, self._references)
        self.execution = Execution(
            tree, self._states, self._references, self._answers, self.payments, max_losses
        )
        paths = {key: path_from_json(text) for key, text in database.paths()}
        requests = list(database.requests())
        ends = [tree.add(paths[row.path], trial=(row.study, row.trial)) for row in requests]
        # What is stored comes before what is found in the cache, which knows less of it.
        known = _restore_nodes(database, tree, self._states, max_losses)
        made, tree.made, tree.splits = tree.made, [], []
        self._states.find(node for node in made if node.key not in known)
        for row, node in zip(requests, ends, strict=True):
            assert isinstance(node, PlanNode)
            self._answers.restore(self._book.restore(row, paths[row.path], node))
        self._answers.take()  # those who ask again are answered then

    def __enter__(self) -> "SearchPlan":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file, and of the cache. The plan must not be used afterwards."""
        try:
            self._references.close()
        finally:
            self._database.close()

    def request(self, study: str, trial: int, path: Path) -> Request:
        """Request a path. If it was requested before, the same `Request` is answered again.

        The answer comes from `take_answers`, immediately if everything is there already.

        Args:
            study: The name of the study that asks.
            trial: The trial that it asks for.
            path: The path to run.

        Raises:
            PipelineError: The path cannot be stored.
        """
        for woken in self._book.wake(path):
            self._answers.open(woken)
        asked = self._book.find(study, trial, path.key(len(path)))
        if asked is None or asked.state is RequestState.CANCELLED:
            text = path_to_json(path) if self._database.location is not None else ""
            node = self._states.add(path, (study, trial))
            asked = self._book.add(study, trial, path, node, text)
            self._answers.open(asked)
        elif asked.state is not RequestState.OPEN:
            self._answers.repeat(asked)
        return asked

    def knows(self, path: Path) -> bool:
        """Whether a path has been run to its end, in this plan or by others who use the cache.

        Paths that are requested later and have it as their beginning then go on from there.

        Args:
            path: A path that need not have been requested.
        """
        key = path.key(len(path))
        if key not in self.tree:
            if self.cache is None or key not in self.cache:
                return False
            self._states.add(path, None)
        node = self.tree[key]
        assert isinstance(node, PlanNode)
        return node.has_state

    def cancel(self, study: str, trial: int | None = None) -> None:
        """Give up a trial: its open requests, and the state that it holds.

        Calls that other trials wait for are run all the same.

        Args:
            study: The name of the study.
            trial: The trial; all trials of the study by default.
        """
        if trial is None:
            for each in {request.trial for request in self.requests(study)}:
                self.cancel(study, each)
            return
        open_ = [r for r in self._book.of_trial(study, trial) if r.state is RequestState.OPEN]
        suspended = self._book.take(open_)
        for request in open_:
            self._book.set_state(request, RequestState.CANCELLED)
            if request not in suspended:
                self._states.need(request.node, -1)
        self.release(study, trial)

    def release(self, study: str, trial: int) -> None:
        """Say that a trial will not go on, so that its last state may be dropped."""
        self._references.release((study, trial))

    def suspend(self) -> list[Request]:
        """Suspend what earlier processes have requested on other inputs, or of other code.

        Call it when this process has made its requests. Suspended requests stay open. They wait
        again as soon as somebody requests a path on the same inputs and code.

        Returns:
            All requests that are suspended.
        """
        for request in self._book.suspend():
            self._states.need(request.node, -1)
        return self._book.suspended

    def retry(self, study: str | None = None) -> None:
        """Clear failures, so that the failed nodes run again when they are requested again.

        Args:
            study: Clear only failures on paths that this study has requested; all by default.
        """
        for request in self.requests(study):
            for node in request.node.ancestry():
                if node.error is not None or node.losses:
                    self._states.clear(node)

    def take_answers(self) -> list[Answer]:
        """Return the answers since the last call."""
        return self._answers.take()

    def requests(self, study: str | None = None) -> list[Request]:
        """Return all requests, or those of one study, oldest first."""
        return self._book.of_study(study)

    @property
    def waiting(self) -> list[Request]:
        """The open requests that are not suspended, oldest first."""
        return self._book.waiting

    @property
    def studies(self) -> list[str]:
        """The names of the studies that have requested something, in the order they did."""
        return list(dict.fromkeys(request.study for request in self.requests()))

    @property
    def spent_s(self) -> float:
        """Seconds that workers have spent for all studies together."""
        return self.payments.total_s


def _restore_nodes(
    database: PlanDatabase, tree: PlanTree, states: NodeStates, max_losses: int
) -> set[str]:
    """Take over what is stored of nodes, and return the keys of those that had a state."""
    known = set()
    for row in database.nodes():
        if row.key not in tree:  # the process died before it stored the request
            continue
        node = tree[row.key]
        assert isinstance(node, PlanNode)
        if row.losses >= max_losses:  # workers may have died of something that is over now
            row = row._replace(error=None, losses=0)
        states.restore(row, node)
        if row.has_state:
            known.add(row.key)
    return known
