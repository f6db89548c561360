"""Environment steps trained in a second, beside sb3-contrib's RecurrentPPO.

    python -m benchmarks.agent_throughput --sb3-python PYTHON

`PYTHON` is an interpreter with sb3-contrib and popgym; it may be this one,
which needs popgym too. popgym's RepeatPreviousEasy, 32 copies, an LSTM of 64
units, segments of 64 steps, two threads each. RecurrentPPO learns once from
each batch (`n_epochs=1`), and as it does by default (10 times). All in turns,
in processes of their own; the fastest of the rounds counts.
"""

import argparse
import json
import subprocess
import sys

from benchmarks.results import table

COPIES, SEGMENT, UNITS = 32, 64, 64
OURS = """
import json, sys, time
import keras
from keras_sparse_rl import agents, environments
copies, segment, units, kind, rounds = {arguments}
if kind == "in-graph":
    environment = environments.RepeatPrevious(batch_size=copies)
else:
    from popgym.envs.repeat_previous import RepeatPreviousEasy
    environment = environments.GymnasiumEnvironment(RepeatPreviousEasy, copies)
agent = agents.ActorCriticAgent(
    environment.time_step_spec(), environment.action_spec(),
    agents.actor_critic_model(
        environment.observation_spec(), environment.action_spec(),
        core=keras.layers.LSTM(units)),
    keras.optimizers.Adam(1e-3, global_clipnorm=1.0))
times = []
class Clock(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()
    def on_epoch_end(self, epoch, logs=None):
        times.append(time.perf_counter() - self.start)
agents.train(agent, environment, epochs=rounds + 1, steps_per_epoch=10,
             segment_length=segment, callbacks=[Clock()], verbose=0,
             jit_compile=True)
print(json.dumps([10 * copies * segment / t for t in times[1:]]))
"""
THEIRS = """
import json, time
import torch
torch.set_num_threads(2)
from popgym.envs.repeat_previous import RepeatPreviousEasy
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.env_util import make_vec_env
copies, segment, units, kind, rounds = {arguments}
model = RecurrentPPO(
    "MlpLstmPolicy", make_vec_env(RepeatPreviousEasy, copies),
    n_steps=segment, batch_size=copies * segment, n_epochs=kind,
    policy_kwargs=dict(lstm_hidden_size=units, net_arch=[64]))
model.learn(copies * segment)
rates = []
for _ in range(rounds):
    start = time.perf_counter()
    model.learn(3 * copies * segment)
    rates.append(3 * copies * segment / (time.perf_counter() - start))
print(json.dumps(rates))
"""


def measure(python, program, kind, rounds):
    """Steps a second of each round."""
    source = program.format(
        arguments=repr((COPIES, SEGMENT, UNITS, kind, rounds))
    )
    done = subprocess.run(
        [python, "-c", source], capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sb3-python", help="with sb3-contrib and popgym")
    parser.add_argument("--turns", type=int, default=2)
    arguments = parser.parse_args()
    kinds = {
        "ours, in-graph": (sys.executable, OURS, "in-graph"),
        "ours, popgym": (sys.executable, OURS, "popgym"),
    }
    if arguments.sb3_python:
        theirs = (arguments.sb3_python, THEIRS)
        kinds["RecurrentPPO, n_epochs=1"] = (*theirs, 1)
        kinds["RecurrentPPO, n_epochs=10"] = (*theirs, 10)
    else:
        print("no --sb3-python: RecurrentPPO is left out")
    rates = {name: [] for name in kinds}
    for _ in range(arguments.turns):
        for name, kind in kinds.items():
            rates[name] += measure(*kind, rounds=3)
            print(name, [round(rate) for rate in rates[name]], flush=True)
    peer = max(rates.get("RecurrentPPO, n_epochs=1", [float("nan")]))
    rows = [
        [name, f"{max(found):,.0f}", f"{max(found) / peer:.1f}"]
        for name, found in rates.items()
    ]
    header = ["", "steps a second", "times RecurrentPPO, n_epochs=1"]
    print(table(header, rows))


if __name__ == "__main__":
    main()
