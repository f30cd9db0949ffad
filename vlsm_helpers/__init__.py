"""Segment medical images with vision-language models, and improve them by ensembling. Not for clinical use.

Train a member:      settings = vlsm.start("tiny")
                     train, val, test = (vlsm.SegmentationDataset(vlsm.load_split("phantom_endoscopy", split), 128)
                                         for split in ("train", "val", "test"))
                     member = vlsm.build("unet_d", settings.profile)
                     vlsm.train(member, train, val, "runs/first", epochs=1)
                     vlsm.summarise(vlsm.evaluate(member, test), model="UNet-D", split="test")
Fuse stored members: val, test = vlsm.tiny_store("val"), vlsm.tiny_store("test")
                     rule = vlsm.WeightedMean(of_logits=True).fit(val.validation(128))
                     vlsm.mask_dice(rule.predict(test.logits(128)), test.masks(128)).mean()
Segment new images:  vlsm.train_ensemble("phantom_endoscopy").save("my_ensemble")
                     vlsm.Predictor.load("my_ensemble")("image.png").mask
Look at it:          vlsm.FusionExplorer(vlsm.tiny_store("val"))

Members, for `build`: unet_d (the paper's light CNN), unet_imagenet and smp_unet; clipseg, biomedclipseg and cris, which take a
prompt; ensemble_a, ensemble_b and ensemble_c, hybrids of both. Datasets, for `load_split`: `vlsm data list` names them; phantoms
are drawn when they are first used; `[:40]` takes the first 40 samples. With `augment=True` a training dataset is augmented.
`evaluate` scores masks at their original size, `mask_dice` at the size of what it is given. A folder that you name is relative
to the working directory.

Each name is imported when it is first used. The parts below, from `data` to `experiments`, hold the rest.
"""

import os
from importlib.metadata import version

import lazy_loader

# Read by OpenMP when PyTorch is imported. By default its threads wait by spinning: with another busy program on two
# cores a training step took up to twenty times as long; sleeping costs some 15 % where nothing else runs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = version("vlsm-helpers")

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["plots"],
    submod_attrs={
        "settings": ["start"],
        "data.samples": ["load_split"],
        "data.dataset": ["SegmentationDataset"],
        "models.factory": ["MEMBERS", "build"],
        "training.recipes": ["RECIPES"],
        "evaluation.scoring": ["evaluate", "predict", "summarise"],
        "evaluation.prompting": ["PromptedImages"],
        "evaluation.predictions": ["PredictionStore"],
        "course.shipped": ["tiny_store"],
        "metrics.overlap": ["mask_dice"],
        "metrics.statistics": ["paired_gain"],
        "fusion": ["RULES", "ShrunkMean", "WeightedMean"],
        "inference.predictor": ["Predictor"],
        "widgets": ["FusionExplorer", "PromptExplorer"],
        "experiments.runs": ["train"],
        "experiments.late_ensemble": ["train_ensemble"],
        "experiments.reference": ["measured"],
        "errors": ["CourseError"],
    },
)
