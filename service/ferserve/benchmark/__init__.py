"""Accuracy jobs: score served models on labelled faces, below live traffic."""
