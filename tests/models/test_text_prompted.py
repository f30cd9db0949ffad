"""Models of the transformers library behind the one call: the real classes, tiny and random or shipped."""

import numpy as np
import pytest
import torch
from transformers import (
    AutoProcessor,
    CLIPConfig,
    CLIPModel,
    CLIPSegForImageSegmentation,
    CLIPTextConfig,
    Sam3Config,
    Sam3Model,
    Sam3Processor,
    Sam3VisionConfig,
    Sam3ViTConfig,
)
from transformers.models.sam3 import Sam3ImageProcessor

import vlsm_helpers as vlsm
from vlsm_helpers.errors import SettingsError
from vlsm_helpers.models import pretrained
from vlsm_helpers.models.text_prompted import TextPrompted


@pytest.fixture(scope="module")
def folder():
    return pretrained.find("tiny", pretrained.CLIPSEG)


@pytest.fixture(scope="module")
def processor(folder):
    return AutoProcessor.from_pretrained(folder)


@pytest.fixture(scope="module")
def sam3(processor):
    """SAM 3 with every part small and random, in float32; its tokenizer is the miniature CLIPSeg's."""
    torch.manual_seed(0)
    parts = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32, "dropout": 0.0}
    vision = Sam3VisionConfig(
        backbone_config=Sam3ViTConfig(
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=112,
            patch_size=14,
            pretrain_image_size=112,
            window_size=4,
            global_attn_indexes=[1],
        ),
        fpn_hidden_size=32,
        backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
    )
    text = CLIPTextConfig(
        vocab_size=len(processor.tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=32,
        projection_dim=32,
        eos_token_id=processor.tokenizer.eos_token_id,
    )
    config = Sam3Config(
        vision_config=vision.to_dict(),
        text_config=text.to_dict(),
        geometry_encoder_config=parts | {"num_layers": 1},
        detr_encoder_config=parts | {"num_layers": 1},
        detr_decoder_config=parts | {"num_layers": 1, "num_queries": 4},
        mask_decoder_config={"hidden_size": 32, "num_attention_heads": 2, "num_upsampling_stages": 2},
    )
    images = Sam3ImageProcessor(size={"height": 112, "width": 112})
    return TextPrompted(Sam3Model(config), Sam3Processor(images, processor.tokenizer))


def test_the_miniature_clipseg_predicts_what_the_courses_member_predicts(folder, processor):
    model = CLIPSegForImageSegmentation.from_pretrained(folder, dtype=torch.float32)
    bridge, member = TextPrompted(model, processor, padding=True), vlsm.build("clipseg", "tiny").eval()
    images = torch.randint(0, 256, (3, 3, 128, 128), generator=torch.Generator().manual_seed(0)) / 255
    prompts = ["a red circle", "", "a large white square, located in the top left"]
    with torch.no_grad():
        torch.testing.assert_close(bridge(images, prompts), member(images, prompts), atol=1e-4, rtol=1e-4)
        alone = bridge(images[:1], prompts[:1])
        torch.testing.assert_close(alone, member(images[:1], prompts[:1]), atol=1e-4, rtol=1e-4)


def test_sam3_gives_its_semantic_map_at_the_images_size(sam3):
    images = torch.rand(2, 3, 96, 80, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        both = sam3(images, ["a red circle", "a polyp"])
        assert both.shape == (2, 1, 96, 80)
        inputs = sam3.processor(
            images=list((255 * images).round().byte()), text=["a red circle", "a polyp"], return_tensors="pt"
        )
        output = sam3.model(
            inputs["pixel_values"], input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]
        )
        probabilities = sam3.processor.post_process_semantic_segmentation(
            output, target_sizes=[(96, 80)] * 2, return_segmentation_scores=True
        )
        expected = torch.stack([one.segmentation_scores for one in probabilities])
    # the library resizes probabilities, the bridge logits: equal to what a bilinear step can differ by
    assert (both.sigmoid() - expected).abs().max() < 0.02


def test_sam3_depends_on_image_and_prompt_but_not_on_its_neighbours(sam3):
    images = torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        batch = sam3(images, "a polyp")
        torch.testing.assert_close(sam3(images[1:], "a polyp"), batch[1:], atol=1e-5, rtol=1e-5)
        assert not torch.allclose(batch[0], batch[1])
        assert not torch.allclose(sam3(images, "a red circle"), batch)


def test_sam3_joins_late_fusion_as_a_member(sam3):
    stored = vlsm.tiny_store("val")
    samples = stored.samples()[:3]
    logits = [one.numpy() for _, one in vlsm.predict(sam3, vlsm.SegmentationDataset(samples, 64))]
    rest = np.zeros((len(stored) - len(samples), 64, 64), np.float32)
    store = stored.with_member("SAM 3, random", np.concatenate([np.stack(logits), rest]))
    rule = vlsm.WeightedMean(of_logits=True).fit(store.validation(64))
    assert rule.predict(store.logits(64)).shape == (len(stored), 64, 64)


def test_a_model_without_maps_says_what_it_gives(processor):
    tiny = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = tiny | {"vocab_size": len(processor.tokenizer), "eos_token_id": processor.tokenizer.eos_token_id}
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=tiny | {"image_size": 128, "patch_size": 32}))
    with pytest.raises(SettingsError, match="CLIPModel.*logits_per_image") as error:
        TextPrompted(clip, processor, padding=True)(torch.rand(2, 3, 128, 128), "a polyp")
    assert "semantic_seg" in str(error.value)


@pytest.mark.parametrize(
    ("images", "prompts"),
    [(torch.zeros(3, 8, 8), ""), (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), ""), (torch.zeros(2, 3, 8, 8), ["one"])],
)
def test_what_does_not_fit_is_refused(sam3, images, prompts):
    with pytest.raises(ValueError, match=r"images must be|prompts for"):
        sam3(images, prompts)
