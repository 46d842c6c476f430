// Operators for training on a CPU, on maps in the plain layout (N, C, H, W), float32.
//
//   effnets_bn_act     batch normalization and activation
//   effnets_depthwise  depthwise convolution, batch normalization and activation, with the mean of every map
//   effnets_scale      maps times one number each
//
// MXNet's own operators pass over memory once or more for every step of such a chain, forward and backward. Here a
// channel is taken through the whole chain while it lies in the cache of its core.
//
// Networks meet these operators in graphs that are traced for training alone (gluon_effnets/models/base.py), so
// normalization is always that of the batch. As with MXNet's own operators, the running statistics change in the backward
// pass alone, and only where something before or in the layer has a gradient. MXNet's extension API passes no request of
// `add` on: whoever uses these operators must put another one between them and a parameter.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <string>
#include <unordered_map>
#include <vector>

#include "mxnet/lib_api.h"

using namespace mxnet::ext;

namespace {

using Attributes = std::unordered_map<std::string, std::string>;
using Shapes = std::vector<std::vector<unsigned int>>;
using Index = std::int64_t;

// ---------------------------------------------------------------------------------------------- attributes and shapes

std::string text_of(const Attributes& attributes, const char* key, const char* otherwise) {
  const auto found = attributes.find(key);
  return found == attributes.end() ? otherwise : found->second;
}

float number_of(const Attributes& attributes, const char* key, const char* otherwise) {
  return std::strtof(text_of(attributes, key, otherwise).c_str(), nullptr);
}

int integer_of(const Attributes& attributes, const char* key, const char* otherwise) {
  return static_cast<int>(std::strtol(text_of(attributes, key, otherwise).c_str(), nullptr, 10));
}

bool refuse(const std::string& key, const std::string& text, const char* needed) {
  MX_ERROR_MSG << key << " is " << text << "; " << needed;
  return false;
}

// Attributes of another meaning, such as a dilation, must not be passed over. Those in underscores are MXNet's own.
bool knows_all(const Attributes& attributes, std::initializer_list<const char*> known) {
  for (const auto& attribute : attributes) {
    const std::string& key = attribute.first;
    if (key.compare(0, 2, "__") == 0) continue;
    if (std::find(known.begin(), known.end(), key) == known.end())
      return refuse(key, attribute.second, "there is no such attribute");
  }
  return true;
}

bool is_number(const Attributes& attributes, const char* key, const char* otherwise, double least, double most) {
  const std::string text = text_of(attributes, key, otherwise);
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  if (end != text.c_str() && !*end && number >= least && number <= most) return true;
  return refuse(key, text, most == 1 ? "a number from 0 to 1 is taken" : "a number from 0 on is taken");
}

bool is_integer(const Attributes& attributes, const char* key, const char* otherwise) {
  const std::string text = text_of(attributes, key, otherwise);
  const bool digits = !text.empty() && text.size() < 6 && text.find_first_not_of("0123456789") == std::string::npos;
  return digits || refuse(key, text, "a whole number from 0 on is taken");
}

MXReturnValue all_float(const Attributes&, std::vector<int>* in, std::vector<int>* out) {
  for (int type : *in) {
    if (type != kFloat32) {
      MX_ERROR_MSG << "takes float32 only";
      return MX_FAIL;
    }
  }
  std::fill(out->begin(), out->end(), static_cast<int>(kFloat32));
  return MX_SUCCESS;
}

bool is_map(const std::vector<unsigned int>& shape) {
  if (shape.size() == 4 && shape[0] && shape[1] && shape[2] && shape[3]) return true;
  MX_ERROR_MSG << "takes maps (N, C, H, W)";
  return false;
}

// ---------------------------------------------------------------------------------------------------------- activations

enum class Act { none, relu, relu6, hard_swish, swish };

const std::unordered_map<std::string, Act> ACTS = {{"none", Act::none},
                                                   {"relu", Act::relu},
                                                   {"relu6", Act::relu6},
                                                   {"hard_swish", Act::hard_swish},
                                                   {"swish", Act::swish}};

Act act_of(const Attributes& attributes) { return ACTS.at(text_of(attributes, "act", "none")); }

bool knows_act(const Attributes& attributes) {
  const std::string name = text_of(attributes, "act", "none");
  return ACTS.count(name) || refuse("act", name, "known are none, relu, relu6, hard_swish, swish");
}

bool normalizes(const Attributes& attributes) {
  return knows_act(attributes) && is_number(attributes, "eps", "1e-5", 0, 1e30) &&
         is_number(attributes, "momentum", "0.9", 0, 1);
}

// exp(x) to 2 units in the last place; loops over it become vector instructions, which the library's do not.
inline float fast_exp(float x) {
  x = x < -87.f ? -87.f : x > 88.f ? 88.f : x;
  const float scaled = x * 1.44269504088896f;
  const float whole = std::floor(scaled + 0.5f);
  const float rest = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
  float sum = 1.9875691500e-4f;
  sum = sum * rest + 1.3981999507e-3f;
  sum = sum * rest + 8.3334519073e-3f;
  sum = sum * rest + 4.1665795894e-2f;
  sum = sum * rest + 1.6666665459e-1f;
  sum = sum * rest + 5.0000001201e-1f;
  sum = sum * rest * rest + rest + 1.f;
  const std::int32_t bits = (static_cast<std::int32_t>(whole) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof power);
  return sum * power;
}

inline float sigmoid(float x) { return 1.f / (1.f + fast_exp(-x)); }

// The comparisons are such that what is not a number stays so: a loss scaler must see it.
template <Act act>
inline float value(float x) {
  switch (act) {
    case Act::relu: return x < 0.f ? 0.f : x;
    case Act::relu6: return x < 0.f ? 0.f : x > 6.f ? 6.f : x;
    case Act::hard_swish: {
      const float gate = x * (1.f / 6.f) + 0.5f;
      return x * (gate < 0.f ? 0.f : gate > 1.f ? 1.f : gate);
    }
    case Act::swish: return x * sigmoid(x);
    default: return x;
  }
}

template <Act act>
inline float slope(float x) {
  switch (act) {
    case Act::relu: return x > 0.f ? 1.f : 0.f;
    case Act::relu6: return x > 0.f && x <= 6.f ? 1.f : 0.f;
    case Act::hard_swish: return x <= -3.f ? 0.f : x >= 3.f ? 1.f : x * (1.f / 3.f) + 0.5f;
    case Act::swish: {
      const float gate = sigmoid(x);
      return gate * (1.f + x * (1.f - gate));
    }
    default: return 1.f;
  }
}

// ------------------------------------------------------------------------------------- one channel of one normalization

// Sums of a channel about `shift`, a value of it: the variance of data far from 0 keeps its digits in one pass.
struct Moments {
  float shift = 0;
  double sum = 0, squares = 0;

  void add(const float* x, Index count) {
    float part = 0, part_squares = 0;
#pragma omp simd reduction(+ : part, part_squares)
    for (Index i = 0; i < count; ++i) {
      const float d = x[i] - shift;
      part += d;
      part_squares += d * d;
    }
    sum += part;
    squares += part_squares;
  }

  float mean(Index count) const { return static_cast<float>(shift + sum / count); }
  float variance(Index count) const {
    const double mean = sum / count;
    return static_cast<float>(std::max(squares / count - mean * mean, 0.0));
  }
};

template <Act act>
float normalize(const float* x, float* y, Index count, float factor, float offset) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (Index i = 0; i < count; ++i) {
    y[i] = value<act>(x[i] * factor + offset);
    sum += y[i];
  }
  return sum;
}

// t = (dy + more) * slope; returns the sums of t and of t times the normalized value.
template <Act act>
void activation_gradient(const float* x, const float* dy, float more, float* t, Index count, float mean, float inverse,
                         float gamma, float beta, double* sum, double* dot) {
  float part = 0, part_dot = 0;
#pragma omp simd reduction(+ : part, part_dot)
  for (Index i = 0; i < count; ++i) {
    const float normal = (x[i] - mean) * inverse;
    const float g = (dy[i] + more) * slope<act>(normal * gamma + beta);
    t[i] = g;
    part += g;
    part_dot += g * normal;
  }
  *sum += part;
  *dot += part_dot;
}

struct Channel {
  float mean, inverse, gamma, beta;
};

// dx of a normalization, from t and its sums over `total` values.
void normalization_gradient(const float* x, const float* t, float* dx, Index count, const Channel& c, double sum,
                            double dot, Index total) {
  const float factor = c.gamma * c.inverse;
  const float mean_t = static_cast<float>(sum / total);
  const float slope_t = static_cast<float>(dot / total) * c.inverse;
  const float mean = c.mean;
#pragma omp simd
  for (Index i = 0; i < count; ++i) dx[i] = factor * (t[i] - mean_t - (x[i] - mean) * slope_t);
}

// What all normalizations of the file share: inputs behind the data, outputs behind y, running statistics.
struct Norm {
  const float *gamma, *beta;
  float *running_mean, *running_var;
  float *mean, *inverse, *variance;  // of the batch
  float epsilon, momentum;

  Norm(const Attributes& attributes, std::vector<MXTensor>& in, std::size_t first, MXTensor& statistics)
      : gamma(in[first].data<float>()),
        beta(in[first + 1].data<float>()),
        running_mean(in[first + 2].data<float>()),
        running_var(in[first + 3].data<float>()),
        mean(statistics.data<float>()),
        inverse(mean + statistics.shape[1]),
        variance(inverse + statistics.shape[1]),
        epsilon(number_of(attributes, "eps", "1e-5")),
        momentum(number_of(attributes, "momentum", "0.9")) {}

  Channel channel(Index c) const { return {mean[c], inverse[c], gamma[c], beta[c]}; }

  // Keeps the statistics of channel c for the backward pass.
  Channel finish(Index c, const Moments& moments, Index count) const {
    mean[c] = moments.mean(count);
    variance[c] = moments.variance(count);
    inverse[c] = 1.f / std::sqrt(variance[c] + epsilon);
    return channel(c);
  }

  // Moves the running statistics of channel c; MXNet's running variance is that of the batch, not of a population.
  void run(Index c) const {
    running_mean[c] = momentum * running_mean[c] + (1.f - momentum) * mean[c];
    running_var[c] = momentum * running_var[c] + (1.f - momentum) * variance[c];
  }
};

// --------------------------------------------------------------------------------------------------- effnets_bn_act

template <Act act>
void bn_act_forward(const float* x, float* y, Index n, Index channels, Index size, const Norm& norm) {
#pragma omp parallel for
  for (Index c = 0; c < channels; ++c) {
    Moments moments;
    moments.shift = x[c * size];
    for (Index i = 0; i < n; ++i) moments.add(x + (i * channels + c) * size, size);
    const Channel k = norm.finish(c, moments, n * size);
    const float factor = k.gamma * k.inverse;
    for (Index i = 0; i < n; ++i) {
      const Index at = (i * channels + c) * size;
      normalize<act>(x + at, y + at, size, factor, k.beta - k.mean * factor);
    }
  }
}

template <Act act>
void bn_act_backward(const float* dy, const float* x, float* dx, float* dgamma, float* dbeta, Index n, Index channels,
                     Index size, const Norm& norm) {
#pragma omp parallel for
  for (Index c = 0; c < channels; ++c) {
    const Channel k = norm.channel(c);
    double sum = 0, dot = 0;
    for (Index i = 0; i < n; ++i) {
      const Index at = (i * channels + c) * size;
      activation_gradient<act>(x + at, dy + at, 0.f, dx + at, size, k.mean, k.inverse, k.gamma, k.beta, &sum, &dot);
    }
    for (Index i = 0; i < n; ++i) {
      const Index at = (i * channels + c) * size;
      normalization_gradient(x + at, dx + at, dx + at, size, k, sum, dot, n * size);
    }
    dgamma[c] = static_cast<float>(dot);
    dbeta[c] = static_cast<float>(sum);
    norm.run(c);
  }
}

// Makes `call`, in which A is the activation as a constant.
#define WITH_ACT(act, call)                                                   \
  switch (act) {                                                              \
    case Act::relu: { constexpr Act A = Act::relu; call; break; }             \
    case Act::relu6: { constexpr Act A = Act::relu6; call; break; }           \
    case Act::hard_swish: { constexpr Act A = Act::hard_swish; call; break; } \
    case Act::swish: { constexpr Act A = Act::swish; call; break; }           \
    default: { constexpr Act A = Act::none; call; break; }                    \
  }

MXReturnValue bn_parse(const Attributes& attributes, int* inputs, int* outputs) {
  if (!knows_all(attributes, {"act", "eps", "momentum"}) || !normalizes(attributes)) return MX_FAIL;
  *inputs = 5;   // x, gamma, beta, running mean, running variance
  *outputs = 2;  // y; mean, 1 / deviation and variance of the batch (3, C), for the backward pass
  return MX_SUCCESS;
}

MXReturnValue bn_shape(const Attributes&, Shapes* in, Shapes* out) {
  if (!is_map((*in)[0])) return MX_FAIL;
  const unsigned int channels = (*in)[0][1];
  for (std::size_t i = 1; i < in->size(); ++i) (*in)[i] = {channels};
  *out = {(*in)[0], {3, channels}};
  return MX_SUCCESS;
}

MXReturnValue bn_mutate(const Attributes&, std::vector<int>* indices) {
  *indices = {3, 4};
  return MX_SUCCESS;
}

MXReturnValue bn_forward(const Attributes& attributes, std::vector<MXTensor>* in, std::vector<MXTensor>* out,
                         const OpResource&) {
  auto& i = *in;
  auto& o = *out;
  const auto& s = i[0].shape;
  const Norm norm(attributes, i, 1, o[1]);
  WITH_ACT(act_of(attributes),
           bn_act_forward<A>(i[0].data<float>(), o[0].data<float>(), s[0], s[1], s[2] * s[3], norm));
  return MX_SUCCESS;
}

MXReturnValue bn_backward(const Attributes& attributes, std::vector<MXTensor>* in, std::vector<MXTensor>* out,
                          const OpResource&) {
  // 0 and 1 gradients of the outputs; 2 to 6 inputs; 7 and 8 outputs
  auto& i = *in;
  auto& o = *out;
  const auto& s = i[2].shape;
  const Norm norm(attributes, i, 3, i[8]);
  WITH_ACT(act_of(attributes), bn_act_backward<A>(i[0].data<float>(), i[2].data<float>(), o[0].data<float>(),
                                                  o[1].data<float>(), o[2].data<float>(), s[0], s[1], s[2] * s[3],
                                                  norm));
  return MX_SUCCESS;
}

// ------------------------------------------------------------------------------------------------ depthwise convolution

constexpr int LANES = 16;
// Maps are stacked up to this many floats, a part of a first-level cache.
constexpr Index STACKED = 4096;
typedef float Lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(alignof(float)), may_alias));

inline Lanes load(const float* at) { return *reinterpret_cast<const Lanes*>(at); }
inline void store(float* at, Lanes x) { *reinterpret_cast<Lanes*>(at) = x; }
inline Index padded(Index count) { return (count + LANES - 1) / LANES * LANES; }

// out[i] = sum over taps of weight * in[tap][i], for i < count; writes whole vectors.
template <int taps>
void combine(const float* const* in, const float* weight, float* out, Index count) {
  Index i = 0;
  for (; i + 2 * LANES < count; i += 3 * LANES) {
    Lanes a = {}, b = {}, c = {};
    for (int t = 0; t < taps; ++t) {
      a += weight[t] * load(in[t] + i);
      b += weight[t] * load(in[t] + i + LANES);
      c += weight[t] * load(in[t] + i + 2 * LANES);
    }
    store(out + i, a);
    store(out + i + LANES, b);
    store(out + i + 2 * LANES, c);
  }
  for (; i < count; i += LANES) {
    Lanes a = {};
    for (int t = 0; t < taps; ++t) a += weight[t] * load(in[t] + i);
    store(out + i, a);
  }
}

// sums[tap] += sum over i < count of d[i] * in[tap][i]; d is 0 from there to the end of its vector.
template <int taps>
void correlate(const float* const* in, const float* d, double* sums, Index count) {
  Lanes total[taps] = {};
  for (Index i = 0; i < count; i += LANES) {
    const Lanes g = load(d + i);
    for (int t = 0; t < taps; ++t) total[t] += g * load(in[t] + i);
  }
  for (int t = 0; t < taps; ++t) {
    float sum = 0;
    for (int lane = 0; lane < LANES; ++lane) sum += total[t][lane];
    sums[t] += sum;
  }
}

// Maps with their borders, taken apart by the parity of rows and columns if the stride is 2. Every tap of a kernel is
// then a shifted view of one part, and a convolution is a sum of shifted vectors. Small maps of several images stand one
// behind the other, so that vectors are long, too.
struct Geometry {
  Index height, width, out_height, out_width;
  int kernel, stride, pad;
  Index columns;  // of a part; what lies beyond out_width is computed and left out
  Index block;    // floats of one image in a part
  Index stack;    // images at once
  Index part;     // floats of a part, with room for vectors that begin in it

  Geometry(Index n, Index h, Index w, Index oh, Index ow, int k, int s, int p)
      : height(h), width(w), out_height(oh), out_width(ow), kernel(k), stride(s), pad(p) {
    columns = ow + (k - 1) / s;
    block = part_rows() * columns;
    stack = std::max<Index>(1, std::min(n, STACKED / block));
    part = padded(stack * block + k) + 4 * LANES;
  }

  // From the first to the last value of the results of so many images, with what is left out.
  Index span(Index images) const { return (images - 1) * block + (out_height - 1) * columns + out_width; }

  Index offset(int row, int column) const { return (row / stride) * columns + column / stride; }
  int parity(int row, int column) const { return (row % stride) * stride + column % stride; }
  int parts() const { return stride * stride; }

  // Calls move(first value in the map, first in the parts, number of values) for every piece of a row that lies in one
  // part; the values of a piece are `step` apart in the map. Values that the kernel does not reach are left out.
  template <int step, class Move>
  void pieces(Move move) const {
    const Index rows = std::min(height, part_rows() * step - pad);
    for (Index row = 0; row < rows; ++row) {
      for (int phase = 0; phase < step; ++phase) {
        const int first = (phase + pad) % step;
        const Index column = (first + pad) / step, line = ((row + pad) % step * step + phase) * part;
        const Index count = std::min((width - first + step - 1) / step, columns - column);
        move(row * width + first, line + (row + pad) / step * columns + column, count);
      }
    }
  }

  // One image. Borders of `to` must be 0 already; they stay so.
  void take_apart(const float* x, float* to) const {
    if (stride == 1) {
      pieces<1>([&](Index from, Index into, Index n) { std::memcpy(to + into, x + from, n * sizeof(float)); });
    } else {
      pieces<2>([&](Index from, Index into, Index n) {
        for (Index j = 0; j < n; ++j) to[into + j] = x[from + 2 * j];
      });
    }
  }

  void put_together(const float* from, float* x) const {
    if (stride == 1) {
      pieces<1>([&](Index into, Index at, Index n) { std::memcpy(x + into, from + at, n * sizeof(float)); });
    } else {
      std::fill(x, x + height * width, 0.f);
      pieces<2>([&](Index into, Index at, Index n) {
        for (Index j = 0; j < n; ++j) x[into + 2 * j] = from[at + j];
      });
    }
  }

  Index part_rows() const { return out_height + (kernel - 1) / stride; }
};

// Makes `call`, in which T is the number of taps as a constant.
#define WITH_TAPS(count, call)                          \
  switch (count) {                                      \
    case 1: { constexpr int T = 1; call; break; }       \
    case 2: { constexpr int T = 2; call; break; }       \
    case 4: { constexpr int T = 4; call; break; }       \
    case 6: { constexpr int T = 6; call; break; }       \
    case 9: { constexpr int T = 9; call; break; }       \
    case 12: { constexpr int T = 12; call; break; }     \
    case 16: { constexpr int T = 16; call; break; }     \
    case 25: { constexpr int T = 25; call; break; }     \
    default: { constexpr int T = 49; call; break; }     \
  }

// A kernel over one part of a map: where its taps lie, and which they are.
struct Taps {
  int count = 0;
  Index offset[49];
  int which[49];
};

std::vector<Taps> taps_of(const Geometry& g) {
  std::vector<Taps> all(g.parts());
  for (int row = 0; row < g.kernel; ++row) {
    for (int column = 0; column < g.kernel; ++column) {
      Taps& taps = all[g.parity(row, column)];
      taps.offset[taps.count] = g.offset(row, column);
      taps.which[taps.count++] = row * g.kernel + column;
    }
  }
  return all;
}

struct Depthwise {
  Index n, channels;
  Geometry g;

  Depthwise(const Attributes& attributes, const std::vector<Index>& in, const std::vector<Index>& out)
      : n(in[0]),
        channels(in[1]),
        g(in[0], in[2], in[3], out[2], out[3], integer_of(attributes, "kernel", "3"), integer_of(attributes, "stride", "1"),
          integer_of(attributes, "pad", "1")) {}

  Index in_size() const { return g.height * g.width; }
  Index out_size() const { return g.out_height * g.out_width; }
};

// What a thread needs to convolve maps of one channel after the other, up to `stack` images at once.
class Convolver {
 public:
  explicit Convolver(const Geometry& geometry)
      : g(geometry), area(g.kernel * g.kernel), parts(g.part * g.parts(), 0.f), wide(g.part) {
    for (int row = 0; row < g.kernel; ++row)
      for (int column = 0; column < g.kernel; ++column)
        in[row * g.kernel + column] = parts.data() + g.parity(row, column) * g.part + g.offset(row, column);
  }

  // Reads maps that lie `step` apart, and returns the views of them that the taps of a kernel see.
  const float* const* read(const float* x, Index step, Index images) {
    for (Index i = 0; i < images; ++i) g.take_apart(x + i * step, parts.data() + i * g.block);
    return in;
  }

  // Results stand one behind the other.
  void convolve(const float* x, Index step, Index images, const float* weight, float* to) {
    read(x, step, images);
    WITH_TAPS(area, combine<T>(in, weight, wide.data(), g.span(images)));
    for (Index i = 0; i < images; ++i)
      for (Index row = 0; row < g.out_height; ++row, to += g.out_width)
        std::memcpy(to, wide.data() + i * g.block + row * g.columns, g.out_width * sizeof(float));
  }

 private:
  const Geometry& g;
  const int area;
  std::vector<float> parts, wide;
  const float* in[49];
};

template <Act act>
void depthwise_forward(const Depthwise& d, const float* x, const float* weight, const Norm& norm, float* y,
                       float* pooled) {
  const Geometry& g = d.g;
  const Index in_size = d.in_size(), out_size = d.out_size(), step = d.channels * in_size;
  const int area = g.kernel * g.kernel;
#pragma omp parallel
  {
    Convolver convolver(g);
    std::vector<float> conv(d.n * out_size);
#pragma omp for
    for (Index c = 0; c < d.channels; ++c) {
      Moments moments;
      for (Index i = 0; i < d.n; i += g.stack) {
        const Index images = std::min(g.stack, d.n - i);
        float* to = &conv[i * out_size];
        convolver.convolve(x + (i * d.channels + c) * in_size, step, images, weight + c * area, to);
        if (i == 0) moments.shift = to[0];
        moments.add(to, images * out_size);
      }
      const Channel k = norm.finish(c, moments, d.n * out_size);
      const float factor = k.gamma * k.inverse, offset = k.beta - k.mean * factor;
      for (Index i = 0; i < d.n; ++i) {
        const Index at = i * d.channels + c;
        pooled[at] = normalize<act>(&conv[i * out_size], y + at * out_size, out_size, factor, offset) / out_size;
      }
    }
  }
}

// The convolution is computed once more: reading it from memory would take longer, and keep that memory occupied.
template <Act act>
void depthwise_backward(const Depthwise& d, const float* dy, const float* dpooled, const float* x, const float* weight,
                        const Norm& norm, float* dx, float* dweight, float* dgamma, float* dbeta) {
  const Geometry& g = d.g;
  const Index in_size = d.in_size(), out_size = d.out_size(), step = d.channels * in_size;
  const int area = g.kernel * g.kernel;
  const std::vector<Taps> taps = taps_of(g);
  // What comes before the first value of a gradient is read as 0 by the taps that lie behind the first.
  const Index front = padded(g.offset(g.kernel - 1, g.kernel - 1));
#pragma omp parallel
  {
    Convolver convolver(g);
    std::vector<float> conv(d.n * out_size), t(d.n * out_size);
    std::vector<float> wide(front + g.part + 4 * LANES, 0.f), dparts(g.part * g.parts());
#pragma omp for
    for (Index c = 0; c < d.channels; ++c) {
      const Channel k = norm.channel(c);
      double sum = 0, dot = 0, sums[49] = {};
      for (Index i = 0; i < d.n; i += g.stack) {
        const Index images = std::min(g.stack, d.n - i);
        convolver.convolve(x + (i * d.channels + c) * in_size, step, images, weight + c * area, &conv[i * out_size]);
        for (Index j = i; j < i + images; ++j) {
          const Index at = j * d.channels + c;
          activation_gradient<act>(&conv[j * out_size], dy + at * out_size, dpooled[at] / out_size, &t[j * out_size],
                                   out_size, k.mean, k.inverse, k.gamma, k.beta, &sum, &dot);
        }
      }
      normalization_gradient(conv.data(), t.data(), t.data(), d.n * out_size, k, sum, dot, d.n * out_size);
      for (Index i = 0; i < d.n; i += g.stack) {
        const Index images = std::min(g.stack, d.n - i);
        const float* from_row = &t[i * out_size];
        for (Index j = 0; j < images; ++j)
          for (Index row = 0; row < g.out_height; ++row, from_row += g.out_width)
            std::memcpy(&wide[front + j * g.block + row * g.columns], from_row, g.out_width * sizeof(float));
        // Vectors that begin in the last image must not end in one of an earlier, larger stack.
        if (images < g.stack) std::fill_n(&wide[front + images * g.block], LANES, 0.f);
        const float* const* in = convolver.read(x + (i * d.channels + c) * in_size, step, images);
        WITH_TAPS(area, correlate<T>(in, &wide[front], sums, g.span(images)));
        for (int p = 0; p < g.parts(); ++p) {
          const float* from[49];
          float w[49];
          for (int tap = 0; tap < taps[p].count; ++tap) {
            from[tap] = &wide[front] - taps[p].offset[tap];
            w[tap] = weight[c * area + taps[p].which[tap]];
          }
          WITH_TAPS(taps[p].count, combine<T>(from, w, &dparts[p * g.part], images * g.block));
        }
        for (Index j = 0; j < images; ++j)
          g.put_together(dparts.data() + j * g.block, dx + ((i + j) * d.channels + c) * in_size);
      }
      for (int tap = 0; tap < area; ++tap) dweight[c * area + tap] = static_cast<float>(sums[tap]);
      dgamma[c] = static_cast<float>(dot);
      dbeta[c] = static_cast<float>(sum);
      norm.run(c);
    }
  }
}

// The lines of zeros before and behind a map are fewer than those of the kernel.
bool places_kernel(const Attributes& attributes) {
  for (const char* key : {"kernel", "stride", "pad", "border"})
    if (!is_integer(attributes, key, "1")) return false;
  const int kernel = integer_of(attributes, "kernel", "3"), stride = integer_of(attributes, "stride", "1");
  const int before = integer_of(attributes, "pad", "1"), after = integer_of(attributes, "border", "2") - before;
  if ((kernel != 3 && kernel != 5 && kernel != 7) || (stride != 1 && stride != 2)) {
    MX_ERROR_MSG << "effnets_depthwise takes kernels of 3, 5 or 7, and strides of 1 or 2";
    return false;
  }
  if (before < kernel && after >= 0 && after < kernel) return true;
  MX_ERROR_MSG << "effnets_depthwise: pad is " << before << " of a border of " << before + after
               << "; from 0 to kernel - 1 lines are taken on each side";
  return false;
}

MXReturnValue depthwise_parse(const Attributes& attributes, int* inputs, int* outputs) {
  if (!knows_all(attributes, {"act", "eps", "momentum", "kernel", "stride", "pad", "border"}) ||
      !normalizes(attributes) || !places_kernel(attributes))
    return MX_FAIL;
  *inputs = 6;   // x, weight, gamma, beta, running mean, running variance
  *outputs = 3;  // y, its mean over each map; mean, 1 / deviation and variance of the batch (3, C)
  return MX_SUCCESS;
}

MXReturnValue depthwise_shape(const Attributes& attributes, Shapes* in, Shapes* out) {
  if (!is_map((*in)[0])) return MX_FAIL;
  const auto& x = (*in)[0];
  const unsigned int n = x[0], channels = x[1];
  const unsigned int kernel = integer_of(attributes, "kernel", "3"), stride = integer_of(attributes, "stride", "1");
  const unsigned int border = integer_of(attributes, "border", "2");  // of both sides together
  if (x[2] + border < kernel || x[3] + border < kernel) {
    MX_ERROR_MSG << "effnets_depthwise: the map is smaller than the kernel";
    return MX_FAIL;
  }
  const unsigned int height = (x[2] + border - kernel) / stride + 1, width = (x[3] + border - kernel) / stride + 1;
  (*in)[1] = {channels, 1, kernel, kernel};
  for (std::size_t i = 2; i < in->size(); ++i) (*in)[i] = {channels};
  *out = {{n, channels, height, width}, {n, channels, 1, 1}, {3, channels}};
  return MX_SUCCESS;
}

MXReturnValue depthwise_mutate(const Attributes&, std::vector<int>* indices) {
  *indices = {4, 5};
  return MX_SUCCESS;
}

MXReturnValue depthwise_forward_op(const Attributes& attributes, std::vector<MXTensor>* in, std::vector<MXTensor>* out,
                                   const OpResource&) {
  auto& i = *in;
  auto& o = *out;
  const Depthwise d(attributes, i[0].shape, o[0].shape);
  const Norm norm(attributes, i, 2, o[2]);
  WITH_ACT(act_of(attributes), depthwise_forward<A>(d, i[0].data<float>(), i[1].data<float>(), norm, o[0].data<float>(),
                                                    o[1].data<float>()));
  return MX_SUCCESS;
}

MXReturnValue depthwise_backward_op(const Attributes& attributes, std::vector<MXTensor>* in, std::vector<MXTensor>* out,
                                    const OpResource&) {
  // 0 to 2 gradients of the outputs; 3 to 8 inputs; 9 to 11 outputs
  auto& i = *in;
  auto& o = *out;
  const Depthwise d(attributes, i[3].shape, i[9].shape);
  const Norm norm(attributes, i, 5, i[11]);
  WITH_ACT(act_of(attributes),
           depthwise_backward<A>(d, i[0].data<float>(), i[1].data<float>(), i[3].data<float>(), i[4].data<float>(), norm,
                                 o[0].data<float>(), o[1].data<float>(), o[2].data<float>(), o[3].data<float>()));
  return MX_SUCCESS;
}

// -------------------------------------------------------------------------------------------------------- effnets_scale

MXReturnValue scale_parse(const Attributes& attributes, int* inputs, int* outputs) {
  if (!knows_all(attributes, {})) return MX_FAIL;
  *inputs = 2;  // x (N, C, H, W), scale (N, C, 1, 1)
  *outputs = 1;
  return MX_SUCCESS;
}

MXReturnValue scale_shape(const Attributes&, Shapes* in, Shapes* out) {
  if (!is_map((*in)[0])) return MX_FAIL;
  (*in)[1] = {(*in)[0][0], (*in)[0][1], 1, 1};
  *out = {(*in)[0]};
  return MX_SUCCESS;
}

MXReturnValue scale_forward(const Attributes&, std::vector<MXTensor>* in, std::vector<MXTensor>* out,
                            const OpResource&) {
  const auto& s = (*in)[0].shape;
  const Index maps = s[0] * s[1], size = s[2] * s[3];
  const float *x = (*in)[0].data<float>(), *scale = (*in)[1].data<float>();
  float* y = (*out)[0].data<float>();
#pragma omp parallel for
  for (Index m = 0; m < maps; ++m) {
    const float factor = scale[m];
#pragma omp simd
    for (Index i = m * size; i < (m + 1) * size; ++i) y[i] = x[i] * factor;
  }
  return MX_SUCCESS;
}

MXReturnValue scale_backward(const Attributes&, std::vector<MXTensor>* in, std::vector<MXTensor>* out,
                             const OpResource&) {
  const auto& s = (*in)[1].shape;
  const Index maps = s[0] * s[1], size = s[2] * s[3];
  const float *dy = (*in)[0].data<float>(), *x = (*in)[1].data<float>(), *scale = (*in)[2].data<float>();
  float *dx = (*out)[0].data<float>(), *dscale = (*out)[1].data<float>();
#pragma omp parallel for
  for (Index m = 0; m < maps; ++m) {
    const float factor = scale[m];
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (Index i = m * size; i < (m + 1) * size; ++i) {
      sum += dy[i] * x[i];
      dx[i] = dy[i] * factor;
    }
    dscale[m] = sum;
  }
  return MX_SUCCESS;
}

// ------------------------------------------------------------------------------------------ backward passes that mutate

// The extension API lets forward passes alone say that they mutate inputs. A backward pass is an operator of its own,
// though; registered once more by its name, it can say so, and whoever reads running statistics waits for it.

template <int inputs, int outputs>
MXReturnValue backward_parse(const Attributes&, int* in, int* out) {
  *in = inputs + 2 * outputs;  // gradients of the outputs, inputs, outputs
  *out = inputs;
  return MX_SUCCESS;
}

template <int inputs, int outputs>
MXReturnValue backward_shape(const Attributes&, Shapes* in, Shapes* out) {
  out->assign(in->begin() + outputs, in->begin() + outputs + inputs);
  return MX_SUCCESS;
}

// The running statistics are the last two inputs.
template <int inputs, int outputs>
MXReturnValue backward_mutate(const Attributes&, std::vector<int>* indices) {
  *indices = {outputs + inputs - 2, outputs + inputs - 1};
  return MX_SUCCESS;
}

}  // namespace

REGISTER_OP(effnets_bn_act)
    .setForward(bn_forward, "cpu")
    .setBackward(bn_backward, "cpu")
    .setParseAttrs(bn_parse)
    .setInferType(all_float)
    .setInferShape(bn_shape)
    .setMutateInputs(bn_mutate);

REGISTER_OP(_backward_effnets_bn_act)
    .setForward(bn_backward, "cpu")
    .setParseAttrs(backward_parse<5, 2>)
    .setInferType(all_float)
    .setInferShape(backward_shape<5, 2>)
    .setMutateInputs(backward_mutate<5, 2>);

REGISTER_OP(effnets_depthwise)
    .setForward(depthwise_forward_op, "cpu")
    .setBackward(depthwise_backward_op, "cpu")
    .setParseAttrs(depthwise_parse)
    .setInferType(all_float)
    .setInferShape(depthwise_shape)
    .setMutateInputs(depthwise_mutate);

REGISTER_OP(_backward_effnets_depthwise)
    .setForward(depthwise_backward_op, "cpu")
    .setParseAttrs(backward_parse<6, 3>)
    .setInferType(all_float)
    .setInferShape(backward_shape<6, 3>)
    .setMutateInputs(backward_mutate<6, 3>);

REGISTER_OP(effnets_scale)
    .setForward(scale_forward, "cpu")
    .setBackward(scale_backward, "cpu")
    .setParseAttrs(scale_parse)
    .setInferType(all_float)
    .setInferShape(scale_shape);

MXReturnValue initialize(int version) {
  if (version >= 10700) return MX_SUCCESS;
  MX_ERROR_MSG << "MXNet 1.7 or newer is needed";
  return MX_FAIL;
}
