"""`python train.py pair|fit|validate --help` explains; see README.md."""

from memlight.cli import main

raise SystemExit(main())
