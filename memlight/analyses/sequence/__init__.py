"""Which sequences are learned, kept and learned again?"""

from memlight.analyses.sequence import columns
from memlight.analyses.sequence.command import sequence
from memlight.runs.analysis import Analysis

ANALYSIS = Analysis(
    "sequence",
    sequence,
    {
        "table": columns.TABLE,
        "sets": columns.SETS,
        "members": columns.MEMBERS,
        "training": columns.TRAINING,
        "positions": columns.POSITIONS,
        "ranks": columns.RANKS,
        "appearances": columns.APPEARANCES,
        "rank_time": columns.RANK_TIME,
        "learned": columns.LEARNED,
        "forgetting": columns.FORGETTING,
        "savings": columns.SAVINGS,
        "weights": columns.WEIGHTS,
        "probes": columns.PROBES,
        "swaps": columns.SWAPS,
    },
    docs="SEQUENCES.md",
    answers=(
        "what a model of bit sequences learned, kept and forgot: accuracy since each switch, by rank and "
        "position, forgetting, savings"
    ),
)
