"""Recipes that train in a second."""

TINY = """
model: idle_tiny
data: {source: "synthetic:32", image_size: 16, batch_size: 8, augment: none}
duration: 4it
optimizer: {name: nag, lr: 0.05, weight_decay: 1.0e-4, options: {momentum: 0.9}}
schedule: {name: cosine, final: 0.2}  # above 0, so that the last updates have an effect
evaluate_every: 4it
checkpoint_every: 2it
"""

STAGED = """
model: ds_mobilenet_tiny
model_options: {dropout: 0.2}
data: {source: "synthetic:32", image_size: 16, batch_size: 8, augment: none}
optimizer: {name: nag, lr: 0.05, options: {momentum: 0.9}}
evaluate_every: 4it
checkpoint_every: 2it
stages:
  - name: supernet
    task: slimmable
    task_options: {targets: ensemble, label_smoothing: 0.1}
    duration: 4it
    hooks: {ema: {decay: 0.9, warmup: false}}
  - name: recalibrate
    task: recalibrate
    task_options: {momentum: 0.1, evaluate: all}
    data: {batch_size: 16}
    duration: 2it
    checkpoint_every: 1it
  - name: gate
    task: gate
    task_options: {label_smoothing: 0.1, noise: true}
    optimizer: {name: sgd, lr: 0.1}
    schedule: {name: constant}
    duration: 4it
"""
STAGES = {"supernet": 4, "recalibrate": 2, "gate": 4}
