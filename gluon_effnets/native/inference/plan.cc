#include "plan.h"

#include <algorithm>
#include <limits>
#include <string>

namespace effnets {
namespace {

constexpr Index MOST_FLOATS = Index(1) << 30;

int taken(int size, int before, int after, int side, int step, int stride, bool hangs_over, std::size_t number) {
  const Index room = Index(size) + before + after - Index(step) * (side - 1) - 1;
  if (room < 0) throw Refused("step " + std::to_string(number) + " has a kernel larger than its map");
  return static_cast<int>((room + (hangs_over ? stride - 1 : 0)) / stride + 1);
}

// Lines of zeros that a kernel reads behind a map.
int behind(int size, int before, int side, int step, int stride, int count) {
  return std::max(0, (count - 1) * stride + (side - 1) * step + 1 - before - size);
}

class Planner {
 public:
  Planner(const Program& program, int channels, int height, int width) : program_(program) {
    if (program[0].channels != channels)
      throw Refused("the network takes " + std::to_string(program[0].channels) + " channels, not " +
                    std::to_string(channels));
    plan_.steps.resize(program.size());
    for (std::size_t i = 0; i < program.size(); ++i) {
      plan_.steps[i].step = &program[i];
      shape(i, height, width);
    }
    surround();
    place();
    for (std::size_t i = 0; i < program.size(); ++i) address(i);
  }

  Plan take() { return std::move(plan_); }

 private:
  Tensor& tensor(int number) { return plan_.steps[number].out; }

  // Every tensor that a step reads; in blocks where `blocks` says so.
  template <typename Call>
  void each_run(std::size_t number, Call call) {
    const Step& s = program_[number];
    const bool blocks = s.kind == Kind::depthwise || s.kind == Kind::pool || s.kind == Kind::combine;
    for (const Group& group : s.groups)
      for (const Run& run : group.runs) call(run, false);
    for (const Run& run : s.runs) call(run, blocks);
    for (const Run& run : s.other) call(run, true);
  }

  void shape(std::size_t number, int height, int width) {
    const Step& s = program_[number];
    Tensor& out = tensor(number);
    out.channels = s.channels;
    if (s.kind == Kind::input) {
      out.lane = 1;
      out.height = height;
      out.width = width;
      return;
    }
    const auto fail = [&](const char* why) { throw Refused("step " + std::to_string(number) + " " + why); };
    const Tensor* in = nullptr;
    for (const std::vector<Run>* runs : {s.groups.empty() ? &s.runs : &s.groups[0].runs}) {
      for (const Run& run : *runs)
        if (run.tensor >= 0 && !in) in = &tensor(run.tensor);
    }
    if (!in) fail("reads nothing");
    const int in_height = in->height, in_width = in->width, lane = in->lane;
    plan_.steps[number].in_height = in_height;
    plan_.steps[number].in_width = in_width;
    const bool same_lane = s.kind == Kind::conv;
    out.height = in_height;
    out.width = in_width;
    if (s.kind == Kind::conv || s.kind == Kind::depthwise || s.kind == Kind::pool) {
      const Kernel& k = s.kernel;
      const bool global = s.kind == Kind::pool && s.how == static_cast<int>(Pool::global);
      out.height = global ? 1 : taken(in_height, k.top, k.bottom, k.height, k.step_y, k.stride_y, s.flag, number);
      out.width = global ? 1 : taken(in_width, k.left, k.right, k.width, k.step_x, k.stride_x, s.flag, number);
    }
    const auto check = [&](const Run& run, bool blocks, int h, int w) {
      if (run.tensor < 0) return;
      const Tensor& t = tensor(run.tensor);
      if (program_[run.tensor].kind == Kind::output) fail("reads a result");
      if (blocks && t.lane == 1) fail("reads planes in blocks");
      if (same_lane && !blocks && t.lane != lane) fail("reads planes and blocks");
      if (run.first + run.count > (blocks ? t.planes() : t.channels)) fail("reads channels that are not there");
      if (t.height != h || t.width != w) fail("reads maps of several sizes");
    };
    const bool blocks = s.kind == Kind::depthwise || s.kind == Kind::pool || s.kind == Kind::combine;
    const bool one = s.kind == Kind::combine && s.how == static_cast<int>(Combine::scale);
    for (const Group& group : s.groups)
      for (const Run& run : group.runs) check(run, false, in_height, in_width);
    for (const Run& run : s.runs) check(run, blocks, in_height, in_width);
    for (const Run& run : s.other) check(run, true, one ? 1 : out.height, one ? 1 : out.width);
  }

  // Finds out which tensors need zeros around them. Those that one convolution reads must have the same.
  void surround() {
    for (bool changed = true; changed;) {
      changed = false;
      for (std::size_t i = 0; i < program_.size(); ++i) {
        const Step& s = program_[i];
        if (s.kind != Kind::conv && s.kind != Kind::depthwise) continue;
        const Kernel& k = s.kernel;
        const StepPlan& p = plan_.steps[i];
        int need[4] = {k.top, k.left, behind(p.in_height, k.top, k.height, k.step_y, k.stride_y, p.out.height),
                       behind(p.in_width, k.left, k.width, k.step_x, k.stride_x, p.out.width)};
        const auto each = [&](bool write) {
          const auto one = [&](const Run& run) {
            Tensor& t = tensor(run.tensor);
            int* const sides[4] = {&t.top, &t.left, &t.bottom, &t.right};
            for (int j = 0; j < 4; ++j) {
              changed |= write && *sides[j] < need[j];
              if (write)
                *sides[j] = std::max(*sides[j], need[j]);
              else
                need[j] = std::max(*sides[j], need[j]);
            }
          };
          for (const Group& group : s.groups)
            for (const Run& run : group.runs) one(run);
          for (const Run& run : s.runs) one(run);
        };
        if (s.kind == Kind::conv) each(false);
        each(true);
      }
    }
  }

  // Gives every tensor memory that no tensor has that is still to be read.
  void place() {
    const std::size_t count = program_.size();
    std::vector<std::size_t> last(count, 0);
    for (std::size_t i = 0; i < count; ++i)
      each_run(i, [&](const Run& run, bool) {
        if (run.tensor >= 0) last[run.tensor] = i;
      });
    std::vector<std::size_t> alive;  // in the order of their places
    for (std::size_t i = 0; i < count; ++i) {
      if (program_[i].kind == Kind::output) continue;
      alive.erase(std::remove_if(alive.begin(), alive.end(), [&](std::size_t t) { return last[t] < i; }), alive.end());
      Tensor& t = tensor(i);
      // Vectors may begin at the last column of planes.
      const Index size = (t.size() + 2 * LANES - 1) / LANES * LANES;
      if (t.row() > MOST_FLOATS || t.plane() > MOST_FLOATS || size > MOST_FLOATS) throw Refused("a map is too large");
      Index place = 0;
      auto before = alive.begin();
      for (; before != alive.end(); ++before) {
        const Tensor& other = tensor(*before);
        if (place + size <= other.place) break;
        place = std::max(place, other.place + (other.size() + 2 * LANES - 1) / LANES * LANES);
      }
      t.place = place;
      alive.insert(before, i);
      plan_.arena = std::max(plan_.arena, place + size);
      if (plan_.arena > MOST_FLOATS) throw Refused("the maps need too much memory");
    }
  }

  std::vector<Source> blocks(const std::vector<Run>& runs) {
    std::vector<Source> found;
    for (const Run& run : runs)
      for (int i = 0; i < run.count; ++i) {
        const Tensor& t = tensor(run.tensor);
        found.push_back({t.first(run.first + i), t.row(), t.lane});
      }
    return found;
  }

  void address(std::size_t number) {
    const Step& s = program_[number];
    StepPlan& p = plan_.steps[number];
    for (int y = 0; y < p.out.height; ++y)
      for (int x = 0; x < p.out.width; ++x)
        p.positions.push_back(static_cast<std::int32_t>(y * p.out.row() + x * p.out.lane));
    p.others = blocks(s.other);
    if (s.kind == Kind::conv) {
      address_conv(s, p);
    } else if (s.kind == Kind::depthwise || s.kind == Kind::pool || s.kind == Kind::combine) {
      p.sources = blocks(s.runs);
      const Index area = Index(s.kernel.height) * s.kernel.width;
      p.biases = s.weights + area * s.blocks() * LANES;
    } else {
      for (const Run& run : s.runs)
        for (int i = 0; i < run.count; ++i) {
          if (run.tensor < 0) {
            p.sources.push_back({-1, 0, 0});
            continue;
          }
          const Tensor& t = tensor(run.tensor);
          p.sources.push_back({t.at(run.first + i), t.row(), t.lane});
        }
    }
    if (s.kind == Kind::input) plan_.weights = s.weights + Index(2 * s.channels + LANES - 1) / LANES * LANES;
    if (s.kind == Kind::conv || s.kind == Kind::depthwise)
      plan_.weights = std::max(plan_.weights, p.biases + Index(s.blocks()) * LANES);
  }

  void address_conv(const Step& s, StepPlan& p) {
    const Kernel& k = s.kernel;
    const Tensor& in = tensor(s.groups[0].runs[0].tensor);
    p.pixel_step = Index(k.stride_x) * in.lane;
    const bool dense = p.pixel_step == LANES;
    const bool flat = k.is_point() && k.stride_y == 1 && k.stride_x == 1 && in.is_compact();
    const int lines = flat ? 1 : p.out.height, line = flat ? static_cast<int>(p.out.pixels()) : p.out.width;
    Index weights = s.weights, block = 0;
    int widest = 1;
    double best = std::numeric_limits<double>::infinity();
    for (int blocks = 1; blocks <= (dense ? MOST_BLOCKS : 2); ++blocks) {
      const double found = cost(s.groups, blocks, lines, line, dense);
      if (found < best) {
        best = found;
        widest = blocks;
      }
    }
    for (std::size_t g = 0; g < s.groups.size(); ++g) {
      const Group& group = s.groups[g];
      std::vector<std::int32_t> taps;
      Index inputs = 0;
      for (const Run& run : group.runs) inputs += run.count;
      if (inputs * k.height * k.width > MOST_FLOATS / LANES) throw Refused("the weights need too much memory");
      for (const Run& run : group.runs) {
        const Tensor& t = tensor(run.tensor);
        for (int c = 0; c < run.count; ++c)
          for (int y = 0; y < k.height; ++y)
            for (int x = 0; x < k.width; ++x)
              taps.push_back(static_cast<std::int32_t>(t.at(run.first + c) + (y * k.step_y - k.top) * t.row() +
                                                       Index(x * k.step_x - k.left) * t.lane));
      }
      const Index size = static_cast<Index>(taps.size()) * LANES;
      for (int i = 0; i < group.blocks; i += widest)
        p.chunks.push_back({static_cast<int>(g), static_cast<int>(block + i), std::min(widest, group.blocks - i),
                            weights + i * size});
      weights += group.blocks * size;
      block += group.blocks;
      p.taps.push_back(std::move(taps));
      if (weights > MOST_FLOATS) throw Refused("the weights need too much memory");
    }
    p.biases = weights;
    const int most = most_pixels(widest, dense), parts = (line + most - 1) / most;
    for (int y = 0; y < lines; ++y)
      for (int i = 0, x = 0; i < parts; ++i) {
        const int count = (line - x + parts - i - 1) / (parts - i);
        p.tiles.push_back({y * k.stride_y * in.row() + x * p.pixel_step, y * line + x, count});
        x += count;
      }
  }

  // Cycles for one input, more or less: a product with each, or a load of each pixel and weight.
  static double cost(const std::vector<Group>& groups, int widest, int lines, int line, bool dense) {
    const auto one = [&](int blocks) {
      const int most = most_pixels(widest, dense), parts = (line + most - 1) / most;
      const double pixels = static_cast<double>(line) / parts;
      return lines * parts * (std::max(pixels * blocks, 4.0) + 0.5 * (pixels + blocks));
    };
    double sum = 0;
    for (const Group& group : groups) {
      sum += group.blocks / widest * one(widest);
      if (group.blocks % widest) sum += one(group.blocks % widest);
    }
    return sum;
  }

  const Program& program_;
  Plan plan_;
};

}  // namespace

int most_pixels(int blocks, bool dense) {
#ifdef __AVX512F__
  static const int most[] = {0, 14, 14, 9, 6};
#else
  static const int most[] = {0, 6, 3, 2, 1};
#endif
  return dense ? most[blocks] : std::min(most[blocks], 8);
}

Plan make_plan(const Program& program, int channels, int height, int width) {
  return Planner(program, channels, height, width).take();
}

}  // namespace effnets
