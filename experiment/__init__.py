"""One experiment on the command line: its options, its training, its files, its figures and its pictures."""
