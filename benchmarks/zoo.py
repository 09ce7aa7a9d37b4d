"""The models that ``python -m cvperf.benchmarks.optimize_models`` goes through."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

LIBRARIES = ("torchvision", "torchvision.segmentation", "timm", "torchvision.detection")


@dataclass(frozen=True)
class Entry:
    """One model of a library.

    Attributes:
        library: of :data:`LIBRARIES`.
        name: as the library's own constructor takes it.
    """

    library: str
    name: str

    @property
    def key(self) -> str:
        """What rows are kept by and ``--only`` matches."""
        return f"{self.library}/{self.name}"

    def build(self) -> nn.Module:
        """The model in evaluation mode with the weights that its library draws."""
        model: nn.Module
        if self.library == "timm":
            import timm

            model = timm.create_model(self.name, pretrained=False)
        else:
            from torchvision.models import get_model

            keywords = {} if self.library == "torchvision" else {"weights_backbone": None}
            keywords |= _KEYWORDS.get(self.name, {})
            model = get_model(self.name, weights=None, **keywords)
        return model.eval()

    def side(self, model: nn.Module) -> int:
        """Height and width of the image that the library itself uses, in pixels."""
        if self.library == "timm":
            return int(model.pretrained_cfg["input_size"][-1])  # type: ignore[index]
        from torchvision.models import get_model_weights

        transforms = next(iter(get_model_weights(self.name))).transforms()
        size = getattr(transforms, "crop_size", None) or transforms.resize_size
        return int(size[0])

    @property
    def family(self) -> str:
        """The file of the library that defines it."""
        if self.library == "timm":
            from timm.models import _registry

            return str(_registry._model_to_module[self.name])
        from torchvision.models import get_model_builder

        return get_model_builder(self.name).__module__.rsplit(".", 1)[-1]


# googlenet's and inception's own constructors draw every weight by scipy, which takes half a
# minute; heads for training only are no part of a model in evaluation mode.
_KEYWORDS: Mapping[str, Mapping[str, Any]] = {
    "googlenet": {"init_weights": False, "aux_logits": False},
    "inception_v3": {"init_weights": False, "aux_logits": False},
}

LEFT_OUT: Mapping[str, str] = {
    "torchvision/regnet_y_128gf": "645 million weights: its float64 copy and ours pass 24 GB",
    "torchvision/vit_h_14": "632 million weights: its float64 copy and ours pass 24 GB",
    "torchvision.detection/keypointrcnn_resnet50_fpn": "shares all but its head with Mask R-CNN",
}
"""Models that are not run, and why."""

TIMM: Sequence[str] = (
    "resnet18d", "resnet26t", "resnetblur50", "resnetaa50", "wide_resnet50_2", "resnext50_32x4d",
    "ecaresnet26t", "seresnext26d_32x4d", "skresnet18", "skresnext50_32x4d", "gcresnet33ts",
    "resnetv2_50", "resnetv2_50x1_bit", "nf_resnet50", "nf_regnet_b0", "eca_nfnet_l0",
    "dm_nfnet_f0", "regnetx_008", "regnety_016", "regnetz_b16", "efficientnet_b0",
    "efficientnet_lite0", "efficientnetv2_rw_t", "tf_efficientnetv2_b0", "mobilenetv2_100",
    "mobilenetv3_small_100",
    "mobilenetv3_large_100", "tf_mobilenetv3_large_075", "mobilenetv4_conv_small",
    "mobilenetv4_hybrid_medium", "mnasnet_100", "semnasnet_100", "spnasnet_100", "fbnetc_100",
    "fbnetv3_b", "mixnet_s", "tf_mixnet_s", "hardcorenas_a", "lcnet_050", "tinynet_a", "tinynet_e",
    "mobileone_s0", "mobileone_s1", "repvgg_a0", "repvgg_a2", "gernet_s", "convnext_atto",
    "convnext_tiny", "convnextv2_atto", "dla34", "dla60_res2net", "dpn68", "hrnet_w18_small",
    "res2net50_14w_8s", "res2next50", "resnest14d", "selecsls42b", "tresnet_m", "ese_vovnet19b_dw",
    "ese_vovnet39b", "legacy_xception", "xception41", "inception_v4", "inception_resnet_v2",
    "nasnetalarge", "pnasnet5large", "ghostnet_100", "ghostnetv2_100", "repghostnet_100",
    "rexnet_100", "cspresnet50", "cspresnext50", "cspdarknet53", "darknet53", "edgenext_xx_small",
    "fastvit_t8", "starnet_s1", "hgnet_tiny", "hgnetv2_b0", "csatv2", "densenet121",
    "densenetblur121d", "legacy_seresnet18", "legacy_senet154", "bat_resnext26ts", "halonet26t",
    "lambda_resnet26t", "botnet26t_256", "visformer_tiny", "vgg11_bn", "repvit_m0_9", "shvit_s1",
    "fasternet_t0", "inception_next_atto", "mambaout_femto", "rdnet_tiny", "convmixer_768_32",
    "poolformer_s12", "coatnet_nano_rw_224", "mobilevit_xs", "mobilevitv2_050",
    "efficientformer_l1", "efficientvit_b0", "efficientvit_m0", "levit_128", "focalnet_tiny_srf",
    "nextvit_small", "vit_tiny_patch16_224",
)  # fmt: skip
"""At least one of each convolutional family, and hybrids with attention."""


def entries() -> list[Entry]:
    """Every model that is run, library by library."""
    from torchvision import models

    names: Mapping[str, Callable[[], Sequence[str]]] = {
        "torchvision": lambda: models.list_models(module=models),
        "torchvision.segmentation": lambda: models.list_models(module=models.segmentation),
        "timm": lambda: TIMM,
        "torchvision.detection": lambda: models.list_models(module=models.detection),
    }
    every = [Entry(library, name) for library in LIBRARIES for name in names[library]()]
    return [entry for entry in every if entry.key not in LEFT_OUT]
