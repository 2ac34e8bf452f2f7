"""Accuracy jobs: score served models on labelled faces, behind live traffic."""
