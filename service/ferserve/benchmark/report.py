"""A benchmark as one HTML page that needs nothing else: no script, no file, no network."""

from collections.abc import Iterator
from datetime import datetime
from html import escape

from ferserve.benchmark.charts import (
    class_table,
    confusion_table,
    ladder,
    mistakes_grid,
    percent,
    reliability_diagram,
)
from ferserve.benchmark.jobs import Job
from ferserve.benchmark.peers import PEERS, PEOPLE
from ferserve.benchmark.results import Mistake, Outcome
from ferserve.benchmark.schemas import BenchmarkResult, Comparison, ModelResult
from ferserve.benchmark.style import STYLE
from ferserve.fer2013.vote_scoring import VoteScores

SPLITS = {
    "all": "all FER2013 test images",
    "public": "FER2013 PublicTest",
    "private": "FER2013 PrivateTest",
    "leak_free": "FER2013 test images that are not in Training",
    "train": "FER2013 Training: images that models are trained on",
}
SIGNIFICANT = 0.05
CONFUSIONS = 5
"""Confusions put into words."""


def render_report(job: Job, thumbnails: bool = False) -> str:
    """Returns the page of a job in any state; one that has not ended reloads itself.

    Args:
        job: The job.
        thumbnails: Whether to show faces.
    """
    body = _finished(job, job.outcome, thumbnails) if job.outcome else _unfinished(job)
    title = escape(" · ".join(job.spec.models))
    refresh = "" if job.ended else '<meta http-equiv="refresh" content="2">'
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'{refresh}<link rel="icon" href="data:,"><title>{title}: FER2013 benchmark</title>'
        f"<style>{STYLE}</style></head><body><main>{body}"
        "<footer>The scores describe how faces look, not what people feel.</footer>"
        "</main></body></html>"
    )


def _header(when: datetime, about: str) -> str:
    return (
        f"<header><b>ferserve benchmark</b><span>{escape(about)}</span>"
        f"<span>{when:%d %B %Y, %H:%M} UTC</span></header>"
    )


def _about(job: Job) -> str:
    about = SPLITS[job.spec.split] if job.spec.split else "an uploaded set of images"
    if job.spec.against == "votes":
        about += ", against people’s majority (FER+)"
    return f"{about}, a sample" if job.spec.limit else about


def _unfinished(job: Job) -> str:
    names = escape(", ".join(job.spec.models))
    progress = job.progress
    if job.problem:
        state = f'<p><b>Failed.</b> {escape(job.problem.detail)} <span class="note">'
        state += f"({escape(job.problem.code)})</span></p>"
    elif job.status == "cancelled":
        state = "<p><b>Cancelled.</b></p>"
    elif job.status == "queued":
        state = "<p>Waiting for the benchmark before it.</p><progress></progress>"
    else:
        share = f' value="{progress.done}" max="{progress.total}"' if progress.total else ""
        state = f"<p>{progress.stage.capitalize()} …</p><progress{share}></progress>"
        if progress.total:
            state += f'<p class="note">{progress.done:,} of {progress.total:,} faces</p>'
    return (
        f'{_header(job.created_at, _about(job))}<section class="card"><h1>{names}</h1>{state}'
        "</section>"
    )


def _finished(job: Job, outcome: Outcome, thumbnails: bool) -> str:
    result = outcome.result
    parts = [
        _header(result.results[-1].finished_at, _about(job)),
        _hero(job, result.results),
    ]
    if len(result.results) > 1:
        parts.append(_comparison(result))
    for one in result.results:
        parts.append(_model(one))
        if thumbnails:
            kept = outcome.mistakes[one.model.name] if outcome.mistakes is not None else None
            parts.append(_mistakes(kept))
    parts.append(_provenance(job, result))
    return "".join(parts)


def _hero(job: Job, results: list[ModelResult]) -> str:
    best_first = sorted(results, key=lambda one: one.accuracy, reverse=True)
    heads = "".join(
        f'<section class="card head"><h1>{escape(one.model.name)} '
        f"{escape(one.model.version)}</h1>"
        f'<div class="number">{100 * one.accuracy:.2f}<i>%</i></div>'
        f"<p>of {one.n:,} faces {'answered as most people do' if one.votes else 'right'}</p>"
        f'<span class="badge">95 % interval {100 * one.accuracy_interval.low:.2f} to '
        f"{percent(one.accuracy_interval.high, 2)}</span></section>"
        for one in best_first
    )
    peers = PEERS.get(job.spec.split or "", ()) if job.spec.against == "labels" else ()
    heading = "Beside others" if peers else "Accuracy"
    notes = PEOPLE if peers else "No figures of other systems are measured the same way."
    many = " many" if len(results) > 1 else ""
    return (
        f'<div class="hero"><div class="heads{many}">{heads}</div>'
        f'<section class="card"><h3>{heading}</h3><p class="note">Accuracy, %. {notes}</p>'
        f"{ladder(results, peers)}</section></div>"
    )


def _comparison(result: BenchmarkResult) -> str:
    rows = "".join(
        f"<tr><td>{escape(one.model.name)}</td><td><b>{100 * one.accuracy:.2f}</b></td>"
        f"<td>{100 * one.macro_f1:.2f}</td><td>{100 * one.ece:.2f}</td>"
        f"<td>{one.faces_per_second:,.0f}</td></tr>"
        for one in result.results
    )
    words = "".join(f"<li>{_in_words(one)}</li>" for one in result.comparisons)
    return (
        '<h2>Head to head</h2><section class="card"><div class="scroll"><table class="models">'
        "<thead><tr><th>model</th><th>accuracy, %</th><th>macro-F1, %</th><th>ECE, %</th>"
        f"<th>faces/s</th></tr></thead><tbody>{rows}</tbody></table></div>"
        f'<ul class="words">{words}</ul></section>'
    )


def _in_words(comparison: Comparison) -> str:
    first, second = escape(comparison.first), escape(comparison.second)
    difference = 100 * comparison.accuracy_difference
    if difference < 0:
        first, second = second, first
    verdict = (
        f"<b>{first}</b> is better than {second} by {abs(difference):.2f} points"
        if comparison.p_value < SIGNIFICANT
        else f"{first} and {second} are {abs(difference):.2f} points apart: "
        "<b>no difference that chance would not make</b>"
    )
    return (
        f"{verdict}. {comparison.only_first_correct:,} faces only "
        f"{escape(comparison.first)} gets right, {comparison.only_second_correct:,} only "
        f"{escape(comparison.second)}; McNemar’s exact test: p {_p(comparison.p_value)}."
    )


def _p(value: float) -> str:
    return "&lt; 0.0001" if value < 0.0001 else f"= {value:.4f}"


def _model(result: ModelResult) -> str:
    latency = result.batch_latency_ms
    hardest, lowest = min(
        ((emotion, scores.recall) for emotion, scores in result.per_class.items()),
        key=lambda item: item[1],
    )
    tiles = "".join(
        f'<div class="tile"><b>{value}</b><span>{name}</span></div>'
        for value, name in (
            (percent(result.macro_f1, 2), "macro-F1, every emotion counts the same"),
            (percent(result.ece, 2), "expected calibration error"),
            (f"{result.faces_per_second:,.0f}", "faces per second, below live traffic"),
            (f"{latency.p50:.1f}\u00a0ms", f"median batch; 99th percentile {latency.p99:.1f} ms"),
            (percent(lowest, 1), f"lowest recall: {escape(hardest)}"),
            *_vote_figures(result.votes),
        )
    )
    label, right = (
        ("what most people said", "how many people agree")
        if result.votes
        else ("the label", "how often it is right")
    )
    return (
        f"<h2>{escape(result.model.name)} <small>{escape(result.model.version)}</small></h2>"
        f'<div class="tiles">{tiles}</div><div class="grid">'
        f'<section class="card"><h3>What is taken for what</h3><p class="note">Row: {label}. '
        "Column: the answer. Large: % of the row; small: faces.</p>"
        f"{confusion_table(result.confusion)}</section>"
        '<section class="card"><h3>Emotion by emotion</h3><p class="note">'
        '<span class="key"><i></i>F1</span><span class="key"><i class="tick"></i>precision</span>'
        '<span class="key"><i class="tick recall"></i>recall</span> in %</p>'
        f"{class_table(result.per_class)}</section>"
        '<section class="card"><h3>Is it as right as it is sure?</h3><p class="note">'
        "Bars on the dashed line would be ideal; the shaded part is the gap.</p>"
        f"{reliability_diagram(result.reliability, right)}</section>"
        '<section class="card"><h3>Most frequent confusions</h3>'
        f'<ul class="words">{_confusions(result)}</ul></section></div>'
    )


def _vote_figures(votes: VoteScores | None) -> Iterator[tuple[str, str]]:
    if votes and votes.mean_recall is not None:
        yield percent(votes.mean_recall, 1), "mean recall of the emotions"
    if votes and votes.cross_entropy is not None and votes.js_distance is not None:
        yield f"{votes.cross_entropy:.3f}", "cross-entropy to the shares of people, nats"
        yield f"{votes.js_distance:.3f}", "Jensen-Shannon distance to the same shares"


def _confusions(result: ModelResult) -> str:
    labels, counts = result.confusion.labels, result.confusion.counts
    pairs = [
        (counts[row][column], row, column)
        for row in range(len(labels))
        for column in range(len(labels))
        if row != column and counts[row][column]
    ]
    pairs.sort(reverse=True)
    return (
        "".join(
            f"<li><b>{escape(labels[row])}</b> taken for <b>{escape(labels[column])}</b>: "
            f"{count:,} faces, {percent(count / sum(counts[row]))} of those that "
            f"are {escape(labels[row])}</li>"
            for count, row, column in pairs[:CONFUSIONS]
        )
        or "<li>None.</li>"
    )


def _mistakes(kept: list[Mistake] | None) -> str:
    if kept is None:
        text = "Uploaded faces are kept for a report only where the upload says thumbnails=true."
        content = f'<p class="note">{text}</p>'
    elif not kept:
        content = '<p class="note">There are none.</p>'
    else:
        content = (
            '<p class="note">Above: the label. Below: the answer, and how sure it was.</p>'
            + mistakes_grid(kept)
        )
    return (
        '<section class="card" style="margin-top:16px"><h3>The mistakes it was most sure of</h3>'
        f"{content}</section>"
    )


def _provenance(job: Job, result: BenchmarkResult) -> str:
    dataset = result.dataset
    images = ", ".join(f"{name} {count:,}" for name, count in dataset.images.items())
    what = "FER2013" if dataset.source == "operator" else "zip file"
    facts = [
        ("Scored", f"{dataset.scored:,} faces: {_about(job)}"),
        ("Data", f"{what}: {images}"),
        ("Data’s SHA-256", f"<code>{dataset.sha256}</code>"),
    ]
    if dataset.votes_sha256:
        facts.append(("Votes’ SHA-256", f"<code>{dataset.votes_sha256}</code>"))
    if dataset.skipped:
        codes = ", ".join(sorted({file.code for file in dataset.skipped_files}))
        why = escape(codes or "no clear majority")
        facts.append(("Not scored", f"{dataset.skipped:,} ({why}): they count neither way"))
    for one in result.results:
        facts.append((f"{escape(one.model.name)}, SHA-256", f"<code>{one.model.sha256}</code>"))
    providers = ", ".join(dict.fromkeys(one.provider for one in result.results))
    facts += [
        ("Run by", f"ONNX Runtime, {escape(providers)}"),
        ("Interval", "Wilson, 95 %: other images of the same kind would move the figure this far"),
        ("Job", f"<code>{job.id}</code>"),
    ]
    rows = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts)
    return f'<h2>How it was measured</h2><section class="card"><dl>{rows}</dl></section>'
