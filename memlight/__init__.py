"""memlight: where, and what, does a network memorise?"""
