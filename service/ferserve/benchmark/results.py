"""Probabilities and labels → the figures of a result."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ferserve.benchmark import schemas
from ferserve.benchmark.dataset import LabelledFaces
from ferserve.fer2013.labels import EMOTIONS
from ferserve.fer2013.scoring import mcnemar, score, score_votes
from ferserve.schemas import ModelReference

MAX_MISTAKES = 24
"""Mistakes kept for the report."""


class Measurement(NamedTuple):
    """What running one model over all faces gave, in all ``seconds``.

    ``probabilities`` are float32 ``[N, 7]`` in the order of ``EMOTIONS``, ``batch_seconds`` the
    durations of the batches.
    """

    model: ModelReference
    provider: str
    probabilities: NDArray[np.float32]
    batch_seconds: Sequence[float]
    seconds: float


class Mistake(NamedTuple):
    """A face, uint8 ``[48, 48]``, that a model was sure of, and wrong."""

    face: NDArray[np.uint8]
    label: str
    predicted: str
    confidence: float


Mistakes = dict[str, list[Mistake]]
"""By model, the surest first."""


class Outcome(NamedTuple):
    """What a finished job leaves; no mistakes where none may be kept."""

    result: schemas.BenchmarkResult
    mistakes: Mistakes | None


def summarise(measurements: list[Measurement], data: LabelledFaces, keep_mistakes: bool) -> Outcome:
    """Scores the measurements of several models on the same faces."""
    scored = data.labels >= 0
    faces, labels = data.faces[scored], data.labels[scored]
    answers = {one.model.name: one.probabilities[scored] for one in measurements}
    right = {name: rows.argmax(axis=1) == labels for name, rows in answers.items()}
    result = schemas.BenchmarkResult(
        dataset=data.info,
        results=[_result(one, answers[one.model.name], labels, data.votes) for one in measurements],
        comparisons=[_compare(*pair, right) for pair in combinations(right, 2)],
    )
    mistakes = {name: _worst_mistakes(rows, faces, labels) for name, rows in answers.items()}
    return Outcome(result, mistakes if keep_mistakes else None)


def _worst_mistakes(
    probabilities: NDArray[np.float32], faces: NDArray[np.uint8], labels: NDArray[np.int64]
) -> list[Mistake]:
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    surest = wrong[np.argsort(-confidence[wrong], kind="stable")][:MAX_MISTAKES]
    return [
        # A view of the face would keep all faces in memory.
        Mistake(faces[i].copy(), EMOTIONS[labels[i]], EMOTIONS[predicted[i]], float(confidence[i]))
        for i in surest
    ]


def _result(
    measurement: Measurement,
    probabilities: NDArray[np.float32],
    labels: NDArray[np.int64],
    votes: NDArray[np.int64] | None,
) -> schemas.ModelResult:
    scores = score(probabilities, labels)
    against_votes, bins = None, scores.reliability
    if votes is not None:
        against_votes, bins = score_votes(measurement.probabilities, votes)
    milliseconds = 1000 * np.array(measurement.batch_seconds)
    p50, p90, p95, p99, longest = np.percentile(milliseconds, [50, 90, 95, 99, 100]).tolist()
    low, high = scores.interval
    return schemas.ModelResult(
        model=measurement.model,
        provider=measurement.provider,
        n=scores.n,
        correct=int(np.trace(scores.confusion)),
        accuracy=scores.accuracy,
        accuracy_interval=schemas.Interval(low=low, high=high),
        macro_f1=scores.macro_f1,
        ece=scores.ece if against_votes is None else against_votes.ece or 0.0,
        per_class=scores.per_class,
        confusion=schemas.ConfusionMatrix(labels=list(EMOTIONS), counts=scores.confusion.tolist()),
        reliability=bins,
        votes=against_votes,
        seconds=measurement.seconds,
        faces_per_second=len(measurement.probabilities) / measurement.seconds,
        batch_latency_ms=schemas.BatchLatency(
            batches=len(milliseconds), p50=p50, p90=p90, p95=p95, p99=p99, max=longest
        ),
        finished_at=datetime.now(UTC),
    )


def _compare(first: str, second: str, right: dict[str, NDArray[np.bool_]]) -> schemas.Comparison:
    only_first = int(np.sum(right[first] & ~right[second]))
    only_second = int(np.sum(right[second] & ~right[first]))
    return schemas.Comparison(
        first=first,
        second=second,
        accuracy_difference=(only_first - only_second) / len(right[first]),
        only_first_correct=only_first,
        only_second_correct=only_second,
        p_value=mcnemar(only_first, only_second),
    )
