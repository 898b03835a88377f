"""`make soak`: kills, concurrent commands, full disks, malformed files, ranks and repetitions, as long campaigns."""
