"""The console script ``ferserve``: the commands of the three packages under one name."""

import typer

import export.commands
import service.commands
import training.commands

app = typer.Typer(
    name="ferserve",
    help="Facial-expression recognition: train, export and serve.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # locals hold images
)
service.commands.register(app)
training.commands.register(app)
export.commands.register(app)

if __name__ == "__main__":
    app()
