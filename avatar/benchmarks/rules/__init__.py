"""Rules that read an answer out of a reply, shared by benchmarks; pure functions of strings."""
