// Steps that multiply by no weights: pooling, sums and products of maps, channels put into another order, and the way
// from images in planes and back.

#include <cstring>
#include <limits>

#include "steps.h"

namespace effnets {
namespace {

Vector pooled(const float* first, const Source& in, const StepPlan& p, int y, int x) {
  const Kernel& k = p.step->kernel;
  const int top = y * k.stride_y - k.top, left = x * k.stride_x - k.left;
  // The window without what hangs over the padding, and what of it lies on the map.
  const int bottom = std::min(top + k.height, p.in_height + k.bottom);
  const int right = std::min(left + k.width, p.in_width + k.right);
  const int from_y = std::max(top, 0), to_y = std::min(bottom, p.in_height);
  const int from_x = std::max(left, 0), to_x = std::min(right, p.in_width);
  const bool largest = p.step->how == static_cast<int>(Pool::max);
  Vector sum = all(largest ? -std::numeric_limits<float>::infinity() : 0.f);
  for (int i = from_y; i < to_y; ++i)
    for (int j = from_x; j < to_x; ++j) {
      const Vector v = load(first + i * in.row + Index(j) * in.lane);
      if (largest)
        sum = v > sum ? v : sum;
      else
        sum += v;
    }
  if (largest) return sum;
  const bool inside = p.step->how == static_cast<int>(Pool::mean_inside);
  const Index size = inside ? Index(to_y - from_y) * (to_x - from_x) : Index(bottom - top) * (right - left);
  return sum / static_cast<float>(size);
}

Vector mean(const float* first, const Source& in, int height, int width) {
  Vector sums[4] = {};
  for (int y = 0; y < height; ++y) {
    const float* const line = first + y * in.row;
    int x = 0;
    for (; x + 4 <= width; x += 4)
      for (int i = 0; i < 4; ++i) sums[i] += load(line + Index(x + i) * in.lane);
    for (; x < width; ++x) sums[0] += load(line + Index(x) * in.lane);
  }
  return (sums[0] + sums[1] + sums[2] + sums[3]) / static_cast<float>(Index(height) * width);
}

template <typename Call>
void each_line(const StepPlan& p, Share share, Call call) {
  const Index height = p.out.height, count = height * p.step->blocks();
  for (Index i = share.begin(count); i < share.end(count); ++i)
    call(static_cast<int>(i / height), static_cast<int>(i % height));
}

}  // namespace

void write_zeros(const Tensor& t, float* arena, Share share) {
  if (t.is_compact()) return;
  const Index line = Index(t.width) * t.lane, left = Index(t.left) * t.lane, right = Index(t.right) * t.lane;
  for (Index b = share.begin(t.planes()); b < share.end(t.planes()); ++b) {
    float* at = arena + t.place + b * t.plane();
    std::memset(at, 0, t.top * t.row() * sizeof(float));
    at += t.top * t.row();
    for (int y = 0; y < t.height; ++y, at += t.row()) {
      std::memset(at, 0, left * sizeof(float));
      std::memset(at + left + line, 0, right * sizeof(float));
    }
    std::memset(at, 0, t.bottom * t.row() * sizeof(float));
  }
}

void run_pool(const StepPlan& p, float* arena, Share share) {
  write_zeros(p.out, arena, share);
  const bool global = p.step->how == static_cast<int>(Pool::global);
  each_line(p, share, [&](int block, int y) {
    const Source& in = p.sources[block];
    const float* const first = arena + in.place;
    float* const out = arena + p.out.first(block);
    for (int x = 0; x < p.out.width; ++x)
      store(out + p.positions[y * p.out.width + x],
            global ? mean(first, in, p.in_height, p.in_width) : pooled(first, in, p, y, x));
  });
}

void run_combine(const StepPlan& p, float* arena, Share share) {
  write_zeros(p.out, arena, share);
  const Combine how = static_cast<Combine>(p.step->how);
  const Act act = p.step->late;
  each_line(p, share, [&](int block, int y) {
    const Source &a = p.sources[block], &b = p.others[block];
    const float *one = arena + a.place + y * a.row, *other = arena + b.place;
    float* const out = arena + p.out.first(block) + y * p.out.row();
    if (how == Combine::scale) {
      const Vector factor = load(other);
      for (int x = 0; x < p.out.width; ++x)
        store(out + Index(x) * LANES, activate(act, load(one + Index(x) * a.lane) * factor));
      return;
    }
    other += y * b.row;
    for (int x = 0; x < p.out.width; ++x) {
      const Vector v = load(one + Index(x) * a.lane), w = load(other + Index(x) * b.lane);
      store(out + Index(x) * LANES, activate(act, how == Combine::add ? v + w : v * w));
    }
  });
}

void run_select(const StepPlan& p, float* arena, Share share) {
  write_zeros(p.out, arena, share);
  const int channels = p.step->channels;
  each_line(p, share, [&](int block, int y) {
    float* const out = arena + p.out.first(block) + y * p.out.row();
    for (int lane = 0; lane < LANES; ++lane) {
      const int channel = block * LANES + lane;
      float* to = out + lane;
      if (channel >= channels || p.sources[channel].place < 0) {
        for (int x = 0; x < p.out.width; ++x, to += LANES) *to = 0.f;
        continue;
      }
      const Source& in = p.sources[channel];
      const float* from = arena + in.place + y * in.row;
      for (int x = 0; x < p.out.width; ++x, to += LANES, from += in.lane) *to = *from;
    }
  });
}

void run_input(const StepPlan& p, const float* data, const float* weights, float* arena, Share share) {
  write_zeros(p.out, arena, share);
  const Tensor& t = p.out;
  const Index count = Index(t.channels) * t.height;
  for (Index i = share.begin(count); i < share.end(count); ++i) {
    const Index channel = i / t.height;
    const float factor = weights[p.step->weights + channel], more = weights[p.step->weights + t.channels + channel];
    const float* const from = data + i * t.width;
    float* const to = arena + t.first(channel) + (i % t.height) * t.row();
    for (int x = 0; x < t.width; ++x) to[x] = from[x] * factor + more;
  }
}

void run_output(const StepPlan& p, const float* arena, float* result, Share share) {
  const int height = p.out.height, width = p.out.width;
  const Index count = Index(p.step->channels) * height;
  for (Index i = share.begin(count); i < share.end(count); ++i) {
    const Source& in = p.sources[i / height];
    const float* from = arena + in.place + (i % height) * in.row;
    float* const to = result + i * width;
    for (int x = 0; x < width; ++x, from += in.lane) to[x] = *from;
  }
}

}  // namespace effnets
