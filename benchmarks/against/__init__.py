"""Two versions of the package compared with each other: an earlier commit and the working tree."""
