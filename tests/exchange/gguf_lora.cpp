// adapter.gguf in tests/data was written by the gguf package of llama.cpp (data/make_gguf.py).
#include <lowrank/exchange/gguf_lora.hpp>
#include <support/catch.hpp>
#include <support/folder.hpp>
#include <support/placed.hpp>

using namespace lowrank;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;
using Adapters = std::map<std::string, const Lora<float>*>;

namespace {

Eigen::MatrixXf change(const Lora<float>& lora) {
  const Eigen::Map<const Eigen::MatrixXf> A(lora.A().value.data(), lora.rank(), lora.cols()), B(lora.B().value.data(), lora.rows(), lora.rank());
  return float(lora.scale()) * B * A;
}

}  // namespace

TEST_CASE("an adapter that llama.cpp's package wrote is read") {
  const auto adapters = exchange::read_gguf_lora<float>(std::filesystem::path(LOWRANK_TEST_DATA) / "data/adapter.gguf");
  REQUIRE(adapters.size() == 2);
  const auto& q = adapters.at("blk.0.attn_q.weight");
  CHECK((q.rows() == 3 && q.cols() == 4 && q.rank() == 2 && q.scale() == 4));
  // A = arange(8) / 4 as 2 x 4, B = -arange(6) / 2 as 3 x 2
  for (Index i = 0; i < 2; ++i)
    for (Index j = 0; j < 4; ++j) CHECK(q.A().value(i, j) == float(4 * i + j) / 4);
  for (Index i = 0; i < 3; ++i)
    for (Index j = 0; j < 2; ++j) CHECK(q.B().value(i, j) == -float(2 * i + j) / 2);
  CHECK(adapters.at("blk.0.ffn_up.weight").rank() == 1);  // stored in half precision
  CHECK(adapters.at("blk.0.ffn_up.weight").A().value(0, 3) == 0.375f);
}

TEST_CASE("what is written has the scale of every adapter, whatever alpha the file can say") {
  const support::Folder folder("gguf_lora");
  Lora<float> a(6, 8, {.rank = 2, .alpha = 4}), b(5, 7, {.rank = 3, .alpha = 9, .scaling = Scaling::ByRootRank}), c(5, 7, {.rank = 1, .alpha = 0});
  for (Lora<float>* lora : {&a, &b, &c}) lora->initialize(Init::Both);
  exchange::write_gguf_lora(folder / "x.gguf", "llama", Adapters{{"blk.0.attn_q.weight", &a}, {"blk.1.attn_q.weight", &b}, {"blk.2.attn_q.weight", &c}});
  const auto file = io::Gguf::read(folder / "x.gguf");
  CHECK((file.text("general.type") == "adapter" && file.text("general.architecture") == "llama" && file.text("adapter.type") == "lora"));
  CHECK(file.metadata().at("adapter.lora.alpha").type == io::GgufValue::Type::F32);
  CHECK(file.find("blk.0.attn_q.weight.lora_a")->dims == std::vector<std::uint64_t>{8, 2});
  CHECK(file.find("blk.0.attn_q.weight.lora_b")->dims == std::vector<std::uint64_t>{2, 6});
  const auto read = exchange::read_gguf_lora<float>(folder / "x.gguf");
  CHECK(read.at("blk.0.attn_q.weight").A().value == a.A().value);
  CHECK(read.at("blk.0.attn_q.weight").B().value == a.B().value);
  CHECK((change(read.at("blk.1.attn_q.weight")) - change(b)).norm() < 1e-6f * change(b).norm());
  CHECK(change(read.at("blk.2.attn_q.weight")).norm() == 0);
  CHECK_THROWS_AS(exchange::write_gguf_lora(folder / "x.gguf", "llama", Adapters{}), std::invalid_argument);
}

TEST_CASE("a file that is no LoRA adapter says why") {
  const support::Folder folder("gguf_lora_bad");
  using io::GgufValue;
  const float x[] = {1, 2, 3, 4};
  const auto data = std::as_bytes(std::span(x));
  const auto text = GgufValue::string;
  const auto refused = [&](const std::vector<std::pair<std::string, GgufValue>>& values, const std::vector<io::GgufTensor>& tensors, const char* what) {
    io::write_gguf(folder / "x.gguf", values, tensors);
    CHECK_THROWS_MATCHES(exchange::read_gguf_lora<float>(folder / "x.gguf"), std::runtime_error, MessageMatches(ContainsSubstring(what)));
  };
  const std::vector<std::pair<std::string, GgufValue>> good = {
      {"general.type", text("adapter")}, {"adapter.type", text("lora")}, {"adapter.lora.alpha", GgufValue::f32(4)}};
  refused({{"general.type", text("model")}}, {}, "general.type is 'model'");
  refused({good[0], {"adapter.type", text("control_vector")}}, {}, "adapter.type");
  refused({good[0], good[1]}, {}, "alpha is not an F32");
  refused({good[0], good[1], {"adapter.lora.alpha", {GgufValue::Type::U32, GgufValue::Type::U8, std::vector<std::byte>(4), {}}}}, {}, "alpha is not an F32");
  refused(good, {}, "no tensors");
  refused(good, {{"w.lora_a", "F32", {2, 2}, data}}, "no counterpart");
  refused(good, {{"w", "F32", {2, 2}, data}}, "the tensor 'w'");
  refused(good, {{"w.lora_a", "F32", {4, 1}, data}, {"w.lora_b", "F32", {2, 2}, data}}, "ranks 1 and 2");
  refused(good, {{"w.lora_a", "F32", {4}, data}, {"w.lora_b", "F32", {2, 2}, data}}, "not a matrix");
  refused(good, {{"w.lora_a", "I32", {4, 1}, data}, {"w.lora_b", "F32", {1, 4}, data}}, "not a matrix");
}
