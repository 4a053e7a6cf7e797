"""State, step, sharding, optimizer, checkpoints and logs of a training run."""

from jaxembed.training.checkpoint import (
    CheckpointError as CheckpointError,
    Checkpoints as Checkpoints,
)
from jaxembed.training.compiled import (
    ProgramCost as ProgramCost,
    Traffic as Traffic,
    program_cost as program_cost,
)
from jaxembed.training.freezing import (
    layer_scales as layer_scales,
    trainable as trainable,
    with_frozen as with_frozen,
)
from jaxembed.training.log import RunLog as RunLog, Screen as Screen, read_log as read_log
from jaxembed.training.lora import (
    init_lora as init_lora,
    merge_lora as merge_lora,
    with_lora as with_lora,
)
from jaxembed.training.optimizer import adamw as adamw, warmup_schedule as warmup_schedule
from jaxembed.training.plot import plot_run as plot_run
from jaxembed.training.sharding import (
    batch_sharding as batch_sharding,
    make_mesh as make_mesh,
    replicated as replicated,
)
from jaxembed.training.state import TrainState as TrainState, create_state as create_state
from jaxembed.training.step import build_train_step as build_train_step
