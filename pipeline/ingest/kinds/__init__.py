"""One file for each kind of source: the options that its users write, and how a source is built from them."""
