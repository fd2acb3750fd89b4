// Directories in tests/data/peft were written by PEFT itself (make.py there), with the change that PEFT makes of each.
#include <lowrank/exchange/peft.hpp>
#include <support/catch.hpp>
#include <support/folder.hpp>
#include <support/golden.hpp>
#include <support/placed.hpp>

using namespace lowrank;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;
using exchange::Pattern;
using exchange::PeftConfig;
using exchange::PeftDirectory;
using exchange::PeftWriter;

namespace {

const std::filesystem::path data = std::filesystem::path(LOWRANK_TEST_DATA) / "data/peft";

Eigen::MatrixXd matrix(const io::Safetensors& file, const std::string& name) {
  const io::Tensor* t = file.find(name);
  REQUIRE(t != nullptr);
  Eigen::MatrixXd m(Index(t->shape[0]), Index(t->shape[1]));
  for (Index i = 0; i < m.rows(); ++i)
    for (Index j = 0; j < m.cols(); ++j) m(i, j) = exchange::detail::element(*t, std::uint64_t(i * m.cols() + j));
  return m;
}

/// The adapter's change of each weight is the one that PEFT merged. make(module, W) gives the adapter.
template <class F>
void check_changes(const std::string& name, const F& make) {
  const auto expected = io::Safetensors::read(data / name / "change.safetensors"), base = io::Safetensors::read(data / "base.safetensors");
  Workspace workspace;
  std::size_t modules = 0;
  for (const io::Tensor& t : expected.tensors()) {
    CAPTURE(name, t.name);
    const Eigen::MatrixXd W = matrix(base, t.name);
    Eigen::MatrixXd merged = W;
    make(t.name, W).merge_into(merged, workspace);
    CHECK(support::relative_error(merged - W, matrix(expected, t.name)) < 2e-5);
    ++modules;
  }
  CHECK(modules >= 4);
}

PeftConfig config(const std::string& fields) { return PeftConfig::parse("{\"peft_type\":\"LORA\"," + fields + "}"); }

}  // namespace

TEST_CASE("what PEFT wrote means what PEFT made of it") {
  for (const char* name : {"lora", "rslora", "adalora"}) {
    const auto directory = PeftDirectory::read(data / name);
    CHECK(directory.modules().size() == 4);
    CHECK(directory.others().empty());
    check_changes(name, [&](const std::string& module, const auto&) { return directory.lora<double>(module); });
  }
  const auto adalora = PeftDirectory::read(data / "adalora");
  check_changes("adalora", [&](const std::string& module, const auto&) { return adalora.adalora<double>(module); });
  const auto rslora = PeftDirectory::read(data / "rslora");
  CHECK(rslora.lora<float>("layers.1.q_proj").rank() == 4);
  CHECK(rslora.lora<float>("layers.0.q_proj").rank() == 2);
  CHECK(rslora.lora<float>("layers.0.out").scale() == Catch::Approx(9 / std::sqrt(2.0)));
  CHECK(rslora.config().targets("layers.1.out"));
  CHECK_FALSE(rslora.config().targets("layers.1.v_proj"));

  const auto dora = PeftDirectory::read(data / "dora");
  check_changes("dora", [&](const std::string& module, const auto& W) { return dora.dora<double>(module, W); });

  for (const char* name : {"vera", "vera_seed"}) {  // stored bases, and the same made from the key
    const auto vera = PeftDirectory::read(data / name);
    const auto bases = vera.vera_bases<double>(8, 8);
    check_changes(name, [&](const std::string& module, const auto& W) { return vera.vera<double>(module, W.rows(), W.cols(), bases); });
  }
  for (const char* name : {"randlora", "randlora_sparse"}) {  // a copy beside every module, and made from the key
    const auto randlora = PeftDirectory::read(data / name);
    const auto bases = randlora.randlora_bases<double>(8, 8);
    check_changes(name, [&](const std::string& module, const auto& W) { return randlora.randlora<double>(module, W.rows(), W.cols(), bases); });
  }
}

TEST_CASE("bases made from the key are those in the file, to the bit") {
  const auto vera = PeftDirectory::read(data / "vera"), vera_seed = PeftDirectory::read(data / "vera_seed");
  CHECK(vera.vera_bases<float>(0, 0)->A == vera_seed.vera_bases<float>(8, 8)->A);
  CHECK(vera.vera_bases<float>(0, 0)->B == vera_seed.vera_bases<float>(8, 8)->B);
  const auto stored = PeftDirectory::read(data / "randlora").randlora_bases<float>(0, 0);
  const PeftConfig key = PeftDirectory::read(data / "randlora").config();
  for (const Drawn drawn : {Drawn::Bf16, Drawn::Half, Drawn::OldBf16, Drawn::OldHalf}) {
    const auto made = RandBases<float>::torch({.rank = key.rank, .larger = 8, .smaller = 8, .drawn = drawn, .key = key.key});
    bool same = made.A() == stored->A();
    for (Index i = 0; i < 8; ++i)
      for (Index j = 0; j < 9; ++j) same = same && made.b(i, j) == stored->b(i, j);
    CHECK(same == (drawn == Drawn::Bf16));
  }
}

TEST_CASE("a directory written here is read back, and says what PEFT needs") {
  const support::Folder folder("peft");
  Lora<float> a(6, 8, {.rank = 2, .alpha = 4}), b(5, 8, {.rank = 3, .alpha = 9});
  a.initialize(Init::Both), b.initialize(Init::Both);
  PeftWriter writer("some/model", "CAUSAL_LM");
  writer.add("layers.0.q_proj", a);
  writer.add("layers.0.v_proj", b);
  writer.write(folder.path());
  const auto read = PeftDirectory::read(folder.path());
  CHECK(read.modules() == std::vector<std::string>{"layers.0.q_proj", "layers.0.v_proj"});
  CHECK(read.lora<float>("layers.0.q_proj").A().value == a.A().value);
  CHECK(read.lora<float>("layers.0.v_proj").B().value == b.B().value);
  CHECK(read.lora<float>("layers.0.v_proj").scale() == 3);
  CHECK((read.config().base_model == "some/model" && read.config().task_type == "CAUSAL_LM"));
  CHECK((read.config().targets("layers.0.q_proj") && !read.config().targets("layers.1.q_proj")));

  SECTION("DoRA") {
    Dora<float> dora(support::random_matrix(6, 8, 1).cast<float>().eval(), {.rank = 2});
    PeftWriter other;
    other.add("x", dora);
    other.write(folder.path());
    const auto again = PeftDirectory::read(folder.path());
    CHECK(again.dora<float>("x", Eigen::MatrixXf::Zero(6, 8).eval()).magnitude().value == dora.magnitude().value);
    CHECK_THROWS_AS(again.dora<float>("x", Eigen::MatrixXf::Zero(8, 6).eval()), std::runtime_error);
  }
  SECTION("AdaLoRA") {
    AdaLora<float> adalora(6, 8, {.rank = 3});
    adalora.E().value[1] = 2;
    PeftWriter other;
    other.add("x", adalora);
    other.write(folder.path());
    const auto again = PeftDirectory::read(folder.path());
    CHECK(again.adalora<float>("x").A().value == adalora.A().value);
    CHECK(again.adalora<float>("x").E().value == adalora.E().value);
    CHECK(again.adalora<float>("x").scale() == adalora.scale());
    CHECK(again.lora<float>("x").scale() == Catch::Approx(adalora.scale()));
  }
  SECTION("VeRA and RandLoRA: their bases once") {
    PeftWriter other;
    const auto bases = std::make_shared<const RandBases<float>>(RandBases<float>::torch({.rank = 3, .larger = 9, .smaller = 7, .basis = Basis::Sparse}));
    RandLora<float> wide(6, 9, bases, {.alpha = 3}), tall(9, 7, bases, {.alpha = 3});
    wide.lambda().value(1, 1) = 5;
    other.add("x", wide);
    other.add("y", tall);
    other.write(folder.path());
    CHECK(io::Safetensors::read(folder / "adapter_model.safetensors").tensors().size() == 6);
    const auto again = PeftDirectory::read(folder.path());
    const auto stored = again.randlora_bases<float>(0, 0);
    CHECK(stored->A() == bases->A());
    CHECK(again.randlora<float>("x", 6, 9, stored).lambda().value == wide.lambda().value);
    Eigen::MatrixXf W = Eigen::MatrixXf::Zero(6, 9), V = W;
    Workspace workspace;
    again.randlora<float>("x", 6, 9, stored).merge_into(W, workspace);
    wide.merge_into(V, workspace);
    CHECK((W == V && W.norm() > 0));

    PeftWriter third;
    const auto vera_bases = std::make_shared<const VeraBases<float>>(VeraBases<float>::torch(4, 9, 9));
    Vera<float> vera(6, 9, vera_bases);
    vera.lambda_b().value[2] = 3;
    third.add("x", vera);
    third.write(folder.path());
    const auto last = PeftDirectory::read(folder.path());
    CHECK(last.vera<float>("x", 6, 9, last.vera_bases<float>(0, 0)).lambda_b().value == vera.lambda_b().value);
  }
  SECTION("what cannot be said is refused") {
    CHECK_THROWS_AS(writer.add("layers.0.q_proj", a), std::invalid_argument);
    CHECK_THROWS_AS(writer.add("q_proj", a), std::invalid_argument);  // its pattern would match layers.0.q_proj too
    Lora<float> other(6, 8, {.rank = 2, .scaling = Scaling::ByRootRank});
    CHECK_THROWS_AS(writer.add("z", other), std::invalid_argument);
    CHECK_THROWS_AS(PeftWriter().write(folder.path()), std::invalid_argument);
  }
}

TEST_CASE("hostile and unusable directories end in an error that says what is wrong") {
  const auto says = [](const char* what) { return MessageMatches(ContainsSubstring(what)); };
  CHECK_THROWS_MATCHES(PeftConfig::parse("{}"), std::runtime_error, says("peft_type is missing"));
  CHECK_THROWS_MATCHES(PeftConfig::parse("{\"peft_type\":\"LOHA\"}"), std::runtime_error, says("LOHA"));
  CHECK_THROWS_MATCHES(config("\"r\":0"), std::runtime_error, says("r is not"));
  CHECK_THROWS_MATCHES(config("\"r\":1e3"), std::runtime_error, says("r is not"));
  CHECK_THROWS_MATCHES(config("\"lora_alpha\":\"x\""), std::runtime_error, says("lora_alpha"));
  CHECK_THROWS_MATCHES(config("\"bias\":\"all\""), std::runtime_error, says("bias 'all'"));
  CHECK_THROWS_MATCHES(config("\"lora_bias\":true"), std::runtime_error, says("lora_bias"));
  CHECK_THROWS_MATCHES(config("\"target_modules\":[1]"), std::runtime_error, says("target_modules"));
  CHECK_THROWS_MATCHES(PeftDirectory::read(data / "nothing"), std::runtime_error, says("adapter_config.json"));
  const auto lora = PeftDirectory::read(data / "lora");
  CHECK_THROWS_MATCHES(lora.lora<float>("layers.0.out"), std::runtime_error, says("no module 'layers.0.out'"));
  CHECK_THROWS_MATCHES(lora.dora<float>("layers.0.q_proj", Eigen::MatrixXf(6, 8)), std::runtime_error, says("no DoRA"));
  // the tensors under a configuration that says another rank
  const PeftDirectory other(config("\"r\":5"), io::Safetensors::read(data / "lora/adapter_model.safetensors"), "other");
  CHECK_THROWS_MATCHES(other.lora<float>("layers.0.q_proj"), std::runtime_error, says("rank 3 where the configuration says 5"));
  const support::Folder folder("peft_bin");
  std::ofstream(folder / "adapter_model.bin") << "x";
  CHECK_THROWS_MATCHES(PeftDirectory::read(folder.path()), std::runtime_error, says("pickle"));
}

TEST_CASE("target rules and patterns as PEFT resolves them") {
  const auto list = config("\"target_modules\":[\"q_proj\",\"mlp.up\"],\"exclude_modules\":[\"layers.3.q_proj\"],\"r\":8,"
                           "\"rank_pattern\":{\"layers.1.q_proj\":4,\"q_proj\":16},\"alpha_pattern\":{\"^model\\\\.layers\\\\.\\\\d\\\\.mlp.*\":2.5}");
  CHECK((list.targets("q_proj") && list.targets("model.layers.1.q_proj") && list.targets("a.mlp.up")));
  CHECK_FALSE((list.targets("xq_proj") || list.targets("up") || list.targets("model.layers.3.q_proj")));
  CHECK((list.rank_of("model.layers.1.q_proj") == 4 && list.rank_of("model.layers.11.q_proj") == 16 && list.rank_of("v") == 8));
  const auto some = config("\"target_modules\":[\"q\"],\"layers_to_transform\":[1,3]");
  CHECK((some.targets("m.layers.1.q") && some.targets("m.h.3.attn.q") && !some.targets("m.layers.2.q") && !some.targets("q")));
  const auto named = config("\"target_modules\":[\"q\"],\"layers_to_transform\":2,\"layers_pattern\":\"h\"");
  CHECK((named.targets("m.h.2.q") && !named.targets("m.layers.2.q") && named.targets("h.2.experts.0.q")));
  CHECK(config("\"target_modules\":\"all-linear\"").targets("anything"));
  CHECK(config("\"init_lora_weights\":\"pissa_niter_4\"").changes_base());
  CHECK_FALSE(config("\"init_lora_weights\":true").changes_base());
}

TEST_CASE("patterns") {
  const auto matches = [](const char* pattern, const char* text) { return Pattern(pattern).matches(text); };
  CHECK((matches("abc", "abc") && !matches("abc", "ab") && !matches("abc", "abcd") && matches("", "") && !matches("", "a")));
  CHECK((matches("a.c", "axc") && matches("a\\.c", "a.c") && !matches("a\\.c", "axc")));
  CHECK((matches("(ab|cd)*e", "ababcde") && matches("(ab|cd)*e", "e") && !matches("(ab|cd)+e", "e") && matches("(|x)y", "y")));
  CHECK((matches("x?y+?", "yyy") && matches("x?y+", "xy") && !matches("x?y+", "xxy")));
  CHECK((matches("[a-c_\\d]+", "ab_1c") && !matches("[^a-c]+", "xya") && matches("[]x]+", "]x") && matches("[a-]+", "-a")));
  CHECK((matches(".*\\.layers\\.(?:1\\d|2[0-3])\\..*_proj$", "model.layers.17.attn.q_proj") && !matches("^.*layers\\.(1\\d)$", "layers.21")));
  CHECK((matches("\\D\\w\\s\\W", "a1 -") && !matches("\\S", " ")));
  for (const char* bad : {"(", ")", "a)", "(a", "[a", "*", "a**", "a{2}", "(?=a)", "\\", "\\b", "[z-a]", "a^b"})
    CHECK_THROWS_AS(Pattern(bad), std::runtime_error);
  CHECK_THROWS_AS(Pattern(std::string(5000, 'a')), std::runtime_error);
  CHECK_THROWS_AS(Pattern(std::string(500, '(') + std::string(500, ')')), std::runtime_error);
  // what takes backtracking matchers exponential time
  CHECK_FALSE(matches("(a+)+(a+)+(a+)+b", std::string(5000, 'a').c_str()));
}
