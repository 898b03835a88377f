"""`python train.py pair|fit|validate --help` explains; see README.md."""

from memlight.cli import main
from memlight.endings import leave

leave(main())
