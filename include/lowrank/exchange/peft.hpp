// PEFT adapter directories: adapter_config.json and adapter_model.safetensors, as huggingface/peft writes and reads them.
//
//   const auto directory = exchange::PeftDirectory::read("adapter");
//   for (const std::string& name : directory.modules()) adapters.emplace(name, directory.lora<float>(name));
//
//   exchange::PeftWriter writer;
//   writer.add("model.layers.0.self_attn.q_proj", lora);
//   writer.write("adapter");
//
// LoRA (rsLoRA too), DoRA, AdaLoRA, VeRA and RandLoRA. Checked with peft 0.21.2: what it wrote is in tests/data/peft.
#pragma once

#include <lowrank/exchange/peft_directory.hpp>
#include <lowrank/exchange/peft_writer.hpp>
