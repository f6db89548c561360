"""Which runs cover which pair of papers: docs/compositions.md from it.

python -m tests.pairs.table
"""

import collections
import itertools
import pathlib

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "compositions.md"

# What a user switches on, in `fit` (None: that is not its loop) and in
# `agents.train`.
Paper = collections.namedtuple("Paper", ["title", "in_fit", "in_agents"])
PAPERS = {
    "powerprop": Paper(
        "Powerpropagation",
        "`alpha=2` of every layer, `Powerprop(optimizer)`",
        "`alpha=2` of every layer, `Powerprop(optimizer)`",
    ),
    "top_kast": Paper("Top-KAST", "`TopKAST`", "`TopKAST`"),
    "gtrxl": Paper(
        "GTrXL",
        "`GTrXL`",
        "`GTrXL`, which is the `slow_cell` of a `PPRCore` where there is one",
    ),
    "ppr": Paper(
        "Perception-Prediction-Reaction", None, "`PPRCore` and `PPRTerm`"
    ),
    "meta_learning": Paper(
        "Meta-learning",
        "`meta.tasks.Bernoulli`, `BayesRegret`",
        "`RewardPredictionTerm`, `BayesRegret`",
    ),
    "default_policies": Paper(
        "Default policies",
        None,
        "`KLRegularizedAgent`, or `KLToDefaultTerm` with a default learned "
        "before, in an agent of another kind",
    ),
    "distillation": Paper("Distillation", None, "`DistillationTerm`"),
    "gradient_cosine": Paper(
        "Gradient cosine",
        "`GradientCosine`",
        "`GradientGate` of the distillation, else of the `PPRTerm`, else of a "
        "loss of no use",
    ),
    "mix_and_match": Paper("Mix&Match", None, "`MixAndMatchAgent`"),
    "episodic_recall": Paper(
        "Episodic recall",
        None,
        "`EpisodicLSTM`, before the other memories",
    ),
}
Run = collections.namedtuple(
    "Run", ["letter", "loop", "papers", "words", "slow"]
)
RUNS = {
    "predictor": Run(
        "P",
        "fit",
        [name for name, paper in PAPERS.items() if paper.in_fit],
        "A sparse GTrXL predicts coins in `fit`, with a gated auxiliary loss.",
        False,
    ),
    "habits": Run(
        "H",
        "agents.train",
        [name for name in PAPERS if name != "mix_and_match"],
        "A bandit with barcodes, played by a `KLRegularizedAgent`: its "
        "default policy learns with it.",
        True,
    ),
    "curriculum": Run(
        "C",
        "agents.train",
        list(PAPERS),
        "The same bandit, played by a `MixAndMatchAgent` whose simpler policy "
        "has fewer arms and no memory.",
        False,
    ),
}
# A pair that no run covers: why nobody would want it.
NOT_APPLICABLE = {}
PAIRS = list(itertools.combinations(PAPERS, 2))
LIMITS = """\
What does not go together, which an error says, and what to know:

- `MixAndMatchAgent` and `KLRegularizedAgent` are two agents. In a curriculum
  a default policy is an output of the model, learned before and not
  trainable, with a `KLToDefaultTerm`. A mixture of continuous policies has no
  closed divergence: there neither a default nor a teacher can stand beside it.
- Only one term may say that its teacher acts, and a `DistillationAgent` with
  a value gate bears no other term that pays rewards.
- `GradientGate` weighs losses. What a term pays as a reward is not gated.
- PPR's slow core takes a Keras cell or a `GTrXL`. An `EpisodicLSTM` stands
  before the `PPRCore`, and `inputs` says which cores see what it recalls:
  perception should not.
"""


def covering(pair):
    """Names of the runs in which both papers of a pair are at work."""
    return [name for name, run in RUNS.items() if set(pair) <= set(run.papers)]


def page():
    """The text of docs/compositions.md."""
    lines = ["# What composes with what", ""]
    lines += [
        "Each part of each paper is made to stand beside every other. The "
        "table says in",
        "which run of the tests two papers are at work together. Each run "
        "trains, is",
        "stopped, loaded into fresh objects, goes on, and equals an "
        "uninterrupted one bit",
        "for bit; for each paper a figure shows that it is not idle. `make "
        "test-slow` also",
        "runs each pair alone. That parts compose does not say that they help "
        "each other.",
        "",
    ]
    titles = [paper.title for paper in PAPERS.values()]
    lines.append("| | " + " | ".join(titles[1:]) + " |")
    lines.append("|---" * len(titles) + "|")
    reasons = []
    for row, name in enumerate(list(PAPERS)[:-1]):
        cells = [titles[row]]
        for column, other in enumerate(list(PAPERS)[1:], 1):
            if column <= row:
                cells.append("")
                continue
            found = covering((name, other))
            if not found:
                reasons.append(NOT_APPLICABLE[name, other])
            cells.append(
                " ".join(RUNS[run].letter for run in found)
                or f"no ({len(reasons)})"
            )
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("")
    lines += [f"{k}. {reason}" for k, reason in enumerate(reasons, 1)]
    for run in RUNS.values():
        where = ", in `make test-slow`" if run.slow else ""
        lines.append(f"- **{run.letter}**, `{run.loop}`{where}: {run.words}")
    lines += ["", "What each paper is there:", ""]
    lines += ["| paper | in `fit` | in `agents.train` |", "|---|---|---|"]
    for paper in PAPERS.values():
        lines.append(
            f"| {paper.title} | {paper.in_fit or ''} | {paper.in_agents} |"
        )
    return "\n".join(lines) + "\n\n" + LIMITS


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
