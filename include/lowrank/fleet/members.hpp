// The optimizers of a fleet's parameters, each of its recipe's own type, by their position in the model.
#pragma once

#include <string>
#include <tuple>
#include <vector>

#include <lowrank/core/error.hpp>
#include <lowrank/fleet/group.hpp>
#include <lowrank/fleet/parameter.hpp>
#include <lowrank/fleet/plan.hpp>
#include <lowrank/fleet/sharing.hpp>

namespace lowrank::inline LOWRANK_ABI::detail {

/// S: the scalar of the states; R: the recipe of each group.
template <class S, class... R>
class Members {
  template <class Recipe>
  using Made = decltype(std::declval<const Recipe&>()(std::declval<const View<S>&>()));
  template <class Recipe>
  using Plain = decltype(std::declval<const Recipe&>().plain());

 public:
  /// Allocates no state. Throws std::invalid_argument naming the parameter or the pattern that has no partner, the
  /// parameter whose name is empty or used twice, or what the recipe's options lack.
  template <Model M>
  Members(const M& params, const Group<R>&... groups) {
    for (const auto& p : params) names_.push_back(p.name);
    check_names(names_);
    const std::vector<std::size_t> group_of = assign(names_, {groups.names...});
    std::vector<Index> members(sizeof...(R), 0), met(sizeof...(R), 0);
    for (const std::size_t g : group_of) ++members[g];
    for (std::size_t i = 0; i < names_.size(); ++i) {
      std::size_t g = 0;
      ((g++ == group_of[i] ? add(element(params, i), groups, g - 1, i, met[g - 1]++, members[g - 1]) : void()), ...);
    }
  }

  std::size_t size() const { return names_.size(); }
  const std::string& name(std::size_t i) const { return names_[i]; }

  /// f(optimizer of parameter i)
  template <class F>
  void visit(std::size_t i, const F& f) { visit(*this, i, f); }
  template <class F>
  void visit(std::size_t i, const F& f) const { visit(*this, i, f); }
  /// f(name, optimizer) in the model's order
  template <class F>
  void each(const F& f) {
    for (std::size_t i = 0; i < size(); ++i) visit(i, [&](auto& o) { f(names_[i], o); });
  }
  template <class F>
  void each(const F& f) const {
    for (std::size_t i = 0; i < size(); ++i) visit(i, [&](const auto& o) { f(names_[i], o); });
  }
  /// visit(i, f); what f throws names the parameter.
  template <class F>
  void named(std::size_t i, const F& f) const {
    try {
      visit(i, f);
    } catch (const std::invalid_argument& e) {
      throw std::invalid_argument("parameter '" + names_[i] + "': " + e.what());
    }
  }

  Index elements(std::size_t i) const {
    Index n = 0;
    visit(i, [&](const auto& o) { n = o.rows() * o.cols(); });
    return n;
  }
  Plan::Row row(std::size_t i) const {
    Plan::Row made;
    visit(i, [&](const auto& o) { made = row(i, o); });
    return made;
  }

  // -- that a model is the one the fleet was made for; each throws std::invalid_argument in the name of `who` --

  template <Model M>
  void check_size(const char* who, const M& params) const {
    if (std::size_t(std::ranges::size(params)) != size())
      bad_argument(who, std::to_string(std::ranges::size(params)) + " parameters", std::to_string(size()));
  }
  void check_index(const char* who, std::size_t i) const {
    if (i >= size()) bad_argument(who, "parameter " + std::to_string(i), "less than " + std::to_string(size()));
  }
  template <class P>
  void check_name(const char* who, std::size_t i, const P& p) const {
    if (p.name != names_[i]) bad_argument(who, "'" + p.name + "' as parameter " + std::to_string(i), "'" + names_[i] + "'");
    if (!(p.lr_scale >= 0) || !is_finite(p.lr_scale))
      bad_argument(who, "lr_scale = " + std::to_string(p.lr_scale) + " of '" + p.name + "'", "a finite number >= 0");
  }

  bool operator==(const Members&) const = default;

 private:
  /// Parameter i is element `position` of list `list`: list g holds the projected matrices of group g, list
  /// sizeof...(R) + g its vectors.
  struct Slot {
    std::size_t list, position;
    bool operator==(const Slot&) const = default;
  };
  using Lists = std::tuple<std::vector<Made<R>>..., std::vector<Made<Plain<R>>>...>;

  template <class P, class Recipe>
  void add(const P& p, const Group<Recipe>& group, std::size_t g, std::size_t index, Index met, Index members) {
    const bool vector = p.weight.rows == 1 || p.weight.cols == 1;
    Recipe recipe = group.recipe;
    if constexpr (requires { recipe.projector.seed; }) recipe.projector.seed += index;
    if constexpr (requires { recipe.projector.phase; })
      if (group.stagger == Stagger::On) recipe.projector.phase += met * recipe.projector.refresh_every / members;
    const auto put = [&](std::size_t list, const auto& made) {
      with_list(*this, list, [&]<class List>(List& all) {
        if constexpr (std::is_same_v<typename List::value_type, std::remove_cvref_t<decltype(made)>>) {
          slots_.push_back({list, all.size()});
          all.push_back(made);
        }
      });
    };
    try {
      if (vector) put(sizeof...(R) + g, recipe.plain()(p.weight));
      else put(g, recipe(p.weight));
    } catch (const std::invalid_argument& e) {
      throw std::invalid_argument("parameter '" + names_[index] + "': " + e.what());
    }
  }

  template <class O>
  Plan::Row row(std::size_t i, const O& o) const {
    constexpr bool projects[] = {Made<R>::projected..., Made<Plain<R>>::projected...};
    const std::size_t list = slots_[i].list;
    Plan::Row row{names_[i], o.rows(), o.cols(), O::description(), O::projected ? o.rank() : 0, o.state_bytes(),
                  2 * std::size_t(o.rows() * o.cols()) * sizeof(S), ""};
    if (list >= sizeof...(R) && projects[list - sizeof...(R)]) row.note = "a vector is not projected";
    if constexpr (requires { o.projector().rank; })
      if (o.projector().rank > o.rank()) row.note = "rank " + std::to_string(o.projector().rank) + " does not fit";
    return row;
  }

  template <class Self, class F>
  static void with_list(Self& self, std::size_t list, const F& f) {
    std::apply([&](auto&... lists) {
      std::size_t at = 0;
      ((at++ == list ? f(lists) : void()), ...);
    }, self.lists_);
  }
  template <class Self, class F>
  static void visit(Self& self, std::size_t i, const F& f) {
    const Slot slot = self.slots_[i];
    with_list(self, slot.list, [&](auto& list) { f(list[slot.position]); });
  }

  std::vector<std::string> names_;
  std::vector<Slot> slots_;
  Lists lists_;
};

}  // namespace lowrank
