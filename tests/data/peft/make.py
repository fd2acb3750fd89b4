"""Writes the adapters in this folder with PEFT (0.21, torch for CPU), and beside each what PEFT makes of it.

    python make.py

Needs `peft` and `torch`; run by hand, no part of the build. change.safetensors holds the change of every adapted weight
(merged minus base) and base.safetensors the weights below.
"""
import os
import warnings

import torch
from peft import AdaLoraConfig, LoraConfig, RandLoraConfig, VeraConfig, get_peft_model
from safetensors.torch import save_file

warnings.filterwarnings("ignore")
here = os.path.dirname(os.path.abspath(__file__))


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj = torch.nn.Linear(8, 6)
        self.v_proj = torch.nn.Linear(8, 5)
        self.out = torch.nn.Linear(6, 8)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList([Block(), Block()])

    def forward(self, x):
        for layer in self.layers:
            x = x + layer.out(layer.q_proj(x))
        return x


targets = ["q_proj", "v_proj"]
configs = {
    "lora": LoraConfig(r=3, lora_alpha=6, target_modules=targets),
    "rslora": LoraConfig(r=2, lora_alpha=5, use_rslora=True, target_modules=r".*\.(q_proj|out)",
                         rank_pattern={"layers.1.q_proj": 4}, alpha_pattern={"out": 9}),
    "dora": LoraConfig(r=2, lora_alpha=4, use_dora=True, target_modules=targets),
    "vera": VeraConfig(r=4, target_modules=["q_proj", "out"], projection_prng_key=3),
    "vera_seed": VeraConfig(r=4, target_modules=["q_proj", "out"], projection_prng_key=3, save_projection=False),
    "randlora": RandLoraConfig(r=3, randlora_alpha=6, target_modules=["q_proj", "v_proj", "out"], projection_prng_key=5),
    "randlora_sparse": RandLoraConfig(r=3, randlora_alpha=6, target_modules=["q_proj", "out"], projection_prng_key=5,
                                      sparse=True, save_projection=False),
    "adalora": AdaLoraConfig(init_r=4, target_r=2, lora_alpha=6, total_step=10, target_modules=targets),
}

for name, config in configs.items():
    torch.manual_seed(1)
    model = Model()
    base = {k: v.clone() for k, v in model.state_dict().items() if k.endswith("weight")}
    peft = get_peft_model(model, config)
    with torch.no_grad():
        for key, p in peft.named_parameters():
            if p.requires_grad and "ranknum" not in key:
                p.copy_(torch.randn(p.shape) * 0.5 + (1 if "magnitude" in key else 0))
    folder = os.path.join(here, name)
    peft.save_pretrained(folder)
    for extra in ("README.md",):
        if os.path.exists(os.path.join(folder, extra)):
            os.remove(os.path.join(folder, extra))
    merged = peft.merge_and_unload().state_dict()
    save_file({k.removesuffix(".weight"): (merged[k] - base[k]).contiguous() for k in base if not torch.equal(merged[k], base[k])},
              os.path.join(folder, "change.safetensors"))
    save_file({k.removesuffix(".weight"): v for k, v in base.items()}, os.path.join(here, "base.safetensors"))
    print(name, sorted(os.listdir(folder)))
