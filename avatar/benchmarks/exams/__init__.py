"""One run through a benchmark: asking what is left, keeping the replies, having them graded and judged."""
