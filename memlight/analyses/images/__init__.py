"""What do the images that drive units look like?"""

from memlight.analyses.images.columns import (
    IMAGES_CLUSTERS,
    IMAGES_CURVE,
    IMAGES_DESCRIPTORS,
    IMAGES_MATCHED,
    IMAGES_OWNERSHIP,
    IMAGES_SILHOUETTES,
    IMAGES_TABLE,
)
from memlight.analyses.images.command import images, look_at_images
from memlight.analyses.unitmem.command import FOLLOW_UPS
from memlight.runs.analysis import Analysis, later

ANALYSIS = Analysis(
    "images",
    images,
    {
        "images": IMAGES_TABLE,
        "ownership": IMAGES_OWNERSHIP,
        "curve": IMAGES_CURVE,
        "descriptors": IMAGES_DESCRIPTORS,
        "matched": IMAGES_MATCHED,
        "clusters": IMAGES_CLUSTERS,
        "silhouettes": IMAGES_SILHOUETTES,
    },
    heading="What the images that drive units look like",
    section=later("memlight.analyses.images.section", "images_section"),
    docs="IMAGES.md",
    answers=(
        "what the images that drive units look like: who owns the top units, descriptors with false-discovery"
        " control and matched controls, clusters"
    ),
)

FOLLOW_UPS.append(look_at_images)
