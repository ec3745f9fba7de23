"""Clips and questions: shards, decoding, prompts, batches."""
