"""What do the images that drive units look like?"""

from memlight.analyses.images.columns import TABLES
from memlight.analyses.images.command import images
from memlight.analyses.unitmem.command import FOLLOW_UPS
from memlight.runs.analysis import Analysis, later

ANALYSIS = Analysis(
    "images",
    images,
    TABLES,
    heading="What the images that drive units look like",
    section=later("memlight.analyses.images.section", "images_section"),
    docs="IMAGES.md",
    answers=(
        "what the images that drive units look like: who owns the top units, descriptors with false-discovery"
        " control and matched controls, clusters"
    ),
)

FOLLOW_UPS.append(later("memlight.analyses.images.study", "look_at_images"))
