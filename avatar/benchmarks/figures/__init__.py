"""What graded replies come to: figures with intervals, results files, tables, comparisons."""
