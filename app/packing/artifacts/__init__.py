"""Open artifacts: one model from a file, several files, or a folder of another tool.

`folders` finds the file in folders and stores of other tools, `opening` recognizes it by its content and reads it, and
`parts` puts one model together from the parts in several files or in a dict. To add a kind, recognize it in
`opening.kind_of` and name its reader in `opening.READERS_OF_KIND`.
"""
