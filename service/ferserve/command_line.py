"""What the service's commands share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from ferserve.errors import NO_RUNTIME

if TYPE_CHECKING:
    from ferserve.settings import Settings

ModelsDir = Annotated[
    Path | None, typer.Option(help="Folder of the models.", show_default="FERSERVE_MODELS_DIR")
]
Detect = Annotated[
    Literal["auto", "true", "false"],
    typer.Option(help="Look for faces; auto takes images of at most 64×64 as one face."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
ApiKey = Annotated[
    str | None, typer.Option(envvar="FERSERVE_API_KEY", help="API key, if the service needs one.")
]


def settings_of(**overrides: Any) -> "Settings":
    """Returns the settings of the environment, overridden by what is given and not None."""
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from ferserve.schemas import describe_faults
    from ferserve.settings import Settings

    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        fail(describe_faults(error, "settings"), status=2)
    except SettingsError as error:
        fail(f"{error}, as JSON: {error.__cause__}", status=2)


@contextmanager
def runtime_needed() -> Iterator[None]:
    """Makes a command end with advice where it finds no ONNX Runtime."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "onnxruntime":
            raise
        fail(NO_RUNTIME)


def fail(message: str, status: int = 1) -> NoReturn:
    """Ends the command with a message on stderr."""
    typer.echo(f"ferserve: {message}", err=True)
    raise typer.Exit(status)
