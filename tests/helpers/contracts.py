"""A contract with a value in every field, for tests that need no exported model."""

from affect.evaluation.chain import PostProcessing
from affect.serving.contract import Contract, FaceCrops, Spread, TrainingData

FACES = FaceCrops(
    detector="mtcnn", detector_height=240, detect_every=5, margin=0.2, smoothing_secs=0.24, size=96, jpeg_quality=90,
    faceless_frames="keep", boxes="detector",
)  # fmt: skip
TRAINING_DATA = TrainingData(
    synthetic=False, layout="table", recordings=3, subjects=2, frames=900,
    sound_level_dbfs=Spread(-33.0, -25.0, -20.0), face_share=Spread(0.75, 0.9, 1.0),
)  # fmt: skip
CONTRACT = Contract(
    written_by="affect 1.2.3", versions={"python": "3.11"}, weights_sha256="ab", modality="audiovisual",
    outputs=("arousal", "valence"), frame_rate_hz=25, sample_rate_hz=16_000, frame_samples=640, label_time="",
    standardise="recording", delay_frames=7, label_delay_secs=0.5, faces=FACES,
    postprocessing={"arousal": PostProcessing(25.0, 3, 0.1), "valence": PostProcessing(25.0)},
    postprocessing_context="recording", training_data=TRAINING_DATA,
)  # fmt: skip
