"""Turns the CelebAMask-HQ download into photos and label maps to train on.

Expects CelebA-HQ-img/ and CelebAMask-HQ-mask-anno/ as they are unpacked. Writes images/, labels/ (class numbers, in
this network's order), labels.json (that order), train.txt, val.txt and test.txt. Interrupted, it goes on when it is run
again. If list_eval_partition.txt of CelebA lies beside the photos, its split is taken; else one is drawn.

The CelebAMask-HQ agreement allows non-commercial research only.

Examples:
  python scripts/prepare_celebamask.py --source CelebAMask-HQ --output_dir celebamask
  python scripts/prepare_celebamask.py --source CelebAMask-HQ --output_dir celebamask --size 256 --val_count 500
"""

import os
import sys

import missing  # noqa: F401
from absl import app, flags, logging

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

FLAGS = flags.FLAGS
flags.DEFINE_string("source", None, "Folder of the download.", required=True)
flags.DEFINE_string("output_dir", None, "Folder for everything that is written.", required=True)
flags.DEFINE_integer("size", 512, "Side of the photos and label maps.", lower_bound=32)
flags.DEFINE_integer("val_count", 1000, "How many faces are drawn to validate with.", lower_bound=1)
flags.DEFINE_integer("test_count", 1000, "How many faces are drawn to test with.", lower_bound=0)
flags.DEFINE_integer("seed", 0, "Seed of the draw.", lower_bound=0)
flags.DEFINE_integer("workers", None, "Number of processes. Default: one a core.", lower_bound=1)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}; every option is a flag, see --help")
    logging.set_verbosity(logging.WARNING)
    from keras_bisenet.data import celebamask
    from keras_bisenet.data.folder import DataError

    try:
        counts = celebamask.prepare(
            FLAGS.source,
            FLAGS.output_dir,
            FLAGS.size,
            FLAGS.val_count,
            FLAGS.test_count,
            FLAGS.seed,
            FLAGS.workers,
        )
    except DataError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("error: interrupted; run again, which goes on")
    print(f"{', '.join(f'{split} {count:,}' for split, count in counts.items())}; everything is in {FLAGS.output_dir}")


if __name__ == "__main__":
    app.run(main)
