"""Numbers that a method cannot work with, refused by the name of their flag."""

from memlight.errors import UserError


def at_least(minimum: int, **values: float) -> None:
    """Refuse numbers below ``minimum``.

    Raises:
        UserError: names the first.
    """
    for name, value in values.items():
        if not value >= minimum:
            raise UserError(f"--model.{name} {value}: must be {minimum} or more.")


def positive(**values: float) -> None:
    """Refuse numbers that are not above 0.

    Raises:
        UserError: names the first.
    """
    for name, value in values.items():
        if not value > 0:
            raise UserError(f"--model.{name} {value}: must be above 0.")


def below_one(**values: float) -> None:
    """Refuse numbers outside of [0, 1).

    Raises:
        UserError: names the first.
    """
    for name, value in values.items():
        if not 0 <= value < 1:
            raise UserError(f"--model.{name} {value}: must be 0 or more, and below 1.")
