"""Files of labelled examples: CSV, TSV, JSON lines, parquet and saved data sets, for texts, tables and lists alike."""
