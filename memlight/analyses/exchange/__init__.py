"""What does it cost to take layers from another encoder?"""

from memlight.analyses.exchange.columns import EXCHANGE_EFFECTS, EXCHANGE_LAYERS, EXCHANGE_TABLE
from memlight.analyses.exchange.command import exchange
from memlight.runs.analysis import Analysis, later

ANALYSIS = Analysis(
    "exchange",
    exchange,
    {
        "table": EXCHANGE_TABLE,
        "recalibrated": EXCHANGE_TABLE,
        "effects": EXCHANGE_EFFECTS,
        "layers": EXCHANGE_LAYERS,
    },
    heading="Exchanged layers",
    section=later("memlight.analyses.exchange.section", "exchange_section"),
    docs="EXCHANGE.md",
    answers=(
        "what moves with a layer: chosen layers or all subsets taken from another run's encoder, LayerMem and"
        " accuracy on both data sets before and after, with BatchNorm statistics measured anew or not"
    ),
)
