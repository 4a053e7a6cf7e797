"""Makes the goldens of the losses against a teacher, and of reconstruction by a decoder."""

import numpy as np
import torch
from record import HERE, Columns, Recorder, batch, draw
from sentence_transformers import SentenceTransformer, util
from sentence_transformers.sentence_transformer import losses
from sentence_transformers.sentence_transformer.modules import Pooling

SIMILARITIES = {
    "paired_dot": util.pairwise_dot_score,
    "paired_cosine": util.pairwise_cos_sim,
    "paired_euclidean": util.pairwise_euclidean_sim,
}
# name: (n, d, k negatives, targets, similarity)
MARGINS = {
    "default": (5, 4, 1, "margins", "paired_dot"),
    "negatives": (5, 4, 3, "margins", "paired_dot"),
    "negatives_cosine": (6, 5, 2, "margins", "paired_cosine"),
    "scores": (5, 4, 1, "scores", "paired_dot"),
    "scores_of_negatives": (4, 6, 2, "scores", "paired_dot"),
    "scores_of_negatives_cosine": (5, 3, 3, "scores", "paired_cosine"),
    "one_row": (1, 4, 2, "scores", "paired_dot"),
    "many_rows": (64, 4, 1, "margins", "paired_cosine"),
}
# name: (n, d, k candidates, settings)
DIVERGENCE = {
    "default": (5, 4, 2, {}),
    "candidates_3": (4, 5, 3, {"temperature": 2.0}),
    "candidates_5": (6, 3, 5, {"temperature": 0.5}),
    "student_temperature": (5, 4, 4, {"student_temperature": 3.0}),
    "teacher_temperature": (5, 4, 4, {"teacher_temperature": 0.3}),
    "both_temperatures": (5, 4, 3, {"student_temperature": 0.7, "teacher_temperature": 4.0}),
    "all_temperatures": (
        *(5, 4, 3),
        {"temperature": 9.0, "student_temperature": 0.2, "teacher_temperature": 0.1},
    ),
    "cosine": (5, 6, 3, {"similarity_fn": "paired_cosine", "temperature": 0.05}),
    "euclidean": (5, 6, 3, {"similarity_fn": "paired_euclidean"}),
    "one_row": (1, 4, 2, {}),
    "excluded": (5, 4, 4, {"temperature": 1.5}),
    "excluded_cosine": (5, 4, 3, {"similarity_fn": "paired_cosine"}),
}
# The clean texts; the noisy ones leave out words.
TEXTS = {
    "lengths": ["life in the oceans", "a river", "the oceans are teeming with life"],
    "one_row": ["the oceans"],
}


def teacher_embeddings(record: Recorder) -> None:
    student = np.array([[1.0, 2.0, -1.0], [3.0, 1.0, 2.0], [1.0, 1.0, 4.0]])
    inputs = {
        "default": draw("embeddings", student=(6, 5), teacher=(6, 5)),
        "one_row": draw("one_row", student=(1, 7), teacher=(1, 7)),
        "equal_rows": {"student": student, "teacher": student * [[1], [1], [-2]]},
    }
    classes = {
        "mse_loss": lambda: losses.MSELoss(Columns()),
        "embed_distill_loss": lambda: losses.EmbedDistillLoss(Columns()),
        **{
            f"embed_distill_loss-{distance}": lambda distance=distance: losses.EmbedDistillLoss(
                Columns(), distance
            )
            for distance in ("cosine", "mse", "l2")
        },
    }
    for loss, build in classes.items():
        for name, arrays in inputs.items():

            def compute(tensors, build=build):
                return build()(batch(tensors["student"]), tensors["teacher"])

            loss_name, _, distance = loss.partition("-")
            record.add(
                f"{loss}-{name}",
                loss_name,
                compute,
                embeddings={"student": arrays["student"]},
                keywords={"teacher": arrays["teacher"]},
                settings={"distance": distance} if distance else {},
            )


def margins(record: Recorder) -> None:
    for name, (n, d, k, targets, similarity) in MARGINS.items():
        columns = draw(name, queries=(n, d), positives=(n, d), negatives=(n, k, d))

        def compute(tensors, similarity=similarity, targets=targets, columns=columns):
            loss = losses.MarginMSELoss(Columns(), SIMILARITIES[similarity])
            return loss(batch(*(tensors[key] for key in columns)), tensors[targets])

        record.add(
            f"margin_mse_loss-{name}",
            "margin_mse_loss",
            compute,
            embeddings=columns,
            keywords=draw(name + "-targets", **{targets: (n, k + (targets == "scores"))}),
            settings={"similarity_fn": similarity},
        )


def divergence(record: Recorder) -> None:
    for name, (n, d, k, settings) in DIVERGENCE.items():
        scores = 3 * draw(name + "-scores", scores=(n, k))["scores"]
        if "excluded" in name:
            scores[0, 1] = scores[2, 0] = scores[3, 1:] = -np.inf

        def compute(tensors, settings=settings):
            choices = dict(settings)
            similarity = SIMILARITIES[choices.pop("similarity_fn", "paired_dot")]
            loss = losses.DistillKLDivLoss(Columns(), similarity, **choices)
            return loss(batch(tensors["queries"], tensors["candidates"]), tensors["scores"])

        record.add(
            f"distill_kl_div_loss-{name}",
            "distill_kl_div_loss",
            compute,
            embeddings=draw(name, queries=(n, d), candidates=(n, k, d)),
            keywords={"scores": scores},
            settings=settings,
        )


def reconstruction(record: Recorder) -> None:
    """Records the decoder's own logits, and hands them to the class again as inputs."""
    torch.manual_seed(0)  # of the cross-attention
    encoder = SentenceTransformer(str(HERE.parent / "encoders" / "tiny"), device="cpu")[0]
    model = SentenceTransformer(modules=[encoder, Pooling(encoder.get_embedding_dimension())])
    loss = losses.DenoisingAutoEncoderLoss(model).double().eval()
    for name, clean in TEXTS.items():
        noisy = [" ".join(text.split()[::2]) for text in clean]
        features = [model.preprocess(noisy), model.preprocess(clean)]
        seen = []
        with loss.decoder.register_forward_hook(lambda *call, seen=seen: seen.append(call[2][0])):
            loss([dict(column) for column in features], None)

        def compute(tensors, features=features):
            with loss.decoder.register_forward_hook(lambda *_: (tensors["logits"],)):
                return loss([dict(column) for column in features], None)

        record.add(
            f"denoising_auto_encoder_loss-{name}",
            "denoising_auto_encoder_loss",
            compute,
            embeddings={"logits": seen[0].detach().numpy()},
            keywords={"target_ids": features[1]["input_ids"][:, 1:].numpy()},
            settings={"pad_id": loss.tokenizer_decoder.pad_token_id},
        )


if __name__ == "__main__":
    record = Recorder("distillation")
    teacher_embeddings(record)
    margins(record)
    divergence(record)
    reconstruction(record)
    record.save()
