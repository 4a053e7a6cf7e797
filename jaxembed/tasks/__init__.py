"""Tasks: a loss with the data it learns from, and the training of one or several of them."""

from jaxembed.tasks.batches import BatchMaker as BatchMaker
from jaxembed.tasks.fit import fit as fit
from jaxembed.tasks.networks import Networks as Networks
from jaxembed.tasks.planning import PLANS as PLANS
from jaxembed.tasks.task import Task as Task, open_task as open_task
from jaxembed.tasks.together import Tasks as Tasks
