"""Open artifacts: one model from a file, several files, or a folder of another tool.

`folders` finds the file in folders and stores of other tools, `kinds` recognizes a file by its content, `opening` reads
it, and `parts` puts one model together from the parts in several files or in a dict. To add a kind, recognize it in
`kinds` and name its reader in `opening.READERS_OF_KIND`.
"""
