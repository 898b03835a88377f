"""`python analyze.py layermem|unitmem|probe|report --help` explains; see README.md."""

from memlight.analyze import main

raise SystemExit(main())
