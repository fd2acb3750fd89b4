"""Writes adapter.gguf with the gguf package of llama.cpp: run by hand, no part of the build."""
import os

import gguf
import numpy as np

writer = gguf.GGUFWriter(os.path.join(os.path.dirname(os.path.abspath(__file__)), "adapter.gguf"), "llama")
writer.add_type(gguf.GGUFType.ADAPTER)
writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, 8.0)
writer.add_tensor("blk.0.attn_q.weight.lora_a", np.arange(8, dtype=np.float32).reshape(2, 4) / 4)
writer.add_tensor("blk.0.attn_q.weight.lora_b", -np.arange(6, dtype=np.float32).reshape(3, 2) / 2)
writer.add_tensor("blk.0.ffn_up.weight.lora_a", np.arange(4, dtype=np.float16).reshape(1, 4) / 8)
writer.add_tensor("blk.0.ffn_up.weight.lora_b", np.arange(5, dtype=np.float16).reshape(5, 1) / 8)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
