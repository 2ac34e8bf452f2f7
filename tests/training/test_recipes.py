import importlib.util

import pytest
from ferserve.cli import app
from ferserve_training import TrainingError
from ferserve_training.recipes import NO_AUGMENTATION, RECIPES, find_recipe
from typer.testing import CliRunner

ALL = [(model, name) for model, recipes in RECIPES.items() for name in recipes]


@pytest.mark.parametrize(("model", "name"), ALL)
def test_every_recipe_trains_a_network_that_exists(model: str, name: str):
    recipe = find_recipe(model, name)
    assert recipe.network == model
    assert importlib.util.find_spec(f"ferserve_training.networks.{recipe.network}")
    assert recipe.sides or not recipe.fine_tuning


@pytest.mark.parametrize("model", ["custom_cnn", "vgg16", "resnet50v2"])
def test_reference_is_adam_and_plain_cross_entropy_on_faces_as_they_are(model: str):
    recipe = find_recipe(model, "reference")
    assert recipe.augmentation == NO_AUGMENTATION
    assert (recipe.weight_decay, recipe.label_smoothing, recipe.mixup) == (0, 0, 0)
    assert (recipe.ema_momentum, recipe.clip_norm, recipe.cosine) == (0, 0, False)
    if recipe.fine_tuning:
        assert recipe.fine_tuning.trainable_from == "head"
        assert recipe.sides == (224,)


def test_what_goes_on_from_a_released_model_keeps_its_normalisations_and_its_head():
    recipe = find_recipe("vgg16", "cpu").fine_tuning
    stages = recipe.continued()
    assert (stages.frozen_normalisation, stages.head_only) == (True, 0)
    assert stages.trainable_from == recipe.trainable_from == "block3"


def test_what_is_asked_for_replaces_the_recipe_s_numbers():
    recipe = find_recipe(
        "vgg16",
        "default",
        epochs=2,
        batch_size=16,
        precision="float32",
        sides="96,160,224",
    )
    assert (recipe.epochs, recipe.batch_size, recipe.precision) == (2, 16, "float32")
    assert (recipe.sides, recipe.side) == ((96, 160, 224), 224)


@pytest.mark.parametrize(
    ("arguments", "changes", "message"),
    [
        (
            ("custom_rnn", "default"),
            {},
            "unknown model 'custom_rnn'; known: custom_cnn, light, vgg16",
        ),
        (("vgg16", "distill"), {}, "vgg16 has no recipe 'distill'; it has default, cpu"),
        (("vgg16", "default"), {"sides": "16"}, "--sides 16: numbers of at least 32"),
        (("vgg16", "default"), {"sides": "96;224"}, "--sides 96;224: numbers"),
        (("custom_cnn", "default"), {"sides": "96"}, "custom_cnn takes no --sides"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(arguments, changes, message: str):
    with pytest.raises(TrainingError, match=message):
        find_recipe(*arguments, **changes)


@pytest.mark.parametrize("option", [("--precision", "int8"), ("--backend", "theano")])
def test_an_unknown_precision_or_backend_is_refused_by_the_command(option: tuple[str, str]):
    result = CliRunner().invoke(app, ["train", "light", "--data", "none", *option])
    assert result.exit_code == 2
    assert f"'{option[1]}' is not one of" in result.stderr
