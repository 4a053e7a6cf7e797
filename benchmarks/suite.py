"""The benchmark suite: every question that this machine can answer, beside the peers.

    python -m benchmarks                    # everything; some hours, and nothing else should run
    python -m benchmarks --quick            # the same with tiny sizes, to see that it runs
    python -m benchmarks --only loss_time streamed_loss --peers sentence-transformers
    python -m benchmarks --dtype bfloat16   # questions of speed, on a GPU beside PyTorch there

Each question is one file, which runs in a process of its own and says what it measures in --help.
Peers get environments, made once. In the output folder are then for each question a table (.md),
every measured value (.json), a picture (.png) and what it printed (.log), and report.md over all.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from environments import ENVIRONMENTS, open_environment
from peer import ST, DType
from regression import check
from summary import write_report

HERE = Path(__file__).parent
LIBTPU = Path(sys.prefix) / "libtpu"
PYTHON_FLAGS = {
    "sentence-transformers": "--torch-python",
    "representax": "--representax-python",
    "mteb": "--mteb-python",
}
FLAX = "flax-transformers"  # is in our own environment
Peer = Literal["sentence-transformers", "representax", "mteb", "flax-transformers", "none"]


@dataclass(frozen=True)
class Question:
    """A benchmark: its file, its flags, and the peers that it knows."""

    name: str
    full: str = ""
    quick: str | None = ""  # None: there is no small form of it
    peers: tuple[str, ...] = ()
    without_flax: str = ""  # flags where there are no Flax models of transformers
    missing: Callable[[], str | None] = lambda: None  # says what it lacks here
    without_libtpu: str = ""
    knows_dtype: bool = False


def no_libtpu() -> str | None:
    return None if LIBTPU.is_dir() else "libtpu is not installed; sh scripts/test.sh does it"


TINY = "--batch 8 --rounds 1"
BOTH = ("sentence-transformers", "representax")
QUESTIONS = [
    Question("programs"),
    Question("loss_time", "--n 256 1024 4096", "--n 128 --d 32 --rounds 3", BOTH, knows_dtype=True),
    Question("loss_memory", "--run", "--n 64 --d 32 --only ranking cosent gist"),
    Question(
        "streamed_loss",
        "--n 1024 2048 4096 8192 16384 32768 65536",
        "--n 256 512 --d 64 --block-size 128 --rounds 3",
        BOTH,
        knows_dtype=True,
    ),
    Question(
        "cached_step",
        "--batch 64 256",
        "--batch 16 --chunk 8 --tokens 16 --rounds 3",
        BOTH,
        knows_dtype=True,
    ),
    Question(
        "text_speed",
        "--models all-MiniLM-L6-v2 bert-base",
        "--texts 64 --batch 16 --steps 1 --rounds 3",
        BOTH,
        without_flax="--sides ours 'ours, packed'",
        knows_dtype=True,
    ),
    Question(
        "encoder_speed",
        "--models minilm bert-base",
        "--models tiny --batch 8 --rounds 3",
        ("sentence-transformers",),
        knows_dtype=True,
    ),
    Question(
        "startup",
        "",
        "--batch 16 --tokens 16 --rounds 1 --topology v5e:2x2 --tpu-model tiny --tpu-batch 8",
        without_flax="--sources jaxembed",
        without_libtpu="--topology None",
        knows_dtype=True,
    ),
    Question("finetune", "", "--steps 8 --batch 16 --rounds 1", BOTH, knows_dtype=True),
    Question("feeding", "", "--quick", ("sentence-transformers",)),
    Question("mining", "", "--rows 2000 --baseline-queries 500"),
    Question(
        "scaling",
        "",
        "--topologies v5e:2x2 v5e:2x4 --rows 16 --tokens 32 --mini-batch 8 --fsdp 4",
        missing=no_libtpu,
    ),
    Question(
        "quality",
        "",
        "--tasks WordNet --steps 8 --batch 16 --every 4 --seeds 1 --work runs/quality-quick",
        BOTH,
    ),
    Question("checkpoints", "", TINY, ("sentence-transformers",)),
    Question("objectives_learn", "", "--only softmax --steps 3"),
    Question(
        "mined_negatives", "", "--seeds 0 --steps 2 --batch 16 --work runs/mined-negatives-quick"
    ),
    Question("evaluations", "", None),
    Question("mteb_scores", "", None, ("mteb",)),
]


@dataclass(frozen=True)
class Config:
    """Runs benchmarks one after the other, and reports over all of them."""

    only: tuple[str, ...] = ()
    """Questions by name: programs, loss_time, loss_memory, streamed_loss, cached_step, text_speed,
    encoder_speed, startup, finetune, feeding, mining, scaling, quality, checkpoints,
    objectives_learn, mined_negatives, evaluations, mteb_scores. All if empty."""
    peers: tuple[Peer, ...] = ("sentence-transformers", "representax", "flax-transformers", "mteb")
    """The libraries beside ours; none for none."""
    dtype: DType = "float32"
    """In float32 the libraries compute on the CPU, and ours beside them too. In bfloat16 the
    questions of speed are asked on the GPU, where there is one, beside PyTorch alone."""
    quick: bool = False
    """Takes tiny sizes, to see that it runs, and leaves out what has no small form; minutes."""
    check: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Compares the results with those stored in this folder: ratios that fell, and figures of
    compiled programs that changed, make the exit status 1."""
    environments: Path = Path("runs/environments")
    """Where the peers are installed."""
    output: Path | None = None
    """Where tables, values, pictures and the report are written: runs/benchmarks if None, with
    -bfloat16 and -quick behind it as asked for."""

    @property
    def folder(self) -> Path:
        dtype = "" if self.dtype == "float32" else f"-{self.dtype}"
        return self.output or Path(f"runs/benchmarks{dtype}{'-quick' if self.quick else ''}")


def run_command() -> None:
    """Runs the suite with the flags of the command line."""
    try:
        sys.exit(main(tyro.cli(Config, description=__doc__, prog="python -m benchmarks")))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def main(config: Config) -> int:
    """Answers the questions; returns 1 if one or a peer could not be, or sides disagree."""
    names = [question.name for question in QUESTIONS]
    if unknown := [name for name in config.only if name not in names]:
        raise ValueError(f"there is no question {unknown[0]}; there are {', '.join(names)}")
    chosen = [one for one in QUESTIONS if not config.only or one.name in config.only]
    if config.dtype != "float32":
        asked = [question.name for question in QUESTIONS if question.knows_dtype]
        if unasked := [name for name in config.only if name not in asked]:
            raise ValueError(f"{unasked[0]} is not asked in {config.dtype}; {', '.join(asked)} are")
        chosen = [question for question in chosen if question.knows_dtype]
    wanted = {name for question in chosen for name in question.peers} & peers_of(config)
    pythons, lacking = {}, []
    for name in ENVIRONMENTS:
        if name in wanted:
            try:
                pythons[name] = open_environment(name, config.environments)
            except ValueError as error:
                lacking.append(name)
                print(f"left out: {error}")
    config.folder.mkdir(parents=True, exist_ok=True)
    failed = [one.name for one in chosen if not answered(one, config, pythons)]
    file = write_report(config.folder, names)
    print(f"report: {file}")
    if failed:
        print(f"without an answer, or with sides that disagree: {', '.join(failed)}")
    differences = check(config.folder, config.check) if config.check else []
    print(*differences, sep="\n")
    return int(bool(failed or lacking or differences))


def peers_of(config: Config) -> set[str]:
    """Those that are beside ours: in bfloat16 PyTorch alone."""
    return {*config.peers} if config.dtype == "float32" else {*config.peers} & {ST}


def answered(question: Question, config: Config, pythons: dict[str, Path]) -> bool:
    """Runs one benchmark; says how long it took, and why if it failed."""
    peers = [name for name in question.peers if name in pythons]
    lacking = question.missing()
    if question.peers == ("mteb",) and not peers:
        lacking = "mteb is not among --peers"
    flags = question.quick if config.quick else question.full
    if flags is None:
        lacking = "it has no quick form"
    if lacking or flags is None:
        print(f"{question.name}: left out, {lacking}", flush=True)
        return True
    words = [sys.executable, str(HERE / f"{question.name}.py"), "--output", str(config.folder)]
    for group in (flags, *conditions(question, config)):
        words += shlex.split(group)
    for name in peers:
        words += [PYTHON_FLAGS[name], str(pythons[name])]
    words += ["--dtype", config.dtype] if question.knows_dtype else []
    if config.dtype == "float32":  # where the peers compute
        seen = os.environ | ({"JAX_PLATFORMS": "cpu"} if peers else {})
    else:  # JAX leaves memory of the GPU to PyTorch
        seen = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    log = config.folder / f"{question.name}.log"
    (config.folder / f"{question.name}.json").unlink(missing_ok=True)  # what is old answers nothing
    print(f"{question.name} …", end=" ", flush=True)
    begin = time.perf_counter()
    with log.open("w") as said:
        status = subprocess.run(words, stdout=said, stderr=subprocess.STDOUT, env=seen).returncode
    print(f"{(time.perf_counter() - begin) / 60:.1f} min{outcome(question, config)}", flush=True)
    if status:
        print(f"  exit status {status}: {last_line(log)} ({log})", flush=True)
    return status == 0


def conditions(question: Question, config: Config) -> list[str]:
    """Returns flags for what this machine lacks, or nobody asked for."""
    flax = FLAX in peers_of(config) and int(version("transformers").split(".")[0]) < 5
    return [
        "" if flax else question.without_flax,
        question.without_libtpu if no_libtpu() else "",
    ]


def outcome(question: Question, config: Config) -> str:
    """Counts the targets that are met."""
    file = config.folder / f"{question.name}.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    bounded = [target for target in found.get("targets", ()) if target["met"] is not None]
    return f", {sum(t['met'] for t in bounded)} of {len(bounded)} targets met" if bounded else ""


def last_line(log: Path) -> str:
    lines = log.read_text().strip().splitlines()
    return lines[-1] if lines else "it said nothing"
