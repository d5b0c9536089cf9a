"""Files to arrays: audio, video, face crops and tables. Nothing in it depends on corpora, shards or networks."""
