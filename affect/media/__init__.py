"""Files to arrays: audio, video, faces and ARFF tables. Knows nothing of corpora, shards or networks."""
