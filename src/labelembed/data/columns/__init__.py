"""Files of labelled rows, as columns: CSV, TSV, JSON lines, parquet and saved data sets, for texts and tables alike."""
