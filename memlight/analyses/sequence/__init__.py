"""Which sequences are learned, kept and learned again?"""

from memlight.analyses.sequence import columns
from memlight.analyses.sequence.command import sequence
from memlight.runs.analysis import Analysis

ANALYSIS = Analysis(
    "sequence",
    sequence,
    {name: getattr(columns, name.upper()) for name in columns.NAMES},
    docs="SEQUENCES.md",
    answers=(
        "what a model of bit sequences learned, kept and forgot: accuracy since each switch, by rank and "
        "position, forgetting, savings"
    ),
)
