"""Bulk scoring: score files of any size with one model version, part by part, in bounded memory.

`ScoringJob` in `app.jobs.job` is the interface. It depends on neither Flask nor click.
"""
