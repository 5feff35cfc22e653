"""What the commands have in common: errors told as sentences."""

import click


class Sentences(click.Command):
    """A command whose ValueErrors and OSErrors are told as one sentence."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except ValueError as error:
            raise click.ClickException(str(error)) from None
        except BrokenPipeError:
            # `| head` has read enough; click ends quietly.
            raise
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            raise click.ClickException(place + (error.strerror or str(error))) from None
