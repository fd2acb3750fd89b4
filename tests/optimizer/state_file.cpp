// Promise 3: N + M steps are N, save, load, M, bit for bit, for every optimizer, from every step, in both storage orders
// and across them. A file that is foreign, damaged or of other options is an error that says so, and changes nothing.
#include <fstream>
#include <iterator>

#include <support/catch.hpp>
#include <support/folder.hpp>
#include <support/placed.hpp>
#include <support/stepper.hpp>

#include <lowrank/lift/back_project.hpp>
#include <lowrank/lift/residual.hpp>
#include <lowrank/optimizer.hpp>
#include <lowrank/projector/dct.hpp>
#include <lowrank/projector/identity.hpp>
#include <lowrank/projector/subspace.hpp>
#include <lowrank/rule/adamw.hpp>

using namespace support;
using Catch::Matchers::ContainsSubstring;
using lowrank::AdamW, lowrank::Optimizer, lowrank::Subspace, lowrank::Transport;

namespace {

constexpr Choice choice{.rank = 4, .refresh_every = 3};

std::string contents(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
void write(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc).write(bytes.data(), std::streamsize(bytes.size()));
}

}  // namespace

TEMPLATE_TEST_CASE("Saved at every step of two refresh periods, loaded and continued", "[state]", float, double) {
  const Folder folder("resume");
  const Index rows = 19, cols = 26;
  const int steps = 2 * int(choice.refresh_every) + 1;
  for (const auto& policy : policies<TestType>())
    for (const Order order : {Order::Columns, Order::Rows}) {
      INFO(policy.name << (order == Order::Rows ? ", by rows" : ", by columns"));
      const auto gradient = [&](int t) { return std::make_unique<const Placed<TestType>>(training_gradient(rows, cols, t), order); };
      Placed<TestType> w(random_matrix(rows, cols, 3), order);
      const auto whole = policy.make(w.view(), choice);
      std::vector<Eigen::MatrixXd> weights;
      for (int t = 0; t < steps; ++t) {
        whole->save(folder / std::to_string(t));
        weights.push_back(w.values());
        whole->step(w.view(), gradient(t)->view(), {.lr = 0.01});
      }
      for (int from = 0; from < steps; ++from)
        for (const Order other : {order, order == Order::Rows ? Order::Columns : Order::Rows}) {
          INFO("from step " << from << (other == order ? "" : ", in the other storage order"));
          Placed<TestType> again(weights[std::size_t(from)], other);
          const auto resumed = policy.make(again.view(), choice);
          resumed->load(folder / std::to_string(from));
          for (int t = from; t < steps; ++t) resumed->step(again.view(), gradient(t)->view(), {.lr = 0.01});
          CHECK(same_bits(again.elements(), w.elements()));
          if (other == order || policy.projected) CHECK(resumed->equals(*whole));
        }
    }
}

TEST_CASE("What Python sees in a state file", "[state]") {
  const Folder folder("layout");
  Eigen::MatrixXf w = random_matrix(6, 9, 1).cast<float>(), g = random_matrix(6, 9, 2).cast<float>();
  Optimizer optimizer(w, Subspace{.rank = 2}, AdamW{});
  optimizer.step(w, g, {.lr = 0.1});
  optimizer.save(folder / "s", "layer.weight");
  const auto file = lowrank::io::Safetensors::read(folder / "s");
  CHECK(file.find("layer.weight/basis")->shape == std::vector<std::uint64_t>{2, 6});
  CHECK(file.find("layer.weight/exp_avg")->shape == std::vector<std::uint64_t>{9, 2});
  CHECK(file.find("layer.weight/exp_avg_sq")->dtype == "F32");
  CHECK(file.find("layer.weight/steps")->dtype == "U64");
  CHECK(file.find("layer.weight/steps")->shape.empty());
  REQUIRE(file.metadata().size() == 1);
  const auto json = lowrank::io::Json::parse(file.metadata().at("lowrank"));
  CHECK(json.find("parameters")->find("layer.weight")->find("projector")->find("rank")->text == "2");
}

TEST_CASE("A file may carry another rank, and no other option, shape, scalar or name", "[state]") {
  const Folder folder("options");
  Eigen::MatrixXf w = random_matrix(12, 9, 1).cast<float>();
  const Eigen::MatrixXf g = random_matrix(12, 9, 2).cast<float>();
  Optimizer saved(w, Subspace{.rank = 5}, AdamW{.weight_decay = 0.1});
  saved.step(w, g, {.lr = 0.1});
  saved.save(folder / "s");

  Optimizer other_rank(w, Subspace{.rank = 2}, AdamW{.weight_decay = 0.1});
  other_rank.load(folder / "s");
  CHECK(other_rank == saved);
  CHECK(other_rank.rank() == 5);
  Eigen::MatrixXf a = w, b = w;
  saved.step(a, g, {.lr = 0.1});
  other_rank.step(b, g, {.lr = 0.1});
  CHECK(a == b);

  Optimizer options(w, Subspace{.rank = 5, .refresh_every = 7, .transport = Transport::Keep}, AdamW{.beta2 = 0.95, .weight_decay = 0.1});
  CHECK_THROWS_WITH(options.load(folder / "s"), ContainsSubstring("projector.refresh_every: 200 in the file, 7 here") &&
                                                     ContainsSubstring("projector.transport: 2 in the file, 0 here") &&
                                                     ContainsSubstring("rule.beta2: 0.999 in the file, 0.95 here"));
  Optimizer lift(w, Subspace{.rank = 5}, AdamW{.weight_decay = 0.1}, lowrank::Residual{});
  CHECK_THROWS_WITH(lift.load(folder / "s"), ContainsSubstring("lift.name: back_project in the file, residual here"));
  const Eigen::MatrixXf turned = w.transpose();
  Optimizer shape(turned, Subspace{.rank = 5}, AdamW{.weight_decay = 0.1});
  CHECK_THROWS_WITH(shape.load(folder / "s"), ContainsSubstring("is 12x9, expected 9x12"));
  const Eigen::MatrixXd wide = w.cast<double>();
  Optimizer scalar(wide, Subspace{.rank = 5}, AdamW{.weight_decay = 0.1});
  CHECK_THROWS_WITH(scalar.load(folder / "s"), ContainsSubstring("state in F32, expected F64"));
  CHECK_THROWS_WITH(other_rank.load(folder / "s", "bias"), ContainsSubstring("no parameter 'bias'"));
  CHECK_THROWS_WITH(other_rank.load(folder / "absent"), ContainsSubstring("cannot be read"));
  CHECK_THROWS_WITH(other_rank.load(std::string(LOWRANK_TEST_DATA) + "/data/plain.safetensors"), ContainsSubstring("no state of lowrank"));
  CHECK(other_rank.steps() == 2);
}

TEST_CASE("Damaged files change nothing, at whatever byte", "[state]") {
  const Folder folder("damage");
  for (const auto& policy : policies<float>()) {
    if (policy.name != "subspace" && policy.name != "dct, error feedback" && policy.name != "apollo") continue;
    INFO(policy.name);
    Placed<float> w(random_matrix(8, 7, 1), Order::Columns);
    const auto saved = policy.make(w.view(), {.rank = 2, .refresh_every = 3});
    for (int t = 0; t < 2; ++t) saved->step(w.view(), Placed<float>(training_gradient(8, 7, t), Order::Rows).view(), {.lr = 0.1});
    saved->save(folder / "good");
    const std::string good = contents(folder / "good");
    const auto target = policy.make(w.view(), {.rank = 2, .refresh_every = 3});
    target->step(w.view(), Placed<float>(training_gradient(8, 7, 9), Order::Rows).view(), {.lr = 0.1});
    const auto before = target->clone();
    int refused = 0, accepted = 0;
    const auto attempt = [&](const std::string& bytes) {
      write(folder / "bad", bytes);
      const auto copy = target->clone();
      try {
        copy->load(folder / "bad");
        ++accepted;  // a flipped bit of a moment is a moment
      } catch (const std::runtime_error& e) {
        ++refused;
        CHECK(copy->equals(*before));
        CHECK_THAT(e.what(), ContainsSubstring("bad"));
      }
    };
    for (std::size_t n = 0; n < good.size(); n += 7) attempt(good.substr(0, n));
    CHECK(accepted == 0);
    for (std::size_t i = 0; i < good.size(); ++i)
      for (const int bit : {0, 6}) {
        std::string bytes = good;
        bytes[i] = char(bytes[i] ^ (1 << bit));
        attempt(bytes);
      }
    CHECK(refused > int(good.size()) / 3);
    target->load(folder / "good");
    CHECK(target->equals(*saved));
  }
}

TEST_CASE("Values that no run produces are damage", "[state]") {
  const Folder folder("values");
  Eigen::MatrixXf w = random_matrix(8, 7, 1).cast<float>();
  const Eigen::MatrixXf g = random_matrix(8, 7, 2).cast<float>();
  Optimizer optimizer(w, lowrank::Dct{.rank = 3}, AdamW{});
  optimizer.step(w, g, {.lr = 0.1});
  optimizer.save(folder / "s");
  const auto with = [&](const char* name, std::size_t element, auto value) {
    const auto file = lowrank::io::Safetensors::read(folder / "s");
    std::string bytes = contents(folder / "s");
    const auto* tensor = file.find(std::string("weight/") + name);
    REQUIRE(tensor != nullptr);
    // where the data of this file lies in the copy: counted from its end
    const auto* last = &file.tensors().back();
    const std::size_t from_end = std::size_t(last->data.data() + last->data.size() - tensor->data.data());
    std::memcpy(bytes.data() + bytes.size() - from_end + element * sizeof(value), &value, sizeof(value));
    write(folder / "t", bytes);
  };
  const auto refused = [&](const char* why) {
    INFO(why);
    Optimizer other = optimizer;
    CHECK_THROWS_WITH(other.load(folder / "t"), ContainsSubstring(why));
    CHECK(other == optimizer);
  };
  with("indices", 0, std::int32_t(-1)), refused("damaged");
  with("indices", 2, std::int32_t(7)), refused("damaged");
  with("indices", 1, std::int32_t(0)), refused("damaged");
  with("exp_avg", 3, std::numeric_limits<float>::quiet_NaN()), refused("exp_avg' is not finite");
  with("exp_avg_sq", 3, -1.0f), refused("damaged");
  with("captured_at_refresh", 0, 1e300), refused("damaged");
  with("captured_at_refresh", 0, -1.0), refused("is not a number >= 0");
  with("refresh_pending", 0, std::uint64_t(9)), refused("damaged");
}

TEST_CASE("Metadata and tensors that do not belong together are refused by name", "[state]") {
  using lowrank::io::Tensor;
  const Folder folder("tampered");
  Eigen::MatrixXf w = random_matrix(8, 7, 1).cast<float>();
  const Eigen::MatrixXf g = random_matrix(8, 7, 2).cast<float>();
  Optimizer optimizer(w, Subspace{.rank = 3}, AdamW{});
  optimizer.step(w, g, {.lr = 0.1});
  optimizer.save(folder / "s");
  const auto file = lowrank::io::Safetensors::read(folder / "s");
  const std::string good = file.metadata().at("lowrank");
  const auto refused_file = [&](std::vector<Tensor> tensors, const std::map<std::string, std::string>& metadata, const char* why) {
    INFO(why);
    lowrank::io::write_safetensors(folder / "t", std::move(tensors), metadata);
    Optimizer other = optimizer;
    CHECK_THROWS_WITH(other.load(folder / "t"), ContainsSubstring(why) && ContainsSubstring((folder / "t").string()));
    CHECK(other == optimizer);
  };
  const std::vector<Tensor> tensors(file.tensors().begin(), file.tensors().end());
  const auto refused = [&](const std::string& from, const std::string& to, const char* why) {
    std::string text = good;
    REQUIRE(text.find(from) != std::string::npos);
    refused_file(tensors, {{"lowrank", text.replace(text.find(from), from.size(), to)}}, why);
  };
  refused_file(tensors, {}, "holds no state of lowrank's optimizers");
  refused_file(tensors, {{"format", "pt"}}, "holds no state of lowrank's optimizers");
  refused_file(tensors, {{"lowrank", "{"}}, "damaged metadata");
  refused_file(tensors, {{"lowrank", "[]"}}, "version none");
  refused_file(tensors, {{"lowrank", R"({"version":1})"}}, "no parameters");
  refused_file(tensors, {{"lowrank", R"({"version":1,"parameters":{}})"}}, "holds no parameter 'weight'");
  refused_file(tensors, {{"lowrank", R"({"version":1,"parameters":[]})"}}, "holds no parameter 'weight'");
  refused_file(tensors, {{"lowrank", R"({"version":1,"parameters":{"weight":7}})"}}, "damaged metadata: '");
  refused("\"version\":1", "\"version\":2", "has version 2, this library reads 1");
  refused("\"rows\":8", "\"rows\":7", "is 7x7, expected 8x7");
  refused("\"rows\":8", "\"rows\":[8]", "damaged metadata: 'rows'");
  refused("\"F32\"", "\"F64\"", "state in F64, expected F32");
  refused("\"transposed\":1", "\"transposed\":0", "projected on its other side");
  refused("\"projector\":", "\"projected\":", "no projector");
  refused("\"beta1\":0.9", "\"beta1\":0.8", "rule.beta1: 0.8 in the file, 0.9 here");
  refused("\"beta1\":", "\"beta_one\":", "damaged metadata: 'beta1'");
  for (const char* rank : {"0", "-1", "2.5", "1e1", "99999999999999999999", "\"three\""})
    refused("\"rank\":3", std::string("\"rank\":") + rank, "has a rank of");
  refused("\"rank\":3", "\"rank\":4", "has shape [3, 7], expected [4, 7]");
  refused("\"rank\":3", "\"rank\":4000000000000", "has shape [3, 7], expected [7, 7]");  // clamped, nothing that size is made

  const std::map<std::string, std::string> metadata{{"lowrank", good}};
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    auto fewer = tensors;
    fewer.erase(fewer.begin() + std::ptrdiff_t(i));
    refused_file(fewer, metadata, ("holds no tensor '" + tensors[i].name + "'").c_str());
    auto renamed = tensors;
    renamed[i].name = "weight/unknown";
    refused_file(renamed, metadata, ("holds no tensor '" + tensors[i].name + "'").c_str());
    if (tensors[i].shape.size() != 2) continue;
    auto turned = tensors;
    std::swap(turned[i].shape[0], turned[i].shape[1]);
    refused_file(turned, metadata, (tensors[i].name + "' has shape").c_str());
    auto other = tensors;
    other[i].dtype = "I32";  // as many bytes
    refused_file(other, metadata, (tensors[i].name + "' is I32, expected F32").c_str());
  }
  const std::vector<std::byte> more(4);
  auto extra = tensors;
  extra.push_back({"bias/exp_avg", "F32", {1, 1}, more});
  refused_file(extra, metadata, "holds tensor 'bias/exp_avg', which belongs to nothing here");
}
