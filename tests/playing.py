"""Playing a search algorithm's moves without a plan."""

from eeipu.algorithms.moves import Ask, Stop

CONFIGS = [{"x": x} for x in range(9)]


def asks(moves):
    return [(move.trial, move.step) for move in moves if isinstance(move, Ask)]


def stops(moves):
    return sorted(move.trial for move in moves if isinstance(move, Stop))


def play(algorithm, value=lambda config, step: config["x"], workers=4):
    """Answer an algorithm, oldest first; the steps that each trial was asked for, in order."""
    waiting, history, stopped = [], {}, []
    moves = list(algorithm.start())
    while moves or waiting:
        for move in moves:
            if isinstance(move, Ask):
                waiting.append(move)
                history.setdefault(move.trial, []).append(move.step)
            else:
                stopped.append(move.trial)
        if not waiting:
            break
        ask = waiting.pop(0)
        moves = list(algorithm.tell(ask.trial, ask.step, value(ask.config, ask.step)))
    assert sorted(stopped) == sorted(history)
    return history
