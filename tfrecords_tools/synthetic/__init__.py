"""The synthetic corpus that stands in for RECOLA: `python -m tfrecords_tools.synthetic` writes it as real files."""

MARKER = "synthetic.json"  # marks a corpus folder as synthetic; importing it must cost nothing
