"""Landed files to Parquet, each event once: sources and readers, the rules as SQL, batches, the bucket, compaction."""
