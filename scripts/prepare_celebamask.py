"""Turns the CelebAMask-HQ download into photos and label maps to train on.

Expects CelebA-HQ-img/ and CelebAMask-HQ-mask-anno/ as they are unpacked. Writes images/, labels/ (class numbers, in
this network's order), labels.json (that order), train.txt, val.txt and test.txt. Run again, it resumes where it
stopped. If list_eval_partition.txt of CelebA lies beside the photos, its split is taken; else one is drawn.

The CelebAMask-HQ agreement allows non-commercial research only.

Examples:
  .venv/bin/python scripts/prepare_celebamask.py --source CelebAMask-HQ --output_dir celebamask
  .venv/bin/python scripts/prepare_celebamask.py --source CelebAMask-HQ --output_dir celebamask --size 256
"""

import command
from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_string("source", None, "Folder of the download.", required=True)
flags.DEFINE_string("output_dir", None, "Folder for everything that is written.", required=True)
flags.DEFINE_integer("size", 512, "Side of the photos and label maps.", lower_bound=32)
flags.DEFINE_integer("val_count", 1000, "How many faces are drawn to validate with.", lower_bound=1)
flags.DEFINE_integer("test_count", 1000, "How many faces are drawn to test with.", lower_bound=0)
flags.DEFINE_integer("seed", 0, "Seed of the draw.", lower_bound=0)
flags.DEFINE_integer("workers", None, "Number of processes. Default: one per core.", lower_bound=1)


def main(options):
    from keras_bisenet.data import celebamask

    counts = celebamask.prepare(
        options.source,
        options.output_dir,
        options.size,
        options.val_count,
        options.test_count,
        options.seed,
        options.workers,
    )
    found = ", ".join(f"{split} {count:,}" for split, count in counts.items())
    print(f"{found}; everything is in {options.output_dir}")


if __name__ == "__main__":
    command.start(main, interrupted="run it again to resume")
