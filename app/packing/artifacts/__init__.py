"""Artifacts as people have them: told by their content, opened by the reader of their kind, put together from parts.

`folders` finds the file in the folders and stores of other tools, `kinds` tells what a file is, `opening` reads it,
`parts` makes one model of what several files or one dict hold. To add a kind, tell it in `kinds` and name its reader
in `opening.READERS_OF_KIND`.
"""
