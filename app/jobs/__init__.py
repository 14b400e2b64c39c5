"""Bulk scoring: files of any size through one model version, part by part, in bounded memory.

`ScoringJob` in `app.jobs.job` is the whole interface. It knows neither Flask nor click.
"""
