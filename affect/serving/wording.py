"""What the numbers mean, in plain words; said in the model card and wherever a curve is shown."""

MEANING = (
    "Arousal and valence estimate how people would rate the recording; they do not say what the person in it feels."
)
PROHIBITED = (
    "The EU AI Act, article 5(1)(f), prohibits inferring the emotions of people at work and in education, other than "
    "for medical or safety reasons."
)
NOT_EVALUATED = "the curve is raw: the run was not evaluated before its export, so there is no post-processing"
SYNTHETIC = "The model was trained on SYNTHETIC data; its numbers say nothing about people."
