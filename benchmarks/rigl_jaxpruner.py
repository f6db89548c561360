"""RigL of google-research/jaxpruner on the task that top_kast.py wrote.

Runs in an environment of its own (jax 0.4.20, optax 0.1.7, flax 0.7.5,
numpy < 2, Python 3.11), against a checkout of jaxpruner:

    python rigl_jaxpruner.py CHECKOUT TASK.npz

Prints the test accuracy in percent.
"""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

checkout, task_path = sys.argv[1:]
sys.path.insert(0, checkout)

import jaxpruner  # noqa: E402
from jaxpruner import sparsity_distributions  # noqa: E402
from jaxpruner import sparsity_schedules  # noqa: E402

task = np.load(task_path)
order = task["order"]
steps = len(order)
params = {
    f"layer{i}": {
        "kernel": jnp.asarray(task[f"w{i}"]),
        "bias": jnp.zeros(task[f"w{i}"].shape[1]),
    }
    for i in range(3)
}


def logits(params, x):
    for i in range(3):
        x = x @ params[f"layer{i}"]["kernel"] + params[f"layer{i}"]["bias"]
        x = jax.nn.relu(x) if i < 2 else x
    return x


def loss(params, x, y):
    losses = optax.softmax_cross_entropy_with_integer_labels(
        logits(params, x), y
    )
    return losses.mean()


# RigL as published: a refresh every 100 steps until three quarters of the
# training, drop fraction 0.3 falling by cosine.
rigl = jaxpruner.RigL(
    sparsity_distribution_fn=functools.partial(
        sparsity_distributions.erk, sparsity=1 - float(task["density"])
    ),
    scheduler=sparsity_schedules.PeriodicSchedule(
        update_freq=100, update_start_step=1, update_end_step=steps * 3 // 4
    ),
    drop_fraction_fn=optax.cosine_decay_schedule(0.3, steps * 3 // 4),
)
schedule = optax.cosine_decay_schedule(float(task["rate"]), steps)
kernels = {k: {"kernel": True, "bias": False} for k in params}
optimizer = rigl.wrap_optax(
    optax.chain(
        optax.clip_by_global_norm(float(task["clipnorm"])),
        optax.trace(0.9),
        optax.add_decayed_weights(float(task["decay"]), kernels),
        optax.scale_by_schedule(lambda count: -schedule(count)),
    )
)
state = optimizer.init(params)
params = rigl.post_gradient_update(params, state)
images, labels = jnp.asarray(task["x"]), jnp.asarray(task["y"])


@jax.jit
def step(params, state, indices):
    forward = rigl.pre_forward_update(params, state)
    gradient = jax.grad(loss)(forward, images[indices], labels[indices])
    updates, state = optimizer.update(gradient, state, params)
    params = optax.apply_updates(params, updates)
    return rigl.post_gradient_update(params, state), state


for indices in order:
    params, state = step(params, state, indices)
kept = sum((np.asarray(params[k]["kernel"]) != 0).sum() for k in params)
total = sum(params[k]["kernel"].size for k in params)
print(f"density reached: {kept / total:.4f}", file=sys.stderr)
found = logits(params, jnp.asarray(task["x_test"])).argmax(-1)
print(100 * float((np.asarray(found) == task["y_test"]).mean()))
