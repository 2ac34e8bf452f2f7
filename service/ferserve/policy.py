"""The service's policy: meaning and limits of its scores, the law, and what it keeps."""

from pydantic import BaseModel, Field

from ferserve.settings import Settings


class LegalRule(BaseModel):
    """A rule that binds who provides or uses the service."""

    reference: str
    applies_from: str = Field(description="Date, ISO 8601.")
    says: str


class DataUse(BaseModel):
    """What becomes of what is sent."""

    images_stored: bool = False
    faces_identified: bool = False
    logged: list[str] = ["time", "request id", "method", "path", "status", "duration"]
    never_logged: list[str] = ["images", "scores", "query", "file names", "API keys", "addresses"]
    faces_counted_by_emotion: bool = Field(
        description="Whether `/metrics` counts answers by emotion, over all callers together."
    )


class Policy(BaseModel):
    """Intended use, limits and law."""

    meaning: str = (
        "A score says how the expression of a face appears in one picture, in the seven words of "
        "the data set FER2013. It is not what the person feels: people smile without joy and are "
        "sad with a still face, and the same face means different things in different places."
    )
    labels_and_votes: str = Field(
        description="What a card's `answers` means: whether a model learned labels or votes.",
        default=(
            "FER2013's labels are the words by which its pictures were searched for; the votes of "
            "FER+ are what ten people saw in the same faces. A model of the labels says how likely "
            "a label is; a model of the votes says what share of people would choose the word. "
            "People say neutral twice as often as the labels do, and fear a fifth as often. So a "
            "model of the labels calls many faces sad, angry or fearful that most people call "
            "neutral, and a model of the votes overlooks more of the sad, fearful and disgusted "
            "ones."
        ),
    )
    intended_use: list[str] = [
        "research on facial expressions and how to recognise them",
        "sorting and searching pictures of people who agreed to it",
        "art, games and teaching about machine learning",
    ]
    not_intended_for: list[str] = [
        "inferring the emotions of people at work or in education",
        "decisions about a person: hiring, credit, insurance, policing, border control, medicine",
        "lie detection, or any reading of character or intention",
        "identifying people, or watching them without their knowledge",
    ]
    data_set_limits: list[str] = [
        "FER2013 has 35,887 grey faces of 48 by 48 pixels, found by an image search for words of "
        "emotion: many are posed, and many are of actors.",
        "People agree with its labels in about 65 of 100 cases, so an accuracy much above that is "
        "not about expressions alone.",
        "Its classes are uneven: 25 of 100 faces are happy, and 1.5 show disgust. Fear and disgust "
        "are recognised worst.",
        "It does not say who is in it. It cannot show how well models do by age, sex or skin "
        "colour, and differences must be expected.",
        "Some faces are in both its training and its test part; the cards of /v1/models also give "
        "the accuracy without them (`leak_free`).",
    ]
    law: list[LegalRule] = [
        LegalRule(
            reference="Regulation (EU) 2024/1689 (AI Act), Article 5(1)(f)",
            applies_from="2025-02-02",
            says="Forbids AI systems that infer emotions of a natural person in the areas of "
            "workplace and education institutions, except for medical or safety reasons.",
        ),
        LegalRule(
            reference="Regulation (EU) 2024/1689 (AI Act), Article 50(3)",
            applies_from="2026-08-02",
            says="Deployers of an emotion recognition system shall inform the people exposed to "
            "it, and process their personal data as data protection law demands.",
        ),
    ]
    data_use: DataUse


def policy(settings: Settings) -> Policy:
    """Returns the policy of a service with these settings."""
    return Policy(data_use=DataUse(faces_counted_by_emotion=settings.metrics_emotions))
