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
)
