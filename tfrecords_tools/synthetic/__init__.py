"""The synthetic corpus that stands in for RECOLA: `python -m tfrecords_tools.synthetic` writes it as real files."""

# Marks a corpus folder as synthetic. It is defined here so that reading a corpus does not import the generator.
MARKER = "synthetic.json"
