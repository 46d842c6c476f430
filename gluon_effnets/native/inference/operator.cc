// effnets_network: a whole network, or all of it from the images on that MXNet need not compute, as one operator.
//
// inputs   data (N, C, H, W); weights, all of them in one array
// outputs  (N, channels) or (N, channels, height, width) for each step `output`
// program  the steps, as program.h says
//
// Images go through it one by one, on a thread each where there are enough of them, else with all threads on one.

#include <omp.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "mxnet/lib_api.h"
#include "steps.h"

using namespace mxnet::ext;
using namespace effnets;

namespace {

using Attributes = std::unordered_map<std::string, std::string>;
using Shapes = std::vector<std::vector<unsigned int>>;

struct Free {
  void operator()(float* memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<float, Free>;

Memory allocate(Index floats) {
  void* memory = nullptr;
  if (posix_memalign(&memory, 64, static_cast<std::size_t>(floats + LANES) * sizeof(float)))
    throw Refused("there is no memory for the maps");
  return Memory(static_cast<float*>(memory));
}

Program program_of(const Attributes& attributes) {
  for (const auto& attribute : attributes)
    if (attribute.first != "program" && attribute.first.compare(0, 2, "__") != 0)
      throw Refused("there is no attribute " + attribute.first);
  const auto found = attributes.find("program");
  if (found == attributes.end()) throw Refused("there is no program");
  return read_program(found->second);
}

// What fails becomes a message of MXNet.
template <typename Call>
MXReturnValue guarded(Call call) {
  try {
    call();
    return MX_SUCCESS;
  } catch (const std::exception& error) {
    MX_ERROR_MSG << "effnets_network: " << error.what();
    return MX_FAIL;
  }
}

template <typename Shape>
Plan plan_for(const Program& program, const Shape& shape) {
  constexpr Index most = 1 << 20;
  if (shape.size() != 4) throw Refused("takes maps (N, C, H, W)");
  for (int i = 1; i < 4; ++i)
    if (shape[i] <= 0 || static_cast<Index>(shape[i]) > most) throw Refused("takes no maps of this size");
  return make_plan(program, static_cast<int>(shape[1]), static_cast<int>(shape[2]), static_cast<int>(shape[3]));
}

MXReturnValue parse(const Attributes& attributes, int* inputs, int* outputs) {
  return guarded([&] {
    *inputs = 2;
    *outputs = 0;
    for (const Step& step : program_of(attributes)) *outputs += step.kind == Kind::output;
    if (!*outputs) throw Refused("the program has no output");
  });
}

MXReturnValue infer_type(const Attributes&, std::vector<int>* in, std::vector<int>* out) {
  return guarded([&] {
    for (int& type : *in) {
      if (type == -1) type = kFloat32;
      if (type != kFloat32) throw Refused("takes float32 only");
    }
    std::fill(out->begin(), out->end(), static_cast<int>(kFloat32));
  });
}

MXReturnValue infer_shape(const Attributes& attributes, Shapes* in, Shapes* out) {
  return guarded([&] {
    const auto& data = (*in)[0];
    const Program program = program_of(attributes);
    const Plan plan = plan_for(program, data);
    (*in)[1] = {static_cast<unsigned int>(plan.weights)};
    out->clear();
    for (const StepPlan& p : plan.steps) {
      if (p.step->kind != Kind::output) continue;
      std::vector<unsigned int> shape = {data[0], static_cast<unsigned int>(p.out.channels)};
      if (!p.step->flag) {
        shape.push_back(p.out.height);
        shape.push_back(p.out.width);
      } else if (p.out.pixels() != 1) {
        throw Refused("a result without sides is a map");
      }
      out->push_back(shape);
    }
  });
}

void run_step(const StepPlan& p, const float* data, const float* weights, float* arena, Share share) {
  switch (p.step->kind) {
    case Kind::input: return run_input(p, data, weights, arena, share);
    case Kind::conv: return run_conv(p, weights, arena, share);
    case Kind::depthwise: return run_depthwise(p, weights, arena, share);
    case Kind::pool: return run_pool(p, arena, share);
    case Kind::combine: return run_combine(p, arena, share);
    case Kind::select: return run_select(p, arena, share);
    default: return;
  }
}

// The plan of the images that came last, and memory for every thread.
class Network : public CustomStatefulOp {
 public:
  explicit Network(const Attributes& attributes) : program_(program_of(attributes)) {}

  MXReturnValue Forward(std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs, const OpResource&) override {
    return guarded([&] { run((*inputs)[0], (*inputs)[1], *outputs); });
  }

 private:
  void run(MXTensor& data, MXTensor& weights, std::vector<MXTensor>& outputs) {
    if (data.dtype != kFloat32 || weights.dtype != kFloat32) throw Refused("takes float32 only");
    if (shape_ != std::vector<int64_t>(data.shape.begin() + 1, data.shape.end())) {
      shape_.clear();
      plan_ = plan_for(program_, data.shape);
      arenas_.clear();
      shape_.assign(data.shape.begin() + 1, data.shape.end());
    }
    if (weights.size() < plan_.weights) throw Refused("there are too few weights");
    std::vector<float*> results;
    std::vector<Index> sizes;
    for (const StepPlan& p : plan_.steps) {
      if (p.step->kind != Kind::output) continue;
      if (results.size() == outputs.size()) throw Refused("there are too few outputs");
      MXTensor& output = outputs[results.size()];
      sizes.push_back(p.step->channels * p.out.pixels());
      if (output.size() != data.shape[0] * sizes.back()) throw Refused("an output has another size");
      results.push_back(output.data<float>());
    }
    const Index images = data.shape[0], size = shape_[0] * shape_[1] * shape_[2];
    const int threads = std::max(omp_get_max_threads(), 1);
    const Index apart = threads == 1 ? images : images / threads * threads;
    while (static_cast<Index>(arenas_.size()) < std::max<Index>(std::min<Index>(threads, apart), 1))
      arenas_.push_back(allocate(plan_.arena));
    const auto image = [&](Index i, float* arena, Share share, bool together) {
      std::size_t output = 0;
      for (const StepPlan& p : plan_.steps) {
        if (p.step->kind == Kind::output) {
          run_output(p, arena, results[output] + i * sizes[output], share);
          ++output;
          continue;
        }
        run_step(p, data.data<float>() + i * size, weights.data<float>(), arena, share);
        if (together) {
#pragma omp barrier
        }
      }
    };
    if (threads == 1) {
      for (Index i = 0; i < images; ++i) image(i, arenas_[0].get(), {0, 1}, false);
      return;
    }
#pragma omp parallel num_threads(threads)
    {
      const Share share = {omp_get_thread_num(), omp_get_num_threads()};
      for (Index i = share.begin(apart); i < share.end(apart); ++i)
        image(i, arenas_[share.thread].get(), {0, 1}, false);
#pragma omp barrier
      for (Index i = apart; i < images; ++i) {
        image(i, arenas_[0].get(), share, true);
#pragma omp barrier
      }
    }
  }

  const Program program_;
  Plan plan_;
  std::vector<int64_t> shape_;
  std::vector<Memory> arenas_;
};

MXReturnValue create(const Attributes& attributes, const MXContext&, const Shapes&, const std::vector<int>,
                     CustomStatefulOp** op) {
  return guarded([&] {
    *op = CustomStatefulOp::create<Network>(attributes);
    (*op)->ignore_warn = true;
  });
}

}  // namespace

REGISTER_OP(effnets_network)
    .setParseAttrs(parse)
    .setInferType(infer_type)
    .setInferShape(infer_shape)
    .setCreateOpState(create, "cpu");
