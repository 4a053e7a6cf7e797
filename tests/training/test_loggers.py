"""Loggers beside the run's own log: TensorBoard for real, and what cannot be opened."""

import pytest

from jaxembed.training import RunLog, check_logger, open_logger, read_log


def test_tensorboard_gets_what_the_log_gets(tmp_path):
    logger = open_logger("tensorboard", tmp_path, {}, 0)
    log = RunLog(tmp_path, loggers=[logger])
    log.write(1, "train", {"loss": 2.0})
    log.write(1, "evaluation", {"ndcg@10": 0.5})
    log.close()
    assert [record["kind"] for record in read_log(tmp_path / "log.jsonl")] == [
        "train",
        "evaluation",
    ]
    (file,) = (tmp_path / "tensorboard").iterdir()
    written = file.read_bytes()
    assert b"train/loss" in written
    assert b"evaluation/ndcg_10" in written  # "@" is none of the characters it knows


@pytest.mark.parametrize(("step", "kept"), [(0, []), (1, [0, 1]), (2, [0, 1, 2])])
def test_a_log_goes_on_behind_the_checkpoint_or_from_nothing(tmp_path, step, kept):
    log = RunLog(tmp_path)
    for number in range(3):
        log.write(number, "train", {"loss": 2.0})
    log.close()
    RunLog(tmp_path, from_step=step).close()
    assert [record["step"] for record in read_log(tmp_path / "log.jsonl")] == kept


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clearml", "unknown logger 'clearml'; choose of tensorboard, wandb, trackio"),
        ("trackio", r'the logger trackio needs the package trackio: pip install "jaxembed\[log\]"'),
    ],
)
def test_a_logger_that_cannot_be_opened_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        check_logger(name)
