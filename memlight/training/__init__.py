"""Training as a whole job: one member, a pair, the arms of a removal study."""
