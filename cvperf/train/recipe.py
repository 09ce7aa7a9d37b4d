"""What a recipe may say: the sections of its YAML file, with their defaults.

A recipe is data: a file that ships in ``cvperf/train/recipes`` or one of yours. Its keys are the
fields below, each optional but ``data`` and ``model``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Change:
    """What is done to the training images, in this order; those to validate and test on stay."""

    imbalance: float = 1.0
    """Keep one in so many images of the classes ``minority``."""
    minority: list[Any] = field(default_factory=list)
    """Names or numbers; empty: the second half of the classes."""
    per_class: int = 0
    """Keep so many images of each class; 0: all."""
    label_noise: float = 0.0
    """Give this share of them a wrong class."""
    outliers: float = 0.0
    """Give this share of them a far value in place of their number (regression)."""
    outlier_distance: float = 10.0
    """How far, in standard deviations of the numbers; up or down."""
    bootstrap: bool = False
    """Draw as many as there are, with replacement: each member of an ensemble its own."""
    resample: str = ""
    """Make classes alike: ``over``, ``under``, ``cluster-centroids``, ``smote`` or ``adasyn``."""


@dataclass
class Data:
    """Which images: ``name`` of :func:`cvperf.data.load`, ``options`` its further arguments."""

    name: str = "???"  # OmegaConf's sign for a value that must be given
    options: dict[str, Any] = field(default_factory=dict)
    augment: list[Any] = field(default_factory=list)
    """Of training images: names or mappings for ``cvperf.data.transforms.build``."""
    augment_batch: list[Any] = field(default_factory=list)
    """The same for whole batches, one draw a batch: coarser, and free where images are small."""
    prepare: list[Any] = field(default_factory=list)
    """Of every image: resize and the like."""
    mean: list[float] = field(default_factory=lambda: [0.5])
    std: list[float] = field(default_factory=lambda: [0.5])
    """Of the pixels, which lie in 0 to 1; a number a channel, or one for all."""
    change: Change = field(default_factory=Change)
    limit: int = 0
    """Use so many training images; 0: all. For trying a recipe."""
    holdout: float = 0.0
    """Share of the training images to validate on; 0: the set has a split of its own for it."""
    split_seed: int = 0
    """Of the holdout, ``change``, ``limit`` and ``shift``: the same whatever the run's seed."""
    test: str = "test"
    """The split whose figures are the run's answer; empty: there is none."""
    shift: list[Any] = field(default_factory=list)
    """Done to images of ``test`` alone, before ``prepare``: as ``augment``, but the same each time
    and in each run."""
    test_limit: int = 0
    """Test on so many of its images, always the same; 0: all."""
    workers: int = 0
    """Processes that read and augment; 0: the training process itself."""


@dataclass
class Model:
    """Which network: ``name`` and ``options`` of :func:`cvperf.models.create_model`; to detect, of
    :func:`cvperf.models.detection.create_detector`."""

    name: str = "???"
    options: dict[str, Any] = field(default_factory=dict)
    weights: str = ""
    """A local file of pretrained weights, or ``package:NAME`` for a pinned package of them; the
    head may have other classes."""
    narrow_from: str = ""
    """Folder of a wider network's run, or a recipe, which is trained first: the network starts with
    the channels of its largest filters (Li et al., 2017). For ``small_cnn``."""
    freeze: list[str] = field(default_factory=list)
    """Patterns of parameters that stay as they are; their batch norms stay in evaluation mode."""
    probe: bool = False
    """The head starts as the logistic regression of what the layers before it make of the training
    images; trained on with them it is LP-FT (Kumar et al., ICLR 2022)."""
    channels_last: bool = True


@dataclass
class Loss:
    """``cross_entropy``, ``focal``, ``bce`` (multi-label), ``mse``, ``mae`` or ``huber``; for
    detection ``weights`` alone."""

    name: str = "cross_entropy"
    label_smoothing: float = 0.0
    gamma: float = 2.0
    """Of the focal loss."""
    delta: float = 1.0
    """Where Huber's loss turns from a square to a line."""
    class_weights: Any = ""
    """A number a class, or made from how frequent each is: ``inverse`` or ``effective``. Of
    ``bce`` they weigh a class where it is there; ``inverse`` is absences for each presence."""
    adjust: float = 0.0
    """Add so many times the logarithm of a class's frequency to its logit while training; 1 makes
    rare classes as likely as others afterwards (Menon et al., ICLR 2021)."""
    mixup: float = 0.0
    """Alpha of the beta distribution by which two images are mixed; 0: never."""
    cutmix: float = 0.0
    """The same for pasting a part of one into the other; with both, one of them by chance."""
    weights: dict[str, float] = field(default_factory=dict)
    """Of detection, whose model has losses of its own: by what each is multiplied, such as
    ``loss_mask: 2``; by default 1."""


@dataclass
class Detection:
    """Of task ``detection``."""

    sizes: list[int] = field(default_factory=list)
    """Of the shorter side of training images: each batch is resized to one of them by chance.
    Empty: the model's own size."""


@dataclass
class Optimizer:
    """``name`` is a class of ``torch.optim`` in lower case; ``options`` its further arguments."""

    name: str = "sgd"
    lr: float = 0.1
    weight_decay: float = 0.0
    """Of weights; biases and batch norms have none."""
    options: dict[str, Any] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    """Pattern of parameters: factor of their learning rate."""
    clip: float = 0.0
    """Longest norm of the gradient; 0: any."""
    parts: int = 1
    """A batch is computed in so many parts, whose gradients are added up."""


@dataclass
class Schedule:
    """``constant``, ``cosine``, ``linear``, ``step`` or ``plateau``, after a linear warm-up."""

    name: str = "cosine"
    warmup: float = 0.0
    """Epochs."""
    milestones: list[float] = field(default_factory=list)
    """Epochs after which ``step`` multiplies by ``factor``."""
    factor: float = 0.1
    """Of ``step`` and ``plateau``."""
    patience: int = 3
    """Epochs without a better figure after which ``plateau`` multiplies."""
    last: float = 0.0
    """Share of the learning rate at the end of ``cosine`` and ``linear``."""


@dataclass
class Watch:
    """Which validation figure tells the best epoch, and when to stop early."""

    figure: str = "accuracy"
    highest: bool = True
    patience: int = 0
    """Stop after so many epochs without a better figure; 0: never."""
    least: float = 0.0
    """By how much a figure must be better to count."""


@dataclass
class Thresholds:
    """From which probability a class counts as present, where an image has several."""

    tune: str = ""
    """Choose them on the validation images for the best ``f1``, ``accuracy`` or
    ``balanced_accuracy``; the last figures then have ``tuned_f1`` and so on beside those at 0.5.
    Empty: 0.5."""


@dataclass
class Distil:
    """Learn from a teacher too: ``(1 - weight) * loss + weight * distance(teacher)``."""

    teacher: str = ""
    """Folder of its run, or a recipe, which is trained first; empty: there is none."""
    weight: float = 0.9
    temperature: float = 4.0
    """By which both logits are divided before softmax."""
    distance: str = "kl"
    """``kl`` (Hinton et al., 2015), ``euclidean`` of logits (Ba and Caruana, 2014), or ``hard``:
    cross-entropy with the teacher's answers."""


@dataclass
class Adapt:
    """Fit the model to another domain, whose labels it is not told: ``loss + weight * method``.

    The run is tested on that domain; it is validated on images of its own set, as ever.
    """

    name: str = ""
    """Of :func:`cvperf.data.load`, with the classes of the recipe's set; empty: there is none."""
    options: dict[str, Any] = field(default_factory=dict)
    look: list[Any] = field(default_factory=list)
    """Transforms that make the domain out of the set's images, before ``data.prepare``."""
    method: str = "coral"
    """Covariances of logits alike (Sun and Saenko, 2016), or ``information``: sure answers, all
    classes among them (Liang et al., 2020)."""
    weight: float = 1.0
    """0: the domain is only tested on."""


@dataclass
class Ensemble:
    """Several models, trained one after the other, whose answers are combined."""

    members: int = 1
    kind: str = "average"
    """Of probabilities; or ``vote``, ``bagging`` (each sees a bootstrap sample), ``stacking`` (a
    logistic regression on validation images), ``boosting`` (SAMME, Zhu et al., 2009)."""


@dataclass
class Repeat:
    """Carry the recipe out several times, for the mean and the spread of its figures."""

    times: int = 1
    key: str = "seed"
    """Goes up by one from run to run, such as ``data.options.fold``."""


@dataclass
class Processes:
    """What processes under torchrun send each other; one process by itself sends nothing.

    By default each has all weights and gradients are all-reduced (DistributedDataParallel).
    """

    compress: str = "none"
    """Gradients as ``fp16``, ``bf16`` or ``powersgd`` (Vogels et al., 2019)."""
    rank: int = 1
    """Of PowerSGD's factors."""
    factors: str = "fp32"
    """What PowerSGD's factors are sent as: ``fp32``, ``fp16`` or ``bf16``."""
    compress_after: int = 100
    """Steps whose gradients are whole before PowerSGD starts; 2 at least."""
    average_every: int = 0
    """Local SGD: weights are averaged every so many steps, gradients are not sent; 0: never."""
    average_after: int = 0
    """Steps whose gradients are all-reduced before local SGD starts."""
    shard: bool = False
    """Each process keeps a part of weights, gradients and optimiser state (FSDP2)."""


@dataclass
class Recipe:
    """All of it."""

    about: str = ""
    cost: str = ""
    """What it takes, such as ``"2 minutes on 2 cores"``."""
    task: str = "classification"
    """Or ``detection``: boxes, and masks where the model finds them."""
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    loss: Loss = field(default_factory=Loss)
    detection: Detection = field(default_factory=Detection)
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)
    watch: Watch = field(default_factory=Watch)
    thresholds: Thresholds = field(default_factory=Thresholds)
    distil: Distil = field(default_factory=Distil)
    adapt: Adapt = field(default_factory=Adapt)
    ensemble: Ensemble = field(default_factory=Ensemble)
    repeat: Repeat = field(default_factory=Repeat)
    processes: Processes = field(default_factory=Processes)
    pixel_neighbours: int = 0
    """Tell the test accuracy of so many nearest neighbours among the training images' pixels too;
    0: do not."""
    epochs: int = 10
    batch_size: int = 128
    """Images a step, of all processes together."""
    average: float = 0.0
    """Decay of the exponential moving average of the weights that is validated; 0: none."""
    precision: str = "float32"
    """Or ``bfloat16``: products in bfloat16, weights in float32."""
    seed: int = 0
    kernels: list[str] = field(default_factory=lambda: ["conv2d"])
    """What :func:`cvperf.use` overrides; empty: nothing."""
    checkpoint_minutes: float = 10.0
    """A checkpoint at the end of each epoch, and this often within it."""
