"""State, step, sharding, optimizer, checkpoints and logs of a training run."""

from jaxembed.training.checkpoint import (
    CheckpointError as CheckpointError,
    Checkpoints as Checkpoints,
)
from jaxembed.training.cluster import join_cluster as join_cluster
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
from jaxembed.training.held_out import build_loss as build_loss
from jaxembed.training.hosts import (
    LOST as LOST,
    HostError as HostError,
    Hosts as Hosts,
    LostHostError as LostHostError,
    end_process as end_process,
)
from jaxembed.training.library_log import library_log as library_log
from jaxembed.training.log import RunLog as RunLog, Screen as Screen, read_log as read_log
from jaxembed.training.loggers import (
    LOGGERS as LOGGERS,
    Logger as Logger,
    check_logger as check_logger,
    open_logger as open_logger,
)
from jaxembed.training.lora import (
    init_lora as init_lora,
    merge_lora as merge_lora,
    with_lora as with_lora,
)
from jaxembed.training.meeting import meet_hosts as meet_hosts
from jaxembed.training.optimizer import adamw as adamw, warmup_schedule as warmup_schedule
from jaxembed.training.plot import plot_run as plot_run
from jaxembed.training.sharding import (
    batch_sharding as batch_sharding,
    gather as gather,
    join_rows as join_rows,
    make_mesh as make_mesh,
    own_row_parts as own_row_parts,
    place_rows as place_rows,
    replicated as replicated,
    row_parts as row_parts,
    state_shardings as state_shardings,
    state_specs as state_specs,
)
from jaxembed.training.state import (
    TrainState as TrainState,
    abstract_state as abstract_state,
    create_state as create_state,
)
from jaxembed.training.step import build_train_step as build_train_step
