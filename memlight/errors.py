"""The one exception that means: the user can fix this."""


class UserError(Exception):
    """A mistake in what the user asked for or gave us.

    The message is one line that names the flag and the way out, for example
    ``--run runs/x: no independent/encoder.safetensors; train it with `train.py pair --run runs/x` ``.
    The command lines print it as ``error: ...`` and exit with status 2.
    """


def user_error_behind(error: BaseException | None) -> UserError | None:
    """The `UserError` that others were raised from; None if there is none."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__
    return error
