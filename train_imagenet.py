#!/usr/bin/env python
"""Train a network by a recipe: python train_imagenet.py --model idle_mbv3 [--data KIND:PATH] [--hvd].

The recipe is configs/<model>.yaml unless --config names another; --set a.b=c changes a key of it.
`python train_imagenet.py --model idle_mbv3 --data digits` runs anywhere in a few minutes.
"""

import sys

from gluon_effnets.commands.train import main

if __name__ == "__main__":
    sys.exit(main())
