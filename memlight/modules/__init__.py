"""Training methods as LightningModules."""

from memlight.modules.autoencoder import Autoencoder
from memlight.modules.dino import DINO
from memlight.modules.mae import MAE
from memlight.modules.sequence.methods import SequenceAttention, SequenceDAM, SequenceGPT
from memlight.modules.simclr import SimCLR
from memlight.modules.simsiam import SimSiam
from memlight.modules.supervised import Supervised
from memlight.modules.vicreg import VICReg

__all__ = [
    "DINO",
    "MAE",
    "Autoencoder",
    "SequenceAttention",
    "SequenceDAM",
    "SequenceGPT",
    "SimCLR",
    "SimSiam",
    "Supervised",
    "VICReg",
]
