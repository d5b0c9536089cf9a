"""An exported "model" that measures: what it predicts can be read off the file that it is given.

    arousal = root mean square of the frame's sound, full scale = 1          0 for a model of video only
    valence = mean brightness of the frame's face crop, in [0, 1]            0 for a model of sound only

So a test can plant a sound and a brightness into a file, and finds them in the output of `affect.serving.predict`.
"""

from pathlib import Path

import tensorflow as tf

from affect.serving.contract import CONTRACT_NAME, LABEL_TIME, Contract, FaceCrops
from affect.storage import write_json


def write_gauge(folder: Path, modality: str) -> None:
    """Writes the export of a measuring model of modality "audio", "video" or "audiovisual"; it looks nowhere ahead."""
    takes = {"audio": ("audio",), "video": ("video",), "audiovisual": ("audio", "video")}[modality]
    specs = {
        "audio": tf.TensorSpec((None, None, 640), tf.float32, name="audio"),
        "video": tf.TensorSpec((None, None, 96, 96, 3), tf.uint8, name="video"),
        "present": tf.TensorSpec((None, None), tf.bool, name="present"),
    }

    def stream(**inputs):
        loudness = brightness = tf.zeros(tf.shape(inputs["present"]))
        if "audio" in takes:
            loudness = tf.sqrt(tf.reduce_mean(tf.square(inputs["audio"]), axis=-1))
        if "video" in takes:
            brightness = tf.reduce_mean(tf.cast(inputs["video"], tf.float32), axis=(2, 3, 4)) / 255
        return {"predictions": tf.stack([loudness, brightness], axis=-1), "valid": inputs["present"]}

    module = tf.Module()
    signature = tf.function(stream).get_concrete_function(**{name: specs[name] for name in (*takes, "present")})
    tf.saved_model.save(module, str(folder), signatures={"stream": signature})
    faces = FaceCrops(
        detector="mtcnn", detector_height=240, detect_every=5, margin=0.2, smoothing_secs=0.24, size=96,
        jpeg_quality=90, faceless_frames="keep", boxes="detector",
    )  # fmt: skip
    contract = Contract(
        written_by="affect tests", versions={}, modality=modality, outputs=("arousal", "valence"), frame_rate_hz=25,
        sample_rate_hz=16_000, frame_samples=640, label_time=LABEL_TIME, standardise="none", delay_frames=0,
        label_delay_secs=0.0, faces=faces if "video" in takes else None, postprocessing=None, training_data=None,
    )  # fmt: skip
    write_json(folder / CONTRACT_NAME, contract)
