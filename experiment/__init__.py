"""One run on the command line: its options, training, files, figures and pictures; and the comparison of several."""
